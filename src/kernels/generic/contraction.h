// Ops that multiply and accumulate.
#pragma once

#include "kernels/kernel.h"

namespace octavo {

Result<BoundKernel> BindConv(const BindContext& context);           // convolution.cc
Result<BoundKernel> BindConvTranspose(const BindContext& context);  // convolution.cc
Result<BoundKernel> BindEinsum(const BindContext& context);         // einsum.cc

}  // namespace octavo
