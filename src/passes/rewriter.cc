#include "passes/rewriter.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace octavo {

Rewriter::Rewriter(Graph& graph) : graph_(graph), is_output_(graph.values.size(), false) {
  for (NodeId id = 0; id < node_count(); ++id) {
    const std::vector<ValueId>& outputs = graph.node(id).outputs;
    if (std::all_of(outputs.begin(), outputs.end(), [](ValueId output) { return output == kNoValue; })) {
      graph.RemoveNode(id);
    }
  }
  readers_ = graph.Uses();
  for (const ValueId output : graph.outputs) is_output_[static_cast<size_t>(output)] = true;
}

NodeId Rewriter::ProducerId(ValueId value) const { return value == kNoValue ? kNoNode : graph_.value(value).producer; }

const Node* Rewriter::Producer(ValueId value) const {
  const NodeId id = ProducerId(value);
  return id == kNoNode ? nullptr : &graph_.node(id);
}

const Node* Rewriter::Producer(ValueId value, std::string_view op, std::string_view domain) const {
  const Node* node = Producer(value);
  return node != nullptr && node->Is(op, domain) ? node : nullptr;
}

NodeId Rewriter::OnlyReader(ValueId value) const {
  const std::vector<NodeId>& readers = Readers(value);
  if (readers.empty() || IsOutput(value)) return kNoNode;
  const bool same = std::all_of(readers.begin(), readers.end(), [&](NodeId node) { return node == readers[0]; });
  return same ? readers[0] : kNoNode;
}

bool Rewriter::IsEnclosed(std::span<const NodeId> interior, ValueId result) const {
  const auto inside = [&](NodeId node) { return std::find(interior.begin(), interior.end(), node) != interior.end(); };
  for (const NodeId id : interior) {
    for (const ValueId output : graph_.node(id).outputs) {
      if (output == kNoValue || output == result) continue;
      if (IsOutput(output)) return false;
      if (!std::all_of(Readers(output).begin(), Readers(output).end(), inside)) return false;
    }
  }
  return true;
}

void Rewriter::Track(ValueId value) {
  const size_t needed = static_cast<size_t>(value) + 1;
  if (readers_.size() < needed) readers_.resize(needed);
  if (is_output_.size() < needed) is_output_.resize(needed, false);
}

void Rewriter::AddReader(ValueId value, NodeId node) {
  if (value != kNoValue) readers_[static_cast<size_t>(value)].push_back(node);
}

void Rewriter::DropReader(ValueId value, NodeId node) {
  if (value == kNoValue) return;
  std::vector<NodeId>& readers = readers_[static_cast<size_t>(value)];
  const auto it = std::find(readers.begin(), readers.end(), node);
  if (it != readers.end()) readers.erase(it);
}

ValueId Rewriter::AddConstant(std::string_view name, Tensor tensor) {
  const ValueId id = graph_.AddConstant(name, std::move(tensor));
  Track(id);
  return id;
}

ValueId Rewriter::AddNode(std::string_view name, std::string_view domain, std::string_view op,
                          std::vector<ValueId> inputs, DType dtype, Dims dims,
                          std::map<std::string, Attribute> attributes) {
  const ValueId output = graph_.AddValue(name, dtype, std::move(dims));
  Track(output);
  const NodeId node = graph_.AddNode(name, domain, op, std::move(inputs), {output}, std::move(attributes));
  for (const ValueId input : graph_.node(node).inputs) AddReader(input, node);
  return output;
}

void Rewriter::AddSplit(const std::string& name, ValueId input, std::vector<ValueId> outputs, int64_t axis) {
  std::vector<NodeId> former;
  std::vector<int64_t> sizes;
  for (const ValueId output : outputs) {
    sizes.push_back(dims(output)[static_cast<size_t>(axis)]);
    former.push_back(ProducerId(output));
    for (ValueId& made : graph_.node(former.back()).outputs) {
      if (made == output) made = kNoValue;
    }
  }
  std::vector<ValueId> inputs{input};
  std::map<std::string, Attribute> attributes{{"axis", axis}};
  if (graph_.opset() < 13) {
    attributes["split"] = sizes;
  } else {
    inputs.push_back(AddConstant(name + "_sizes", Int64Constant(sizes)));
  }
  const NodeId node = graph_.AddNode(name, "", "Split", inputs, std::move(outputs), std::move(attributes));
  for (const ValueId read : inputs) AddReader(read, node);
  for (const NodeId producer : former) RemoveIfDead(producer);
}

