// Resize of the two spatial axes of a channels-last (N, C, H, W); float32 and bfloat16 in and out.
//
// Each output row is made at once: the input rows it depends on are blended into a row of float, then that row's
// pixels. Positions and weights are the generic kernel's.
#pragma once

#include "kernels/kernel.h"

namespace octavo {

// Unsupported for other ranks and layouts, and where extrapolation is asked for.
Result<BoundKernel> BindFastResize(const BindContext& context);

}  // namespace octavo
