// octavo::LayerNorm over one axis, along which x has neighbouring elements; float32 and bfloat16 in and out.
//
// y = (x - mean) / sqrt(variance + epsilon) * scale + bias, statistics in float32: the mean first, then the squares of
// the distances from it. y either has neighbours along the same axis (any layout otherwise), or along another one
// (channels-last in, NCHW out), which is written by transposing blocks of 64 rows.
#pragma once

#include "kernels/kernel.h"

namespace octavo {

Result<BoundKernel> BindFastLayerNorm(const BindContext& context);

}  // namespace octavo
