// octavo::Attention; float32 and bfloat16 in and out, computed in float32.
//
// softmax(scale * q k^T + mask) v, by blocks of 32 queries: their scores against all keys, a softmax of each row, and
// the product with v. q, k, v and y have neighbours along their channels or along their tokens; tokens, heads and
// batches may have any strides. A thread packs k (and v, unless it can be read as it lies) once per head.
#pragma once

#include "kernels/kernel.h"

namespace octavo {

Result<BoundKernel> BindFastAttention(const BindContext& context);

}  // namespace octavo
