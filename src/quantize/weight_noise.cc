#include "quantize/weight_noise.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "quantize/channel_moments.h"
#include "quantize/contraction_weights.h"
#include "quantize/scales.h"

namespace octavo {
namespace {

// A contraction whose weights are quantized along their output channels.
struct Contraction : ContractionWeights {
  const Node* node = nullptr;
  size_t weight = 0;                          // its entry in the recipe
  const ActivationRecipe* operand = nullptr;  // how its input is quantized; null: float
  std::vector<double> shares;                 // WindowShares
};

class WeightNoise {
 public:
  WeightNoise(const Graph& graph, const Recipe& recipe) : graph_(graph), recipe_(recipe) {
    std::map<std::string_view, const Node*> nodes;
    for (const Node& node : graph.nodes) {
      if (!node.removed) nodes[node.name] = &node;
    }
    for (size_t i = 0; i < recipe.weights.size(); ++i) {
      const auto found = nodes.find(recipe.weights[i].node);
      if (found != nodes.end()) Add(*found->second, i);
    }
  }

  const std::vector<Contraction>& contractions() const { return contractions_; }

  Result<std::map<ValueId, ChannelMoments>> Measure(const Dataset& data, size_t samples, int threads) const {
    std::map<ValueId, ObservedTensor> observed;
    for (const Contraction& contraction : contractions_) {
      const ValueId tensor = contraction.node->input(0);
      observed[tensor] = {tensor, contraction.operand_axis, Quantizer(contraction.operand)};
    }
    std::vector<ObservedTensor> list;
    for (auto& entry : observed) list.push_back(std::move(entry.second));
    return MeasureChannels(graph_, list, data, samples, threads);
  }

  const std::vector<float>& Scales(const Contraction& contraction) const {
    return recipe_.weights[contraction.weight].scales;
  }
  std::span<const float> Weights(const Contraction& contraction) const {
    return graph_.value(contraction.node->input(1)).constant.values<float>();
  }

 private:
  void Add(const Node& node, size_t weight) {
    const WeightRecipe& entry = recipe_.weights[weight];
    const auto weights = WeightsOf(graph_, node);
    if (entry.input != 1 || entry.axis < 0 || !weights) return;
    // A grouped ConvTranspose has one scale for several output channels.
    if (static_cast<int64_t>(entry.scales.size()) != weights->outputs) return;
    const auto shares = WindowShares(graph_, node);
    if (shares.ok()) contractions_.push_back({*weights, &node, weight, OperandOf(node), *shares});
  }

  const ActivationRecipe* OperandOf(const Node& node) const {
    for (const ActivationRecipe& entry : recipe_.activations) {
      if (entry.tensor != graph_.value(node.input(0)).name) continue;
      const bool reads = entry.consumers.empty() ||
                         std::find(entry.consumers.begin(), entry.consumers.end(), node.name) != entry.consumers.end();
      if (reads) return &entry;
    }
    return nullptr;
  }

  static std::function<float(float)> Quantizer(const ActivationRecipe* entry) {
    if (entry == nullptr) return [](float x) { return x; };
    const float scale = entry->scale, zero = static_cast<float>(entry->zero_point);
    const float low = entry->dtype == DType::kInt8 ? -128.0f : 0.0f;
    return [=](float x) { return (std::clamp(std::nearbyint(x / scale) + zero, low, low + 255) - zero) * scale; };
  }

