// Pooling over sliding windows, in one to three spatial dimensions.
#pragma once

#include "kernels/kernel.h"

namespace octavo {

Result<BoundKernel> BindAveragePool(const BindContext& context);
// The second output (flat indices of the maxima) is optional.
Result<BoundKernel> BindMaxPool(const BindContext& context);

}  // namespace octavo
