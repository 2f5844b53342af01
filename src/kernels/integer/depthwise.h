// Depthwise sums of products: uint8 activations, int16 weights (8-bit weights minus their zero point), int32 sums.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/integer/sliding_window.h"

namespace octavo {

// As many channels out as in.
struct DepthwiseBlock : SlidingWindow {
  const int16_t* weights = nullptr;  // PackDepthwise
};

// `weights` (taps, channels) as the kernel reads them: taps in pairs, the last one with zeros where their number is
// odd.
std::vector<int16_t> PackDepthwise(const std::vector<int16_t>& weights, int64_t taps, int64_t channels);

// At most kMaxDepthwiseTaps taps, so that offsets live on the stack.
inline constexpr int64_t kMaxDepthwiseTaps = 1023;
void RunDepthwise(const DepthwiseBlock& block);

}  // namespace octavo
