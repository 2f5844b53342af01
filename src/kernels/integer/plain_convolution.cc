#include "kernels/integer/plain_convolution.h"

#include <algorithm>

namespace octavo {
namespace {

// One pixel's sums of one group: the inner loop runs over neighbours in memory, so that the compiler vectorizes it.
void AddTap(const uint8_t* src, const int16_t* weights, int64_t in_group, int64_t out_group, int32_t* sums) {
  for (int64_t i = 0; i < in_group; ++i) {
    const int32_t x = src[i];
    const int16_t* w = weights + i * out_group;
    for (int64_t o = 0; o < out_group; ++o) sums[o] += x * w[o];
  }
}

}  // namespace

std::vector<int16_t> PackPlainConvolution(const std::vector<int16_t>& weights, int64_t out_channels, int64_t in_group,
                                          int64_t taps, int64_t groups) {
  std::vector<int16_t> packed(weights.size());
  const int64_t out_group = out_channels / groups;
  for (int64_t o = 0; o < out_channels; ++o) {
    for (int64_t i = 0; i < in_group; ++i) {
      for (int64_t t = 0; t < taps; ++t) {
        const int64_t to = ((o / out_group * taps + t) * in_group + i) * out_group + o % out_group;
        packed[static_cast<size_t>(to)] = weights[static_cast<size_t>((o * in_group + i) * taps + t)];
      }
    }
  }
  return packed;
}

void RunPlainConvolution(const PlainConvolutionBlock& b) {
  const int64_t in_group = b.in_channels / b.groups, out_group = b.out_channels / b.groups;
  const int64_t tap_weights = in_group * out_group, taps = b.kernel_rows * b.kernel_columns;
  for (int64_t y = 0; y < b.out_rows; ++y) {
    for (int64_t x = 0; x < b.out_columns; ++x) {
      int32_t* sums = b.dst + (y * b.out_columns + x) * b.out_channels;
      std::fill_n(sums, b.out_channels, 0);
      const uint8_t* first = b.src + y * b.stride_rows * b.row_stride + x * b.stride_columns * b.in_channels;
      for (int64_t g = 0; g < b.groups; ++g) {
        for (int64_t t = 0; t < taps; ++t) {
          const uint8_t* src = first + t / b.kernel_columns * b.dilation_rows * b.row_stride +
                               t % b.kernel_columns * b.dilation_columns * b.in_channels + g * in_group;
          AddTap(src, b.weights + (g * taps + t) * tap_weights, in_group, out_group, sums + g * out_group);
        }
      }
    }
  }
}

}  // namespace octavo
