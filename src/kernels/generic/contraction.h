// Ops that multiply and accumulate.
#pragma once

#include "kernels/generic/product.h"
#include "kernels/kernel.h"

namespace octavo {

Result<BoundKernel> BindConv(const BindContext& context);           // convolution.cc
Result<BoundKernel> BindConvTranspose(const BindContext& context);  // convolution.cc
Result<BoundKernel> BindEinsum(const BindContext& context);         // einsum.cc

// MatMul's product: batches broadcast, a vector gets the row or column it lacks. The operands' types do not matter.
Result<MatrixProduct> MatMulProduct(const Operand& a, const Operand& b, const Operand& y);

}  // namespace octavo
