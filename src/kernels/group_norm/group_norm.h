// octavo::GroupNorm of a channels-last x; float32 and bfloat16 in and out, with SiLU on the way if asked for.
//
// y = act((x - mean) / sqrt(variance + epsilon) * scale + bias) over the channels of a group and all positions. One
// pass sums each channel's distances, and their squares, from a sample of its mean; the groups' statistics are put
// together from those in double. Threads share the positions, their sums are added in a fixed order.
#pragma once

#include "kernels/kernel.h"

namespace octavo {

// Unsupported where channels are not neighbours in x and y, or positions are more than one loop.
Result<BoundKernel> BindFastGroupNorm(const BindContext& context);

}  // namespace octavo
