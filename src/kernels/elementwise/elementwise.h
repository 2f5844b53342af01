// Elementwise ops on float32 and bfloat16, in any mix and with any strides; computed in float32.
//
// Rows whose elements are neighbours are read and written in place; others pass through a block in L1.
#pragma once

#include "kernels/kernel.h"

namespace octavo {

// Relu, LeakyRelu, Sigmoid, Tanh, Erf, Exp, Log, Sqrt, Reciprocal, Neg, Abs, Gelu, HardSwish, HardSigmoid, Silu.
// Unsupported: other element types, an op that is none of these.
Result<BoundKernel> BindFastUnary(const BindContext& context);
// Bounds as inputs, read on every run, or as attributes (opset < 11).
Result<BoundKernel> BindFastClip(const BindContext& context);
// Add, Sub, Mul, Div, Min, Max of two operands that broadcast.
Result<BoundKernel> BindFastBinary(const BindContext& context);
// Constant scalar exponents 2, 0.5 and -0.5.
Result<BoundKernel> BindFastPow(const BindContext& context);

}  // namespace octavo
