// A recipe seen layer by layer: which nodes it quantizes, and the recipe with other precisions for some of them.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "octavo/costs.h"
#include "octavo/graph.h"
#include "octavo/quantize.h"

namespace octavo {

// A node with a quantized operand.
struct QuantizedLayer {
  std::string node, op;
  int64_t macs = 0;
  bool is_contraction = false;  // others, sums of branches for some targets, have no 16 bits: they stay float32
};
// In execution order. `rewritten` is RewriteByRecipe's.
std::vector<QuantizedLayer> QuantizedLayers(const Graph& rewritten, const Recipe& recipe);

// What a layer is computed in: kInt8 as the recipe says, kBFloat16, kFloat16 or kFloat32.
using PrecisionOf = std::function<DType(const std::string& node)>;
// The recipe with these precisions: layers that are not kInt8 lose what is theirs (scales, corrections of their bias)
// and are listed as float with `reason`, those that are no contraction as float32. Layers are those of
// QuantizedLayers(rewritten, recipe).
Recipe WithPrecisions(const Recipe& recipe, const Graph& rewritten, const PrecisionOf& precision_of,
                      const std::string& reason);
// What is left to do on the graph that RewriteWithoutBiases has made, for that graph.
Recipe QuantizationOnly(const Recipe& recipe);

}  // namespace octavo
