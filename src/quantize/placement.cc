#include "quantize/placement.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "base/quote.h"
#include "graph/op_table.h"
#include "quantize/attention_size.h"
#include "quantize/keep_float.h"

namespace octavo {
namespace {

constexpr std::string_view kImplicitPreset = "tensorrt8-implicit";

// How many ops that commute with Q and DQ are looked through; exports have one to three in a row.
constexpr int kMaxSteps = 8;

const OpTraits* ContractionTraits(const Node& node) {
  const OpTraits* traits = FindOp(node.domain, node.op);
  return traits != nullptr && traits->quantizable_inputs != 0 ? traits : nullptr;
}

bool IsOperand(const OpTraits& traits, size_t input) {
  return input < 32 && (traits.quantizable_inputs >> input & 1) != 0;
}

bool IsFloat(const Graph& graph, ValueId id) { return id != kNoValue && graph.value(id).dtype == DType::kFloat32; }

class TargetPlacer {
 public:
  explicit TargetPlacer(const PlacementInput& input)
      : input_(input),
        graph_(input.graph),
        uses_(graph_.Uses()),
        edge_of_(graph_.values.size(), -1),
        is_quantized_(graph_.nodes.size()) {
    for (const LinearAttentionMatch& match : input.linear_attention) {
      for (const NodeId product : match.products) linear_attention_.emplace(product, &match);
    }
    is_multiplied_.resize(graph_.values.size());
    for (NodeId id = Count(); id-- > 0;) {
      const Node& node = graph_.node(id);
      const auto is_multiplied = [&](ValueId value) {
        return value != kNoValue && is_multiplied_[static_cast<size_t>(value)];
      };
      const bool leads_on =
          ContractionTraits(node) != nullptr || std::any_of(node.outputs.begin(), node.outputs.end(), is_multiplied);
      for (const ValueId read : node.inputs) {
        if (read != kNoValue && leads_on && !node.removed) is_multiplied_[static_cast<size_t>(read)] = true;
      }
    }
  }

  Placement Run() {
    for (NodeId id = 0; id < Count(); ++id) {
      if (!graph_.node(id).removed && ContractionTraits(graph_.node(id)) != nullptr) PlaceContraction(id);
    }
    if (!input_.target.quantized_results.empty()) PlaceResults();
    if (input_.target.quantize_residuals) PlaceResiduals();
    if (input_.target.share_concat_scale) ShareConcatScales();
    return std::move(placement_);
  }

 private:
  NodeId Count() const { return static_cast<NodeId>(graph_.nodes.size()); }

  void PlaceContraction(NodeId id) {
    const Node& node = graph_.node(id);
    const std::string why_not = WhyFloat(id);
    if (!why_not.empty()) {
      placement_.float_nodes.push_back({node.name, why_not, input_.precisions[static_cast<size_t>(id)]});
      return;
    }
    if (const auto found = linear_attention_.find(id); found != linear_attention_.end()) {
      PlaceLinearAttention(*found->second);
      return;
    }
    const bool has_weight = AddWeights(graph_, id, placement_);
    for (const ValueId tensor : Activations(node)) {
      AddEdge(tensor, id, has_weight ? node.op + " operand" : node.op + " of two activations");
    }
    is_quantized_[static_cast<size_t>(id)] = true;
  }

  // Numerator and divisor are sums over the same integers, whose scales cancel. Nothing between them and the quotient
  // is quantized: the divisor spans decades.
  void PlaceLinearAttention(const LinearAttentionMatch& match) {
    AddEdge(match.query.value, match.query.reader, "queries of linear attention, whose divisor stays wide");
    AddEdge(match.key.value, match.key.reader, "keys of linear attention, whose divisor stays wide");
    AddEdge(match.values.value, match.values.reader, "values of linear attention, without their row of ones");
  }

