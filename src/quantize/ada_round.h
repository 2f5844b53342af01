// The remedy that rounds weights by what their layer computes from, layer after layer; docs/remedies.md.
#pragma once

#include <cstddef>
#include <functional>
#include <vector>

#include "octavo/dataset.h"
#include "octavo/quantize.h"

namespace octavo {

struct LayerRoundingOptions {
  std::vector<size_t> samples;  // of the data, to learn from
  int threads = 0;
  // Layers done, of how many.
  std::function<void(size_t done, size_t total)> progress;
};

// Gives the recipe's weights of convolutions and of products with constants their offsets, and their layers biases in
// place of those it has. Every layer is fitted to the float model's results, on operands as they arrive once the
// layers before it are rounded. Returns how many integers moved.
// Errors: those of ApplyRecipe and Session; kInvalidArgument where no sample can be loaded.
Result<int64_t> RoundLayers(const Graph& prepared, const Dataset& data, const LayerRoundingOptions& options,
                            Recipe& recipe);

}  // namespace octavo
