// Elementwise ops on float32 and bfloat16, in any mix and with any strides; computed in float32.
//
// Rows whose elements are neighbours are read and written in place; others pass through a block in L1.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/kernel.h"

namespace octavo {

// LeakyRelu: alpha, -. HardSigmoid: alpha, beta. Clip: low, high.
struct UnaryParameters {
  float first = 0, second = 0;
};

// One function on contiguous rows, for kernels that take it along: y[i] = op(x[i]); y may be x.
struct RowFunction {
  // The ones that kernels have inlined.
  enum class Kind : uint8_t { kOther, kRelu, kRoughGelu, kRoughGeluTanh, kRoughSilu } kind = Kind::kOther;
  void (*fn)(const float* x, float* y, size_t n, const UnaryParameters& parameters) = nullptr;
  UnaryParameters parameters;
  void operator()(const float* x, float* y, int64_t n) const { fn(x, y, static_cast<size_t>(n), parameters); }
};
// For the ops of BindFastUnary, and for Clip with constant bounds. Unsupported for others.
Result<RowFunction> FindRowFunction(const Graph& graph, const Node& node);
// The same, within kRoughError (relative to |x| above 10) of the exact result where that is faster: for results that
// are only read in 8 bits, with steps of many times that.
inline constexpr float kRoughError = 6.5e-5f;
// What a rough function may be off by, as a part of the step that its result is rounded to.
inline constexpr float kRoughShare = 1.0f / 64;
Result<RowFunction> FindRoughRowFunction(const Graph& graph, const Node& node);

// Relu, LeakyRelu, Sigmoid, Tanh, Erf, Exp, Log, Sqrt, Reciprocal, Neg, Abs, Gelu, HardSwish, HardSigmoid, Silu,
// RoundTo. Unsupported: other element types, an op that is none of these.
Result<BoundKernel> BindFastUnary(const BindContext& context);
// Bounds as inputs, read on every run, or as attributes (opset < 11).
Result<BoundKernel> BindFastClip(const BindContext& context);
// Add, Sub, Mul, Div, Min, Max of two operands that broadcast.
Result<BoundKernel> BindFastBinary(const BindContext& context);
// Constant scalar exponents 2, 0.5 and -0.5.
Result<BoundKernel> BindFastPow(const BindContext& context);

}  // namespace octavo
