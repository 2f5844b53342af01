// QuantizeLinear and DequantizeLinear between real values (float32, bfloat16) and 8 bits, with constant scales: per
// tensor, and for QuantizeLinear per slice of an axis whose entries are neighbours; in the arithmetic of the epilogue
// of integer contractions.
#pragma once

#include "kernels/kernel.h"

namespace octavo {

// Unsupported: other types, other scales per slice, scales that the graph computes.
Result<BoundKernel> BindFastQuantize(const BindContext& context);
Result<BoundKernel> BindFastDequantize(const BindContext& context);

}  // namespace octavo
