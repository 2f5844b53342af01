// The passes of a softmax over one row. Per-target include guard.
#if defined(OCTAVO_KERNELS_SIMD_SOFTMAX_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef OCTAVO_KERNELS_SIMD_SOFTMAX_INL_H_
#undef OCTAVO_KERNELS_SIMD_SOFTMAX_INL_H_
#else
#define OCTAVO_KERNELS_SIMD_SOFTMAX_INL_H_
#endif

#include <limits>

#include "hwy/highway.h"
#include "kernels/simd/math-inl.h"
#include "kernels/simd/vectors-inl.h"

HWY_BEFORE_NAMESPACE();
namespace octavo {
namespace HWY_NAMESPACE {

// The largest element; a NaN may or may not win, but then the row's exponentials are NaN anyway.
HWY_INLINE float LargestOf(const float* x, size_t n) {
  const FloatTag d;
  const size_t lanes = hn::Lanes(d);
  FloatVec largest = hn::Set(d, -std::numeric_limits<float>::infinity()), second = largest;
  size_t i = 0;
  for (; i + 2 * lanes <= n; i += 2 * lanes) {
    largest = hn::Max(largest, hn::LoadU(d, x + i));
    second = hn::Max(second, hn::LoadU(d, x + i + lanes));
  }
  for (; i + lanes <= n; i += lanes) largest = hn::Max(largest, hn::LoadU(d, x + i));
  float result = hn::GetLane(hn::MaxOfLanes(d, hn::Max(largest, second)));
  for (; i < n; ++i) result = x[i] > result ? x[i] : result;
  return result;
}

// y[i] = e^(x[i] - largest); returns their sum. y may be x.
HWY_INLINE float ExponentialsOf(const float* x, float largest, float* y, size_t n) {
  const FloatTag d;
  const size_t lanes = hn::Lanes(d);
  const FloatVec offset = hn::Set(d, largest);
  FloatVec sum = hn::Zero(d), second = sum;
  size_t i = 0;
  for (; i + 2 * lanes <= n; i += 2 * lanes) {
    const FloatVec a = FastExp(d, hn::Sub(hn::LoadU(d, x + i), offset));
    const FloatVec b = FastExp(d, hn::Sub(hn::LoadU(d, x + i + lanes), offset));
    hn::StoreU(a, d, y + i);
    hn::StoreU(b, d, y + i + lanes);
    sum = hn::Add(sum, a);
    second = hn::Add(second, b);
  }
  for (; i + lanes <= n; i += lanes) {
    const FloatVec a = FastExp(d, hn::Sub(hn::LoadU(d, x + i), offset));
    hn::StoreU(a, d, y + i);
    sum = hn::Add(sum, a);
  }
  if (i < n) {
    const FloatVec a = FastExp(d, hn::Sub(LoadFirst(d, x + i, n - i), offset));
    StoreFirst(a, d, y + i, n - i);
    second = hn::Add(second, hn::IfThenElseZero(hn::FirstN(d, n - i), a));
  }
  return hn::GetLane(hn::SumOfLanes(d, hn::Add(sum, second)));
}

}  // namespace HWY_NAMESPACE
}  // namespace octavo
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
