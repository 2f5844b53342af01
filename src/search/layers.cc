#include "search/layers.h"

#include <algorithm>
#include <set>

#include "base/quote.h"
#include "graph/op_table.h"

namespace octavo {
namespace {

using ReadersByTensor = std::map<std::string, std::vector<std::string>, std::less<>>;

ReadersByTensor ReadersOf(const Graph& graph) {
  ReadersByTensor readers;
  const auto uses = graph.Uses();
  for (size_t v = 0; v < graph.values.size(); ++v) {
    for (const NodeId id : uses[v]) readers[graph.values[v].name].push_back(graph.node(id).name);
  }
  return readers;
}

bool IsContraction(const Node& node) {
  const OpTraits* traits = FindOp(node.domain, node.op);
  return traits != nullptr && traits->quantizable_inputs != 0;
}

std::vector<std::string> ConsumersOf(const ActivationRecipe& entry, const ReadersByTensor& readers) {
  if (!entry.consumers.empty()) return entry.consumers;
  const auto found = readers.find(entry.tensor);
  return found == readers.end() ? std::vector<std::string>() : found->second;
}

}  // namespace

std::vector<QuantizedLayer> QuantizedLayers(const Graph& rewritten, const Recipe& recipe) {
  const ReadersByTensor readers = ReadersOf(rewritten);
  std::set<std::string, std::less<>> names;
  for (const WeightRecipe& weight : recipe.weights) names.insert(weight.node);
  for (const ActivationRecipe& entry : recipe.activations) {
    if (!entry.result_of.empty()) continue;  // whoever reads such a result need not be quantized
    for (const std::string& consumer : ConsumersOf(entry, readers)) names.insert(consumer);
  }
  std::vector<QuantizedLayer> layers;
  for (const Node& node : rewritten.nodes) {
    if (!node.removed && names.count(node.name) > 0)
      layers.push_back({node.name, node.op, CountMacs(rewritten, node), IsContraction(node)});
  }
  return layers;
}

Recipe WithPrecisions(const Recipe& recipe, const Graph& rewritten, const PrecisionOf& precision_of,
                      const std::string& reason) {
  const ReadersByTensor readers = ReadersOf(rewritten);
  const auto is_float = [&](const std::string& node) { return precision_of(node) != DType::kInt8; };
  Recipe changed = recipe;
  std::erase_if(changed.weights, [&](const WeightRecipe& entry) { return is_float(entry.node); });
  std::erase_if(changed.biases, [&](const BiasRecipe& entry) { return is_float(entry.node); });
  // An entry without consumers stands for every reader, so that one whose readers are all float has to go.
  std::vector<ActivationRecipe> activations;
  for (ActivationRecipe& entry : changed.activations) {
    if (!entry.result_of.empty()) {
      if (!is_float(entry.result_of)) activations.push_back(std::move(entry));
      continue;
    }
    std::vector<std::string> consumers = ConsumersOf(entry, readers);
    if (std::erase_if(consumers, is_float) > 0) entry.consumers = consumers;
    if (!consumers.empty()) activations.push_back(std::move(entry));
  }
  changed.activations = std::move(activations);
  for (const QuantizedLayer& layer : QuantizedLayers(rewritten, recipe)) {
    const DType precision = precision_of(layer.node);
    if (precision == DType::kInt8) continue;
    changed.float_nodes.push_back({layer.node, reason, layer.is_contraction ? precision : DType::kFloat32});
  }
  return changed;
}

Recipe QuantizationOnly(const Recipe& recipe) {
  Recipe quantization = recipe;
  quantization.fingerprint.clear();
  static_cast<ExactRewrites&>(quantization) = {};
  return quantization;
}

std::string_view LayerPrecisionName(DType precision) {
  return precision == DType::kInt8 ? "int8" : FloatPrecisionName(precision);
}

Result<DType> ParseLayerPrecision(const std::string& name) {
  for (const DType precision : {DType::kInt8, DType::kBFloat16, DType::kFloat16, DType::kFloat32}) {
    if (LayerPrecisionName(precision) == name) return precision;
  }
  return InvalidArgument(Quote(name) + " is no precision of a layer: int8, bf16, fp16, fp32");
}

}  // namespace octavo
