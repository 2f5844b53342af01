#include "engine/canonical.h"

#include <algorithm>
#include <array>
#include <set>
#include <string>
#include <string_view>
#include <utility>

#include "engine/fusion.h"
#include "graph/op_table.h"
#include "graph/quantization.h"
#include "graph/rounding.h"

namespace octavo {

namespace {

// Fused attention keeps values to itself that a target rounds; folded modulation makes values that a target does not
// have; merged products have lost the names of nodes that may be kept in float32; a product quantizes early what a
// target rounds before it scales it.
constexpr std::array<std::string_view, 5> kPassesThatChangeValues = {
    "linear-attention", "softmax-attention", "modulation-fold", "qkv-merge", "early-quantize"};

// Clip's bounds are inputs, constants among them rounded: the op commutes with rounding.
bool IsClipOfInputs(const Node& node) { return node.Is("Clip") && !node.Has("min") && !node.Has("max"); }

// Inputs that say how to compute, not what on.
bool IsParameter(const Node& node, size_t input) {
  return input > 0 && (IsQuantize(node) || IsDequantize(node) || node.Is("Resize"));
}

Result<Tensor> RoundedToHalf(const Tensor& tensor) {
  OCTAVO_ASSIGN(Tensor rounded, tensor.Clone());
  for (float& x : rounded.mutable_values<float>()) x = RoundTo(DType::kFloat16, x);
  return rounded;
}

class HalfRoundings {
 public:
  HalfRoundings(Graph& graph, const std::vector<std::string>& float32_nodes, const std::set<std::string>& model_values)
      : graph_(graph),
        uses_(graph.Uses()),
        in_float32_(graph.nodes.size()),
        made_by_pass_(graph.nodes.size()),
        on_integers_(graph.nodes.size()),
        is_anchor_(graph.nodes.size()),
        inside_(graph.values.size()),
        is_half_(graph.values.size()),
        behind_(graph.nodes.size()) {
    const std::set<std::string> kept(float32_nodes.begin(), float32_nodes.end());
    for (size_t v = 0; v < graph.values.size(); ++v) {
      const Value& value = graph.values[v];
      inside_[v] = !value.is_constant() && model_values.count(value.name) == 0;
    }
    for (size_t n = 0; n < graph.nodes.size(); ++n) {
      in_float32_[n] = kept.count(graph.nodes[n].name) > 0;
      const ValueId made = graph.nodes[n].output(0);
      made_by_pass_[n] = made != kNoValue && inside_[static_cast<size_t>(made)];
    }
  }

  Status Insert() {
    MarkGroups();
    const auto node_count = static_cast<NodeId>(graph_.nodes.size());
    const auto value_count = static_cast<ValueId>(graph_.values.size());
    for (ValueId value = 0; value < value_count; ++value) {
      if (graph_.value(value).is_constant()) OCTAVO_RETURN_IF_ERROR(RoundConstant(value));
    }
    for (const ValueId input : graph_.inputs) RoundInput(input);
    for (NodeId node = 0; node < node_count; ++node) {
      const std::vector<ValueId> outputs = graph_.node(node).outputs;
      for (const ValueId output : outputs) {
        if (IsFloat(output)) RoundOutput(node, output);
      }
    }
    PlaceRoundings(node_count);
    OCTAVO_RETURN_IF_ERROR(graph_.Sort());
    graph_.CompactValues();
    return {};
  }

 private:
  bool IsFloat(ValueId value) const { return value != kNoValue && graph_.value(value).dtype == DType::kFloat32; }
  bool IsDequantized(ValueId value) const {
    const NodeId producer = value == kNoValue ? kNoNode : graph_.value(value).producer;
    return producer != kNoNode && IsDequantize(graph_.node(producer));
  }
  bool IsMadeOnIntegers(ValueId value) const {
    const NodeId producer = graph_.value(value).producer;
    return producer != kNoNode && on_integers_[static_cast<size_t>(producer)];
  }

  void MarkGroups() {
    for (const FusionGroup& group : FuseEpilogues(graph_)) {
      const Node& anchor = graph_.node(group.anchor);
      if (group.bias != kNoValue) inside_[static_cast<size_t>(anchor.output(0))] = true;
      if (!IsDequantized(anchor.input(0)) || !IsDequantized(anchor.input(1))) continue;
      is_anchor_[static_cast<size_t>(group.anchor)] = true;
      MarkOnIntegers(group.anchor, group.output);
      if (group.bias != kNoValue) MarkOnIntegers(uses_[static_cast<size_t>(anchor.output(0))].front(), group.output);
      for (const PostOp& op : group.post_ops) {
        MarkOnIntegers(op.node, group.output);
        if (op.kind == PostOpKind::kRound) MarkOnIntegers(op.dequantize, group.output);
      }
    }
  }

