// Softmax and LogSoftmax over one axis along which x and y have neighbours; float32.
#pragma once

#include "kernels/kernel.h"

namespace octavo {

// Unsupported before opset 13 unless the axis is the last one.
Result<BoundKernel> BindFastSoftmax(const BindContext& context);

}  // namespace octavo
