// Whole numbers rounded up.
#pragma once

#include <cstdint>

namespace octavo {

// For value >= 0 and a divisor > 0 whose sum does not overflow.
inline int64_t CeilDivide(int64_t value, int64_t divisor) { return (value + divisor - 1) / divisor; }
// The smallest multiple of `to` that is not below `value`.
inline int64_t RoundUp(int64_t value, int64_t to) { return CeilDivide(value, to) * to; }

}  // namespace octavo
