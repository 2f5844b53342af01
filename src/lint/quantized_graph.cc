#include "lint/quantized_graph.h"

#include <algorithm>
#include <limits>

#include "graph/op_table.h"
#include "graph/quantization.h"
#include "graph/shape_inference.h"
#include "octavo/inspect.h"

namespace octavo {
namespace {

// How many ops that commute with Q and DQ are looked through; exports have one to three in a row.
constexpr int kMaxSteps = 8;

const OpTraits* ContractionTraits(const Node& node) {
  const OpTraits* traits = FindOp(node.domain, node.op);
  return traits != nullptr && traits->quantizable_inputs != 0 ? traits : nullptr;
}

template <typename T>
std::vector<int32_t> Widened(const Tensor& tensor) {
  const auto values = tensor.values<T>();
  return {values.begin(), values.end()};
}

std::vector<int32_t> Integers(const Tensor& tensor) {
  switch (tensor.dtype()) {
    case DType::kInt8:
      return Widened<int8_t>(tensor);
    case DType::kUInt8:
      return Widened<uint8_t>(tensor);
    case DType::kInt16:
      return Widened<int16_t>(tensor);
    case DType::kUInt16:
      return Widened<uint16_t>(tensor);
    case DType::kInt32:
      return Widened<int32_t>(tensor);
    default:
      return {};
  }
}

int64_t Wrapped(int64_t axis, int64_t rank) { return axis < 0 ? axis + rank : axis; }

// Takes out nodes of ops that Octavo does not have, where the file says what they make.
void CutAtUnknownOps(Graph& graph) {
  for (Node& node : graph.nodes) {
    if (node.removed || FindOp(node.domain, node.op) != nullptr) continue;
    const bool is_stated = std::all_of(node.outputs.begin(), node.outputs.end(), [&](ValueId id) {
      return id == kNoValue || (graph.value(id).dtype != DType::kUndefined && graph.value(id).shape_known);
    });
    if (!is_stated) continue;
    node.removed = true;
    for (const ValueId id : node.outputs) {
      if (id == kNoValue) continue;
      graph.value(id).producer = kNoNode;
      graph.inputs.push_back(id);
    }
  }
}

// Values of the graph have the same ids in the copy; those that folding adds come behind.
std::vector<Value> BindCopy(const Graph& graph, const std::map<std::string, Dims>& input_dims, std::string& error) {
  Graph bound = graph;
  CutAtUnknownOps(bound);
  const auto dims = ChooseInputDims(bound, input_dims, nullptr);
  const Status status = dims.ok() ? BindShapes(bound, *dims) : dims.status();
  if (!status.ok()) error = status.message();
  bound.values.resize(graph.values.size());
  return std::move(bound.values);
}

}  // namespace

bool WrittenParameters::has_nonzero_zero_point() const {
  return std::any_of(zero_points.begin(), zero_points.end(), [](int32_t z) { return z != 0; });
}

bool AreEqual(const WrittenParameters& a, const WrittenParameters& b, int64_t rank) {
  if (!a.constant || !b.constant || a.dtype != b.dtype || a.scales != b.scales) return false;
  const auto zero_point = [](const WrittenParameters& p, size_t i) {
    return i < p.zero_points.size() ? p.zero_points[i] : 0;
  };
  for (size_t i = 0; i < std::max(a.zero_points.size(), b.zero_points.size()); ++i) {
    if (zero_point(a, i) != zero_point(b, i)) return false;
  }
  return !a.per_channel() || Wrapped(a.axis, rank) == Wrapped(b.axis, rank);
}

QuantizedGraph::QuantizedGraph(const Graph& graph, const Target& target, const std::map<std::string, Dims>& input_dims)
    : graph_(graph),
      target_(target),
      shapes_(BindCopy(graph, input_dims, shape_error_)),
      readers_(graph.Uses()),
      is_output_(graph.values.size()),
      constant_made_(graph.values.size()),
      quantized_contraction_(graph.nodes.size()) {
  for (const ValueId id : graph.outputs) is_output_[static_cast<size_t>(id)] = true;
  for (size_t v = 0; v < graph.values.size(); ++v) constant_made_[v] = graph.values[v].is_constant();
  for (size_t n = 0; n < graph.nodes.size(); ++n) {
    const Node& node = graph.nodes[n];
    const auto id = static_cast<NodeId>(n);
    if (node.removed) continue;
    const bool made = !node.inputs.empty() && std::all_of(node.inputs.begin(), node.inputs.end(), [&](ValueId input) {
      return input == kNoValue || constant_made_[static_cast<size_t>(input)];
    });
    for (const ValueId output : node.outputs) {
      if (output != kNoValue) constant_made_[static_cast<size_t>(output)] = made;
    }
    // One that lacks inputs or its output says nothing; binding shapes refuses it.
    if ((IsQuantize(node) || IsDequantize(node)) && node.has_input(0) && node.has_input(1) &&
        node.output(0) != kNoValue) {
      (IsQuantize(node) ? quantizes_ : dequantizes_).push_back(id);
      ReadParameters(id);
    }
  }
  for (size_t n = 0; n < graph.nodes.size(); ++n) {
    const auto id = static_cast<NodeId>(n);
    if (graph.nodes[n].removed || !IsContraction(id)) continue;
    const std::vector<size_t> operands = Operands(id);
    quantized_contraction_[n] = !operands.empty() && std::all_of(operands.begin(), operands.end(), [&](size_t i) {
      return DequantizeBehind(graph.nodes[n].inputs[i]) != kNoNode;
    });
  }
}

void QuantizedGraph::ReadParameters(NodeId id) {
  const Node& node = graph_.node(id);
  WrittenParameters parameters;
  const Value& scale = graph_.value(node.input(1));
  parameters.constant = scale.is_constant();
  if (scale.is_constant()) {
    if (auto scales = ToFloats(scale.constant); scales.ok()) parameters.scales = *std::move(scales);
    parameters.scale_count = scale.constant.size();
  } else if (const Dims* dims = StaticDims(node.input(1)); dims != nullptr) {
    parameters.scale_count = ElementCount(*dims);
  }
  parameters.has_zero_point = node.has_input(2);
  if (node.has_input(2)) {
    const Value& zero_point = graph_.value(node.input(2));
    parameters.constant &= zero_point.is_constant();
    if (zero_point.is_constant()) parameters.zero_points = Integers(zero_point.constant);
    parameters.dtype = TypeOf(node.input(2));
  } else if (IsQuantize(node)) {
    const auto named = DTypeFromOnnx(node.Int("output_dtype", 0));
    parameters.dtype = named.value_or(DType::kUInt8);
  } else {
    parameters.dtype = TypeOf(node.input(0));
  }
  parameters.axis_written = node.Has("axis");
  parameters.axis = node.Int("axis", 1);
  parameters_.emplace(id, std::move(parameters));
}

DType QuantizedGraph::TypeOf(ValueId value) const {
  const DType inferred = shapes_[static_cast<size_t>(value)].dtype;
  return inferred != DType::kUndefined ? inferred : graph_.value(value).dtype;
}

const Node* QuantizedGraph::Producer(ValueId value) const {
  const NodeId id = ProducerId(value);
  return id == kNoNode ? nullptr : &graph_.node(id);
}

NodeId QuantizedGraph::ProducerId(ValueId value) const {
  return value == kNoValue ? kNoNode : graph_.value(value).producer;
}

const Dims* QuantizedGraph::StaticDims(ValueId value) const {
  if (value == kNoValue) return nullptr;
  const Value& shape = shapes_[static_cast<size_t>(value)];
  return shape.has_static_shape() ? &shape.dims : nullptr;
}

int64_t QuantizedGraph::Rank(ValueId value) const {
  const Value& shape = shapes_[static_cast<size_t>(value)];
  return shape.shape_known ? static_cast<int64_t>(shape.dims.size()) : -1;
}

bool QuantizedGraph::IsFloatActivation(ValueId value) const {
  return value != kNoValue && !IsConstantMade(value) && TypeOf(value) == DType::kFloat32;
}

const WrittenParameters& QuantizedGraph::Parameters(NodeId quantize_or_dequantize) const {
  static const WrittenParameters kNone;
  const auto found = parameters_.find(quantize_or_dequantize);
  return found == parameters_.end() ? kNone : found->second;
}

NodeId QuantizedGraph::DequantizeBehind(ValueId value) const {
  for (int step = 0; step < kMaxSteps; ++step) {
    const Node* node = Producer(value);
    if (node == nullptr) return kNoNode;
    if (IsDequantize(*node)) return ProducerId(value);
    if (!Moves(*node)) return kNoNode;
    value = node->input(0);
  }
  return kNoNode;
}

NodeId QuantizedGraph::QuantizeBehind(ValueId value) const {
  for (int step = 0; step < kMaxSteps; ++step) {
    const Node* node = Producer(value);
    if (node == nullptr) return kNoNode;
    if (IsQuantize(*node)) return ProducerId(value);
    if (!Moves(*node)) return kNoNode;
    value = node->input(0);
  }
  return kNoNode;
}

NodeId QuantizedGraph::QuantizeAfter(ValueId value) const {
  std::vector<std::pair<ValueId, int>> pending = {{value, 0}};
  while (!pending.empty()) {
    const auto [next, step] = pending.back();
    pending.pop_back();
    for (const NodeId id : readers(next)) {
      const Node& node = graph_.node(id);
      if (node.input(0) != next) continue;
      if (IsQuantize(node)) return id;
      if (step == kMaxSteps || !Moves(node)) continue;
      for (const ValueId output : node.outputs) {
        if (output != kNoValue) pending.emplace_back(output, step + 1);
      }
    }
  }
  return kNoNode;
}

bool QuantizedGraph::Moves(const Node& node) const {
  if (!node.domain.empty()) return false;
  if (target_.Commutes(node.op) || node.op == "Slice" || node.op == "Split" || node.op == "MaxPool") return true;
  // Low precision transformations of OpenVINO's exist for these, too.
  return target_.name == "openvino" && (node.op == "Pad" || node.op == "Relu" || node.op == "DepthToSpace");
}

bool QuantizedGraph::IsContraction(NodeId node) const {
  return ContractionTraits(graph_.node(node)) != nullptr && !target_.KeepsFloat(graph_.node(node).op);
}

std::vector<size_t> QuantizedGraph::Operands(NodeId contraction) const {
  const Node& node = graph_.node(contraction);
  const OpTraits* traits = ContractionTraits(node);
  std::vector<size_t> operands;
  for (size_t i = 0; traits != nullptr && i < node.inputs.size() && i < 32; ++i) {
    if ((traits->quantizable_inputs >> i & 1) != 0 && node.inputs[i] != kNoValue) operands.push_back(i);
  }
  return operands;
}

bool QuantizedGraph::IsDepthwise(NodeId id) const {
  const Node& node = graph_.node(id);
  if (!node.Is("Conv") || node.Int("group", 1) <= 1 || !node.has_input(1)) return false;
  const Dims* dims = StaticDims(node.input(1));
  return dims != nullptr && dims->size() >= 2 && (*dims)[1] == 1;
}

NodeId QuantizedGraph::ContractionBehind(ValueId value) const {
  for (int step = 0; step < kMaxSteps; ++step) {
    const Node* node = Producer(value);
    if (node == nullptr) return kNoNode;
    if (IsQuantizedContraction(ProducerId(value))) return ProducerId(value);
    ValueId before = kNoValue;
    if (Moves(*node)) before = node->input(0);
    if (node->Is("Add")) before = OperandBesideConstant(*node);
    if (before == kNoValue) return kNoNode;
    value = before;
  }
  return kNoNode;
}

ValueId QuantizedGraph::OperandBesideConstant(const Node& add) const {
  if (!add.has_input(0) || !add.has_input(1)) return kNoValue;
  const bool first = IsConstantMade(add.input(0)), second = IsConstantMade(add.input(1));
  if (first == second) return kNoValue;
  return first ? add.input(1) : add.input(0);
}

}  // namespace octavo
