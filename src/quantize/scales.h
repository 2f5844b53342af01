// From ranges and weights to scales.
#pragma once

#include <cstdint>
#include <vector>

#include "octavo/graph.h"
#include "octavo/quantize.h"

namespace octavo {

struct ScaleAndZero {
  float scale = kZeroRangeScale;
  int zero_point = 0;
};

// int8, zero point 0:  scale = max(|low|, |high|) / 127.
ScaleAndZero SignedScale(const Range& range);
// uint8:  scale = (high - low) / 255,  zero point = round(-low / scale), so that 0 is represented exactly.
ScaleAndZero UnsignedScale(const Range& range);

// max |w| / limit along `axis` (-1: over all). Error: a weight that is NaN or infinite.
Result<std::vector<float>> WeightScales(const Tensor& weights, int axis, int limit);
// round_half_even(w / scale), saturated to [-127, 127]; plus the element's offset, where there are any, saturated
// again.
Result<Tensor> QuantizeWeights(const Tensor& weights, int axis, const std::vector<float>& scales,
                               const std::vector<int8_t>& offsets = {});
// The same, back in float: what the contraction will multiply by.
Result<Tensor> RoundWeights(const Tensor& weights, int axis, const std::vector<float>& scales);
// In kBFloat16 or kFloat16. Error: a weight that is not finite there.
Result<Tensor> NarrowWeights(const Tensor& weights, DType dtype);

}  // namespace octavo
