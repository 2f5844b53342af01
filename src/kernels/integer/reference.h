// The arithmetic of docs/numerics.md in plain C++: slow, and what every integer kernel is compared with, bit for bit.
#pragma once

#include <cstdint>
#include <vector>

#include "octavo/graph.h"

namespace octavo {

// q = round(clamp(v / scale, low - zero_point, high - zero_point)) + zero_point, half to even; NaN gives low.
// low..high is 0..255, or -128..127 when `is_signed`.
int32_t ReferenceQuantize(float value, float scale, int32_t zero_point, bool is_signed);

// (q - zero_point) * scale
float ReferenceDequantize(int32_t q, float scale, int32_t zero_point);

// The elementwise functions that contractions take along: Relu, LeakyRelu, Sigmoid, Tanh, Abs, Sqrt, Gelu, HardSwish,
// Clip (constant bounds), Silu. Error: kUnsupported for others.
Result<float> ReferenceUnary(const Graph& graph, const Node& node, float x);

// One spatial frame for convolutions and products: (N, H, W, C) activations, (O, KH, KW, I/g) is not needed: weights
// are (O, I/g, KH, KW).
struct ReferenceConvolution {
  int64_t batch = 1, in_rows = 1, in_columns = 1, in_channels = 1, out_rows = 1, out_columns = 1, out_channels = 1;
  int64_t groups = 1, kernel_rows = 1, kernel_columns = 1, stride_rows = 1, stride_columns = 1, dilation_rows = 1,
          dilation_columns = 1, pad_top = 0, pad_left = 0;
  int32_t zero_point = 0;
  // Sums of (x - zero_point) * w over the window's part inside the image, (N, OH, OW, O); exact in int64, and each
  // fits int32.
  std::vector<int64_t> Sums(const std::vector<uint8_t>& x, const std::vector<int16_t>& weights) const;
};

// One head of linear attention: values (tokens, channels), zero points taken off, q and k not below 0.
struct ReferenceLinearAttention {
  int64_t depth = 1, width = 1, keys = 1, queries = 1;
  float value_scale = 1, epsilon = 0;  // epsilon over the product of q's and k's scales
  // (queries, width)
  std::vector<float> Run(const std::vector<int32_t>& q, const std::vector<int32_t>& k,
                         const std::vector<int32_t>& v) const;
};

}  // namespace octavo
