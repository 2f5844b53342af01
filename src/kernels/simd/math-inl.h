// Elementary functions on vectors of float. Each keeps NaN. Per-target include guard.
#if defined(OCTAVO_KERNELS_SIMD_MATH_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef OCTAVO_KERNELS_SIMD_MATH_INL_H_
#undef OCTAVO_KERNELS_SIMD_MATH_INL_H_
#else
#define OCTAVO_KERNELS_SIMD_MATH_INL_H_
#endif

#include "hwy/contrib/math/math-inl.h"
#include "hwy/highway.h"
#include "kernels/simd/vectors-inl.h"

HWY_BEFORE_NAMESPACE();
namespace octavo {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// NaN stays NaN, here and in what is built on it.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V ClampKeepingNan(D d, V x, float low, float high) {
  return MinElseSecond(hn::Set(d, high), MaxElseSecond(hn::Set(d, low), x));
}

// e^x = 2^n e^r, r = x - n ln2 and |r| <= ln2 / 2, for finite x: gives n and e^r by Cephes' polynomial.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V ReducedExp(D d, V x, hn::Vec<hn::RebindToSigned<D>>& n) {
  n = hn::NearestInt(hn::Mul(x, hn::Set(d, 1.44269504088896341f)));
  const V nf = hn::ConvertTo(d, n);
  V r = hn::NegMulAdd(nf, hn::Set(d, 0.693359375f), x);
  r = hn::NegMulAdd(nf, hn::Set(d, -2.12194440e-4f), r);
  V p = hn::MulAdd(hn::Set(d, 1.9875691500e-4f), r, hn::Set(d, 1.3981999507e-3f));
  p = hn::MulAdd(p, r, hn::Set(d, 8.3334519073e-3f));
  p = hn::MulAdd(p, r, hn::Set(d, 4.1665795894e-2f));
  p = hn::MulAdd(p, r, hn::Set(d, 1.6666665459e-1f));
  p = hn::MulAdd(p, r, hn::Set(d, 5.0000001201e-1f));
  return hn::Add(hn::MulAdd(hn::Mul(p, r), r, r), hn::Set(d, 1.0f));
}

// e^x within 2 ulp; 2^n in two factors, so that results below the normal range and above the largest float come out
// right.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V FastExp(D d, V x) {
  const hn::RebindToSigned<D> di;
  hn::Vec<hn::RebindToSigned<D>> n;
  const V p = ReducedExp(d, ClampKeepingNan(d, x, -110.0f, 90.0f), n);
  const auto half = hn::ShiftRight<1>(n);
  const auto bias = hn::Set(di, 127);
  const V low = hn::BitCast(d, hn::ShiftLeft<23>(hn::Add(half, bias)));
  const V high = hn::BitCast(d, hn::ShiftLeft<23>(hn::Add(hn::Sub(n, half), bias)));
  return hn::Mul(hn::Mul(p, low), high);
}

// The same for x <= 0, with e^-87 for all below: what is added to 1, or quantized, does not tell them apart.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V FastExpOfNegative(D d, V x) {
  const hn::RebindToSigned<D> di;
  hn::Vec<hn::RebindToSigned<D>> n;
  const V p = ReducedExp(d, MaxElseSecond(hn::Set(d, -87.0f), x), n);
  return hn::BitCast(d, hn::Add(hn::BitCast(di, p), hn::ShiftLeft<23>(n)));
}

// 1 / (1 + e^-x)
template <class D, class V = hn::Vec<D>>
HWY_INLINE V FastSigmoid(D d, V x) {
  const V one = hn::Set(d, 1.0f);
  return hn::Div(one, hn::Add(one, FastExp(d, hn::Neg(x))));
}

// Eigen's rational approximation, odd over even, absolute error below 4e-7; saturated beyond 4, where erf is 1
// - 1.5e-8.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V FastErf(D d, V input) {
  const V x = ClampKeepingNan(d, input, -4.0f, 4.0f);
  const V s = hn::Mul(x, x);
  V p = hn::MulAdd(s, hn::Set(d, -2.72614225801306e-10f), hn::Set(d, 2.77068142495902e-08f));
  p = hn::MulAdd(p, s, hn::Set(d, -2.10102402082508e-06f));
  p = hn::MulAdd(p, s, hn::Set(d, -5.69250639462346e-05f));
  p = hn::MulAdd(p, s, hn::Set(d, -7.34990630326855e-04f));
  p = hn::MulAdd(p, s, hn::Set(d, -2.95459980854025e-03f));
  p = hn::MulAdd(p, s, hn::Set(d, -1.60960333262415e-02f));
  V q = hn::MulAdd(s, hn::Set(d, -1.45660718464996e-05f), hn::Set(d, -2.13374055278905e-04f));
  q = hn::MulAdd(q, s, hn::Set(d, -1.68282697438203e-03f));
  q = hn::MulAdd(q, s, hn::Set(d, -7.37332916720468e-03f));
  q = hn::MulAdd(q, s, hn::Set(d, -1.42647390514189e-02f));
  return hn::Div(hn::Mul(x, p), q);
}

// Eigen's rational approximation, odd over even, within a few ulp; saturated where tanh rounds to 1.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V FastTanh(D d, V input) {
  const V x = ClampKeepingNan(d, input, -7.90531110763549805f, 7.90531110763549805f);
  const V s = hn::Mul(x, x);
  V p = hn::MulAdd(s, hn::Set(d, -2.76076847742355e-16f), hn::Set(d, 2.00018790482477e-13f));
  p = hn::MulAdd(p, s, hn::Set(d, -8.60467152213735e-11f));
  p = hn::MulAdd(p, s, hn::Set(d, 5.12229709037114e-08f));
  p = hn::MulAdd(p, s, hn::Set(d, 1.48572235717979e-05f));
  p = hn::MulAdd(p, s, hn::Set(d, 6.37261928875436e-04f));
  p = hn::MulAdd(p, s, hn::Set(d, 4.89352455891786e-03f));
  V q = hn::MulAdd(s, hn::Set(d, 1.19825839466702e-06f), hn::Set(d, 1.18534705686654e-04f));
  q = hn::MulAdd(q, s, hn::Set(d, 2.26843463243900e-03f));
  q = hn::MulAdd(q, s, hn::Set(d, 4.89352518554385e-03f));
  return hn::Div(hn::Mul(x, p), q);
}

// Highway's Log is for positive finite x; this adds 0, infinity and what has no logarithm.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V FastLog(D d, V x) {
  const V zero = hn::Zero(d);
  const V infinity = hn::Inf(d);
  const V log = hn::Log(d, x);
  const V edge = hn::IfThenElse(hn::Eq(x, zero), hn::Neg(infinity), hn::IfThenElse(hn::Lt(x, zero), hn::NaN(d), x));
  return hn::IfThenElse(hn::And(hn::Gt(x, zero), hn::Lt(x, infinity)), log, edge);
}

}  // namespace HWY_NAMESPACE
}  // namespace octavo
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