  void MarkOnIntegers(NodeId node, ValueId group_output) {
    on_integers_[static_cast<size_t>(node)] = true;
    const ValueId made = graph_.node(node).output(0);
    if (made != group_output) inside_[static_cast<size_t>(made)] = true;
  }

  // Whether the node reads this input as it is, not rounded.
  bool ReadsExactly(NodeId id, size_t input) const {
    const Node& node = graph_.node(id);
    const ValueId value = node.input(input);
    if (IsParameter(node, input)) return true;
    if (IsQuantize(node)) return graph_.IsInput(value) || IsMadeOnIntegers(value);
    if (in_float32_[static_cast<size_t>(id)]) {
      const NodeId producer = graph_.value(value).producer;
      return producer == kNoNode || in_float32_[static_cast<size_t>(producer)];
    }
    if (!on_integers_[static_cast<size_t>(id)]) {
      // A node that a pass made is part of what it feeds: what is kept for that one is kept for it.
      const NodeId producer = graph_.value(value).producer;
      return made_by_pass_[static_cast<size_t>(id)] && producer != kNoNode &&
             in_float32_[static_cast<size_t>(producer)];
    }
    return is_anchor_[static_cast<size_t>(id)] || graph_.value(value).is_constant() || IsDequantized(value);
  }

  struct Reading {
    NodeId node;
    size_t input;
  };
  // Those who read `value` rounded, and those who do not.
  std::pair<std::vector<Reading>, std::vector<Reading>> ReadingsOf(ValueId value) const {
    std::pair<std::vector<Reading>, std::vector<Reading>> readings;
    std::vector<NodeId> readers = uses_[static_cast<size_t>(value)];
    std::sort(readers.begin(), readers.end());
    readers.erase(std::unique(readers.begin(), readers.end()), readers.end());
    for (const NodeId reader : readers) {
      for (size_t i = 0; i < graph_.node(reader).inputs.size(); ++i) {
        if (graph_.node(reader).input(i) != value) continue;
        (ReadsExactly(reader, i) ? readings.second : readings.first).push_back({reader, i});
      }
    }
    return readings;
  }

  void Redirect(const std::vector<Reading>& readings, ValueId to) {
    for (const auto& [node, input] : readings) graph_.node(node).inputs[input] = to;
  }

  Status RoundConstant(ValueId id) {
    if (!IsFloat(id)) return {};
    const auto [rounded, exact] = ReadingsOf(id);
    is_half_[static_cast<size_t>(id)] = true;
    if (rounded.empty() && !graph_.IsOutput(id)) return {};
    OCTAVO_ASSIGN(Tensor tensor, RoundedToHalf(graph_.value(id).constant));
    if (!exact.empty()) {
      // Copies: what they are copied from may move.
      const Value value = graph_.value(id);
      Redirect(exact, graph_.AddConstant(value.name, value.constant));
    }
    graph_.value(id).constant = std::move(tensor);
    return {};
  }

  void RoundInput(ValueId input) {
    if (!IsFloat(input)) return;
    const auto readings = ReadingsOf(input).first;
    if (readings.empty()) return;
    const std::string name = graph_.value(input).name;
    front_.push_back(AddHalf(name, input, readings));
    is_half_[static_cast<size_t>(input)] = true;
  }

  NodeId AddRounding(std::string_view name, ValueId from, ValueId to) {
    return graph_.AddNode(name, kOctavoDomain, "RoundTo", {from}, {to}, {{"to", kOnnxFloat16}});
  }

  // A rounded copy of `value` for some of its readers.
  NodeId AddHalf(std::string_view node_name, ValueId value, const std::vector<Reading>& readings) {
    const std::string name = graph_.value(value).name + "/half";
    const ValueId half = graph_.AddValue(name, DType::kFloat32, Dims(graph_.value(value).dims));
    Redirect(readings, half);
    return AddRounding(node_name, value, half);
  }

  void RoundOutput(NodeId node, ValueId id) {
    const auto index = static_cast<size_t>(id);
    if (inside_[index]) return;
    if (SelectsElements(graph_.node(node)) && ReadsHalves(node)) {
      is_half_[index] = true;
      return;
    }
    if (IsRoundedBehind(id)) return;
    is_half_[index] = true;
    const auto [rounded, exact] = ReadingsOf(id);
    const std::string name = graph_.node(node).name;
    if (in_float32_[static_cast<size_t>(node)]) {
      if (!rounded.empty()) behind_[static_cast<size_t>(node)].push_back(AddHalf(name, id, rounded));
      return;
    }
    if (rounded.empty() && !graph_.IsOutput(id)) return;
    const Value value = graph_.value(id);
    const ValueId whole = graph_.AddValue(value.name + "/float32", DType::kFloat32, value.dims);
    std::replace(graph_.node(node).outputs.begin(), graph_.node(node).outputs.end(), id, whole);
    Redirect(exact, whole);
    behind_[static_cast<size_t>(node)].push_back(AddRounding(name, whole, id));
  }

