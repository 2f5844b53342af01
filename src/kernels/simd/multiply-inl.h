// Small matrix products from registers. Per-target include guard.
#if defined(OCTAVO_KERNELS_SIMD_MULTIPLY_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef OCTAVO_KERNELS_SIMD_MULTIPLY_INL_H_
#undef OCTAVO_KERNELS_SIMD_MULTIPLY_INL_H_
#else
#define OCTAVO_KERNELS_SIMD_MULTIPLY_INL_H_
#endif

#include <cstdint>

#include "hwy/highway.h"
#include "kernels/simd/vectors-inl.h"

HWY_BEFORE_NAMESPACE();
namespace octavo {
namespace HWY_NAMESPACE {

// a(m, p) lies at a[m * row_step + p * step].
struct LeftMatrix {
  const float* data;
  int64_t row_step, step;
};

// Rows of a tile: with two vectors across, 16 accumulators of AVX-512's 32 registers or 8 of the others' 16.
constexpr int kTileRows = HWY_TARGET == HWY_AVX3 ? 8 : 4;

template <int kRows, int kVectors>
HWY_INLINE void MultiplyTile(const LeftMatrix& a, const float* b, int64_t b_stride, int64_t depth, float* c,
                             int64_t c_stride, bool add) {
  const FloatTag d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  FloatVec sum[kRows][kVectors];
  for (int r = 0; r < kRows; ++r) {
    for (int n = 0; n < kVectors; ++n) sum[r][n] = add ? hn::LoadU(d, c + r * c_stride + n * lanes) : hn::Zero(d);
  }
  for (int64_t p = 0; p < depth; ++p) {
    FloatVec right[kVectors];
    for (int n = 0; n < kVectors; ++n) right[n] = hn::LoadU(d, b + p * b_stride + n * lanes);
    for (int r = 0; r < kRows; ++r) {
      const FloatVec left = hn::Set(d, a.data[r * a.row_step + p * a.step]);
      for (int n = 0; n < kVectors; ++n) sum[r][n] = hn::MulAdd(left, right[n], sum[r][n]);
    }
  }
  for (int r = 0; r < kRows; ++r) {
    for (int n = 0; n < kVectors; ++n) hn::StoreU(sum[r][n], d, c + r * c_stride + n * lanes);
  }
}

template <int kRows>
HWY_INLINE void MultiplyRows(const LeftMatrix& a, const float* b, int64_t b_stride, int64_t depth, int64_t columns,
                             float* c, int64_t c_stride, bool add) {
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(FloatTag()));
  int64_t n = 0;
  for (; n + 2 * lanes <= columns; n += 2 * lanes) {
    MultiplyTile<kRows, 2>(a, b + n, b_stride, depth, c + n, c_stride, add);
  }
  if (n < columns) MultiplyTile<kRows, 1>(a, b + n, b_stride, depth, c + n, c_stride, add);
}

// c = a b, or c += a b: a has `rows` x `depth` elements, b `depth` x `columns`; `columns` is a multiple of 16.
HWY_INLINE void Multiply(LeftMatrix a, const float* b, int64_t b_stride, int64_t rows, int64_t depth, int64_t columns,
                         float* c, int64_t c_stride, bool add) {
  int64_t m = 0;
  const auto at = [&](int64_t row) { return LeftMatrix{a.data + row * a.row_step, a.row_step, a.step}; };
  for (; m + kTileRows <= rows; m += kTileRows) {
    MultiplyRows<kTileRows>(at(m), b, b_stride, depth, columns, c + m * c_stride, c_stride, add);
  }
  for (; m + 4 <= rows; m += 4) {
    MultiplyRows<4>(at(m), b, b_stride, depth, columns, c + m * c_stride, c_stride, add);
  }
  for (; m < rows; ++m) MultiplyRows<1>(at(m), b, b_stride, depth, columns, c + m * c_stride, c_stride, add);
}

}  // namespace HWY_NAMESPACE
}  // namespace octavo
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
