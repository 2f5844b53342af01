// What attention on bfloat16 does to rows of scores and results around its two products.
#pragma once

#include <cstdint>

namespace octavo {

// Rows are padded to multiples of this.
constexpr int64_t kAttentionRowPadding = 32;

struct AttentionRows {
  // to[i] = e^(scale * scores[i] + mask[i] - the largest of these) in bfloat16 for i < keys, 0 or next to it beyond;
  // mask may be null. Writes `padded` elements and overwrites the scores. Returns the sum before it was rounded; each
  // term is within 2^-13 of itself.
  float (*exponentiate)(float* scores, int64_t keys, int64_t padded, float scale, const float* mask, uint16_t* to);
  // to[i] = x[i] / divisor in bfloat16.
  void (*divide)(const float* x, int64_t n, float divisor, uint16_t* to);
};

AttentionRows ChooseAttentionRows();

}  // namespace octavo
