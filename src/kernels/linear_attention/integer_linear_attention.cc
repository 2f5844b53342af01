#include "kernels/linear_attention/integer_linear_attention.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "kernels/linear_attention/heads.h"
#include "kernels/simd/targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/linear_attention/integer_linear_attention.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/simd/vectors-inl.h"

#ifndef OCTAVO_KERNELS_INTEGER_LINEAR_ATTENTION_ONCE_
#define OCTAVO_KERNELS_INTEGER_LINEAR_ATTENTION_ONCE_
namespace octavo {

// One multiply-add of neighbours takes two int16 products into an int32 sum. What is multiplied lies as such pairs, the
// first in the low half of an int32: of tokens for keys and values, of channels for queries.
struct IntegerAttentionSizes {
  int64_t depth = 0, width = 0;                // channels of q and k, of v
  int64_t padded_depth = 0, padded_width = 0;  // rounded up to vectors of int32
  int64_t query_pairs = 0;                     // half of padded_depth

  // Sums of keys times values, [depth][padded_width], then of keys, [padded_depth].
  int64_t state_size() const { return depth * padded_width + padded_depth; }
  int64_t channel_pairs() const { return (depth + 1) / 2; }
  // Low halves of the sums of keys times values, high halves, and the low and the high half of the sum of keys in a
  // vector of their own.
  int64_t halves_width() const { return 2 * padded_width + RoundUpToVector(2); }
  int64_t halves_size() const { return channel_pairs() * halves_width(); }
  // Pairs of keys and of values; or queries, and their products with the halves.
  int64_t block_size() const {
    return std::max(kTokenBlock / 2 * (padded_depth + padded_width), kTokenBlock * (query_pairs + halves_width()));
  }
};

// value = (byte ^ flip) - zero_point: flip is 0x80 for int8, whose zero point is then 128 higher.
struct ByteRows {
  const uint8_t* data;
  int64_t step;  // between tokens
  uint8_t flip;
  int32_t zero_point;
  bool relu;
};

struct QuotientScales {
  float value, epsilon;  // of v; what is added to the divisor in units of q's and k's steps
};

// `sum` and `attend` take a block of up to kTokenBlock tokens.
struct IntegerAttentionFns {
  // state += sums over the tokens.
  void (*sum)(const IntegerAttentionSizes& sizes, ByteRows k, ByteRows v, int64_t tokens, int32_t* state,
              int32_t* block);
  // The sums as what queries are multiplied by.
  void (*halve)(const IntegerAttentionSizes& sizes, const int32_t* state, int32_t* halves);
  void (*attend)(const IntegerAttentionSizes& sizes, ByteRows q, int64_t tokens, const int32_t* halves,
                 QuotientScales scales, DType y_type, void* y, int64_t y_step, int32_t* block);
};

}  // namespace octavo
#endif

