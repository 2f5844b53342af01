#include "onnx/graph_reader.h"

#include <algorithm>
#include <set>
#include <unordered_map>
#include <utility>

#include "base/quote.h"
#include "base/rank.h"
#include "graph/op_table.h"
#include "onnx/element_type.h"
#include "onnx/tensor_reader.h"

namespace octavo {
namespace {

using onnx::AttributeProto;

std::string CanonicalDomain(const std::string& domain) { return domain == "ai.onnx" ? "" : domain; }

// The field in use. Files before IR version 2 do not state it, and types newer than the schema read as undefined.
AttributeProto::AttributeType TypeOf(const AttributeProto& proto) {
  if (proto.type() != AttributeProto::UNDEFINED) return proto.type();
  if (proto.has_f()) return AttributeProto::FLOAT;
  if (proto.has_i()) return AttributeProto::INT;
  if (proto.has_s()) return AttributeProto::STRING;
  if (proto.has_t()) return AttributeProto::TENSOR;
  if (proto.has_g()) return AttributeProto::GRAPH;
  if (proto.floats_size() > 0) return AttributeProto::FLOATS;
  if (proto.ints_size() > 0) return AttributeProto::INTS;
  if (proto.strings_size() > 0) return AttributeProto::STRINGS;
  return AttributeProto::UNDEFINED;
}

template <typename T, typename Field>
Tensor VectorTensor(const Field& field) {
  return Tensor::FromVector<T>({field.size()}, std::vector<T>(field.begin(), field.end()));
}

// The tensor that a Constant node's attribute stands for.
Result<Tensor> ConstantValue(AttributeProto& proto, ExternalData& external) {
  const std::string& name = proto.name();
  if (name == "value") return ReadTensor(std::move(*proto.mutable_t()), external);
  if (name == "value_float") return Tensor::Scalar<float>(proto.f());
  if (name == "value_int") return Tensor::Scalar<int64_t>(proto.i());
  if (name == "value_floats") return VectorTensor<float>(proto.floats());
  if (name == "value_ints") return VectorTensor<int64_t>(proto.ints());
  return Unsupported("its attribute " + Quote(name) + " is not supported");
}

// "a; b; c", and how many more there are.
std::string Join(const std::vector<std::string>& items) {
  constexpr size_t kListed = 10;
  std::string text;
  for (size_t i = 0; i < std::min(items.size(), kListed); ++i) text += (i > 0 ? "; " : "") + items[i];
  if (items.size() > kListed) text += "; and " + std::to_string(items.size() - kListed) + " more";
  return text;
}

}  // namespace

Result<Graph> GraphReader::Read() {
  OCTAVO_RETURN_IF_ERROR(ReadHeader());
  OCTAVO_RETURN_IF_ERROR(ReadOpsets());
  OCTAVO_RETURN_IF_ERROR(ReadInitializers());
  OCTAVO_RETURN_IF_ERROR(ReadInputs());
  OCTAVO_RETURN_IF_ERROR(DeclareNodes());
  OCTAVO_RETURN_IF_ERROR(ConnectNodes());
  OCTAVO_RETURN_IF_ERROR(ReadValueInfos());
  OCTAVO_RETURN_IF_ERROR(ReadOutputs());
  if (const Status sorted = graph_.Sort(); !sorted.ok()) return BadFile(sorted.message());
  OCTAVO_RETURN_IF_ERROR(ReportUnsupported());
  OCTAVO_RETURN_IF_ERROR(Verify(graph_));
  return std::move(graph_);
}

Status GraphReader::ReadHeader() {
  if (!model_.has_ir_version() || !model_.has_graph()) {
    return BadFile("it is not an ONNX model, or is truncated: it has no " +
                   std::string(model_.has_ir_version() ? "graph" : "IR version"));
  }
  graph_.ir_version = model_.ir_version();
  graph_.name = model_.graph().name();
  graph_.producer_name = model_.producer_name();
  graph_.producer_version = model_.producer_version();
  graph_.doc_string = model_.doc_string();
  for (const auto& entry : model_.metadata_props()) graph_.metadata[entry.key()] = entry.value();
  return {};
}

Status GraphReader::ReadOpsets() {
  for (const auto& import : model_.opset_import()) {
    const std::string domain = CanonicalDomain(import.domain());
    if (import.version() < 1) return BadFile("it imports version " + std::to_string(import.version()) + " of an opset");
    const auto [at, added] = graph_.opsets.emplace(domain, import.version());
    if (!added && at->second != import.version()) {
      return BadFile("it imports two versions of the opset of domain " + Quote(domain));
    }
  }
  // A model of other domains alone needs none: its ops are refused by name later.
  const auto& nodes = model_.graph().node();
  const bool others_only = !graph_.opsets.empty() && std::all_of(nodes.begin(), nodes.end(), [](const auto& node) {
    return !CanonicalDomain(node.domain()).empty();
  });
  if (graph_.opset() > 0 || (others_only && !nodes.empty())) return {};
  return BadFile("it names no version of the ai.onnx opset, or is truncated");
}

Result<ValueId> GraphReader::Declare(const std::string& name, const std::string& what) {
  if (name.empty()) return BadFile(what + " has no name");
  const ValueId id = graph_.AddValue(name);
  // AddValue gives a taken name a suffix.
  if (graph_.value(id).name != name)
    return BadFile(what + " takes the name " + Quote(name) + ", which is defined twice");
  return id;
}

Status GraphReader::SetConstant(ValueId id, const std::string& what, Result<Tensor> tensor) {
  if (!tensor.ok() && tensor.status().code() == ErrorCode::kUnsupported) {
    unsupported_.push_back(what + ": " + tensor.status().message());
    return {};  // the value stays without a tensor; the graph is refused in the end
  }
  if (!tensor.ok()) return tensor.status().WithPrefix(what + ": ");
  if (!tensor->defined()) return IoError(what + ": out of memory");
  Value& value = graph_.value(id);
  value.dtype = tensor->dtype();
  value.shape_known = true;
  value.dims = tensor->dims();
  value.constant = *std::move(tensor);
  return {};
}

Status GraphReader::DeclareConstant(const std::string& name, const std::string& what, onnx::TensorProto tensor) {
  OCTAVO_ASSIGN(const ValueId id, Declare(name, what));
  return SetConstant(id, what, ReadTensor(std::move(tensor), external_));
}

Status GraphReader::ReadInitializers() {
  for (auto& tensor : *model_.mutable_graph()->mutable_initializer()) {
    const std::string name = tensor.name();
    OCTAVO_RETURN_IF_ERROR(DeclareConstant(name, "initializer " + Quote(name), std::move(tensor)));
  }
  for (const auto& sparse : model_.graph().sparse_initializer()) {
    const std::string& name = sparse.values().name();
    unsupported_.push_back("sparse initializer " + Quote(name));
    OCTAVO_RETURN_IF_ERROR(Declare(name, "a sparse initializer").status());
  }
  return {};
}

Status GraphReader::ReadInputs() {
  // Before IR version 4 every initializer was listed as an input too; what is initialized is a constant to us.
  std::unordered_set<std::string> constants;
  for (const Value& value : graph_.values) constants.insert(value.name);
  for (const auto& info : model_.graph().input()) {
    if (constants.contains(info.name())) continue;
    const std::string what = "graph input " + Quote(info.name());
    OCTAVO_ASSIGN(const ValueId id, Declare(info.name(), what));
    OCTAVO_RETURN_IF_ERROR(ReadType(info, what, graph_.value(id)));
    if (!info.has_type()) return BadFile(what + " has no type");
    graph_.inputs.push_back(id);
  }
  return {};
}

Status GraphReader::ReadType(const onnx::ValueInfoProto& info, const std::string& what, Value& value) {
  if (!info.has_type()) return {};
  if (!info.type().has_tensor_type()) {
    unsupported_.push_back(what + " is not a dense tensor");
    return {};
  }
  const auto& type = info.type().tensor_type();
  const DType dtype = FromOnnxType(type.elem_type());
  if (dtype == DType::kUndefined) {
    if (type.elem_type() == 0) return BadFile(what + " has no element type");
    unsupported_.push_back(what + " has the element type " + OnnxTypeName(type.elem_type()));
    return {};
  }
  value.dtype = dtype;
  return type.has_shape() ? ReadShape(type.shape(), what, value) : Status();
}

Status GraphReader::ReadShape(const onnx::TensorShapeProto& shape, const std::string& what, Value& value) {
  if (static_cast<size_t>(shape.dim_size()) > kMaxRank)
    return BadFile(what + " has " + std::to_string(shape.dim_size()) + " dimensions");
  value.shape_known = true;
  Dims known;
  bool symbolic = false;
  std::vector<std::string> params;
  for (const auto& dim : shape.dim()) {
    // Some exporters write -1 for a size that is not known.
    const int64_t size = dim.has_dim_value() ? dim.dim_value() : -1;
    if (size < -1) return BadFile(what + " has the negative dimension " + std::to_string(size));
    value.dims.push_back(size);
    if (size >= 0) known.push_back(size);
    params.push_back(dim.dim_param());
    symbolic |= !dim.dim_param().empty();
  }
  if (symbolic) value.dim_params = std::move(params);
  const auto count = CheckedElementCount(known);
  return count.ok() ? Status() : BadFile(what + ": " + count.status().message());
}

Status GraphReader::DeclareNodes() {
  auto& protos = *model_.mutable_graph()->mutable_node();
  std::unordered_set<std::string> used;
  for (const auto& proto : protos) node_names_.insert(proto.name());
  std::set<std::pair<std::string, std::string>> functions;
  for (const auto& function : model_.functions()) {
    functions.emplace(CanonicalDomain(function.domain()), function.name());
  }
  for (int p = 0; p < protos.size(); ++p) {
    onnx::NodeProto& proto = protos[p];
    if (proto.op_type().empty()) return BadFile("node " + Quote(proto.name()) + " has no operator");
    Node node;
    node.domain = CanonicalDomain(proto.domain());
    node.op = proto.op_type();
    // Recipes, flags and messages know nodes by their names, but runtimes accept files in which two share one.
    const bool taken = !proto.name().empty() && !used.insert(proto.name()).second;
    node.name = proto.name().empty() || taken ? UniqueNodeName(taken ? proto.name() : proto.op_type()) : proto.name();
    const std::string what = graph_.Describe(node);
    if (functions.contains({node.domain, node.op})) RefuseOp(what + " calls a function of the model");
    if (node.domain == kOctavoDomain) unsupported_.push_back(what + " is internal to Octavo and not for files");
    if (node.Is("Constant")) {
      OCTAVO_RETURN_IF_ERROR(ReadConstantNode(proto, what));
      continue;
    }
    OCTAVO_RETURN_IF_ERROR(ReadNode(proto, node));
    if (!outer_names_.empty()) outer_reads_.emplace(graph_.nodes.size(), std::move(outer_names_));
    outer_names_.clear();
    graph_.AddNode(node.name, node.domain, node.op, {}, std::move(node.outputs), std::move(node.attributes));
    node_protos_.push_back(p);
  }
  return {};
}

std::string GraphReader::UniqueNodeName(const std::string& base) {
  while (true) {
    std::string name = base + "_" + std::to_string(unnamed_++);
    if (node_names_.insert(name).second) return name;
  }
}

Status GraphReader::ReadConstantNode(onnx::NodeProto& proto, const std::string& what) {
  if (proto.input_size() != 0 || proto.output_size() != 1 || proto.attribute_size() != 1) {
    return BadFile(what + " must have no input, one output and one attribute");
  }
  OCTAVO_ASSIGN(const ValueId id, Declare(proto.output(0), "the output of " + what));
  return SetConstant(id, what, ConstantValue(*proto.mutable_attribute(0), external_));
}

Status GraphReader::ReadNode(onnx::NodeProto& proto, Node& node) {
  const std::string what = graph_.Describe(node);
  for (const std::string& output : proto.output()) {
    ValueId id = kNoValue;
    if (!output.empty()) {
      OCTAVO_ASSIGN(id, Declare(output, "an output of " + what));
    }
    node.outputs.push_back(id);
  }
  for (auto& attribute : *proto.mutable_attribute()) {
    if (attribute.name().empty()) return BadFile(what + " has an attribute without a name");
    if (node.Has(attribute.name())) return BadFile(what + " has the attribute " + Quote(attribute.name()) + " twice");
    OCTAVO_RETURN_IF_ERROR(ReadAttribute(attribute, node));
  }
  return {};
}

Status GraphReader::ReadAttribute(AttributeProto& proto, Node& node) {
  const std::string what = graph_.Describe(node) + ", attribute " + Quote(proto.name());
  Attribute& attribute = node.attributes[proto.name()];
  if (!proto.ref_attr_name().empty()) return BadFile(what + " refers to a function's attribute outside of a function");
  switch (TypeOf(proto)) {
    case AttributeProto::FLOAT:
      attribute = proto.f();
      return {};
    case AttributeProto::INT:
      attribute = int64_t{proto.i()};
      return {};
    case AttributeProto::STRING:
      attribute = proto.s();
      return {};
    case AttributeProto::FLOATS:
      attribute = std::vector<float>(proto.floats().begin(), proto.floats().end());
      return {};
    case AttributeProto::INTS:
      attribute = std::vector<int64_t>(proto.ints().begin(), proto.ints().end());
      return {};
    case AttributeProto::STRINGS:
      attribute = std::vector<std::string>(proto.strings().begin(), proto.strings().end());
      return {};
    case AttributeProto::TENSOR: {
      auto tensor = ReadTensor(std::move(*proto.mutable_t()), external_);
      if (tensor.ok()) {
        attribute = *std::move(tensor);
      } else if (tensor.status().code() == ErrorCode::kUnsupported) {
        unsupported_.push_back(what + ": " + tensor.status().message());
      } else {
        return tensor.status().WithPrefix(what + ": ");
      }
      return {};
    }
    case AttributeProto::GRAPH:
    case AttributeProto::GRAPHS:
      ReadNamesOf(proto.g(), outer_names_);
      for (const auto& branch : proto.graphs()) ReadNamesOf(branch, outer_names_);
      RefuseOp(what + ": control flow is not supported");
      return {};
    default:
      RefuseOp(what + ": its type is not supported");
      return {};
  }
}

Status GraphReader::ConnectNodes() {
  for (size_t n = 0; n < graph_.nodes.size(); ++n) {
    Node& node = graph_.nodes[n];
    for (const std::string& input : model_.graph().node(node_protos_[n]).input()) {
      const ValueId id = input.empty() ? kNoValue : graph_.Find(input);
      if (id == kNoValue && !input.empty()) {
        return BadFile(graph_.Describe(node) + " reads " + Quote(input) +
                       ", which is missing: no input, initializer or node has that name");
      }
      node.inputs.push_back(id);
    }
    const auto outer = any_op_ ? outer_reads_.find(n) : outer_reads_.end();
    if (outer == outer_reads_.end()) continue;
    for (const std::string& name : outer->second) {
      const ValueId id = graph_.Find(name);
      const bool is_own = std::find(node.outputs.begin(), node.outputs.end(), id) != node.outputs.end();
      if (id != kNoValue && !is_own) node.inputs.push_back(id);
    }
  }
  return {};
}

void GraphReader::RefuseOp(std::string why) {
  if (!any_op_) unsupported_.push_back(std::move(why));
}

// Protobuf has bounded how deep they nest.
void GraphReader::ReadNamesOf(const onnx::GraphProto& branch, std::vector<std::string>& names) {
  for (const auto& node : branch.node()) {
    names.insert(names.end(), node.input().begin(), node.input().end());
    for (const auto& attribute : node.attribute()) {
      if (attribute.has_g()) ReadNamesOf(attribute.g(), names);
      for (const auto& inner : attribute.graphs()) ReadNamesOf(inner, names);
    }
  }
  for (const auto& output : branch.output()) names.push_back(output.name());
}

Status GraphReader::ReadDeclaredType(const onnx::ValueInfoProto& info, const std::string& what, ValueId id) {
  Value declared;
  OCTAVO_RETURN_IF_ERROR(ReadType(info, what, declared));
  // An input or a constant keeps the type it has.
  Value& value = graph_.value(id);
  if (value.producer == kNoNode || declared.dtype == DType::kUndefined) return {};
  value.dtype = declared.dtype;
  value.shape_known = declared.shape_known;
  value.dims = std::move(declared.dims);
  value.dim_params = std::move(declared.dim_params);
  return {};
}

Status GraphReader::ReadValueInfos() {
  std::unordered_map<std::string, ValueId> made;
  for (size_t v = 0; v < graph_.values.size(); ++v) {
    if (graph_.values[v].producer != kNoNode) made.emplace(graph_.values[v].name, static_cast<ValueId>(v));
  }
  for (const auto& info : model_.graph().value_info()) {
    const auto at = made.find(info.name());
    if (at == made.end() || FromOnnxType(info.type().tensor_type().elem_type()) == DType::kUndefined) continue;
    OCTAVO_RETURN_IF_ERROR(ReadDeclaredType(info, "value_info " + Quote(info.name()), at->second));
  }
  return {};
}

Status GraphReader::ReadOutputs() {
  std::set<ValueId> seen;
  for (const auto& info : model_.graph().output()) {
    const std::string what = "graph output " + Quote(info.name());
    const ValueId id = info.name().empty() ? kNoValue : graph_.Find(info.name());
    if (id == kNoValue) return BadFile(what + " is missing: no input, initializer or node has that name");
    if (!seen.insert(id).second) return BadFile(what + " is listed twice");
    graph_.outputs.push_back(id);
    OCTAVO_RETURN_IF_ERROR(ReadDeclaredType(info, what, id));
  }
  if (graph_.outputs.empty()) return BadFile("its graph has no outputs");
  return {};
}

Status GraphReader::ReportUnsupported() {
  Status ops = any_op_ ? Status() : CheckSupported(graph_);
  if (unsupported_.empty()) return ops;
  const std::string others = Join(unsupported_);
  if (ops.ok()) return Unsupported("not supported: " + others);
  return {ops.code(), ops.message() + "; also not supported: " + others};
}

}  // namespace octavo
