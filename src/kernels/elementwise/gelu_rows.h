// GELU between float32 sums and bfloat16 activations.
#pragma once

#include <cstddef>
#include <cstdint>

namespace octavo {

// to[i] = GELU(x[i] + bias[i]) rounded to bfloat16, before that within 5e-5 of x/2 (1 + erf(x / sqrt 2)), or of
// x/2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) for the form with tanh, for |x| up to 12, and within 5e-6 |x| beyond.
// bias may be null. NaN stays NaN.
using GeluRowFn = void (*)(const float* x, const float* bias, uint16_t* to, size_t n);

GeluRowFn ChooseGeluRow(bool tanh);

}  // namespace octavo