HWY_BEFORE_NAMESPACE();
namespace octavo {
namespace HWY_NAMESPACE {
namespace {

// Whether ReorderWidenMulAccumulate adds the products of neighbours into the lane that both lie in.
#define OCTAVO_ADDS_NEIGHBOURS (HWY_ARCH_X86 && HWY_TARGET != HWY_SCALAR)

using IntTag = hn::ScalableTag<int32_t>;
using IntVec = hn::Vec<IntTag>;
constexpr FloatTag kFloats;
constexpr IntTag kInts;

int64_t IntLanes() { return static_cast<int64_t>(hn::Lanes(kInts)); }

template <class D>
HWY_INLINE hn::Vec<D> LoadVector(D d, const ByteRows& rows, const uint8_t* from) {
  const hn::Rebind<uint8_t, D> d8;
  const auto bytes = hn::Xor(hn::LoadU(d8, from), hn::Set(d8, rows.flip));
  const auto zero_point = hn::Set(d, static_cast<hn::TFromD<D>>(rows.zero_point));
  const auto values = hn::Sub(hn::PromoteTo(d, bytes), zero_point);
  return rows.relu ? MaxElseSecond(values, hn::Zero(d)) : values;
}

// `count` values, or as many as the vector has; 0 in the other lanes.
template <class D>
HWY_INLINE hn::Vec<D> LoadValues(D d, const ByteRows& rows, const uint8_t* from, int64_t count) {
  if (count >= static_cast<int64_t>(hn::Lanes(d))) return LoadVector(d, rows, from);
  HWY_ALIGN uint8_t few[hn::MaxLanes(d)] = {};
  for (int64_t i = 0; i < count; ++i) few[i] = from[i];
  return hn::IfThenElseZero(hn::FirstN(d, static_cast<size_t>(count)), LoadVector(d, rows, few));
}

// Pairs of tokens, [pairs][padded]; sums += the values of all tokens, unless it is null.
void PackTokenPairs(const ByteRows& rows, int64_t tokens, int64_t n, int64_t padded, int32_t* to, int32_t* sums) {
  for (int64_t i = 0; i < padded; i += IntLanes()) {
    const int64_t count = std::max<int64_t>(0, n - i);
    const uint8_t* from = rows.data + std::min(i, n);
    IntVec sum = hn::Zero(kInts);
    for (int64_t t = 0; t < tokens; t += 2) {
      const IntVec first = LoadValues(kInts, rows, from + t * rows.step, count);
      const IntVec second =
          t + 1 < tokens ? LoadValues(kInts, rows, from + (t + 1) * rows.step, count) : hn::Zero(kInts);
      sum = hn::Add(sum, hn::Add(first, second));
      const IntVec pair = hn::Or(hn::And(first, hn::Set(kInts, 0xffff)), hn::ShiftLeft<16>(second));
      hn::StoreU(pair, kInts, to + t / 2 * padded + i);
    }
    if (sums != nullptr) hn::StoreU(hn::Add(sum, hn::LoadU(kInts, sums + i)), kInts, sums + i);
  }
}

// Pairs of channels, [tokens][pairs].
void PackChannelPairs(const ByteRows& rows, int64_t tokens, int64_t n, int64_t pairs, int32_t* to) {
  for (int64_t t = 0; t < tokens; ++t, to += pairs) {
    const uint8_t* from = rows.data + t * rows.step;
#if OCTAVO_ADDS_NEIGHBOURS
    // Depths of 16 are common: a vector that such a row fills.
    const hn::CappedTag<int16_t, 16> d16;
    const hn::Repartition<int32_t, decltype(d16)> d32;
    for (int64_t i = 0; i < 2 * pairs; i += static_cast<int64_t>(hn::Lanes(d16))) {
      const auto values = LoadValues(d16, rows, from + std::min(i, n), std::max<int64_t>(0, n - i));
      hn::StoreU(hn::BitCast(d32, values), d32, to + i / 2);
    }
#else
    for (int64_t i = 0; i < 2 * pairs; ++i) {
      const int32_t raw = i < n ? (from[i] ^ rows.flip) - rows.zero_point : 0;
      const int32_t value = rows.relu ? std::max(raw, 0) : raw;
      to[i / 2] = i % 2 == 0 ? value & 0xffff : to[i / 2] | value * 65536;
    }
#endif
  }
}

HWY_INLINE IntVec AddProductsOfPairs(int32_t left, IntVec right, IntVec sum) {
#if OCTAVO_ADDS_NEIGHBOURS
  const hn::Repartition<int16_t, IntTag> d16;
  IntVec unused = hn::Zero(kInts);
  return hn::ReorderWidenMulAccumulate(kInts, hn::BitCast(d16, hn::Set(kInts, left)), hn::BitCast(d16, right), sum,
                                       unused);
#else
  const IntVec both = hn::Set(kInts, left);
  const auto low = [](IntVec v) { return hn::ShiftRight<16>(hn::ShiftLeft<16>(v)); };
  const IntVec second = hn::Mul(hn::ShiftRight<16>(both), hn::ShiftRight<16>(right));
  return hn::Add(sum, hn::Add(hn::Mul(low(both), low(right)), second));
#endif
}

// Pair p of row m lies at data[m * row_step + p * step].
struct LeftPairs {
  const int32_t* data;
  int64_t row_step, step;
};

template <int kRows, int kVectors>
HWY_INLINE void MultiplyPairTile(const LeftPairs& a, const int32_t* b, int64_t b_stride, int64_t pairs, int32_t* c,
                                 int64_t c_stride, bool add) {
  const int64_t lanes = IntLanes();
  IntVec sum[kRows][kVectors];
  for (int r = 0; r < kRows; ++r) {
    for (int n = 0; n < kVectors; ++n)
      sum[r][n] = add ? hn::LoadU(kInts, c + r * c_stride + n * lanes) : hn::Zero(kInts);
  }
  for (int64_t p = 0; p < pairs; ++p) {
    IntVec right[kVectors];
    for (int n = 0; n < kVectors; ++n) right[n] = hn::LoadU(kInts, b + p * b_stride + n * lanes);
    for (int r = 0; r < kRows; ++r) {
      const int32_t left = a.data[r * a.row_step + p * a.step];
      for (int n = 0; n < kVectors; ++n) sum[r][n] = AddProductsOfPairs(left, right[n], sum[r][n]);
    }
  }
  for (int r = 0; r < kRows; ++r) {
    for (int n = 0; n < kVectors; ++n) hn::StoreU(sum[r][n], kInts, c + r * c_stride + n * lanes);
  }
}

template <int kRows>
HWY_INLINE void MultiplyPairRows(const LeftPairs& a, const int32_t* b, int64_t pairs, int64_t columns, int32_t* c,
                                 bool add) {
  const int64_t lanes = IntLanes();
  int64_t n = 0;
  for (; n + 2 * lanes <= columns; n += 2 * lanes) {
    MultiplyPairTile<kRows, 2>(a, b + n, columns, pairs, c + n, columns, add);
  }
  if (n < columns) MultiplyPairTile<kRows, 1>(a, b + n, columns, pairs, c + n, columns, add);
}

// c = a b, or c += a b; b and c are dense, `columns` is a multiple of 16.
void MultiplyPairs(LeftPairs a, const int32_t* b, int64_t rows, int64_t pairs, int64_t columns, int32_t* c, bool add) {
  constexpr int kTileRows = HWY_TARGET == HWY_AVX3 ? 8 : 4;
  int64_t m = 0;
  const auto at = [&](int64_t row) { return LeftPairs{a.data + row * a.row_step, a.row_step, a.step}; };
  for (; m + kTileRows <= rows; m += kTileRows) {
    MultiplyPairRows<kTileRows>(at(m), b, pairs, columns, c + m * columns, add);
  }
  for (; m < rows; ++m) MultiplyPairRows<1>(at(m), b, pairs, columns, c + m * columns, add);
}

void SumKeysAndValues(const IntegerAttentionSizes& s, ByteRows k, ByteRows v, int64_t tokens, int32_t* state,
                      int32_t* block) {
  int32_t* keys = block;
  int32_t* values = block + kTokenBlock / 2 * s.padded_depth;
  PackTokenPairs(k, tokens, s.depth, s.padded_depth, keys, state + s.depth * s.padded_width);
  PackTokenPairs(v, tokens, s.width, s.padded_width, values, nullptr);
  MultiplyPairs({keys, 1, s.padded_depth}, values, s.depth, (tokens + 1) / 2, s.padded_width, state, true);
}

// x = high * 2^16 + low, both int16.
HWY_INLINE IntVec High(IntVec x) { return hn::ShiftRight<16>(hn::Add(x, hn::Set(kInts, 1 << 15))); }

HWY_INLINE void StoreHalves(IntVec first, IntVec second, int32_t* low, int32_t* high) {
  const IntVec mask = hn::Set(kInts, 0xffff);
  hn::StoreU(hn::Or(hn::And(first, mask), hn::ShiftLeft<16>(second)), kInts, low);
  hn::StoreU(hn::Or(hn::And(High(first), mask), hn::ShiftLeft<16>(High(second))), kInts, high);
}

void Halve(const IntegerAttentionSizes& s, const int32_t* state, int32_t* halves) {
  const int64_t width = s.padded_width, lanes = IntLanes();
  const int32_t* key_sum = state + s.depth * width;
  for (int64_t c = 0; c < s.depth; c += 2, halves += s.halves_width()) {
    const int32_t* row = state + c * width;
    const bool odd_end = c + 1 == s.depth;
    for (int64_t e = 0; e < width; e += lanes) {
      const IntVec second = odd_end ? hn::Zero(kInts) : hn::LoadU(kInts, row + width + e);
      StoreHalves(hn::LoadU(kInts, row + e), second, halves + e, halves + width + e);
    }
    HWY_ALIGN int32_t low[hn::MaxLanes(kInts)], high[hn::MaxLanes(kInts)];
    StoreHalves(hn::Set(kInts, key_sum[c]), hn::Set(kInts, odd_end ? 0 : key_sum[c + 1]), low, high);
    std::fill(halves + 2 * width, halves + s.halves_width(), 0);
    halves[2 * width] = low[0];
    halves[2 * width + 1] = high[0];
  }
}

// high * 2^16 + low as a float. The carry leaves so little in the low part that both are exact and their sum is rounded
// once, unless the high part alone has more than 24 bits.
HWY_INLINE FloatVec Whole(IntVec high, IntVec low) {
  const IntVec carry = hn::ShiftRight<16>(hn::Add(low, hn::Set(kInts, 1 << 15)));
  const FloatVec rest = hn::ConvertTo(kFloats, hn::Sub(low, hn::ShiftLeft<16>(carry)));
  return hn::MulAdd(hn::ConvertTo(kFloats, hn::Add(high, carry)), hn::Set(kFloats, 65536.0f), rest);
}

template <typename T>
HWY_INLINE void StoreQuotient(const int32_t* low, const int32_t* high, float multiplier, int64_t n, T* y) {
  const int64_t lanes = IntLanes();
  const FloatVec by = hn::Set(kFloats, multiplier);
  for (int64_t i = 0; i < n; i += lanes) {
    const FloatVec result = hn::Mul(Whole(hn::LoadU(kInts, high + i), hn::LoadU(kInts, low + i)), by);
    if (i + lanes <= n) {
      StoreFloats(result, kFloats, y + i);
    } else {
      StoreFirst(result, kFloats, y + i, static_cast<size_t>(n - i));
    }
  }
}

void AttendOnIntegers(const IntegerAttentionSizes& s, ByteRows q, int64_t tokens, const int32_t* halves,
                      QuotientScales scales, DType y_type, void* y, int64_t y_step, int32_t* block) {
  int32_t* queries = block;
  int32_t* products = block + kTokenBlock * s.query_pairs;
  PackChannelPairs(q, tokens, s.depth, s.query_pairs, queries);
  MultiplyPairs({queries, s.query_pairs, 1}, halves, tokens, s.channel_pairs(), s.halves_width(), products, false);
  for (int64_t t = 0; t < tokens; ++t) {
    const int32_t *low = products + t * s.halves_width(), *high = low + s.padded_width, *keys = high + s.padded_width;
    const FloatVec divisor = Whole(hn::Set(kInts, keys[1]), hn::Set(kInts, keys[0]));
    const float multiplier = scales.value / (hn::GetLane(divisor) + scales.epsilon);
    if (y_type == DType::kFloat32) {
      StoreQuotient(low, high, multiplier, s.width, static_cast<float*>(y) + t * y_step);
    } else {
      StoreQuotient(low, high, multiplier, s.width, static_cast<uint16_t*>(y) + t * y_step);
    }
  }
}

IntegerAttentionFns IntegerAttentionOfTarget() { return {SumKeysAndValues, Halve, AttendOnIntegers}; }

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace octavo
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace octavo {
namespace {

HWY_EXPORT(IntegerAttentionOfTarget);

struct ByteForm {
  uint8_t flip = 0;
  int32_t zero_point = 0;
};

struct IntegerAttentionPlan {
  IntegerAttentionSizes sizes;
  AttentionHeads heads;
  ByteForm q, k, v;
  QuotientScales scales{};
  IntegerAttentionFns fns{};

  int64_t state_stride() const { return RoundUpToVector(sizes.state_size()); }
  int64_t halves_at() const { return heads.tasks() * state_stride(); }
  int64_t blocks_at() const { return halves_at() + heads.heads() * sizes.halves_size(); }
  size_t scratch_bytes() const {
    return static_cast<size_t>(blocks_at() + heads.threads * sizes.block_size()) * sizeof(int32_t);
  }

  ByteRows Rows(const BatchMatrix& matrix, ByteForm form, bool relu, const void* data, int64_t offset,
                int64_t first) const {
    const TokenRows rows = heads.Rows(matrix, data, offset, first);
    return {static_cast<const uint8_t*>(rows.data), rows.step, form.flip, form.zero_point, relu};
  }

  // Adds the states of a head's splits into the first's and takes the sums apart.
  void Halve(int64_t head, int32_t* states, int32_t* halves) const {
    int32_t* state = states + head * state_stride();
    for (int64_t split = 1; split < heads.splits; ++split) {
      const int32_t* other = state + split * heads.heads() * state_stride();
      for (int64_t i = 0; i < sizes.state_size(); ++i) state[i] += other[i];
    }
    fns.halve(sizes, state, halves + head * sizes.halves_size());
  }

  void Run(const KernelArgs& args) const {
    auto* states = static_cast<int32_t*>(args.scratch);
    int32_t* halves = states + halves_at();
    int32_t* blocks = states + blocks_at();
    std::fill(states, halves, 0);
    const BatchMatrix& y = heads.y;
    heads.ForBlocks(heads.k.columns, [&](int64_t part, int64_t task, size_t head, int64_t first, int64_t count) {
      fns.sum(sizes, Rows(heads.k, k, true, args.inputs[1], heads.batch[head][1], first),
              Rows(heads.v, v, false, args.inputs[2], heads.batch[head][2], first), count,
              states + task * state_stride(), blocks + part * sizes.block_size());
    });
    ParallelForParts(heads.threads, heads.heads(), 1, [&](int64_t, int64_t begin, int64_t end) {
      for (int64_t head = begin; head < end; ++head) Halve(head, states, halves);
    });
    heads.ForBlocks(heads.q.columns, [&](int64_t part, int64_t, size_t head, int64_t first, int64_t count) {
      fns.attend(sizes, Rows(heads.q, q, true, args.inputs[0], heads.batch[head][0], first), count,
                 halves + static_cast<int64_t>(head) * sizes.halves_size(), scales, y.dtype,
                 y.At(args.outputs[0], heads.batch[head][3] + first * y.column_step), y.column_step,
                 blocks + part * sizes.block_size());
    });
  }
};

Result<ByteForm> ByteFormOf(const ByteOperand& operand) {
  if (operand.operand.dtype == DType::kUInt8) return ByteForm{0, operand.zero_point};
  if (operand.operand.dtype == DType::kInt8) return ByteForm{0x80, operand.zero_point + 128};
  return Unsupported("an operand is not 8-bit");
}

// Divisors are 0 or 1 to 2^40 and what is added to them is within these bounds: a scale divided by them is a normal
// float, and so is its product with a numerator, which is at most 255 times the divisor.
Result<QuotientScales> QuotientScalesOf(const ByteOperand& q, const ByteOperand& k, const ByteOperand& v,
                                        float epsilon) {
  const double shift = double{epsilon} / (double{q.scale} * double{k.scale});
  const bool is_near = v.scale >= std::ldexp(1.0f, -80) && v.scale <= std::ldexp(1.0f, 40) &&
                       (shift == 0 || (shift >= std::ldexp(1.0, -80) && shift <= std::ldexp(1.0, 40)));
  if (!is_near) return Unsupported("its scales are too far from 1");
  return QuotientScales{v.scale, static_cast<float>(shift)};
}

}  // namespace

Result<BoundKernel> BindIntegerLinearAttention(const ByteOperand& q, const ByteOperand& k, const ByteOperand& v,
                                               const Operand& y, float epsilon, int threads) {
  OCTAVO_ASSIGN(BatchMatrix q_matrix, AnyBatchMatrixOf(q.operand));
  OCTAVO_ASSIGN(BatchMatrix k_matrix, AnyBatchMatrixOf(k.operand));
  OCTAVO_ASSIGN(BatchMatrix v_matrix, AnyBatchMatrixOf(v.operand));
  OCTAVO_ASSIGN(BatchMatrix y_matrix, BatchMatrixOf(y));
  if (k_matrix.columns > kMaxIntegerAttentionTokens || k_matrix.rows > kMaxIntegerAttentionDepth) {
    return Unsupported("its sums may not fit 32 bits");
  }
  IntegerAttentionPlan plan;
  const int64_t depth = q_matrix.rows, width = v_matrix.rows;
  plan.sizes = {depth, width, RoundUpToVector(depth), RoundUpToVector(width), RoundUpToVector(depth) / 2};
  OCTAVO_ASSIGN(plan.heads, MakeAttentionHeads(std::move(q_matrix), std::move(k_matrix), std::move(v_matrix),
                                               std::move(y_matrix), threads));
  OCTAVO_ASSIGN(plan.q, ByteFormOf(q));
  OCTAVO_ASSIGN(plan.k, ByteFormOf(k));
  OCTAVO_ASSIGN(plan.v, ByteFormOf(v));
  OCTAVO_ASSIGN(plan.scales, QuotientScalesOf(q, k, v, epsilon));
  plan.fns = HWY_DYNAMIC_DISPATCH(IntegerAttentionOfTarget)();
  return KernelOf(std::move(plan));
}

}  // namespace octavo
#endif
