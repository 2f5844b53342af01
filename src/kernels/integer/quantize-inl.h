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
HWY_INLINE hn::Vec<hn::RebindToSigned<D>> QuantizedVector(D d, hn::Vec<D> v, const QuantizeTerms<D>& terms) {
  const auto clamp = [&](hn::Vec<D> x) { return MinElseSecond(MaxElseSecond(x, terms.low), terms.high); };
  auto scaled = clamp(hn::Mul(v, terms.inverse));
  const auto distance = hn::Abs(hn::Sub(scaled, hn::Round(scaled)));
  if (!hn::AllFalse(d, hn::Gt(distance, hn::Set(d, 0.5f - 0x1p-12f)))) scaled = clamp(hn::Div(v, terms.scale));
  return hn::Add(hn::NearestInt(scaled), terms.zero);
}

}  // namespace HWY_NAMESPACE
}  // namespace octavo
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
