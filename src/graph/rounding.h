// Values that are rounded to a 16-bit type and computed with in float32.
#pragma once

#include "octavo/graph.h"

namespace octavo {

// TensorProto.DataType's numbers of the ONNX specification, for `to` of Cast and RoundTo.
inline constexpr int64_t kOnnxFloat = 1;
inline constexpr int64_t kOnnxFloat16 = 10;
inline constexpr int64_t kOnnxBFloat16 = 16;

// kBFloat16 or kFloat16 of an octavo.RoundTo node; kUndefined for every other node.
DType RoundedTo(const Node& node);

// As a Cast to that type and back computes it; other types leave `value` as it is.
float RoundTo(DType dtype, float value);

// Whether rounding to `dtype` (kBFloat16, kFloat16) changes no element of a float32 tensor. NaN stays NaN.
bool IsExactIn(DType dtype, const Tensor& tensor);

}  // namespace octavo
