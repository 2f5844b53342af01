#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "base/quote.h"
#include "octavo/quantize.h"
#include "octavo/targets.h"
#include "quantize/defer_softmax.h"
#include "quantize/placement.h"
#include "quantize/scales.h"

namespace octavo {
namespace {

// Where scales of activations come from.
class ScaleSource {
 public:
  virtual ~ScaleSource() = default;
  virtual Result<ScaleAndZero> Of(const std::string& tensor, bool is_unsigned) const = 0;
  virtual bool Has(const std::string& tensor) const = 0;
};

class StatsSource : public ScaleSource {
 public:
  StatsSource(const Stats& stats, const EstimatorOptions& estimator) : stats_(stats), estimator_(estimator) {}

  Result<ScaleAndZero> Of(const std::string& tensor, bool is_unsigned) const override {
    const auto found = stats_.tensors.find(tensor);
    if (found == stats_.tensors.end()) {
      return NotFound("there are no statistics of tensor " + Quote(tensor) + ": calibrate this model again");
    }
    EstimatorOptions options = estimator_;
    options.symmetric = !is_unsigned;
    auto range = EstimateRange(found->second, options);
    if (!range.ok()) return range.status().WithPrefix("tensor " + Quote(tensor) + ": ");
    return is_unsigned ? UnsignedScale(*range) : SignedScale(*range);
  }
  bool Has(const std::string& tensor) const override { return stats_.tensors.count(tensor) > 0; }

 private:
  const Stats& stats_;
  const EstimatorOptions& estimator_;
};

class CacheSource : public ScaleSource {
 public:
  explicit CacheSource(const CalibrationCache& cache) : cache_(cache) {}

  Result<ScaleAndZero> Of(const std::string& tensor, bool) const override {
    const auto found = cache_.scales.find(tensor);
    if (found == cache_.scales.end()) {
      return NotFound("the calibration cache has no scale of tensor " + Quote(tensor) +
                      ": keep its readers float or calibrate this model");
    }
    return ScaleAndZero{found->second, 0};
  }
  bool Has(const std::string& tensor) const override { return cache_.scales.count(tensor) > 0; }

