// Depthwise sums of products: uint8 activations, int16 weights (8-bit weights minus their zero point), int32 sums.
#pragma once

#include <cstdint>
#include <vector>

namespace octavo {

// Rows of a channels-last image that is padded already.
struct DepthwiseBlock {
  const uint8_t* src = nullptr;
  int64_t row_stride = 0;  // elements between rows of src; pixels are `channels` apart
  int64_t out_rows = 0, out_columns = 0, channels = 0;
  int64_t kernel_rows = 1, kernel_columns = 1;
  int64_t stride_rows = 1, stride_columns = 1, dilation_rows = 1, dilation_columns = 1;
  const int16_t* weights = nullptr;  // PackDepthwise
  int32_t* dst = nullptr;            // out_rows x out_columns x channels, dense
};

// `weights` (taps, channels) as the kernel reads them: taps in pairs, the last one with zeros where their number is
// odd.
std::vector<int16_t> PackDepthwise(const std::vector<int16_t>& weights, int64_t taps, int64_t channels);

// At most kMaxDepthwiseTaps taps, so that offsets live on the stack.
inline constexpr int64_t kMaxDepthwiseTaps = 1023;
void RunDepthwise(const DepthwiseBlock& block);

}  // namespace octavo
