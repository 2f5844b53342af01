// octavo::LinearAttention on 8-bit q, k and v, as docs/numerics.md has it: all sums are exact, so that the bits depend
// neither on the instruction set nor on the threads.
#pragma once

#include "kernels/kernel.h"

namespace octavo {

// uint8 or int8, real = (byte - zero_point) * scale.
struct ByteOperand {
  Operand operand;
  float scale = 1;
  int32_t zero_point = 0;
};

// The largest sizes whose sums fit: keys and values are added up in 32 bits, 255 * 255 * 33025 < 2^31 - 2^15; queries
// meet halves of 16 bits, 255 * 2^15 * 256 < 2^31 - 2^15.
inline constexpr int64_t kMaxIntegerAttentionTokens = 33025;
inline constexpr int64_t kMaxIntegerAttentionDepth = 256;

// The relu of the op is done here. `y` is float32 or bfloat16. Errors: Unsupported where the channels of a token are no
// neighbours, the sums may not fit, or scales are so far from 1 that the quotient leaves float32.
Result<BoundKernel> BindIntegerLinearAttention(const ByteOperand& q, const ByteOperand& k, const ByteOperand& v,
                                               const Operand& y, float epsilon, int threads);

}  // namespace octavo
