// A transposed convolution as a set of plain ones.
#pragma once

#include <vector>

#include "graph/infer_window.h"
#include "octavo/tensor.h"

namespace octavo {

// With stride s, the outputs o = s m + p of one phase p read the taps k = r + s t only, r = (p + pad) mod s:
//   y[s m + p] = sum_t x[m + c - t] w[r + s t],  c = (p + pad - r) / s
// which is a plain convolution of T = ceil((K - r) / s) taps, stride 1 and pad T - 1 - c. The phases of all axes
// together do exactly the multiplications of the transposed convolution, at the speed of plain ones.
struct TransposedPhase {
  std::vector<int64_t> first;    // p, per spatial axis
  std::vector<WindowAxis> axes;  // of the plain convolution; output: how many outputs have this phase
  Tensor weights;                // (O, I, T...), float32
};

// All phases, for `weights` (I, O, K...) float32 of one group without dilation. Empty when the windows do not split
// (stride 1 everywhere, a phase without taps, or one that would need a negative pad). Error: no memory.
Result<std::vector<TransposedPhase>> SplitTransposed(const std::vector<WindowAxis>& axes, const Tensor& weights);

}  // namespace octavo
