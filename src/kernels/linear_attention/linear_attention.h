// octavo::LinearAttention where the channels of a token are neighbours; float32 and bfloat16 in and out.
//
// out = (v relu(k)^T relu(q)) / (sum over tokens of relu(k) . relu(q) + epsilon), channels before tokens. Tokens may
// have any stride. Sums run over 64 tokens in registers and are then added up in float32. With few heads the tokens are
// split over threads and their sums added in a fixed order.
#pragma once

#include "kernels/kernel.h"

namespace octavo {

Result<BoundKernel> BindFastLinearAttention(const BindContext& context);

}  // namespace octavo
