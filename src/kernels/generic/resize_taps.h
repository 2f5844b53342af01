// The tables of a Resize: which input positions make an output position, and with what weights.
#pragma once

#include <cstdint>
#include <vector>

#include "graph/infer_resize.h"

namespace octavo {

// out[o] = sum over k of weight[o * taps + k] * in[index[o * taps + k]] along one axis.
struct ResizeTaps {
  int64_t taps = 1;  // 1: nearest, or an axis that is not resized
  std::vector<int64_t> index;
  std::vector<float> weight;
};

// One table per axis. Unsupported where the output reaches outside of the input and is to be extrapolated.
Result<std::vector<ResizeTaps>> MakeResizeTaps(const ResizePlan& plan);

}  // namespace octavo