  // Linear attention is quantized as a whole.
  std::string WhyLinearAttentionFloat(const LinearAttentionMatch& match) const {
    if (!input_.quantize_attention) return "both operands are activations";
    for (const NodeId product : match.products) {
      const std::string& reason = input_.keep_reasons[static_cast<size_t>(product)];
      if (!reason.empty()) return reason;
    }
    for (const auto& operand : {match.query, match.key, match.values}) {
      if (input_.quantizable[static_cast<size_t>(operand.value)]) continue;
      return fmt::format("{} lies inside a pattern that stays whole", Quote(graph_.value(operand.value).name));
    }
    return {};
  }

  // Whether a Div divides by `value`, or by what selects or shifts it.
  bool IsDivisor(ValueId value, int steps = kMaxSteps) const {
    for (const NodeId id : uses_[static_cast<size_t>(value)]) {
      const Node& node = graph_.node(id);
      if (node.Is("Div") && node.input(1) == value && node.input(0) != value) return true;
      const bool hands_on = node.Is("Slice") || node.Is("Split") || node.Is("Transpose") || node.Is("Reshape") ||
                            node.Is("Squeeze") || node.Is("Unsqueeze") || node.Is("Max") || node.Is("Clip") ||
                            (node.Is("Add") && OperandBesideConstant(node) == value);
      if (!hands_on || steps == 0) continue;
      for (const ValueId output : node.outputs) {
        if (output != kNoValue && IsDivisor(output, steps - 1)) return true;
      }
    }
    return false;
  }

  // Why the target computes a contraction in float for the sake of its result; "" when it does not.
  std::string WhyFloatResult(const Node& node) const {
    if (!input_.target.QuantizesResult(node.op)) return {};
    if (QuantizedResult(node) == kNoValue) {
      return fmt::format("its result cannot be quantized, and {} has no INT8 {} with a float one", input_.target.name,
                         node.op);
    }
    // No later layer averages its rounding out: of the nano encoder's masks (IoU with FP32's 0.9954 with float results)
    // the last convolution's would cost as much again as those of all 44 others (0.9925, with it 0.9887).
    if (is_multiplied_[static_cast<size_t>(node.output(0))]) return {};
    return fmt::format("nothing multiplies its result, which would be rounded for {}", input_.target.name);
  }

  // Why a contraction stays float; "" when it does not.
  std::string WhyFloat(NodeId id) const {
    const Node& node = graph_.node(id);
    const OpTraits& traits = *ContractionTraits(node);
    if (const auto found = linear_attention_.find(id); found != linear_attention_.end()) {
      return WhyLinearAttentionFloat(*found->second);
    }
    if (const std::string& reason = input_.keep_reasons[static_cast<size_t>(id)]; !reason.empty()) return reason;
    if (input_.target.KeepsFloat(node.op)) {
      return fmt::format("{} has no INT8 {}", input_.target.name, node.op);
    }
    size_t activations = 0;
    for (size_t i = 0; i < node.inputs.size(); ++i) {
      if (!IsOperand(traits, i)) continue;
      const ValueId operand = node.inputs[i];
      if (!IsFloat(graph_, operand)) return fmt::format("operand {} is not float32", i);
      if (graph_.value(operand).is_constant()) continue;
      ++activations;
      if (!input_.quantizable[static_cast<size_t>(operand)]) {
        return fmt::format("{} lies inside a pattern that stays whole", Quote(graph_.value(operand).name));
      }
    }
    if (activations == 0) return "both operands are constant";
    if (std::string why = WhyFloatResult(node); !why.empty()) return why;
    if (activations < 2) return {};
    if (!input_.quantize_attention && !input_.wants_int8[static_cast<size_t>(id)]) {
      return "both operands are activations";
    }
    if (IsDivisor(node.output(0))) return "its result is a divisor";
    return WhyNoInt8Attention(graph_, uses_, node, input_.target);
  }

  // The activations that a contraction multiplies, each once.
  std::vector<ValueId> Activations(const Node& node) const {
    std::vector<ValueId> found;
    for (size_t i = 0; i < node.inputs.size(); ++i) {
      const ValueId operand = node.inputs[i];
      if (!IsOperand(*ContractionTraits(node), i) || operand == kNoValue || graph_.value(operand).is_constant())
        continue;
      if (std::find(found.begin(), found.end(), operand) == found.end()) found.push_back(operand);
    }
    return found;
  }

