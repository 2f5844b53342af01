// octavo::Attention on bfloat16 operands, its two products by oneDNN (AMX, avx512_bf16), softmax in float32.
//
// Per batch element k and v are packed once, then blocks of queries pass: scores in float32, their exponentials rounded
// to bfloat16, the product with v in float32, divided by the sum of the exponentials before they were rounded.
#pragma once

#include "engine/onednn.h"
#include "kernels/kernel.h"

namespace octavo {

// Errors: Unsupported for other types and layouts (channels of q and y must be neighbours), and where the products are
// so small that calling oneDNN costs more than it saves.
Result<BoundKernel> BindBFloat16Attention(OneDnnBuilder& onednn, const BindContext& context);

}  // namespace octavo
