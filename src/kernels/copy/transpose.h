// Transposition of a block of elements, on the instruction set in use.
#pragma once

#include <cstdint>

#include "octavo/tensor.h"

namespace octavo {

// to[j * to_stride + i] = from[i * from_stride + j] for i < ni, j < nj; strides in elements. The blocks do not overlap.
// Fastest for blocks that stay in L1: up to 16 x 256 elements.
using TransposeFn = void (*)(const void* from, int64_t from_stride, void* to, int64_t to_stride, int64_t ni,
                             int64_t nj);

// For equal types of any size, and for float32 to bfloat16 (rounded to nearest even) and back; else null.
TransposeFn ChooseTranspose(DType from, DType to);

}  // namespace octavo
