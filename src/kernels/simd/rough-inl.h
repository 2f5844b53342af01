// Exponentials and SiLU for results that are rounded to 8 bits. Per-target include guard.
#if defined(OCTAVO_KERNELS_SIMD_ROUGH_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef OCTAVO_KERNELS_SIMD_ROUGH_INL_H_
#undef OCTAVO_KERNELS_SIMD_ROUGH_INL_H_
#else
#define OCTAVO_KERNELS_SIMD_ROUGH_INL_H_
#endif

#include "hwy/highway.h"
#include "kernels/simd/vectors-inl.h"

HWY_BEFORE_NAMESPACE();
namespace octavo {
namespace HWY_NAMESPACE {

// 2^x within 3e-6 of itself, for -126 <= x <= 126: x = n + f, and the polynomial in f of least relative error on
// [-1/2, 1/2]. Adding 3 * 2^22 rounds to an integer, which then stands in the lowest bits.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V RoughExp2(D d, V x) {
  const hn::RebindToSigned<D> di;
  const V magic = hn::Set(d, 0x1.8p23f);
  const V shifted = hn::Add(x, magic);
  const V f = hn::Sub(x, hn::Sub(shifted, magic));
  V p = hn::MulAdd(hn::Set(d, 9.570102e-3f), f, hn::Set(d, 5.591786e-2f));
  p = hn::MulAdd(p, f, hn::Set(d, 2.4024744e-1f));
  p = hn::MulAdd(p, f, hn::Set(d, 6.931218e-1f));
  p = hn::MulAdd(p, f, hn::Set(d, 9.999993e-1f));
  return hn::BitCast(d, hn::Add(hn::BitCast(di, p), hn::ShiftLeft<23>(hn::BitCast(di, shifted))));
}

// 1 / x within 2e-6 of itself, for 1 <= x < 2^120: the negated logarithm that the bits are, then two of Newton's steps,
// the first centered around its error. The same on every instruction set, as its reciprocal instructions are not.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V RoughReciprocal(D d, V x) {
  const hn::RebindToSigned<D> di;
  const V guess = hn::BitCast(d, hn::Sub(hn::Set(di, 0x7ef311c0), hn::BitCast(di, x)));
  const V near = hn::Mul(guess, hn::NegMulAdd(hn::Mul(x, guess), hn::Set(d, 1.001277f), hn::Set(d, 2.002554f)));
  return hn::MulAdd(near, hn::NegMulAdd(x, near, hn::Set(d, 1.0f)), near);
}

// x / (1 + e^-x) within 2e-5, relative to |x| above 10. NaN stays NaN.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V RoughSilu(D d, V x) {
  // The maximum of a number and NaN gives the second. Below -64 the result is 0 but for 1e-26.
  const V low = MaxElseSecond(hn::Set(d, -64.0f), x);
  const V exponent = MaxElseSecond(hn::Mul(low, hn::Set(d, -1.44269504088896341f)), hn::Set(d, -100.0f));
  return hn::Mul(low, RoughReciprocal(d, hn::Add(hn::Set(d, 1.0f), RoughExp2(d, exponent))));
}

}  // namespace HWY_NAMESPACE
}  // namespace octavo
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
