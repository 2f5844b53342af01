// QuantizeLinear on vectors, as docs/numerics.md has it. Per-target include guard.
#if defined(OCTAVO_KERNELS_INTEGER_QUANTIZE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef OCTAVO_KERNELS_INTEGER_QUANTIZE_INL_H_
#undef OCTAVO_KERNELS_INTEGER_QUANTIZE_INL_H_
#else
#define OCTAVO_KERNELS_INTEGER_QUANTIZE_INL_H_
#endif

#include "hwy/highway.h"
#include "kernels/simd/vectors-inl.h"

HWY_BEFORE_NAMESPACE();
namespace octavo {
namespace HWY_NAMESPACE {

// Of one scale and zero point, on every lane.
template <class D>
struct QuantizeTerms {
  hn::Vec<D> scale, inverse, low, high;
  hn::Vec<hn::RebindToSigned<D>> zero;
};

// lowest: -128 for int8, 0 for uint8.
template <class D>
HWY_INLINE QuantizeTerms<D> MakeQuantizeTerms(D d, float scale, int32_t zero_point, int32_t lowest) {
  const hn::RebindToSigned<D> di;
  return {hn::Set(d, scale), hn::Set(d, 1.0f / scale), hn::Set(d, static_cast<float>(lowest - zero_point)),
          hn::Set(d, static_cast<float>(lowest + 255 - zero_point)), hn::Set(di, zero_point)};
}

// round(clamp(v / s, low - z, high - z)) + z; NaN gives low. The quotient is v * (1/s) except where that lies next to a
// tie, since only there can the two round apart: |v * (1/s) - v / s| < 2^-22 |v / s| < 2^-13 within the clamp.
template <class D>
HWY_INLINE hn::Vec<D> ClampForQuantize(D d, hn::Vec<D> v, const QuantizeTerms<D>& terms) {
  return MinElseSecond(MaxElseSecond(v, terms.low), terms.high);
}
template <class D>
HWY_INLINE hn::Mask<D> IsNextToATie(D d, hn::Vec<D> scaled) {
  return hn::Gt(hn::Abs(hn::Sub(scaled, hn::Round(scaled))), hn::Set(d, 0.5f - 0x1p-12f));
}
template <class D>
HWY_INLINE hn::Vec<hn::RebindToSigned<D>> QuantizedVector(D d, hn::Vec<D> v, const QuantizeTerms<D>& terms) {
  auto scaled = ClampForQuantize(d, hn::Mul(v, terms.inverse), terms);
  if (!hn::AllFalse(d, IsNextToATie(d, scaled))) scaled = ClampForQuantize(d, hn::Div(v, terms.scale), terms);
  return hn::Add(hn::NearestInt(scaled), terms.zero);
}

// Two vectors that share the question whether a quotient lies next to a tie.
template <class D>
HWY_INLINE void QuantizeTwo(D d, hn::Vec<D> a, hn::Vec<D> b, const QuantizeTerms<D>& terms,
                            hn::Vec<hn::RebindToSigned<D>>& qa, hn::Vec<hn::RebindToSigned<D>>& qb) {
  auto sa = ClampForQuantize(d, hn::Mul(a, terms.inverse), terms),
       sb = ClampForQuantize(d, hn::Mul(b, terms.inverse), terms);
  if (!hn::AllFalse(d, hn::Or(IsNextToATie(d, sa), IsNextToATie(d, sb)))) {
    sa = ClampForQuantize(d, hn::Div(a, terms.scale), terms);
    sb = ClampForQuantize(d, hn::Div(b, terms.scale), terms);
  }
  qa = hn::Add(hn::NearestInt(sa), terms.zero);
  qb = hn::Add(hn::NearestInt(sb), terms.zero);
}

}  // namespace HWY_NAMESPACE
}  // namespace octavo
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