 private:
  const CalibrationCache& cache_;
};

// Place, without edges that have no scale: their readers stay float. Each turn takes nodes out, so it ends.
Result<Placement> PlaceWithScales(const Graph& graph, const ScaleSource& source, Policy policy) {
  while (true) {
    OCTAVO_ASSIGN(Placement placement, Place(graph, policy));
    const size_t before = policy.layers.size();
    for (const Placement::Edge& edge : placement.edges) {
      const std::string& tensor = graph.value(edge.scale_of).name;
      if (source.Has(tensor)) continue;
      std::vector<NodeId> without = edge.consumers;
      if (edge.result_of != kNoNode) without.push_back(edge.result_of);
      for (const NodeId reader : without) {
        policy.layers.insert_or_assign(graph.node(reader).name,
                                       LayerPolicy{DType::kFloat32, "there is no scale of " + Quote(tensor)});
      }
    }
    const bool all_there = std::all_of(placement.edges.begin(), placement.edges.end(),
                                       [&](const auto& edge) { return source.Has(graph.value(edge.scale_of).name); });
    if (all_there || policy.layers.size() == before) return placement;
  }
}

// Nodes of the policy's layers that have no multiplicands and are float16.
void AddHalfNodes(const Graph& graph, const Policy& policy, Recipe& recipe) {
  std::set<std::string_view> listed;
  for (const FloatRecipe& node : recipe.float_nodes) listed.insert(node.node);
  std::vector<FloatRecipe> more;
  for (const Node& node : graph.nodes) {
    const auto layer = node.removed ? policy.layers.end() : policy.layers.find(node.name);
    if (layer == policy.layers.end() || layer->second.precision != DType::kFloat16 || listed.count(node.name) > 0) {
      continue;
    }
    more.push_back({node.name, layer->second.reason, DType::kFloat16});
  }
  recipe.float_nodes.insert(recipe.float_nodes.end(), more.begin(), more.end());
}

Status AddActivations(const Graph& graph, const Placement& placement, const ScaleSource& source, bool is_unsigned,
                      Recipe& recipe) {
  for (const Placement::Edge& edge : placement.edges) {
    ActivationRecipe& activation = recipe.activations.emplace_back();
    activation.tensor = graph.value(edge.tensor).name;
    for (const NodeId consumer : edge.consumers) activation.consumers.push_back(graph.node(consumer).name);
    if (edge.result_of != kNoNode) activation.result_of = graph.node(edge.result_of).name;
    activation.dtype = is_unsigned ? DType::kUInt8 : DType::kInt8;
    OCTAVO_ASSIGN(ScaleAndZero scale, source.Of(graph.value(edge.scale_of).name, is_unsigned));
    if (IsSoftmaxNumerator(graph, edge.scale_of)) scale = is_unsigned ? UnsignedScale({0, 1}) : SignedScale({0, 1});
    activation.scale = scale.scale;
    activation.zero_point = scale.zero_point;
    activation.reason = edge.reason;
  }
  return {};
}

// Why a result that is asked to be int8 has no pair; "" where it gets one.
Result<std::string> AddResult(const Graph& graph, const Node& node, const ScaleSource& source, bool is_unsigned,
                              const std::vector<std::string>& quantizable, Recipe& recipe) {
  const ValueId result = node.output(0);
  const std::string name = result == kNoValue ? "" : graph.value(result).name;
  if (std::find(quantizable.begin(), quantizable.end(), name) == quantizable.end()) {
    return std::string("it lies inside a pattern that stays whole, or makes no floats");
  }
  if (graph.Uses()[static_cast<size_t>(result)].empty()) return std::string("nobody but the caller reads it");
  if (!source.Has(name)) return "there is no scale of " + Quote(name);
  OCTAVO_ASSIGN(const ScaleAndZero scale, source.Of(name, is_unsigned));
  ActivationRecipe entry;
  entry.tensor = name;
  entry.dtype = is_unsigned ? DType::kUInt8 : DType::kInt8;
  entry.scale = scale.scale;
  entry.zero_point = scale.zero_point;
  entry.reason = "its result is asked to be int8";
  entry.result_of = node.name;
  for (const ActivationRecipe& other : recipe.activations) {
    if (other.tensor != name) continue;
    if (!other.result_of.empty()) return std::string();
    if (other.scale != entry.scale) return std::string("a reader has it with another scale");
  }
  recipe.activations.push_back(std::move(entry));
  return std::string();
}

Status AddResults(const Graph& graph, const Policy& policy, const ScaleSource& source, bool is_unsigned,
                  Recipe& recipe) {
  if (policy.int8_results.empty()) return {};
  OCTAVO_ASSIGN(const std::vector<std::string> quantizable, QuantizableTensors(graph));
  for (const std::string& name : policy.int8_results) {
    const auto node = std::find_if(graph.nodes.begin(), graph.nodes.end(),
                                   [&](const Node& n) { return !n.removed && n.name == name; });
    if (node == graph.nodes.end()) continue;
    OCTAVO_ASSIGN(const std::string why_not, AddResult(graph, *node, source, is_unsigned, quantizable, recipe));
    if (!why_not.empty()) recipe.notes.push_back(fmt::format("the result of {} is not int8: {}", Quote(name), why_not));
  }
  return {};
}

Status AddWeights(const Graph& graph, const Placement& placement, int limit, Recipe& recipe) {
  for (const Placement::Weight& weight : placement.weights) {
    const Node& node = graph.node(weight.node);
    const Tensor& tensor = graph.value(node.input(static_cast<size_t>(weight.input))).constant;
    auto scales = WeightScales(tensor, weight.axis, limit);
    if (!scales.ok()) return scales.status().WithPrefix(graph.Describe(node) + ": ");
    recipe.weights.push_back({node.name, weight.input, weight.axis, *std::move(scales), weight.reason});
  }
  return {};
}

Result<Recipe> DecideWith(const Graph& prepared, const ScaleSource& source, const std::string& estimator,
                          bool always_signed, const Policy& policy) {
  OCTAVO_ASSIGN(const Target* target, FindTarget(policy.target));
  OCTAVO_ASSIGN(Placement placement,
                policy.float_without_scale ? PlaceWithScales(prepared, source, policy) : Place(prepared, policy));
  Recipe recipe;
  recipe.fingerprint = ModelFingerprint(prepared);
  recipe.target = policy.target;
  recipe.preset = policy.preset;
  recipe.estimator = estimator;
  recipe.float_nodes = std::move(placement.float_nodes);
  recipe.notes = std::move(placement.notes);
  AddHalfNodes(prepared, policy, recipe);
  const bool is_unsigned = target->unsigned_activations && !always_signed && policy.preset.empty();
  OCTAVO_RETURN_IF_ERROR(AddActivations(prepared, placement, source, is_unsigned, recipe));
  OCTAVO_RETURN_IF_ERROR(AddResults(prepared, policy, source, is_unsigned, recipe));
  OCTAVO_RETURN_IF_ERROR(AddWeights(prepared, placement, target->weight_limit, recipe));
  return recipe;
}

std::string EstimatorName(const EstimatorOptions& options) {
  std::string name = NameOf(options.estimator);
  if (options.estimator == Estimator::kPercentile) name += fmt::format(" {}", options.percentile);
  return name;
}

}  // namespace

Result<Recipe> Decide(const Graph& prepared, const Stats& stats, const Policy& policy) {
  OCTAVO_RETURN_IF_ERROR(CheckBelongsTo(stats, ModelFingerprint(prepared)));
  return DecideWith(prepared, StatsSource(stats, policy.estimator), EstimatorName(policy.estimator), false, policy);
}

Result<Recipe> DecideFromCache(const Graph& prepared, const CalibrationCache& cache, const Policy& policy) {
  return DecideWith(prepared, CacheSource(cache), "calibration cache", true, policy);
}

Result<Graph> QuantizeImplicit(const Graph& prepared, const CalibrationCache& cache, const Policy& policy) {
  OCTAVO_ASSIGN(const Recipe recipe, DecideFromCache(prepared, cache, policy));
  return ApplyRecipe(prepared, recipe);
}

Result<CalibrationCache> MakeCalibrationCache(const Graph& prepared, const Stats& stats,
                                              const EstimatorOptions& estimator) {
  OCTAVO_RETURN_IF_ERROR(CheckBelongsTo(stats, ModelFingerprint(prepared)));
  OCTAVO_ASSIGN(const std::vector<std::string> tensors, QuantizableTensors(prepared));
  const StatsSource source(stats, estimator);
  CalibrationCache cache;
  for (const std::string& tensor : tensors) {
    OCTAVO_ASSIGN(const ScaleAndZero scale, source.Of(tensor, false));
    cache.scales[tensor] = scale.scale;
  }
  return cache;
}

}  // namespace octavo
