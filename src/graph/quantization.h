// What the graph's QuantizeLinear and DequantizeLinear nodes say, read once for passes, kernels and the engine.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "octavo/graph.h"

namespace octavo {

// Scales that the engine takes: 2^-126 <= s <= 2^126, so that s and 1 / s are both normal floats.
bool IsUsableScale(float scale);
// kInvalidArgument, with the scale, where it is not.
Status CheckScale(float scale);

// real = (q - zero_point) * scale, per tensor (one entry) or per slice of `axis`.
struct QuantizeParams {
  std::vector<float> scales;
  std::vector<int32_t> zero_points;  // as many as scales
  int64_t axis = 0;                  // of the quantized tensor; meaningful with several scales
  DType dtype = DType::kUndefined;   // of the integers

  bool per_tensor() const { return scales.size() == 1; }
};

// Checks scales (IsUsableScale) and zero points against `dtype`'s range (int32: zero); the message says what is wrong.
Status CheckQuantizeParams(const QuantizeParams& params);

// From the values themselves; `zero_point` may be undefined: 0. Errors: kInvalidArgument as CheckQuantizeParams.
Result<QuantizeParams> MakeQuantizeParams(const Node& node, int64_t rank, DType dtype, const Tensor& scale,
                                          const Tensor& zero_point);

// Of a QuantizeLinear or DequantizeLinear node. Errors: kUnsupported where scale or zero point are not constant,
// kInvalidArgument as CheckQuantizeParams.
Result<QuantizeParams> QuantizeParamsOf(const Graph& graph, const Node& node);

// The lowest value of 8-bit integers.
constexpr int32_t LowestByte(DType dtype) { return dtype == DType::kInt8 ? -128 : 0; }

bool IsQuantize(const Node& node);
bool IsDequantize(const Node& node);

// Whether `dequantize`, which reads `quantize`, gives back what that rounded: 8 bits, one constant scale for both.
bool UndoesQuantize(const Graph& graph, const Node& quantize, const Node& dequantize);

// Whether `node` dequantizes 8-bit constants that a contraction multiplies by (also through view ops): folding it would
// widen the weights again. `uses` is Graph::Uses().
bool IsWeightDequantize(const Graph& graph, const Node& node, const std::vector<std::vector<NodeId>>& uses);

}  // namespace octavo
