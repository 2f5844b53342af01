// Rows of bfloat16 to float and back, on the instruction set in use.
#pragma once

#include <cstddef>
#include <cstdint>

namespace octavo {

// Contiguous rows of n elements. `narrow` rounds to nearest even; NaN stays NaN.
struct RowConversions {
  void (*widen)(const uint16_t* from, float* to, size_t n);
  void (*narrow)(const float* from, uint16_t* to, size_t n);
};

RowConversions ChooseRowConversions();

}  // namespace octavo
