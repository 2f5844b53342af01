#include "quantize/shift_channels.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "graph/infer_window.h"
#include "graph/op_table.h"
#include "octavo/targets.h"
#include "quantize/channel_moments.h"
#include "quantize/contraction_weights.h"
#include "quantize/placement.h"
#include "quantize/scales.h"

namespace octavo {
namespace {

// A range that shrinks to this share pays for the shift: rounding noise falls by its square. A shift inside of a
// constant is free, an Add behind what makes the tensor is part of that step on our engine, any other Add is a step.
constexpr double kFreeShare = 0.98, kFusedShare = 0.9, kStepShare = 0.7;

Status CheckWindow(const Graph& graph, const Node& node) {
  if (node.Is("ConvTranspose")) return Unsupported("its results read different parts of its window");
  OCTAVO_ASSIGN(const auto axes, ResolveConv(node, graph.value(node.input(0)).dims, graph.value(node.input(1)).dims));
  for (const WindowAxis& axis : axes) {
    if (axis.pad_begin != 0 || axis.pad_end != 0) return Unsupported("it pads with zeros, which a shift would move");
  }
  return {};
}

// Whether `constant` holds one value per channel of `axis` of a tensor of `rank`, or more.
bool CanTakeChannels(const Value& constant, size_t rank, int axis, int64_t channels) {
  if (!constant.is_constant() || constant.dtype != DType::kFloat32 || constant.dims.size() > rank) return false;
  const int64_t at = axis - static_cast<int64_t>(rank - constant.dims.size());
  return at >= 0 && constant.dims[static_cast<size_t>(at)] == channels;
}

bool BiasIsPlain(const Graph& graph, const Node& node, int64_t channels) {
  return !node.has_input(2) || CanTakeChannels(graph.value(node.input(2)), 1, 0, channels);
}

std::vector<double> SumsOf(const ContractionWeights& weights, std::span<const float> values,
                           const std::vector<float>& shift) {
  std::vector<double> sums;
  for (int64_t o = 0; o < weights.outputs; ++o) {
    double sum = 0;
    for (int64_t i = 0; i < weights.inputs_per_group; ++i) {
      const double v = shift[weights.Input(o, i)];
      for (int64_t k = 0; k < weights.window; ++k) sum += v * values[weights.At(o, i, k)];
    }
    sums.push_back(sum);
  }
  return sums;
}

// A quantized tensor and those of its readers that may see it shifted.
struct Candidate {
  ValueId tensor = kNoValue;
  int axis = 1;
  std::vector<NodeId> consumers;
  double most_share = 0;  // of the range that may be left
};

class ShiftSearch {
 public:
  ShiftSearch(const Graph& graph, const Target& target) : graph_(graph), target_(target), uses_(graph.Uses()) {}

  std::vector<Candidate> Candidates(const Placement& placement) const {
    std::vector<Candidate> candidates;
    for (const Placement::Edge& edge : placement.edges) {
      if (graph_.IsInput(edge.tensor)) continue;  // preprocessing has taken the mean off
      Candidate candidate{edge.tensor, 0, {}, 0};
      for (const NodeId id : edge.consumers) {
        const auto axis = ShiftableAxis(graph_, graph_.node(id));
        if (!axis.ok() || graph_.node(id).input(0) != edge.tensor) continue;
        if (!candidate.consumers.empty() && *axis != candidate.axis) continue;
        candidate.axis = *axis;
        candidate.consumers.push_back(id);
      }
      if (candidate.consumers.empty()) continue;
      candidate.most_share = MostShare(candidate);
      candidates.push_back(std::move(candidate));
    }
    return candidates;
  }

  // Minus the middles of the channels' ranges, where the tensor's range shrinks enough; else empty.
  std::vector<float> Shift(const Candidate& candidate, const ChannelMoments& moments) const {
    float low = 0, high = 0, widest = 0;
    for (size_t c = 0; c < moments.low.size(); ++c) {
      low = std::min(low, moments.low[c]);
      high = std::max(high, moments.high[c]);
      widest = std::max(widest, moments.high[c] - moments.low[c]);
    }
    const double before = target_.unsigned_activations ? high - low : 2 * std::max(high, -low);
    if (!std::isfinite(before) || widest >= candidate.most_share * before) return {};
    std::vector<float> shift;
    for (size_t c = 0; c < moments.low.size(); ++c) shift.push_back(-(moments.low[c] + moments.high[c]) / 2);
    return shift;
  }

 private:
  double MostShare(const Candidate& candidate) const {
    const auto& readers = uses_[static_cast<size_t>(candidate.tensor)];
    const bool reads_all =
        !graph_.IsOutput(candidate.tensor) && std::all_of(readers.begin(), readers.end(), [&](NodeId id) {
          return std::count(candidate.consumers.begin(), candidate.consumers.end(), id) > 0;
        });
    if (!reads_all) return kStepShare;
    if (FindShiftHome(graph_, candidate.tensor, candidate.axis)) return kFreeShare;
    return IsFusable(candidate.tensor) ? kFusedShare : kStepShare;
  }

  // Whether one more Add would be part of the step that makes `tensor`: nobody reads what lies between.
  bool IsFusable(ValueId tensor) const {
    for (;;) {
      const Node& maker = graph_.node(graph_.value(tensor).producer);
      const OpTraits* traits = FindOp(maker.domain, maker.op);
      if (traits == nullptr || traits->op_class == OpClass::kView) return false;
      const ValueId operand = OperandBesideConstant(maker);
      if (operand == kNoValue) return true;
      if (uses_[static_cast<size_t>(operand)].size() != 1 || graph_.IsOutput(operand) || graph_.IsInput(operand)) {
        return false;
      }
      tensor = operand;
    }
  }

