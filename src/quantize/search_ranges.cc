#include "quantize/search_ranges.h"

#include <fmt/format.h>

#include <array>

#include "quantize/defer_softmax.h"
#include "quantize/scales.h"

namespace octavo {
namespace {

// What a kind must gain over the choice for all: less than that is the samples' noise.
constexpr double kLeastGainDb = 0.1;

std::array<EstimatorOptions, 3> Candidates() {
  std::array<EstimatorOptions, 3> candidates;
  candidates[0].estimator = Estimator::kMinMax;
  candidates[1].estimator = Estimator::kPercentile;
  candidates[1].percentile = 99.999;
  candidates[2].estimator = Estimator::kMse;
  return candidates;
}

std::string Describe(const EstimatorOptions& options) {
  std::string name = NameOf(options.estimator);
  if (options.estimator == Estimator::kPercentile) name += fmt::format(" {}", options.percentile);
  return name;
}

// Of the tensor whose scale the edge has.
TensorKind KindOf(const Graph& graph, const Placement& placement, const Placement::Edge& edge) {
  const NodeId producer = graph.value(edge.scale_of).producer;
  bool both_activations = false;
  for (const Placement::Edge& owner : placement.edges) {
    if (owner.tensor != edge.scale_of) continue;
    for (const NodeId id : owner.consumers) {
      const Node& node = graph.node(id);
      both_activations |= node.Is("MatMul") && !graph.value(node.input(1)).is_constant();
    }
  }
  return {producer == kNoNode ? "" : graph.node(producer).op, both_activations};
}

}  // namespace

Status EstimateRangesAnew(const Graph& graph, const Placement& placement, const Stats& stats,
                          const RangeChoices& choices, Recipe& recipe) {
  if (choices.empty()) return {};
  for (size_t i = 0; i < placement.edges.size(); ++i) {
    const Placement::Edge& edge = placement.edges[i];
    const auto choice = choices.find(KindOf(graph, placement, edge));
    if (choice == choices.end() || IsSoftmaxNumerator(graph, edge.scale_of)) continue;
    ActivationRecipe& activation = recipe.activations[i];
    EstimatorOptions options = choice->second;
    options.symmetric = activation.dtype == DType::kInt8;
    OCTAVO_ASSIGN(const Range range, EstimateRange(stats.tensors.at(graph.value(edge.scale_of).name), options));
    const ScaleAndZero scale = options.symmetric ? SignedScale(range) : UnsignedScale(range);
    activation.scale = scale.scale;
    activation.zero_point = scale.zero_point;
    activation.reason += "; range by " + Describe(options);
  }
  return {};
}

Result<RangeChoices> SearchRanges(const Graph& graph, const Placement& placement,
                                  const std::function<Result<double>(const RangeChoices&)>& judge, double& score) {
  RangeChoices all;
  for (const Placement::Edge& edge : placement.edges) all[KindOf(graph, placement, edge)];
  RangeChoices best;
  const auto consider = [&](const RangeChoices& choices, double least_gain) -> Status {
    OCTAVO_ASSIGN(const double found, judge(choices));
    if (found <= score + least_gain) return {};
    score = found;
    best = choices;
    return {};
  };
  for (const EstimatorOptions& candidate : Candidates()) {
    for (auto& [kind, estimator] : all) estimator = candidate;
    OCTAVO_RETURN_IF_ERROR(consider(all, 0));
  }
  for (const auto& [kind, unused] : all) {
    for (const EstimatorOptions& candidate : Candidates()) {
      const auto current = best.find(kind);
      if (current != best.end() && current->second.estimator == candidate.estimator) continue;
      RangeChoices choices = best;
      choices[kind] = candidate;
      OCTAVO_RETURN_IF_ERROR(consider(choices, kLeastGainDb));
    }
  }
  return best;
}

}  // namespace octavo