  Placement::Edge& AddEdge(ValueId tensor, NodeId consumer, const std::string& reason) {
    int& index = edge_of_[static_cast<size_t>(tensor)];
    if (index < 0) {
      index = static_cast<int>(placement_.edges.size());
      placement_.edges.push_back({tensor, {}, tensor, reason});
    }
    Placement::Edge& edge = placement_.edges[static_cast<size_t>(index)];
    if (std::find(edge.consumers.begin(), edge.consumers.end(), consumer) == edge.consumers.end()) {
      edge.consumers.push_back(consumer);
    }
    if (edge.reason.find(reason) == std::string::npos) edge.reason += "; " + reason;
    return edge;
  }

  // Whether `node` bounds its input from below by 0: a Q with zero point 0 behind it does the same.
  bool IsRectifier(const Node& node) const {
    if (node.Is("Relu")) return true;
    if (!node.Is("Clip")) return false;
    const Value* low = node.has_input(1) ? &graph_.value(node.input(1)) : nullptr;
    if (low == nullptr) return node.Float("min", -1) == 0;
    return low->is_constant() && low->dtype == DType::kFloat32 && low->constant.size() == 1 &&
           low->constant.values<float>()[0] == 0;
  }

  // What a Q stands alone behind, so that the target runs `node` on integers: its result, or a rectifier's behind it.
  ValueId QuantizedResult(const Node& node) const {
    const ValueId result = node.output(0);
    const auto can_be = [&](ValueId value) {
      return input_.quantizable[static_cast<size_t>(value)] && !graph_.IsOutput(value) &&
             !uses_[static_cast<size_t>(value)].empty();
    };
    if (result == kNoValue || graph_.IsOutput(result)) return kNoValue;
    const std::vector<NodeId>& readers = uses_[static_cast<size_t>(result)];
    if (readers.size() == 1 && IsRectifier(graph_.node(readers[0]))) {
      const ValueId behind = graph_.node(readers[0]).output(0);
      if (can_be(behind)) return behind;
    }
    return can_be(result) ? result : kNoValue;
  }

  void PlaceResults() {
    std::map<ValueId, ValueId> scale_of;
    for (NodeId id = 0; id < Count(); ++id) {
      const Node& node = graph_.node(id);
      if (!is_quantized_[static_cast<size_t>(id)] || !input_.target.QuantizesResult(node.op)) continue;
      const ValueId result = QuantizedResult(node);
      placement_.edges.push_back({result, {}, result, "result of " + node.op, id});
      scale_of.emplace(result, result);
    }
    // What only moves such a result has its scale, and is not rounded again.
    for (Placement::Edge& edge : placement_.edges) {
      ValueId value = edge.tensor;
      for (int step = 0; step < kMaxSteps && scale_of.count(value) == 0; ++step) {
        const NodeId made_by = graph_.value(value).producer;
        if (made_by == kNoNode || !input_.target.Commutes(graph_.node(made_by).op)) break;
        value = graph_.node(made_by).input(0);
      }
      if (scale_of.count(value) != 0) edge.scale_of = value;
    }
  }

  // The quantized contraction whose result `value` is, through its bias and through ops that Q and DQ commute with.
  NodeId ContractionBehind(ValueId value) const {
    for (int step = 0; step < kMaxSteps; ++step) {
      const NodeId id = graph_.value(value).producer;
      if (id == kNoNode) return kNoNode;
      if (is_quantized_[static_cast<size_t>(id)]) return id;
      const Node& node = graph_.node(id);
      ValueId before = kNoValue;
      if (input_.target.Commutes(node.op)) before = node.input(0);
      if (node.Is("Add")) before = OperandBesideConstant(node);
      if (before == kNoValue) return kNoNode;
      value = before;
    }
    return kNoNode;
  }

  ValueId OperandBesideConstant(const Node& add) const {
    const bool first = graph_.value(add.input(0)).is_constant(), second = graph_.value(add.input(1)).is_constant();
    if (first == second) return kNoValue;
    return first ? add.input(1) : add.input(0);
  }

