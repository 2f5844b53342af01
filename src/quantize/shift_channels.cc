#include "quantize/shift_channels.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "graph/infer_window.h"
#include "graph/op_table.h"
#include "graph/quantization.h"
#include "quantize/channel_moments.h"
#include "quantize/contraction_weights.h"
#include "quantize/scales.h"

namespace octavo {
namespace {

// A range that shrinks to this share pays for the shift: rounding noise falls by its square. A shift inside of a
// constant is free, an Add behind what makes the tensor is part of that step on our engine, any other Add is a step.
constexpr double kFreeShare = 0.98, kFusedShare = 0.9, kStepShare = 0.7;
// How much farther from its mean than calibration has seen a channel may go. Without it a convolution's results in
// linear attention lost 9 dB on other pictures where calibration promised 2.
constexpr float kMargin = 1.1f;

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
  float low = 0, high = 0;  // what 8 bits hold of it now: the estimator has cut off what is rare
  double most_share = 0;    // of that range that may be left
};

Candidate HeldBy(const ActivationRecipe& entry, ValueId tensor) {
  const int low = LowestByte(entry.dtype);
  const auto real = [&](int q) { return static_cast<float>(q - entry.zero_point) * entry.scale; };
  return {tensor, 0, {}, real(low), real(low + 255), 0};
}

class ShiftSearch {
 public:
  explicit ShiftSearch(const Graph& graph) : graph_(graph), uses_(graph.Uses()) {}

  std::vector<Candidate> Candidates(const Recipe& recipe) const {
    std::vector<Candidate> candidates;
    for (const ActivationRecipe& entry : recipe.activations) {
      if (!entry.result_of.empty()) continue;  // those that multiply it have entries of their own
      const ValueId tensor = graph_.Find(entry.tensor);
      if (tensor == kNoValue || graph_.IsInput(tensor)) continue;  // preprocessing has taken a picture's mean off
      Candidate candidate = HeldBy(entry, tensor);
      for (const NodeId id : ReadersIn(entry, tensor)) {
        const auto axis = ShiftableAxis(graph_, graph_.node(id));
        if (!axis.ok() || graph_.node(id).input(0) != tensor) continue;
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

  // How to move the channels, where the tensor's range shrinks enough; else nothing. What is left beside a narrower
  // channel goes to its longer tail, which other samples will lengthen: behind GELU all channels keep their -0.17 at
  // the low end.
  static ChannelShift Shift(const Candidate& candidate, const ChannelMoments& moments) {
    const size_t channels = moments.low.size();
    std::vector<float> low(channels), high(channels);
    ChannelShift shift;
    for (size_t c = 0; c < channels; ++c) {
      const auto mean = static_cast<float>(moments.mean[c]);
      const auto reach = [&](float end) {
        return std::clamp(mean + kMargin * (end - mean), candidate.low, candidate.high);
      };
      low[c] = reach(moments.low[c]);
      high[c] = reach(moments.high[c]);
      shift.widest = std::max(shift.widest, high[c] - low[c]);
    }
    if (shift.widest >= candidate.most_share * (double{candidate.high} - candidate.low)) return shift;
    for (size_t c = 0; c < channels; ++c) {
      const float width = high[c] - low[c];
      const float tail = width > 0 ? (static_cast<float>(moments.mean[c]) - low[c]) / width : 0.5f;
      const float bottom = low[c] - (shift.widest - width) * std::clamp(tail, 0.0f, 1.0f);
      shift.recipe.values.push_back(-(bottom + shift.widest / 2));
    }
    return shift;
  }

 private:
  std::vector<NodeId> ReadersIn(const ActivationRecipe& entry, ValueId tensor) const {
    std::vector<NodeId> readers;
    for (const NodeId id : uses_[static_cast<size_t>(tensor)]) {
      const bool listed = entry.consumers.empty() ||
                          std::count(entry.consumers.begin(), entry.consumers.end(), graph_.node(id).name) > 0;
      if (listed && std::count(readers.begin(), readers.end(), id) == 0) readers.push_back(id);
    }
    return readers;
  }

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

Result<std::vector<ChannelShift>> ShiftChannels(const Graph& graph, const Dataset& data, const Recipe& recipe,
                                                int threads) {
  const std::vector<Candidate> candidates = ShiftSearch(graph).Candidates(recipe);
  std::vector<ObservedTensor> observed;
  for (const Candidate& candidate : candidates) {
    const auto is_it = [&](const ObservedTensor& entry) { return entry.tensor == candidate.tensor; };
    if (std::any_of(observed.begin(), observed.end(), is_it)) continue;
    observed.push_back({candidate.tensor, candidate.axis, {}});
  }
  std::vector<ChannelShift> shifts;
  if (observed.empty()) return shifts;
  OCTAVO_ASSIGN(const auto moments, MeasureChannels(graph, observed, data, data.size(), threads));
  for (const Candidate& candidate : candidates) {
    ChannelShift shift = ShiftSearch::Shift(candidate, moments.at(candidate.tensor));
    if (shift.recipe.values.empty()) continue;
    shift.recipe.tensor = graph.value(candidate.tensor).name;
    for (const NodeId id : candidate.consumers) shift.recipe.consumers.push_back(graph.node(id).name);
    shifts.push_back(std::move(shift));
  }
  return shifts;
}

void ScaleShifts(const std::vector<ChannelShift>& shifts, Recipe& recipe) {
  constexpr float kSteps = 254;  // int8's, symmetric
  for (size_t i = 0; i < shifts.size(); ++i) {
    ShiftRecipe& shift = recipe.shifts[recipe.shifts.size() - shifts.size() + i];
    for (ActivationRecipe& entry : recipe.activations) {
      const auto& readers = entry.consumers;
      if (std::find(readers.begin(), readers.end(), shift.consumers.front()) == readers.end()) continue;
      entry.scale = std::max(shifts[i].widest / kSteps, kSmallestScale);
      entry.zero_point = entry.dtype == DType::kInt8 ? 0 : 128;
      for (float& value : shift.values) value = std::nearbyint(value / entry.scale) * entry.scale;
      for (ActivationRecipe& result : recipe.activations) {
        if (result.result_of.empty() || result.tensor != entry.tensor) continue;
        result.scale = entry.scale;
        result.zero_point = entry.zero_point;
      }
    }
  }
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
