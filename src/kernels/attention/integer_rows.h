// What attention on integers does to rows between and behind its two products; docs/numerics.md.
#pragma once

#include <cstdint>

namespace octavo {

// sum + column[i] + row is an exact sum of (a - zero) (b - zero); its real value is that times `multiplier`.
struct IntegerRow {
  const int32_t* sums;
  const int32_t* column;
  int32_t row;
  float multiplier;
  int64_t n;
};

struct IntegerAttentionRows {
  // to[i] = e^(score - largest score), within 4e-6 of itself and 2^-126 for all below that, quantized to uint8 with
  // `scale` and 0 <= `zero_point` <= 255. Returns the sum of the exponentials as they were before that; `total` receives
  // the sum of the quantized ones.
  float (*exponentiate)(const IntegerRow& row, float scale, int32_t zero_point, uint8_t* to, int32_t* total);
  // to[i] = real value / divisor.
  void (*divide)(const IntegerRow& row, float divisor, float* to);
  // to[i] = from[i] ^ flip
  void (*flip)(const uint8_t* from, int64_t n, uint8_t flip, uint8_t* to);
};

IntegerAttentionRows ChooseIntegerAttentionRows();

}  // namespace octavo