  // Add(contraction, skip): the skip is quantized. Where contractions made both, the later one takes the Add in.
  void PlaceResiduals() {
    for (NodeId id = 0; id < Count(); ++id) {
      const Node& node = graph_.node(id);
      if (node.removed || !node.Is("Add") || !input_.keep_reasons[static_cast<size_t>(id)].empty()) continue;
      const ValueId a = node.input(0), b = node.input(1);
      if (a == b || graph_.value(a).is_constant() || graph_.value(b).is_constant()) continue;
      if (graph_.value(a).dims != graph_.value(b).dims) continue;
      const NodeId made_a = ContractionBehind(a), made_b = ContractionBehind(b);
      if (made_a == kNoNode && made_b == kNoNode) continue;
      const ValueId skip = made_a > made_b ? b : a;
      if (input_.quantizable[static_cast<size_t>(skip)]) AddEdge(skip, id, "skip connection of an Add");
    }
  }

  // From the last Concat to the first, so that a Concat of a Concat is reached.
  void ShareConcatScales() {
    for (NodeId id = Count(); id-- > 0;) {
      const Node& node = graph_.node(id);
      if (node.removed || !node.Is("Concat") || !input_.keep_reasons[static_cast<size_t>(id)].empty()) continue;
      const ValueId owner = QuantizedAfter(node.output(0));
      if (owner == kNoValue || !AllFree(node, id)) continue;
      for (const ValueId part : node.inputs) ShareScale(part, id, owner);
    }
  }

  // The tensor whose scale `value` has as it leaves: itself, or one behind ops that commute.
  ValueId QuantizedAfter(ValueId value, int steps = kMaxSteps) const {
    if (const int index = edge_of_[static_cast<size_t>(value)]; index >= 0) {
      return placement_.edges[static_cast<size_t>(index)].scale_of;
    }
    if (steps == 0) return kNoValue;
    for (const NodeId id : uses_[static_cast<size_t>(value)]) {
      const Node& node = graph_.node(id);
      if (!input_.target.Commutes(node.op) || node.input(0) != value || node.output(0) == kNoValue) continue;
      const ValueId behind = QuantizedAfter(node.output(0), steps - 1);
      if (behind != kNoValue) return behind;
    }
    return kNoValue;
  }

  bool AllFree(const Node& concat, NodeId id) const {
    return std::all_of(concat.inputs.begin(), concat.inputs.end(), [&](ValueId part) {
      return part != kNoValue && input_.quantizable[static_cast<size_t>(part)] && graph_.value(part).producer != id;
    });
  }

  // An edge of its own: other readers of `part` keep the scale they have.
  void ShareScale(ValueId part, NodeId concat, ValueId owner) {
    for (const Placement::Edge& edge : placement_.edges) {
      if (edge.tensor == part && edge.scale_of == owner && edge.consumers.front() == concat) return;
    }
    placement_.edges.push_back({part, {concat}, owner, "Concat, with the scale of its result"});
    if (edge_of_[static_cast<size_t>(part)] < 0) {
      edge_of_[static_cast<size_t>(part)] = static_cast<int>(placement_.edges.size()) - 1;
    }
  }