void Rewriter::Become(NodeId id, std::string_view domain, std::string_view op, std::vector<ValueId> inputs,
                      std::map<std::string, Attribute> attributes) {
  Node& node = graph_.node(id);
  const std::vector<ValueId> old_inputs = std::exchange(node.inputs, std::move(inputs));
  node.domain = domain;
  node.op = op;
  node.attributes = std::move(attributes);
  for (const ValueId input : node.inputs) AddReader(input, id);
  for (const ValueId input : old_inputs) DropReader(input, id);
  for (const ValueId input : old_inputs) RemoveIfDead(ProducerId(input));
}

void Rewriter::SetInput(NodeId id, size_t index, ValueId value) {
  const ValueId old = std::exchange(graph_.node(id).inputs[index], value);
  if (old == value) return;
  AddReader(value, id);
  DropReader(old, id);
  RemoveIfDead(ProducerId(old));
}

void Rewriter::MoveReaders(ValueId from, ValueId to) {
  const std::vector<NodeId> readers = std::exchange(readers_[static_cast<size_t>(from)], {});
  for (const NodeId reader : readers) {
    AddReader(to, reader);
    for (ValueId& input : graph_.node(reader).inputs) {
      if (input == from) input = to;
    }
  }
}

bool Rewriter::Bypass(NodeId id, std::span<const ValueId> replacements) {
  const std::vector<ValueId> outputs = graph_.node(id).outputs;
  for (size_t i = 0; i < outputs.size(); ++i) {
    if (outputs[i] == kNoValue) continue;
    const bool used = IsOutput(outputs[i]) || !Readers(outputs[i]).empty();
    const ValueId replacement = i < replacements.size() ? replacements[i] : kNoValue;
    if (used && replacement == kNoValue) return false;
    if (IsOutput(outputs[i]) && (IsOutput(replacement) || ProducerId(replacement) == kNoNode)) return false;
  }
  const std::vector<ValueId> inputs = graph_.node(id).inputs;
  for (const ValueId input : inputs) DropReader(input, id);
  graph_.RemoveNode(id);
  for (size_t i = 0; i < outputs.size(); ++i) {
    if (outputs[i] == kNoValue || i >= replacements.size() || replacements[i] == kNoValue) continue;
    if (!IsOutput(outputs[i])) {
      MoveReaders(outputs[i], replacements[i]);
      continue;
    }
    const NodeId maker = ProducerId(replacements[i]);
    for (ValueId& made : graph_.node(maker).outputs) {
      if (made == replacements[i]) made = outputs[i];
    }
    graph_.value(outputs[i]).producer = maker;
    graph_.value(replacements[i]).producer = kNoNode;
    MoveReaders(replacements[i], outputs[i]);
  }
  for (const ValueId input : inputs) RemoveIfDead(ProducerId(input));
  return true;
}

void Rewriter::BecomeConstant(ValueId value, Tensor tensor) {
  const NodeId producer = ProducerId(value);
  Value& target = graph_.value(value);
  target.constant = std::move(tensor);
  target.producer = kNoNode;
  if (producer == kNoNode) return;
  for (ValueId& output : graph_.node(producer).outputs) {
    if (output == value) output = kNoValue;
  }
  RemoveIfDead(producer);
}

void Rewriter::RemoveIfDead(NodeId id) {
  std::vector<NodeId> pending{id};
  while (!pending.empty()) {
    const NodeId candidate = pending.back();
    pending.pop_back();
    if (candidate == kNoNode || graph_.node(candidate).removed) continue;
    const std::vector<ValueId>& outputs = graph_.node(candidate).outputs;
    const bool dead = std::all_of(outputs.begin(), outputs.end(), [&](ValueId output) {
      return output == kNoValue || (!IsOutput(output) && Readers(output).empty());
    });
    if (!dead) continue;
    const std::vector<ValueId> inputs = graph_.node(candidate).inputs;
    graph_.RemoveNode(candidate);
    for (const ValueId input : inputs) {
      DropReader(input, candidate);
      pending.push_back(ProducerId(input));
    }
  }
}

