#include <google/protobuf/io/coded_stream.h>

#include <algorithm>
#include <exception>
#include <limits>
#include <new>
#include <set>
#include <utility>

#include "base/file.h"
#include "base/quote.h"
#include "octavo/onnx.h"
#include "onnx.pb.h"
#include "onnx/element_type.h"

namespace octavo {
namespace {

// Protobuf ends at 2^31 - 1 bytes; this leaves 100 MB for nodes and names.
constexpr int64_t kMaxInlineBytes = 1'900'000'000;
constexpr int64_t kExternalAlignment = 64;

// Where a constant's bytes go.
struct Placement {
  ValueId value;
  int64_t external_offset = -1;  // -1: in the model file
};

struct OpSince {
  std::string_view op;
  int64_t opset;
};
// Standard ops that passes put into graphs of older opsets.
constexpr OpSince kNewerOps[] = {{"HardSwish", 14}, {"LayerNormalization", 17}, {"Gelu", 20}};

Status CheckSavable(const Graph& graph) {
  for (const Node& node : graph.nodes) {
    if (node.removed) continue;
    if (node.domain == kOctavoDomain) {
      return InvalidArgument("cannot save " + graph.Describe(node) +
                             ": it is a fused op of Octavo's own; save the graph as it was before RunPasses");
    }
    for (const auto& [op, opset] : kNewerOps) {
      if (node.Is(op) && graph.opset() < opset) {
        return InvalidArgument("cannot save " + graph.Describe(node) + ": it needs opset " + std::to_string(opset) +
                               ", the graph states " + std::to_string(graph.opset()));
      }
    }
  }
  return Verify(graph);
}

// Fills everything of `proto` but the bytes.
void DescribeTensor(const Tensor& tensor, onnx::TensorProto& proto) {
  proto.set_data_type(ToOnnxType(tensor.dtype()));
  for (const int64_t dim : tensor.dims()) proto.add_dims(dim);
}

void SaveAttribute(const std::string& name, const Attribute& attribute, onnx::AttributeProto& proto) {
  using onnx::AttributeProto;
  proto.set_name(name);
  if (const auto* i = std::get_if<int64_t>(&attribute)) {
    proto.set_type(AttributeProto::INT);
    proto.set_i(*i);
  } else if (const auto* f = std::get_if<float>(&attribute)) {
    proto.set_type(AttributeProto::FLOAT);
    proto.set_f(*f);
  } else if (const auto* s = std::get_if<std::string>(&attribute)) {
    proto.set_type(AttributeProto::STRING);
    proto.set_s(*s);
  } else if (const auto* ints = std::get_if<std::vector<int64_t>>(&attribute)) {
    proto.set_type(AttributeProto::INTS);
    proto.mutable_ints()->Add(ints->begin(), ints->end());
  } else if (const auto* floats = std::get_if<std::vector<float>>(&attribute)) {
    proto.set_type(AttributeProto::FLOATS);
    proto.mutable_floats()->Add(floats->begin(), floats->end());
  } else if (const auto* strings = std::get_if<std::vector<std::string>>(&attribute)) {
    proto.set_type(AttributeProto::STRINGS);
    for (const std::string& text : *strings) proto.add_strings(text);
  } else if (const auto* tensor = std::get_if<Tensor>(&attribute)) {
    proto.set_type(AttributeProto::TENSOR);
    DescribeTensor(*tensor, *proto.mutable_t());
    proto.mutable_t()->set_raw_data(tensor->data(), tensor->bytes());
  }
}

void SaveNode(const Graph& graph, const Node& node, onnx::NodeProto& proto) {
  const auto name_of = [&](ValueId id) { return id == kNoValue ? std::string() : graph.value(id).name; };
  proto.set_name(node.name);
  proto.set_op_type(node.op);
  if (!node.domain.empty()) proto.set_domain(node.domain);
  for (const ValueId input : node.inputs) proto.add_input(name_of(input));
  for (const ValueId output : node.outputs) proto.add_output(name_of(output));
  for (const auto& [name, attribute] : node.attributes) SaveAttribute(name, attribute, *proto.add_attribute());
}

void SaveValueInfo(const Value& value, onnx::ValueInfoProto& proto) {
  proto.set_name(value.name);
  if (value.dtype == DType::kUndefined) return;
  auto& type = *proto.mutable_type()->mutable_tensor_type();
  type.set_elem_type(ToOnnxType(value.dtype));
  if (!value.shape_known) return;
  auto& shape = *type.mutable_shape();
  for (size_t i = 0; i < value.dims.size(); ++i) {
    auto& dim = *shape.add_dim();
    const std::string param = i < value.dim_params.size() ? value.dim_params[i] : "";
    if (value.dims[i] >= 0) {
      dim.set_dim_value(value.dims[i]);
    } else if (!param.empty()) {
      dim.set_dim_param(param);
    }
  }
}

// The model but for its graph.
onnx::ModelProto ModelOf(const Graph& graph) {
  onnx::ModelProto model;
  model.set_ir_version(graph.ir_version);
  if (!graph.producer_name.empty()) model.set_producer_name(graph.producer_name);
  if (!graph.producer_version.empty()) model.set_producer_version(graph.producer_version);
  if (!graph.doc_string.empty()) model.set_doc_string(graph.doc_string);
  for (const auto& [domain, version] : graph.opsets) {
    auto& import = *model.add_opset_import();
    import.set_domain(domain);
    import.set_version(version);
  }
  for (const auto& [key, value] : graph.metadata) {
    auto& entry = *model.add_metadata_props();
    entry.set_key(key);
    entry.set_value(value);
  }
  return model;
}

// The graph but for its initializers.
onnx::GraphProto GraphOf(const Graph& graph) {
  onnx::GraphProto proto;
  proto.set_name(graph.name.empty() ? "graph" : graph.name);  // ONNX wants one
  for (const Node& node : graph.nodes) {
    if (!node.removed) SaveNode(graph, node, *proto.add_node());
  }
  for (const ValueId input : graph.inputs) SaveValueInfo(graph.value(input), *proto.add_input());
  for (const ValueId output : graph.outputs) SaveValueInfo(graph.value(output), *proto.add_output());
  for (size_t v = 0; v < graph.values.size(); ++v) {
    const Value& value = graph.values[v];
    const bool declared = value.producer != kNoNode && value.dtype != DType::kUndefined;
    if (declared && !graph.IsOutput(static_cast<ValueId>(v))) SaveValueInfo(value, *proto.add_value_info());
  }
  // Before IR version 4 initializers had to be inputs, too.
  for (const Value& value : graph.values) {
    if (graph.ir_version < 4 && value.is_constant()) SaveValueInfo(value, *proto.add_input());
  }
  return proto;
}

std::vector<Placement> Place(const Graph& graph, const SaveOptions& options) {
  int64_t total = 0;
  for (const Value& value : graph.values) total += static_cast<int64_t>(value.constant.bytes());
  const bool external = options.external_data || total > kMaxInlineBytes;
  std::vector<Placement> placements;
  int64_t offset = 0;
  for (size_t v = 0; v < graph.values.size(); ++v) {
    const Value& value = graph.values[v];
    if (!value.is_constant()) continue;
    Placement& placement = placements.emplace_back(Placement{static_cast<ValueId>(v)});
    const auto bytes = static_cast<int64_t>(value.constant.bytes());
    if (!external || bytes == 0 || bytes < options.external_threshold) continue;
    placement.external_offset = offset;
    offset += (bytes + kExternalAlignment - 1) / kExternalAlignment * kExternalAlignment;
  }
  return placements;
}

void AddEntry(const std::string& key, const std::string& value, onnx::TensorProto& proto) {
  auto& entry = *proto.add_external_data();
  entry.set_key(key);
  entry.set_value(value);
}

// A TensorProto but for its raw data.
std::string TensorHeader(const Value& value, const Placement& placement, const std::string& external_name) {
  onnx::TensorProto proto;
  proto.set_name(value.name);
  DescribeTensor(value.constant, proto);
  if (placement.external_offset >= 0) {
    proto.set_data_location(onnx::TensorProto::EXTERNAL);
    AddEntry("location", external_name, proto);
    AddEntry("offset", std::to_string(placement.external_offset), proto);
    AddEntry("length", std::to_string(value.constant.bytes()), proto);
  }
  return proto.SerializeAsString();
}

// The tag and length that precede a message or bytes field.
std::string FieldHead(int field, size_t length) {
  uint8_t bytes[20];
  uint8_t* end =
      google::protobuf::io::CodedOutputStream::WriteVarint32ToArray(static_cast<uint32_t>(field) << 3 | 2, bytes);
  end = google::protobuf::io::CodedOutputStream::WriteVarint64ToArray(length, end);
  return {reinterpret_cast<const char*>(bytes), static_cast<size_t>(end - bytes)};
}

std::span<const std::byte> BytesOf(const Tensor& tensor) {
  return {static_cast<const std::byte*>(tensor.data()), tensor.bytes()};
}

// One initializer as a field of GraphProto: `head`, then, unless it is external, the tensor's bytes.
struct InitializerField {
  std::string head;
  const Tensor* inline_data = nullptr;
  size_t size() const { return head.size() + (inline_data != nullptr ? inline_data->bytes() : 0); }
};

InitializerField FieldOf(const Value& value, const Placement& placement, const std::string& external_name) {
  InitializerField field;
  std::string header = TensorHeader(value, placement, external_name);
  size_t size = header.size();
  if (placement.external_offset < 0) {
    field.inline_data = &value.constant;
    header += FieldHead(onnx::TensorProto::kRawDataFieldNumber, value.constant.bytes());
    size = header.size() + value.constant.bytes();
  }
  field.head = FieldHead(onnx::GraphProto::kInitializerFieldNumber, size) + header;
  return field;
}

// Writes the model in pieces, for a message that held all weights would double them in memory. Protobuf lets fields
// come in any order.
Status WriteModel(const Graph& graph, const std::vector<Placement>& placements, const std::string& external_name,
                  AtomicFileWriter& file) {
  const std::string model = ModelOf(graph).SerializeAsString();
  const std::string nodes = GraphOf(graph).SerializeAsString();
  std::vector<InitializerField> initializers;
  size_t graph_size = nodes.size();
  for (const Placement& placement : placements) {
    initializers.push_back(FieldOf(graph.value(placement.value), placement, external_name));
    graph_size += initializers.back().size();
  }
  const std::string head = model + FieldHead(onnx::ModelProto::kGraphFieldNumber, graph_size) + nodes;
  if (head.size() + graph_size > static_cast<size_t>(std::numeric_limits<int32_t>::max())) {
    return InvalidArgument("the model would pass protobuf's limit of 2 GiB; lower external_threshold");
  }
  OCTAVO_RETURN_IF_ERROR(file.Write(head));
  for (const InitializerField& field : initializers) {
    OCTAVO_RETURN_IF_ERROR(file.Write(field.head));
    if (field.inline_data != nullptr) OCTAVO_RETURN_IF_ERROR(file.Write(BytesOf(*field.inline_data)));
  }
  return {};
}

Status WriteExternal(const Graph& graph, const std::vector<Placement>& placements, AtomicFileWriter& file) {
  int64_t written = 0;
  for (const Placement& placement : placements) {
    if (placement.external_offset < 0) continue;
    const std::string padding(static_cast<size_t>(placement.external_offset - written), '\0');
    const auto bytes = BytesOf(graph.value(placement.value).constant);
    OCTAVO_RETURN_IF_ERROR(file.Write(padding));
    OCTAVO_RETURN_IF_ERROR(file.Write(bytes));
    written = placement.external_offset + static_cast<int64_t>(bytes.size());
  }
  return {};
}

Status Save(const Graph& graph, const std::string& path, const SaveOptions& options) {
  OCTAVO_RETURN_IF_ERROR(CheckSavable(graph));
  const std::vector<Placement> placements = Place(graph, options);
  const std::string external_name = path.substr(path.rfind('/') + 1) + ".data";
  OCTAVO_ASSIGN(AtomicFileWriter file, AtomicFileWriter::Create(path));
  OCTAVO_RETURN_IF_ERROR(WriteModel(graph, placements, external_name, file));
  const bool external =
      std::any_of(placements.begin(), placements.end(), [](const Placement& p) { return p.external_offset >= 0; });
  if (external) {
    // The data is in place before the model that refers to it.
    OCTAVO_ASSIGN(AtomicFileWriter data, AtomicFileWriter::Create(FolderOf(path) + "/" + external_name));
    OCTAVO_RETURN_IF_ERROR(WriteExternal(graph, placements, data));
    OCTAVO_RETURN_IF_ERROR(data.Commit());
  }
  return file.Commit();
}

}  // namespace

Status SaveOnnx(const Graph& graph, const std::string& path, const SaveOptions& options) {
  try {
    return Save(graph, path, options);
  } catch (const std::bad_alloc&) {
    return IoError("out of memory while writing " + Quote(path));
  } catch (const std::exception& error) {
    return InternalError("writing " + Quote(path) + " threw: " + std::string(error.what()));
  }
}

}  // namespace octavo