  const PlacementInput& input_;
  const Graph& graph_;
  const std::vector<std::vector<NodeId>> uses_;
  Placement placement_;
  std::vector<int> edge_of_;                                        // by value: its first edge, or -1
  std::vector<bool> is_quantized_;                                  // by node: a contraction in INT8
  std::vector<bool> is_multiplied_;                                 // by value: contractions read what comes of it
  std::map<NodeId, const LinearAttentionMatch*> linear_attention_;  // by product
};

}  // namespace

void SortEdges(const Graph& graph, Placement& placement) {
  const auto made_at = [&](const Placement::Edge& edge) { return graph.value(edge.tensor).producer; };
  std::stable_sort(placement.edges.begin(), placement.edges.end(),
                   [&](const auto& a, const auto& b) { return made_at(a) < made_at(b); });
  for (Placement::Edge& edge : placement.edges) std::sort(edge.consumers.begin(), edge.consumers.end());
}

bool IsQuantizableContraction(const Graph& graph, const Node& node, const Target& target) {
  const OpTraits* traits = ContractionTraits(node);
  if (traits == nullptr || target.KeepsFloat(node.op)) return false;
  bool all_float = true;
  for (size_t i = 0; i < node.inputs.size(); ++i) all_float &= !IsOperand(*traits, i) || IsFloat(graph, node.inputs[i]);
  return all_float;
}

int WeightAxis(const Graph& graph, const Node& node, int input) {
  const OpTraits* traits = ContractionTraits(node);
  const auto rank = static_cast<int>(graph.value(node.input(static_cast<size_t>(input))).dims.size());
  // A vector on the right of a MatMul is the sum's axis; a constant on the left has rows, which no target scales apart.
  if (traits == nullptr || input != 1 || rank < 2) return -1;
  if (node.Int("transB", 0) != 0) return 0;
  return traits->weight_axis < 0 ? traits->weight_axis + rank : traits->weight_axis;
}

bool AddWeights(const Graph& graph, NodeId id, Placement& placement) {
  const Node& node = graph.node(id);
  bool found = false;
  for (size_t i = 0; i < node.inputs.size(); ++i) {
    if (!IsOperand(*ContractionTraits(node), i) || !graph.value(node.inputs[i]).is_constant()) continue;
    const int axis = WeightAxis(graph, node, static_cast<int>(i));
    placement.weights.push_back({id, static_cast<int>(i), axis, axis < 0 ? "one scale" : "scale per output channel"});
    found = true;
  }
  return found;
}

Result<PlacementInput> MakePlacementInput(const Graph& prepared, const Target& target, const Policy& policy) {
  PlacementInput input{prepared,
                       target,
                       std::vector<bool>(prepared.values.size()),
                       {},
                       policy.quantize_attention,
                       FindLinearAttention(prepared),
                       {},
                       {},
                       std::vector<bool>(prepared.nodes.size())};
  OCTAVO_ASSIGN(const std::vector<std::string> names, QuantizableTensors(prepared));
  for (const std::string& name : names) input.quantizable[static_cast<size_t>(prepared.Find(name))] = true;
  OCTAVO_ASSIGN(KeepFloat kept, ResolveFloatNodes(prepared, policy));
  input.keep_reasons = std::move(kept.reasons);
  input.precisions = std::move(kept.precisions);
  for (const NodeId id : kept.int8) input.wants_int8[static_cast<size_t>(id)] = true;
  if (!policy.preset.empty() || target.quantize_residuals || target.share_concat_scale) return input;
  for (const std::string& entry : kept.idle) {
    input.notes.push_back(fmt::format("keep-float {} changes nothing: {} quantizes none of the nodes that it matches",
                                      Quote(entry), target.name));
  }
  return input;
}

Placement PlaceByTarget(const PlacementInput& input) {
  Placement placement = TargetPlacer(input).Run();
  placement.notes = input.notes;
  SortEdges(input.graph, placement);
  return placement;
}

std::vector<std::string_view> PresetNames() { return {kImplicitPreset}; }

Result<Placement> Place(const Graph& prepared, const Policy& policy) {
  const bool implicit = policy.preset == kImplicitPreset;
  if (!implicit && !policy.preset.empty()) {
    return InvalidArgument(Quote(policy.preset) + " is no preset: " + std::string(kImplicitPreset));
  }
  OCTAVO_RETURN_IF_ERROR(FindTarget(policy.target).status());
  // The preset follows TensorRT, whoever is to read the model.
  OCTAVO_ASSIGN(const Target* target, FindTarget(implicit ? "tensorrt" : policy.target));
  OCTAVO_ASSIGN(const PlacementInput input, MakePlacementInput(prepared, *target, policy));
  return implicit ? PlaceTensorRt8Implicit(input) : PlaceByTarget(input);
}

Status CheckPolicy(const Graph& prepared, const Policy& policy) { return Place(prepared, policy).status(); }

}  // namespace octavo
