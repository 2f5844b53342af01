// Where the windows of convolutions and pools lie; shape inference, kernels and lowering share it.
#pragma once

#include <cstdint>
#include <vector>

#include "graph/op_table.h"

namespace octavo {

// One spatial axis. A convolution or pool's output o reads inputs o * stride - pad_begin + k * dilation, 0 <= k <
// kernel; a transposed convolution's input i reaches the outputs of that formula.
struct WindowAxis {
  int64_t kernel = 1;
  int64_t stride = 1;
  int64_t dilation = 1;
  int64_t pad_begin = 0;
  int64_t pad_end = 0;  // for ceil_mode the padding as stated; the last window may reach past it
  int64_t input = 0;
  int64_t output = 0;
};

// All attributes resolved (auto_pad, ceil_mode, output_shape, defaults); one entry per spatial axis.
// `x` is (N, C, spatial...), `w` as the op's weight.
Result<std::vector<WindowAxis>> ResolveConv(const Node& node, const Dims& x, const Dims& w);
Result<std::vector<WindowAxis>> ResolveConvTranspose(const Node& node, const Dims& x, const Dims& w);
Result<std::vector<WindowAxis>> ResolvePool(const Node& node, const Dims& x);

// MaxUnpool: the shape that the pool's input had by its attributes; output_shape may ask for more.
Result<Dims> ResolveUnpool(const Node& node, const Dims& x);

}  // namespace octavo