  bool ReadsHalves(NodeId id) const {
    const Node& node = graph_.node(id);
    for (size_t i = 0; i < node.inputs.size(); ++i) {
      const ValueId value = node.input(i);
      // Values that this has added are rounded ones, or read by what computes on integers.
      const bool half =
          static_cast<size_t>(value) >= is_half_.size() || !IsFloat(value) || is_half_[static_cast<size_t>(value)];
      if (value != kNoValue && !half) return false;
    }
    return !on_integers_[static_cast<size_t>(id)] && !in_float32_[static_cast<size_t>(id)];
  }

  // One reader, with which rounding commutes: it stays fused to the contraction that makes the value.
  bool IsRoundedBehind(ValueId value) const {
    const auto& readers = uses_[static_cast<size_t>(value)];
    if (readers.size() != 1 || graph_.IsOutput(value)) return false;
    if (on_integers_[static_cast<size_t>(readers[0])] || in_float32_[static_cast<size_t>(readers[0])]) return false;
    const Node& reader = graph_.node(readers[0]);
    return reader.input(0) == value && (reader.Is("Relu") || IsClipOfInputs(reader));
  }

  // Each rounding right behind what it rounds, so that the exact value lives no longer than it must.
  void PlaceRoundings(NodeId node_count) {
    std::vector<Node> placed;
    placed.reserve(graph_.nodes.size());
    for (const NodeId id : front_) placed.push_back(std::move(graph_.node(id)));
    for (NodeId id = 0; id < node_count; ++id) {
      placed.push_back(std::move(graph_.node(id)));
      for (const NodeId rounding : behind_[static_cast<size_t>(id)]) placed.push_back(std::move(graph_.node(rounding)));
    }
    graph_.nodes = std::move(placed);
  }

  Graph& graph_;
  // All of the graph as it was given; nodes and values that are added come behind and are in none of these.
  const std::vector<std::vector<NodeId>> uses_;
  std::vector<bool> in_float32_;    // per node: it is kept so
  std::vector<bool> made_by_pass_;  // per node
  std::vector<bool> on_integers_;   // per node: a contraction on integers, or what it fuses
  std::vector<bool> is_anchor_;     // per node: that contraction
  std::vector<bool> inside_;        // per value: between the nodes of a group, or made by a pass
  std::vector<bool> is_half_;       // per value: what its readers see
  std::vector<NodeId> front_;       // roundings of inputs
  std::vector<std::vector<NodeId>> behind_;
};

}  // namespace

bool SelectsElements(const Node& node) {
  if (!node.domain.empty()) return false;
  constexpr std::array<std::string_view, 15> kSelecting = {"Abs",   "Ceil", "Dropout",   "Floor",     "GlobalMaxPool",
                                                           "Max",   "Min",  "MaxPool",   "Neg",       "Relu",
                                                           "Round", "Sign", "ReduceMax", "ReduceMin", "Where"};
  if (std::find(kSelecting.begin(), kSelecting.end(), node.op) != kSelecting.end()) return true;
  const OpTraits* traits = FindOp(node.domain, node.op);
  return IsClipOfInputs(node) || (traits != nullptr && traits->op_class == OpClass::kView);
}

Status InsertHalfRoundings(Graph& graph, const std::vector<std::string>& float32_nodes,
                           const std::set<std::string>& model_values) {
  return HalfRoundings(graph, float32_nodes, model_values).Insert();
}

Result<std::vector<PassReport>> RunPassesFor(Precision precision, Graph& graph, const PassOptions& options) {
  if (precision != Precision::kFloat16) return RunPasses(graph, options);
  PassOptions restricted = options;
  restricted.disabled.insert(restricted.disabled.end(), kPassesThatChangeValues.begin(), kPassesThatChangeValues.end());
  return RunPasses(graph, restricted);
}

Result<std::vector<PassReport>> MakeCanonical(Graph& graph, const PassOptions& options, Precision precision,
                                              const std::vector<std::string>& float32_nodes) {
  std::set<std::string> model_values;
  for (const Value& value : graph.values) model_values.insert(value.name);
  OCTAVO_ASSIGN(std::vector<PassReport> reports, RunPassesFor(precision, graph, options));
  if (precision != Precision::kFloat16) return reports;
  OCTAVO_RETURN_IF_ERROR(InsertHalfRoundings(graph, float32_nodes, model_values));
  if (options.verify) OCTAVO_RETURN_IF_ERROR(Verify(graph));
  return reports;
}

}  // namespace octavo
