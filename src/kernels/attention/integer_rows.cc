#include "kernels/attention/integer_rows.h"

#include <algorithm>
#include <limits>

#include "kernels/simd/targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/attention/integer_rows.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/integer/quantize-inl.h"
#include "kernels/simd/rough-inl.h"
#include "kernels/simd/vectors-inl.h"

HWY_BEFORE_NAMESPACE();
namespace octavo {
namespace HWY_NAMESPACE {
namespace {

constexpr FloatTag kTag;
constexpr hn::CappedTag<float, 1> kOne;

// Sums of products with the term of each column; what belongs to the row cancels in differences.
template <class D>
HWY_INLINE hn::Vec<hn::RebindToSigned<D>> SumOf(D, const IntegerRow& row, int64_t i) {
  const hn::RebindToSigned<D> di;
  return hn::Add(hn::LoadU(di, row.sums + i), hn::LoadU(di, row.column + i));
}

template <class D>
HWY_INLINE hn::Vec<D> RealOf(D d, const IntegerRow& row, int64_t i) {
  const hn::RebindToSigned<D> di;
  const auto sum = hn::Add(SumOf(d, row, i), hn::Set(di, row.row));
  return hn::Mul(hn::ConvertTo(d, sum), hn::Set(d, row.multiplier));
}

int32_t LargestSum(const IntegerRow& row) {
  const hn::RebindToSigned<FloatTag> di;
  const auto lanes = static_cast<int64_t>(hn::Lanes(kTag));
  auto many = hn::Set(di, std::numeric_limits<int32_t>::min());
  int64_t i = 0;
  for (; i + lanes <= row.n; i += lanes) many = hn::Max(many, SumOf(kTag, row, i));
  int32_t largest = hn::GetLane(hn::MaxOfLanes(di, many));
  for (; i < row.n; ++i) largest = std::max(largest, row.sums[i] + row.column[i]);
  return largest;
}

// What turns differences of sums into exponents of 2, and powers of 2 into bytes.
template <class D>
struct NumeratorTerms {
  hn::Vec<hn::RebindToSigned<D>> largest;
  hn::Vec<D> slope, inverse, magic, highest;
};
template <class D>
HWY_INLINE NumeratorTerms<D> MakeNumeratorTerms(D d, const IntegerRow& row, int32_t largest, float scale,
                                                int32_t zero_point) {
  const hn::RebindToSigned<D> di;
  return {hn::Set(di, largest), hn::Set(d, row.multiplier * 1.44269504088896341f), hn::Set(d, 1.0f / scale),
          hn::Set(d, 0x1.8p23f + static_cast<float>(zero_point)), hn::Set(d, 0x1.8p23f + 255.0f)};
}

template <class D>
struct Totals {
  hn::Vec<D> sum;
  hn::Vec<hn::RebindToUnsigned<D>> bits;  // of magic + quantized
};

// Numerators are positive, so that their bytes need no lower bound.
template <class D>
HWY_INLINE void OneNumerator(D d, const IntegerRow& row, int64_t i, const NumeratorTerms<D>& terms, uint8_t* to,
                             Totals<D>& totals) {
  const auto distance = hn::ConvertTo(d, hn::Sub(SumOf(d, row, i), terms.largest));
  const auto e = RoughExp2(d, hn::Max(hn::Mul(distance, terms.slope), hn::Set(d, -126.0f)));
  const auto sum = hn::Min(hn::MulAdd(e, terms.inverse, terms.magic), terms.highest);
  const auto bits = hn::BitCast(hn::RebindToUnsigned<D>(), sum);
  StoreBytes(d, bits, to + i);
  totals.sum = hn::Add(totals.sum, e);
  totals.bits = hn::Add(totals.bits, bits);
}

template <class D>
HWY_INLINE int64_t NumeratorsFrom(D d, const IntegerRow& row, int64_t i, const NumeratorTerms<D>& terms, uint8_t* to,
                                  Totals<D>& a, Totals<D>& b) {
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  for (; i + 2 * lanes <= row.n; i += 2 * lanes) {
    OneNumerator(d, row, i, terms, to, a);
    OneNumerator(d, row, i + lanes, terms, to, b);
  }
  for (; i + lanes <= row.n; i += lanes) OneNumerator(d, row, i, terms, to, a);
  return i;
}

template <class D>
HWY_INLINE Totals<D> NoTotals(D d) {
  return {hn::Zero(d), hn::Zero(hn::RebindToUnsigned<D>())};
}

float Exponentiate(const IntegerRow& row, float scale, int32_t zero_point, uint8_t* to, int32_t* total) {
  const int32_t largest = LargestSum(row);
  auto a = NoTotals(kTag), b = NoTotals(kTag);
  auto c = NoTotals(kOne), unused = NoTotals(kOne);
  const int64_t done =
      NumeratorsFrom(kTag, row, 0, MakeNumeratorTerms(kTag, row, largest, scale, zero_point), to, a, b);
  NumeratorsFrom(kOne, row, done, MakeNumeratorTerms(kOne, row, largest, scale, zero_point), to, c, unused);
  const hn::RebindToUnsigned<FloatTag> du;
  // The bits of 3 * 2^22, which every sum of bits holds once for each key.
  constexpr uint32_t kMagic = 0x4b400000;
  const uint32_t bits =
      hn::GetLane(hn::SumOfLanes(du, hn::Add(a.bits, b.bits))) + hn::GetLane(hn::Add(c.bits, unused.bits));
  *total = static_cast<int32_t>(bits - kMagic * static_cast<uint32_t>(row.n));
  return hn::GetLane(hn::SumOfLanes(kTag, hn::Add(a.sum, b.sum))) + hn::GetLane(hn::Add(c.sum, unused.sum));
}

template <class D>
HWY_INLINE int64_t QuotientsFrom(D d, const IntegerRow& row, int64_t i, float divisor, float* to) {
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  for (; i + lanes <= row.n; i += lanes) hn::StoreU(hn::Div(RealOf(d, row, i), hn::Set(d, divisor)), d, to + i);
  return i;
}

void Divide(const IntegerRow& row, float divisor, float* to) {
  QuotientsFrom(kOne, row, QuotientsFrom(kTag, row, 0, divisor, to), divisor, to);
}

void Flip(const uint8_t* from, int64_t n, uint8_t flip, uint8_t* to) {
  const hn::ScalableTag<uint8_t> d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  const auto by = hn::Set(d, flip);
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) hn::StoreU(hn::Xor(hn::LoadU(d, from + i), by), d, to + i);
  for (; i < n; ++i) to[i] = from[i] ^ flip;
}

IntegerAttentionRows IntegerAttentionRowsOfTarget() { return {Exponentiate, Divide, Flip}; }

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace octavo
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace octavo {

HWY_EXPORT(IntegerAttentionRowsOfTarget);
IntegerAttentionRows ChooseIntegerAttentionRows() { return HWY_DYNAMIC_DISPATCH(IntegerAttentionRowsOfTarget)(); }

}  // namespace octavo
#endif
