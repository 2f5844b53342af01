// Signs of channels that a product of two activations sums over: keys of Softmax attention whose channels lie around
// +a and -a (PTQ4SAM, Lv et al. 2024) come to lie around +a. With g = -1 or 1, sum_j (g_j q_j) (g_j k_j) is unchanged
// to the bit; g goes into the weights and biases that make q and k.
#pragma once

#include <vector>

#include "octavo/dataset.h"
#include "octavo/quantize.h"
#include "octavo/status.h"

namespace octavo {

// `graph` is the float graph that `recipe` quantizes, rewritten by it. Nothing where no product's operands are
// quantized or no range would shrink.
Result<std::vector<RescaleRecipe>> FoldSigns(const Graph& graph, const Dataset& data, const Recipe& recipe,
                                             size_t samples, int threads);

}  // namespace octavo
