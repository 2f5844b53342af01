// QuantizeLinear on vectors, as docs/numerics.md has it. Per-target include guard.
#if defined(OCTAVO_KERNELS_INTEGER_QUANTIZE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef OCTAVO_KERNELS_INTEGER_QUANTIZE_INL_H_
#undef OCTAVO_KERNELS_INTEGER_QUANTIZE_INL_H_
#else
#define OCTAVO_KERNELS_INTEGER_QUANTIZE_INL_H_
#endif

#include "hwy/highway.h"
#include "kernels/integer/epilogue.h"
#include "kernels/simd/vectors-inl.h"

HWY_BEFORE_NAMESPACE();
namespace octavo {
namespace HWY_NAMESPACE {

// round(clamp(v / s, low - z, high - z)) + z on kCount vectors; NaN gives low. The quotient is v * (1/s) except where
// one of them lies next to a tie, since only there can the two round apart: |v * (1/s) - v / s| < 2^-22 |v / s| < 2^-13
// within the clamp. It is rounded by adding 3 * 2^22, and the zero point with it: the result is the sum's lowest byte.
template <class D>
struct ByteTerms {
  hn::Vec<D> scale, inverse, low, high, magic;
};
template <class D>
HWY_INLINE ByteTerms<D> MakeByteTerms(D d, float scale, int32_t zero_point, int32_t lowest) {
  return {hn::Set(d, scale), hn::Set(d, 1.0f / scale), hn::Set(d, static_cast<float>(lowest - zero_point)),
          hn::Set(d, static_cast<float>(lowest + 255 - zero_point)),
          hn::Set(d, 0x1.8p23f + static_cast<float>(zero_point))};
}

// Of the channels from c on.
template <class D>
HWY_INLINE ByteTerms<D> ChannelByteTerms(D d, const ChannelQuantizer& by, int64_t c, int32_t lowest) {
  const auto zero = hn::LoadU(d, by.zero_points.data() + c);
  const auto low = hn::Sub(hn::Set(d, static_cast<float>(lowest)), zero);
  return {hn::LoadU(d, by.scales.data() + c), hn::LoadU(d, by.inverses.data() + c), low,
          hn::Add(low, hn::Set(d, 255.0f)), hn::Add(hn::Set(d, 0x1.8p23f), zero)};
}

template <int kCount, class D>
HWY_INLINE void QuantizeToBytes(D d, const hn::Vec<D> (&v)[kCount], const ByteTerms<D>& terms,
                                hn::Vec<hn::RebindToUnsigned<D>> (&q)[kCount]) {
  const hn::RebindToUnsigned<D> du;
  const auto clamp = [&terms](hn::Vec<D> quotient)
                         HWY_ATTR { return MinElseSecond(MaxElseSecond(quotient, terms.low), terms.high); };
  auto distance = hn::Zero(d);
  for (int i = 0; i < kCount; ++i) {
    const auto scaled = clamp(hn::Mul(v[i], terms.inverse));
    const auto sum = hn::Add(scaled, terms.magic);
    distance = hn::Max(distance, hn::Abs(hn::Sub(scaled, hn::Sub(sum, terms.magic))));
    q[i] = hn::BitCast(du, sum);
  }
  if (hn::AllFalse(d, hn::Gt(distance, hn::Set(d, 0.5f - 0x1p-12f)))) return;
  // The sum's last bit says what is even, which the zero point has changed.
  const auto zero = hn::NearestInt(hn::Sub(terms.magic, hn::Set(d, 0x1.8p23f)));
  for (int i = 0; i < kCount; ++i) {
    q[i] = hn::BitCast(du, hn::Add(hn::NearestInt(clamp(hn::Div(v[i], terms.scale))), zero));
  }
}

template <class D>
HWY_INLINE void StoreBytes(D d, hn::Vec<hn::RebindToUnsigned<D>> q, uint8_t* to) {
  const hn::Rebind<uint8_t, D> bytes;
  hn::StoreU(hn::TruncateTo(bytes, q), bytes, to);
}

// to[i] for i from `begin` on, as far as whole vectors go: value(i) gives the lanes from i on. Returns where it
// stopped.
template <class D, class Value>
HWY_INLINE int64_t QuantizeValues(D d, const Value& value, uint8_t* to, int64_t begin, int64_t n,
                                  const ByteTerms<D>& terms) {
  constexpr int kCount = 4;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t i = begin;
  for (; i + kCount * lanes <= n; i += kCount * lanes) {
    hn::Vec<D> v[kCount];
    hn::Vec<hn::RebindToUnsigned<D>> q[kCount];
    for (int k = 0; k < kCount; ++k) v[k] = value(i + k * lanes);
    QuantizeToBytes(d, v, terms, q);
    for (int k = 0; k < kCount; ++k) StoreBytes(d, q[k], to + i + k * lanes);
  }
  for (; i + lanes <= n; i += lanes) {
    const hn::Vec<D> v[1] = {value(i)};
    hn::Vec<hn::RebindToUnsigned<D>> q[1];
    QuantizeToBytes(d, v, terms, q);
    StoreBytes(d, q[0], to + i);
  }
  return i;
}

}  // namespace HWY_NAMESPACE
}  // namespace octavo
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