namespace {

template <typename T>
std::optional<double> UniformOf(const Tensor& tensor) {
  const auto values = tensor.values<T>();
  const bool uniform = std::all_of(values.begin(), values.end(), [&](T v) { return v == values[0]; });
  return uniform ? std::optional<double>(static_cast<double>(values[0])) : std::nullopt;
}

}  // namespace

std::optional<double> UniformValue(const Value& value) {
  const Tensor& tensor = value.constant;
  if (!tensor.defined() || tensor.size() == 0) return std::nullopt;
  switch (tensor.dtype()) {
    case DType::kFloat32:
      return UniformOf<float>(tensor);
    case DType::kFloat64:
      return UniformOf<double>(tensor);
    case DType::kInt32:
      return UniformOf<int32_t>(tensor);
    case DType::kInt64:
      return UniformOf<int64_t>(tensor);
    default:
      return std::nullopt;
  }
}

bool IsNear(double a, double b, double tolerance) { return std::abs(a - b) <= tolerance * std::abs(b); }

bool IsUniform(const Value& value, double expected) {
  const std::optional<double> uniform = UniformValue(value);
  return uniform && IsNear(*uniform, expected);
}

std::optional<std::vector<int64_t>> ConstantInts(const Graph& graph, ValueId value) {
  if (value == kNoValue || !graph.value(value).is_constant()) return std::nullopt;
  Result<std::vector<int64_t>> ints = ToInt64s(graph.value(value).constant);
  if (!ints.ok()) return std::nullopt;
  return *std::move(ints);
}

std::optional<std::vector<float>> ChannelValues(const Value& value, int64_t rank, int64_t axis, int64_t channels) {
  const Tensor& tensor = value.constant;
  if (!tensor.defined() || tensor.dtype() != DType::kFloat32 || tensor.rank() > rank) return std::nullopt;
  for (int64_t i = 0; i < tensor.rank(); ++i) {
    const int64_t dim = tensor.dims()[static_cast<size_t>(i)];
    const bool is_axis = i + rank - tensor.rank() == axis;
    if (dim != 1 && !(is_axis && dim == channels)) return std::nullopt;
  }
  const auto values = tensor.values<float>();
  if (tensor.size() == 1) return std::vector<float>(static_cast<size_t>(channels), values[0]);
  return std::vector<float>(values.begin(), values.end());
}

int64_t WrapAxis(int64_t axis, int64_t rank) {
  if (axis < 0) axis += rank;
  return axis >= 0 && axis < rank ? axis : -1;
}

std::optional<std::vector<int64_t>> ReduceAxes(const Graph& graph, const Node& node) {
  const int64_t rank = static_cast<int64_t>(graph.value(node.input(0)).dims.size());
  std::vector<int64_t> axes = node.Ints("axes");
  if (node.has_input(1)) {
    std::optional<std::vector<int64_t>> input = ConstantInts(graph, node.input(1));
    if (!input) return std::nullopt;
    axes = *std::move(input);
  }
  if (axes.empty()) {
    if (node.Int("noop_with_empty_axes", 0) != 0) return axes;
    for (int64_t i = 0; i < rank; ++i) axes.push_back(i);
  }
  for (int64_t& axis : axes) {
    axis = WrapAxis(axis, rank);
    if (axis < 0) return std::nullopt;
  }
  std::sort(axes.begin(), axes.end());
  return axes;
}

ValueId OtherOperand(const Node& node, ValueId value) {
  if (node.inputs.size() != 2) return kNoValue;
  if (node.inputs[0] == value) return node.inputs[1];
  return node.inputs[1] == value ? node.inputs[0] : kNoValue;
}

Tensor Int64Constant(const std::vector<int64_t>& values) {
  return Tensor::FromVector<int64_t>({static_cast<int64_t>(values.size())}, values);
}

bool IsFloat32(const Graph& graph, ValueId value) {
  return value != kNoValue && graph.value(value).dtype == DType::kFloat32;
}

}  // namespace octavo
