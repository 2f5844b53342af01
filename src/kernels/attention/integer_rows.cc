#include "kernels/attention/integer_rows.h"

#include <algorithm>
#include <limits>

#include "kernels/simd/targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/attention/integer_rows.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/integer/quantize-inl.h"
#include "kernels/simd/math-inl.h"
#include "kernels/simd/vectors-inl.h"

HWY_BEFORE_NAMESPACE();
namespace octavo {
namespace HWY_NAMESPACE {
namespace {

constexpr FloatTag kTag;
constexpr hn::CappedTag<float, 1> kOne;

template <class D>
HWY_INLINE hn::Vec<D> RealOf(D d, const IntegerRow& row, int64_t i) {
  const hn::RebindToSigned<D> di;
  const auto sum = hn::Add(hn::Add(hn::LoadU(di, row.sums + i), hn::LoadU(di, row.column + i)), hn::Set(di, row.row));
  return hn::Mul(hn::ConvertTo(d, sum), hn::Set(d, row.multiplier));
}

// Scores take the place of their sums, bit for bit.
template <class D>
HWY_INLINE int64_t ScoresFrom(D d, const IntegerRow& row, int64_t i, hn::Vec<D>& largest) {
  const hn::RebindToSigned<D> di;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  for (; i + lanes <= row.n; i += lanes) {
    const auto score = RealOf(d, row, i);
    hn::StoreU(hn::BitCast(di, score), di, row.sums + i);
    largest = hn::Max(largest, score);
  }
  return i;
}

template <class D>
struct Totals {
  hn::Vec<D> sum;
  hn::Vec<hn::RebindToSigned<D>> quantized;
};

template <class D>
HWY_INLINE int64_t ExponentialsFrom(D d, const IntegerRow& row, int64_t i, float largest, const QuantizeTerms<D>& terms,
                                    uint8_t* to, Totals<D>& totals) {
  const hn::RebindToSigned<D> di;
  const hn::Rebind<uint8_t, D> bytes;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  const auto offset = hn::Set(d, largest);
  const auto exponential = [&](int64_t at) HWY_ATTR {
    return FastExpOfNegative(d, hn::Sub(hn::BitCast(d, hn::LoadU(di, row.sums + at)), offset));
  };
  for (; i + 2 * lanes <= row.n; i += 2 * lanes) {
    const auto a = exponential(i), b = exponential(i + lanes);
    hn::Vec<hn::RebindToSigned<D>> qa, qb;
    QuantizeTwo(d, a, b, terms, qa, qb);
    hn::StoreU(hn::DemoteTo(bytes, qa), bytes, to + i);
    hn::StoreU(hn::DemoteTo(bytes, qb), bytes, to + i + lanes);
    totals.sum = hn::Add(totals.sum, hn::Add(a, b));
    totals.quantized = hn::Add(totals.quantized, hn::Add(qa, qb));
  }
  for (; i + lanes <= row.n; i += lanes) {
    const auto e = exponential(i);
    const auto q = QuantizedVector(d, e, terms);
    hn::StoreU(hn::DemoteTo(bytes, q), bytes, to + i);
    totals.sum = hn::Add(totals.sum, e);
    totals.quantized = hn::Add(totals.quantized, q);
  }
  return i;
}

float Exponentiate(const IntegerRow& row, float scale, int32_t zero_point, uint8_t* to, int32_t* total) {
  constexpr float kLowest = -std::numeric_limits<float>::infinity();
  auto many = hn::Set(kTag, kLowest);
  auto one = hn::Set(kOne, kLowest);
  ScoresFrom(kOne, row, ScoresFrom(kTag, row, 0, many), one);
  const float largest = std::max(hn::GetLane(hn::MaxOfLanes(kTag, many)), hn::GetLane(one));
  Totals<FloatTag> totals{hn::Zero(kTag), hn::Zero(hn::RebindToSigned<FloatTag>())};
  Totals<hn::CappedTag<float, 1>> rest{hn::Zero(kOne), hn::Zero(hn::RebindToSigned<hn::CappedTag<float, 1>>())};
  const int64_t done =
      ExponentialsFrom(kTag, row, 0, largest, MakeQuantizeTerms(kTag, scale, zero_point, 0), to, totals);
  ExponentialsFrom(kOne, row, done, largest, MakeQuantizeTerms(kOne, scale, zero_point, 0), to, rest);
  *total = hn::GetLane(hn::SumOfLanes(hn::RebindToSigned<FloatTag>(), totals.quantized)) + hn::GetLane(rest.quantized);
  return hn::GetLane(hn::SumOfLanes(kTag, totals.sum)) + hn::GetLane(rest.sum);
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
