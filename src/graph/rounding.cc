#include "graph/rounding.h"

#include <algorithm>
#include <cmath>

namespace octavo {

DType RoundedTo(const Node& node) {
  if (!node.Is("RoundTo", kOctavoDomain)) return DType::kUndefined;
  const int64_t to = node.Int("to", 0);
  if (to == kOnnxBFloat16) return DType::kBFloat16;
  return to == kOnnxFloat16 ? DType::kFloat16 : DType::kUndefined;
}

float RoundTo(DType dtype, float value) {
  if (dtype == DType::kBFloat16) return BFloat16ToFloat(FloatToBFloat16(value));
  return dtype == DType::kFloat16 ? Float16ToFloat(FloatToFloat16(value)) : value;
}

bool IsExactIn(DType dtype, const Tensor& tensor) {
  if (tensor.dtype() != DType::kFloat32) return false;
  const auto values = tensor.values<float>();
  return std::all_of(values.begin(), values.end(),
                     [dtype](float value) { return RoundTo(dtype, value) == value || std::isnan(value); });
}

}  // namespace octavo