  ValueId OperandBesideConstant(const Node& node) const {
    if (!node.Is("Mul") && !node.Is("Add")) return kNoValue;
    if (graph_.value(node.input(1)).is_constant()) return node.input(0);
    return graph_.value(node.input(0)).is_constant() ? node.input(1) : kNoValue;
  }

  const Graph& graph_;
  const Target& target_;
  const std::vector<std::vector<NodeId>> uses_;
};

}  // namespace

Result<int> ShiftableAxis(const Graph& graph, const Node& node) {
  const auto weights = WeightsOf(graph, node);
  if (!weights) return Unsupported("it is no sum over channels with constant weights");
  if (node.Is("Conv") || node.Is("ConvTranspose")) OCTAVO_RETURN_IF_ERROR(CheckWindow(graph, node));
  if (node.Is("Gemm") && (node.Float("alpha", 1) != 1 || node.Float("beta", 1) != 1)) {
    return Unsupported("its alpha or beta is not 1");
  }
  if (!BiasIsPlain(graph, node, weights->outputs)) return Unsupported("its bias is no constant per channel");
  return weights->operand_axis;
}

std::vector<double> ShiftOfResult(const Graph& graph, const Node& node, const std::vector<float>& shift) {
  return SumsOf(*WeightsOf(graph, node), graph.value(node.input(1)).constant.values<float>(), shift);
}

std::optional<ShiftHome> FindShiftHome(const Graph& graph, ValueId tensor, int axis) {
  const NodeId id = graph.value(tensor).producer;
  if (id == kNoNode) return std::nullopt;
  const Node& node = graph.node(id);
  const size_t rank = graph.value(tensor).dims.size();
  const int64_t channels = graph.value(tensor).dims[static_cast<size_t>(axis)];
  const bool is_last = axis == static_cast<int>(rank) - 1;
  const bool has_bias = ((node.Is("Conv") || node.Is("ConvTranspose")) && axis == 1) ||
                        (node.Is("Gemm") && is_last && node.Float("beta", 1) == 1);
  if (has_bias && BiasIsPlain(graph, node, channels)) return ShiftHome{id, 2};
  if (node.Is("LayerNormalization") && is_last && node.has_input(2) && BiasIsPlain(graph, node, channels)) {
    return ShiftHome{id, 2};
  }
  for (const int input : {0, 1}) {
    if (!node.Is("Add") || graph.value(node.input(static_cast<size_t>(1 - input))).is_constant()) continue;
    const Value& constant = graph.value(node.input(static_cast<size_t>(input)));
    if (CanTakeChannels(constant, rank, axis, channels)) return ShiftHome{id, input};
  }
  return std::nullopt;
}

Result<std::vector<ShiftRecipe>> ShiftChannels(const Graph& graph, const Dataset& data, const Policy& policy,
                                               size_t samples, int threads) {
  OCTAVO_ASSIGN(const Target* target, FindTarget(policy.target));
  OCTAVO_ASSIGN(const Placement placement, Place(graph, policy));
  const ShiftSearch search(graph, *target);
  const std::vector<Candidate> candidates = search.Candidates(placement);
  std::vector<ObservedTensor> observed;
  for (const Candidate& candidate : candidates) {
    const auto is_it = [&](const ObservedTensor& entry) { return entry.tensor == candidate.tensor; };
    if (std::any_of(observed.begin(), observed.end(), is_it)) continue;
    observed.push_back({candidate.tensor, candidate.axis, {}});
  }
  std::vector<ShiftRecipe> shifts;
  if (observed.empty()) return shifts;
  OCTAVO_ASSIGN(const auto moments, MeasureChannels(graph, observed, data, samples, threads));
  for (const Candidate& candidate : candidates) {
    std::vector<float> shift = search.Shift(candidate, moments.at(candidate.tensor));
    if (shift.empty()) continue;
    ShiftRecipe& entry = shifts.emplace_back();
    entry.tensor = graph.value(candidate.tensor).name;
    for (const NodeId id : candidate.consumers) entry.consumers.push_back(graph.node(id).name);
    entry.values = std::move(shift);
  }
  return shifts;
}

std::vector<BiasRecipe> RoundingOfShifts(const Graph& shifted, const Recipe& recipe) {
  std::map<std::string_view, const Node*> nodes;
  for (const Node& node : shifted.nodes) {
    if (!node.removed) nodes[node.name] = &node;
  }
  std::map<std::string_view, const WeightRecipe*> weights;
  for (const WeightRecipe& entry : recipe.weights) {
    if (entry.input == 1) weights[entry.node] = &entry;
  }
  std::vector<BiasRecipe> biases;
  for (const ShiftRecipe& shift : recipe.shifts) {
    for (const std::string& name : shift.consumers) {
      const auto entry = weights.find(name);
      if (entry == weights.end()) continue;
      const Node& node = *nodes.at(name);
      const Tensor& exact = shifted.value(node.input(1)).constant;
      const auto rounded = RoundWeights(exact, entry->second->axis, entry->second->scales);
      if (!rounded.ok()) continue;
      const ContractionWeights layout = *WeightsOf(shifted, node);
      const std::vector<double> before = SumsOf(layout, exact.values<float>(), shift.values),
                                after = SumsOf(layout, rounded->values<float>(), shift.values);
      BiasRecipe& bias = biases.emplace_back();
      bias.node = name;
      for (size_t o = 0; o < before.size(); ++o) bias.values.push_back(static_cast<float>(before[o] - after[o]));
    }
  }
  return biases;
}

}  // namespace octavo
