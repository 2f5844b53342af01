// Remedies that look at one contraction at a time: what rounding its weights does to its results.
#pragma once

#include "octavo/dataset.h"
#include "octavo/quantize.h"

namespace octavo {

// Shrinks scales of weights where clipping the largest costs less than the finer step gains: per output channel, the
// scale with the least  sum_ck p_k E[x_c^2] (w_ck - Q(w_ck))^2,  p_k being how often the window's element k sees no
// padding. `graph` is the float graph that `recipe` quantizes, without its rewrites. Returns how many scales changed.
Result<int> ClipWeights(const Graph& graph, const Dataset& data, size_t samples, int threads, Recipe& recipe);

// What quantization adds to the mean of each contraction's results, over inputs as they are in float:
//   sum_ck p_k (w_ck E[x_c] - Q(w_ck) E[Q(x_c)])
// to be added to the bias. Contractions without a bias that could take it are passed over.
Result<std::vector<BiasRecipe>> CorrectBiases(const Graph& graph, const Dataset& data, size_t samples, int threads,
                                              const Recipe& recipe);

// Whether BiasRecipe can add to the results of that Conv, Gemm or MatMul of so many outputs.
bool TakesBias(const Graph& graph, const std::vector<std::vector<NodeId>>& uses, const Node& node, int64_t outputs);

}  // namespace octavo
