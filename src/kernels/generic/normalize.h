// Mean and variance over some axes, then scale and bias: the loop under every normalization.
#pragma once

#include <cmath>
#include <vector>

#include "base/parallel.h"
#include "kernels/generic/elements.h"
#include "kernels/strided.h"

namespace octavo {

// The values of `all` on the axes where `marked` equals `wanted`.
inline Dims SelectAxes(const Dims& all, const std::vector<bool>& marked, bool wanted) {
  Dims result;
  for (size_t d = 0; d < all.size(); ++d) {
    if (marked[d] == wanted) result.push_back(all[d]);
  }
  return result;
}

// All strides are over `dims`; those of an absent operand are zeros.
struct Normalization {
  Dims dims;
  std::vector<bool> reduced;  // the axes that mean and variance are taken over
  Dims x, y, scale, bias;
  Dims mean, inverse_deviation;  // optional outputs 1 and 2, float
  DType x_type = DType::kUndefined, scale_type = DType::kUndefined;
  bool has_scale = false, has_bias = false, has_mean = false, has_inverse_deviation = false;
  double epsilon = 1e-5;
  bool silu = false;
  int threads = 1;

  explicit Normalization(const Dims& all) : dims(all), reduced(all.size(), false) {
    x = y = scale = bias = mean = inverse_deviation = Dims(all.size(), 0);
  }
};

// y = (x - mean) / sqrt(variance + epsilon) * scale + bias, with the biased variance; inputs 0..2 are x, scale, bias.
Result<BoundKernel> BindNormalization(const Normalization& normalization);

}  // namespace octavo