  const Graph& graph_;
  const Recipe& recipe_;
  std::vector<Contraction> contractions_;
};

float Rounded(float w, float scale) { return std::clamp(std::nearbyint(w / scale), -127.0f, 127.0f) * scale; }

double RowNoise(const Contraction& contraction, std::span<const float> weights, const ChannelMoments& moments,
                int64_t o, float scale) {
  double noise = 0;
  for (int64_t i = 0; i < contraction.inputs_per_group; ++i) {
    double channel = 0;
    for (int64_t k = 0; k < contraction.window; ++k) {
      const float w = weights[contraction.At(o, i, k)];
      const double error = double{w} - Rounded(w, scale);
      channel += contraction.shares[static_cast<size_t>(k)] * error * error;
    }
    noise += channel * moments.mean_square[contraction.Input(o, i)];
  }
  return noise;
}

}  // namespace

Result<int> ClipWeights(const Graph& graph, const Dataset& data, size_t samples, int threads, Recipe& recipe) {
  // Ratios to max |w| / 127. Beyond a fifth cut off, clipping has never won on a trained model here.
  constexpr float kRatios[] = {1.0f, 0.975f, 0.95f, 0.925f, 0.9f, 0.875f, 0.85f, 0.8f};
  const Recipe before = recipe;
  const WeightNoise noise(graph, before);
  OCTAVO_ASSIGN(const auto moments, noise.Measure(data, samples, threads));
  int changed = 0;
  for (const Contraction& contraction : noise.contractions()) {
    const std::span<const float> weights = noise.Weights(contraction);
    std::vector<float>& scales = recipe.weights[contraction.weight].scales;
    for (int64_t o = 0; o < contraction.outputs; ++o) {
      float& scale = scales[static_cast<size_t>(o)];
      float best = scale;
      double least = 0;
      for (const float ratio : kRatios) {
        const float candidate = std::max(scale * ratio, kSmallestScale);
        const double found = RowNoise(contraction, weights, moments.at(contraction.node->input(0)), o, candidate);
        if (ratio != 1.0f && found >= least) continue;
        least = found;
        best = candidate;
      }
      changed += best != scale ? 1 : 0;
      scale = best;
    }
  }
  return changed;
}

bool TakesBias(const Graph& graph, const std::vector<std::vector<NodeId>>& uses, const Node& node, int64_t outputs) {
  if (node.Is("MatMul")) {
    const auto& readers = uses[static_cast<size_t>(node.output(0))];
    if (readers.size() != 1 || !graph.node(readers[0]).Is("Add")) return false;
    const Node& add = graph.node(readers[0]);
    const Value& bias = graph.value(add.input(add.input(0) == node.output(0) ? 1 : 0));
    return bias.is_constant() && !bias.dims.empty() && bias.dims.back() == outputs;
  }
  if (!node.has_input(2)) return true;
  const Value& bias = graph.value(node.input(2));
  return bias.is_constant() && ElementCount(bias.dims) == outputs;
}

Result<std::vector<BiasRecipe>> CorrectBiases(const Graph& graph, const Dataset& data, size_t samples, int threads,
                                              const Recipe& recipe) {
  const WeightNoise noise(graph, recipe);
  OCTAVO_ASSIGN(const auto moments, noise.Measure(data, samples, threads));
  const auto uses = graph.Uses();
  std::vector<BiasRecipe> biases;
  for (const Contraction& contraction : noise.contractions()) {
    const Node& node = *contraction.node;
    if (!TakesBias(graph, uses, node, contraction.outputs)) continue;
    const ChannelMoments& operand = moments.at(node.input(0));
    const std::span<const float> weights = noise.Weights(contraction);
    const std::vector<float>& scales = noise.Scales(contraction);
    BiasRecipe& entry = biases.emplace_back();
    entry.node = node.name;
    for (int64_t o = 0; o < contraction.outputs; ++o) {
      double lost = 0;
      for (int64_t i = 0; i < contraction.inputs_per_group; ++i) {
        const size_t input = contraction.Input(o, i);
        for (int64_t k = 0; k < contraction.window; ++k) {
          const float w = weights[contraction.At(o, i, k)];
          const double difference = double{w} * operand.mean[input] -
                                    double{Rounded(w, scales[static_cast<size_t>(o)])} * operand.mean_mapped[input];
          lost += contraction.shares[static_cast<size_t>(k)] * difference;
        }
      }
      entry.values.push_back(static_cast<float>(lost));
    }
  }
  return biases;
}

}  // namespace octavo
