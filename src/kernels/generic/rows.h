// The generic kernels, one table per family. The registry (src/kernels/kernel.cc) joins them.
#pragma once

#include <span>
#include <string_view>

#include "kernels/kernel.h"

namespace octavo {

struct GenericKernelRow {
  std::string_view domain;
  std::string_view op;
  BindFn bind;
};

std::span<const GenericKernelRow> MovementKernels();     // movement*.cc: copies, views, Gather, Pad, Cast, Where, ...
std::span<const GenericKernelRow> ResizeKernels();       // movement_resize.cc
std::span<const GenericKernelRow> ArithmeticKernels();   // elementwise, with broadcasting
std::span<const GenericKernelRow> ReductionKernels();    // ReduceX, ArgMax, Softmax, normalizations, pooling
std::span<const GenericKernelRow> ContractionKernels();  // Conv, ConvTranspose, MatMul, Gemm, Einsum
std::span<const GenericKernelRow> QuantizeKernels();     // QuantizeLinear, DequantizeLinear
std::span<const GenericKernelRow> FusedKernels();        // the ops of domain "octavo"

}  // namespace octavo
