// Pooling over sliding windows, in one to three spatial dimensions.
#pragma once

#include "kernels/kernel.h"

namespace octavo {

Result<BoundKernel> BindAveragePool(const BindContext& context);
// The second output (flat indices of the maxima) is optional.
Result<BoundKernel> BindMaxPool(const BindContext& context);

Result<BoundKernel> BindLpPool(const BindContext& context);
Result<BoundKernel> BindGlobalLpPool(const BindContext& context);
Result<BoundKernel> BindMaxUnpool(const BindContext& context);

}  // namespace octavo
