// The sliding windows of convolutions and pools, as up to three spatial dimensions (fewer are padded with size 1).
#pragma once

#include <algorithm>
#include <array>
#include <string>
#include <vector>

#include "kernels/kernel.h"

namespace octavo {

inline constexpr size_t kSpatial = 3;

// One spatial dimension: output position o and kernel position k read input position o * stride + k * dilation - pad.
struct Window {
  int64_t input = 1, output = 1, kernel = 1;
  int64_t stride = 1, dilation = 1;
  int64_t pad = 0, pad_end = 0;
  int64_t input_step = 0, output_step = 0, kernel_step = 0;  // strides in memory, in elements

  int64_t extent() const { return (kernel - 1) * dilation + 1; }
};
using Windows = std::array<Window, kSpatial>;

// Bounds what a file may ask for, so that positions never overflow.
inline constexpr int64_t kLargestWindow = int64_t{1} << 30;
inline bool InRange(int64_t value, int64_t low) { return value >= low && value <= kLargestWindow; }

// Sizes, strides and dilations of `node` (auto_pad and pads too) for input and output of shape (N, C, spatial...) and a
// kernel of the given spatial sizes. The output's shape is trusted to follow from the rest.
inline Result<Windows> ReadWindows(const Node& node, const Operand& input, const Operand& output, const Dims& kernel) {
  const size_t spatial = input.dims.size() - 2;
  if (input.dims.size() < 2 || output.dims.size() != input.dims.size() || kernel.size() != spatial) {
    return InvalidArgument("the ranks of input, kernel and output do not fit");
  }
  if (spatial > kSpatial) return Unsupported("more than three spatial dimensions");
  const auto strides = node.Ints("strides", std::vector<int64_t>(spatial, 1));
  const auto dilations = node.Ints("dilations", std::vector<int64_t>(spatial, 1));
  const auto pads = node.Ints("pads", std::vector<int64_t>(2 * spatial, 0));
  if (strides.size() != spatial || dilations.size() != spatial || pads.size() != 2 * spatial) {
    return InvalidArgument("strides, dilations or pads have the wrong length");
  }
  const std::string auto_pad = node.String("auto_pad", "NOTSET");
  Windows windows;
  for (size_t d = 0; d < spatial; ++d) {
    Window& window = windows[kSpatial - spatial + d];
    window = {input.dims[d + 2], output.dims[d + 2], kernel[d], strides[d], dilations[d]};
    window.input_step = input.strides[d + 2];
    window.output_step = output.strides[d + 2];
    if (!InRange(window.kernel, 1) || !InRange(window.stride, 1) || !InRange(window.dilation, 1) ||
        !InRange(pads[d], -kLargestWindow) || !InRange(pads[d + spatial], -kLargestWindow)) {
      return InvalidArgument("a kernel size, stride, dilation or pad is out of range");
    }
    if (auto_pad == "NOTSET" || auto_pad.empty()) {
      window.pad = pads[d];
      window.pad_end = pads[d + spatial];
    } else if (auto_pad == "SAME_UPPER" || auto_pad == "SAME_LOWER") {
      const int64_t needed = (window.output - 1) * window.stride + window.extent() - window.input;
      const int64_t total = std::max<int64_t>(0, needed);
      window.pad = auto_pad == "SAME_UPPER" ? total / 2 : total - total / 2;
      window.pad_end = total - window.pad;
    } else if (auto_pad != "VALID") {
      return InvalidArgument("auto_pad is '" + auto_pad + "'");
    }
  }
  return windows;
}

}  // namespace octavo
