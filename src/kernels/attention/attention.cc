#include "kernels/attention/attention.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <utility>

#include "kernels/attention/attention_operands.h"
#include "kernels/attention/attention_rows.h"
#include "kernels/copy/transpose.h"
#include "kernels/parts.h"
#include "kernels/simd/convert.h"
#include "kernels/simd/targets.h"
#include "kernels/strided.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/attention/attention.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/simd/multiply-inl.h"
#include "kernels/simd/softmax-inl.h"
#include "kernels/simd/vectors-inl.h"

#ifndef OCTAVO_KERNELS_ATTENTION_ONCE_
#define OCTAVO_KERNELS_ATTENTION_ONCE_
namespace octavo {

// Queries whose scores are held at once.
constexpr int64_t kQueryBlock = 32;
// Keys are packed in panels of this many, [channel][key], so that the panel in use stays in L1.
constexpr int64_t kPanelKeys = 32;

struct AttentionBlock {
  int64_t queries, keys, padded_keys, depth, padded_width;
  const float* q;       // [queries][depth]
  const float* panels;  // keys' panels
  const float* v;       // [keys][v_stride], read up to padded_width
  int64_t v_stride;
  float* scores;   // [queries][padded_keys]
  float* results;  // [queries][padded_width]
};

struct AttentionFns {
  // scores = q k^T
  void (*score)(const AttentionBlock& block);
  // scores[row] = e^(scale * scores[row] + mask - largest) of one row; mask may be null. Returns their sum.
  float (*exponentiate)(float* scores, int64_t n, float scale, const float* mask);
  // results = scores v
  void (*combine)(const AttentionBlock& block);
  // x[i] /= divisor
  void (*divide)(float* x, int64_t n, float divisor);
};

}  // namespace octavo
#endif

HWY_BEFORE_NAMESPACE();
namespace octavo {
namespace HWY_NAMESPACE {
namespace {

using V = FloatVec;
constexpr FloatTag kTag;
// 2^r = p0 + p1 r + p2 r^2 + p3 r^3
constexpr float kPowerOf2[] = {9.999280695e-01f, 6.932610307e-01f, 2.426112109e-01f, 5.517137668e-02f};

void ScoreBlock(const AttentionBlock& b) {
  for (int64_t key = 0; key < b.padded_keys; key += kPanelKeys) {
    Multiply({b.q, b.depth, 1}, b.panels + key * b.depth, kPanelKeys, b.queries, b.depth, kPanelKeys, b.scores + key,
             b.padded_keys, false);
  }
}

void CombineBlock(const AttentionBlock& b) {
  Multiply({b.scores, b.padded_keys, 1}, b.v, b.v_stride, b.queries, b.keys, b.padded_width, b.results, b.padded_width,
           false);
}

// Rows of scores are padded to whole vectors, so what lies beyond the last key may be overwritten.
float ExponentiateRow(float* scores, int64_t n, float scale, const float* mask) {
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(kTag));
  const V factor = hn::Set(kTag, scale);
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    const V x = hn::LoadU(kTag, scores + i);
    const V masked = mask == nullptr ? hn::Mul(x, factor) : hn::MulAdd(x, factor, hn::LoadU(kTag, mask + i));
    hn::StoreU(masked, kTag, scores + i);
  }
  for (; i < n; ++i) scores[i] = scores[i] * scale + (mask == nullptr ? 0.0f : mask[i]);
  const size_t count = static_cast<size_t>(n);
  return ExponentialsOf(scores, LargestOf(scores, count), scores, count);
}

void DivideRow(float* x, int64_t n, float divisor) {
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(kTag));
  const V by = hn::Set(kTag, divisor);
  for (int64_t i = 0; i < n; i += lanes) hn::StoreU(hn::Div(hn::LoadU(kTag, x + i), by), kTag, x + i);
}

// 2^t within 2^-13 of itself for t in [-125, 0], 2^-125 below, so that nothing is denormal. For results that become
// bfloat16. NaN stays NaN, whatever integer it has become: 2^n is a factor, not a sum of exponents.
HWY_INLINE V RoughPowerOf2(V t) {
  // 3 * 2^22: a sum with it is rounded to a whole number, which its last bits are.
  const V whole = hn::Set(kTag, 12582912.0f);
  const V clamped = MaxElseSecond(hn::Set(kTag, -125.0f), t);
  const V n = hn::Add(clamped, whole);
  const V r = hn::Sub(clamped, hn::Sub(n, whole));
  // The least largest relative error on [-1/2, 1/2]: 7.5e-05.
  V p = hn::MulAdd(hn::Set(kTag, kPowerOf2[3]), r, hn::Set(kTag, kPowerOf2[2]));
  p = hn::MulAdd(p, r, hn::Set(kTag, kPowerOf2[1]));
  p = hn::MulAdd(p, r, hn::Set(kTag, kPowerOf2[0]));
  const hn::RebindToSigned<FloatTag> integers;
  const auto exponent = hn::Add(hn::BitCast(integers, n), hn::Set(integers, 127));
  return hn::Mul(p, hn::BitCast(kTag, hn::ShiftLeft<23>(exponent)));
}

float ExponentiateToBFloat16(float* scores, int64_t keys, int64_t padded, float scale, const float* mask,
                             uint16_t* to) {
  constexpr float kLog2E = 1.44269504088896341f;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(kTag));
  if (mask != nullptr) {
    for (int64_t i = 0; i < keys; ++i) scores[i] = scores[i] * scale + mask[i];
    scale = 1;
  } else if (!(std::abs(scale) * kLog2E >= std::numeric_limits<float>::min())) {
    // A factor of zero would make the padding NaN.
    for (int64_t i = 0; i < keys; ++i) scores[i] *= scale;
    scale = 1;
  } else if (scale < 0) {
    for (int64_t i = 0; i < keys; ++i) scores[i] = -scores[i];
    scale = -scale;
  }
  const float largest = LargestOf(scores, static_cast<size_t>(keys));
  // Below any finite number: masks are often the lowest of them, and rows may have nothing else.
  std::fill(scores + keys, scores + padded, -std::numeric_limits<float>::infinity());
  const V factor = hn::Set(kTag, scale * kLog2E), offset = hn::Set(kTag, largest);
  V sum = hn::Zero(kTag), second = sum;
  for (int64_t i = 0; i < padded; i += 2 * lanes) {
    const V a = RoughPowerOf2(hn::Mul(hn::Sub(hn::LoadU(kTag, scores + i), offset), factor));
    const V b = RoughPowerOf2(hn::Mul(hn::Sub(hn::LoadU(kTag, scores + i + lanes), offset), factor));
    StoreFloats(a, kTag, to + i);
    StoreFloats(b, kTag, to + i + lanes);
    sum = hn::Add(sum, a);
    second = hn::Add(second, b);
  }
  return hn::GetLane(hn::SumOfLanes(kTag, hn::Add(sum, second)));
}

void DivideToBFloat16(const float* x, int64_t n, float divisor, uint16_t* to) {
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(kTag));
  const V by = hn::Set(kTag, divisor);
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) StoreFloats(hn::Div(hn::LoadU(kTag, x + i), by), kTag, to + i);
  const auto rest = static_cast<size_t>(n - i);
  if (rest > 0) StoreFirst(hn::Div(LoadFirst(kTag, x + i, rest), by), kTag, to + i, rest);
}

AttentionFns AttentionOfTarget() { return {ScoreBlock, ExponentiateRow, CombineBlock, DivideRow}; }
AttentionRows AttentionRowsOfTarget() { return {ExponentiateToBFloat16, DivideToBFloat16}; }

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace octavo
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace octavo {
namespace {

HWY_EXPORT(AttentionOfTarget);
HWY_EXPORT(AttentionRowsOfTarget);

// Rows of floats out of a strided matrix of float32 or bfloat16 whose rows or columns are neighbours.
struct MatrixReader {
  BatchMatrix matrix;
  RowConversions conversions{};
  TransposeFn transpose = nullptr;

  static Result<MatrixReader> Create(const BatchMatrix& matrix) {
    if (matrix.column_step != 1 && matrix.columns > 1 && matrix.row_step != 1 && matrix.rows > 1) {
      return Unsupported("neither channels nor tokens are neighbours");
    }
    return MatrixReader{matrix, ChooseRowConversions(), ChooseTranspose(matrix.dtype, DType::kFloat32)};
  }

  bool rows_contiguous() const { return matrix.column_step == 1 || matrix.columns == 1; }

  void CopyRun(const void* from, int64_t n, float* to) const {
    if (matrix.dtype == DType::kFloat32) {
      std::memcpy(to, from, static_cast<size_t>(n) * sizeof(float));
    } else {
      conversions.widen(static_cast<const uint16_t*>(from), to, static_cast<size_t>(n));
    }
  }

  // to[r * stride + c] = matrix(first + r, c) for r < rows.
  void ReadRows(const void* data, int64_t first, int64_t rows, float* to, int64_t stride) const {
    const void* from = matrix.At(data, first * matrix.row_step);
    if (rows_contiguous()) {
      for (int64_t r = 0; r < rows; ++r) {
        CopyRun(matrix.At(from, r * matrix.row_step), matrix.columns, to + r * stride);
      }
      return;
    }
    Transpose(from, matrix.column_step, matrix.columns, rows, to, stride);
  }

  // to[c * stride + r] = matrix(first + r, c) for r < rows.
  void ReadColumns(const void* data, int64_t first, int64_t rows, float* to, int64_t stride) const {
    const void* from = matrix.At(data, first * matrix.row_step);
    if (rows_contiguous()) {
      Transpose(from, matrix.row_step, rows, matrix.columns, to, stride);
      return;
    }
    for (int64_t c = 0; c < matrix.columns; ++c) {
      CopyRun(matrix.At(from, c * matrix.column_step), rows, to + c * stride);
    }
  }

 private:
  // to[j * stride + i] = from[i * step + j], in blocks that stay in L1.
  void Transpose(const void* from, int64_t step, int64_t ni, int64_t nj, float* to, int64_t stride) const {
    constexpr int64_t kBlockJ = 16;
    for (int64_t j = 0; j < nj; j += kBlockJ) {
      transpose(matrix.At(from, j), step, to + j * stride, stride, ni, std::min(kBlockJ, nj - j));
    }
  }
};

struct AttentionPlan {
  AttentionOperands operands;
  MatrixReader q, k, v;
  bool v_in_place = false;
  int64_t padded_keys = 0, padded_width = 0;
  RowConversions conversions{};
  TransposeFn transpose = nullptr;  // into y whose tokens are neighbours; else null
  AttentionFns fns{};
  int threads = 1;

  int64_t blocks() const { return (q.matrix.rows + kQueryBlock - 1) / kQueryBlock; }
  int64_t tasks() const { return operands.batch.count() * blocks(); }
  // At least 0.25 M multiply-adds per thread.
  int64_t grain() const {
    const int64_t macs = kQueryBlock * k.matrix.rows * (q.matrix.columns + v.matrix.columns);
    return std::max<int64_t>(1, 250000 / std::max<int64_t>(1, macs));
  }

  // Floats of one thread's scratch, in this order.
  int64_t panel_size() const { return padded_keys * q.matrix.columns; }
  int64_t v_size() const { return v_in_place ? 0 : k.matrix.rows * padded_width; }
  int64_t q_size() const { return RoundUpToVector(kQueryBlock * q.matrix.columns); }
  int64_t score_size() const { return kQueryBlock * padded_keys; }
  int64_t result_size() const { return kQueryBlock * padded_width; }
  int64_t part_size() const { return panel_size() + v_size() + q_size() + score_size() + result_size() + padded_keys; }
  size_t scratch_bytes() const {
    return static_cast<size_t>(PartCount(threads, tasks(), grain()) * part_size()) * sizeof(float);
  }

  void PackKeys(const void* data, float* panels) const {
    const int64_t depth = k.matrix.columns;
    for (int64_t key = 0; key < padded_keys; key += kPanelKeys) {
      const int64_t count = std::min(kPanelKeys, k.matrix.rows - key);
      float* panel = panels + key * depth;
      if (count < kPanelKeys) std::fill_n(panel, kPanelKeys * depth, 0.0f);
      k.ReadColumns(data, key, count, panel, kPanelKeys);
    }
  }

  void PackValues(const void* data, float* values) const {
    if (padded_width != v.matrix.columns) std::fill_n(values, v_size(), 0.0f);
    v.ReadRows(data, 0, v.matrix.rows, values, padded_width);
  }

  void WriteResults(const float* results, int64_t first, int64_t count, void* data) const {
    const BatchMatrix& y = operands.y;
    void* to = y.At(data, first * y.row_step);
    if (transpose != nullptr) {
      transpose(results, padded_width, to, y.column_step, count, y.columns);
      return;
    }
    for (int64_t r = 0; r < count; ++r) {
      const float* from = results + r * padded_width;
      void* row = y.At(to, r * y.row_step);
      if (y.dtype == DType::kFloat32) {
        std::memcpy(row, from, static_cast<size_t>(y.columns) * sizeof(float));
      } else {
        conversions.narrow(from, static_cast<uint16_t*>(row), static_cast<size_t>(y.columns));
      }
    }
  }

  // The queries from `first` of one batch element whose keys and values are packed; `rest` is scratch.
  void RunBlock(const KernelArgs& args, const std::array<int64_t, 5>& at, int64_t first, const float* panels,
                const float* values, float* rest) const {
    const int64_t count = std::min(kQueryBlock, q.matrix.rows - first);
    float* queries = rest;
    float* scores = queries + q_size();
    float* results = scores + score_size();
    float* mask_row = results + result_size();
    q.ReadRows(q.matrix.At(args.inputs[0], at[0]), first, count, queries, q.matrix.columns);
    const AttentionBlock block{count,
                               k.matrix.rows,
                               padded_keys,
                               q.matrix.columns,
                               padded_width,
                               queries,
                               panels,
                               values,
                               v_in_place ? v.matrix.row_step : padded_width,
                               scores,
                               results};
    fns.score(block);
    std::array<float, kQueryBlock> sums;
    for (int64_t r = 0; r < count; ++r) {
      const float* added = operands.ReadMask(args, at, first + r, mask_row);
      float& sum = sums[static_cast<size_t>(r)];
      sum = fns.exponentiate(scores + r * padded_keys, k.matrix.rows, operands.scale, added);
      if (operands.guarded && std::isnan(sum)) {
        std::fill_n(scores + r * padded_keys, k.matrix.rows, 0.0f);
        sum = 1;
      }
    }
    fns.combine(block);
    for (int64_t r = 0; r < count; ++r) {
      fns.divide(results + r * padded_width, padded_width, sums[static_cast<size_t>(r)]);
    }
    WriteResults(results, first, count, operands.y.At(args.outputs[0], at[4]));
  }

  void RunTasks(const KernelArgs& args, int64_t begin, int64_t end, float* scratch) const {
    float* panels = scratch;
    float* packed = panels + panel_size();
    int64_t task = begin;
    operands.batch.ForEachIn(begin / blocks(), (end + blocks() - 1) / blocks(), [&](const auto& at) {
      PackKeys(k.matrix.At(args.inputs[1], at[1]), panels);
      const void* v_data = v.matrix.At(args.inputs[2], at[2]);
      if (!v_in_place) PackValues(v_data, packed);
      const float* values = v_in_place ? static_cast<const float*>(v_data) : packed;
      do {
        RunBlock(args, at, task % blocks() * kQueryBlock, panels, values, packed + v_size());
      } while (++task < end && task % blocks() != 0);
    });
  }

  void Run(const KernelArgs& args) const {
    ParallelForParts(threads, tasks(), grain(), [&](int64_t part, int64_t begin, int64_t end) {
      if (begin < end) RunTasks(args, begin, end, static_cast<float*>(args.scratch) + part * part_size());
    });
  }
};

}  // namespace

AttentionRows ChooseAttentionRows() { return HWY_DYNAMIC_DISPATCH(AttentionRowsOfTarget)(); }

Result<BoundKernel> BindFastAttention(const BindContext& context) {
  AttentionPlan plan;
  OCTAVO_ASSIGN(plan.operands, ReadAttentionOperands(context));
  OCTAVO_ASSIGN(plan.q, MatrixReader::Create(plan.operands.q));
  OCTAVO_ASSIGN(plan.k, MatrixReader::Create(plan.operands.k));
  OCTAVO_ASSIGN(plan.v, MatrixReader::Create(plan.operands.v));
  const BatchMatrix &v = plan.operands.v, &y = plan.operands.y;
  if (y.column_step != 1 && y.columns > 1) {
    if (y.row_step != 1 && y.rows > 1) return Unsupported("neither channels nor tokens of y are neighbours");
    plan.transpose = ChooseTranspose(DType::kFloat32, y.dtype);
  }
  plan.padded_keys = (plan.k.matrix.rows + kPanelKeys - 1) / kPanelKeys * kPanelKeys;
  plan.padded_width = RoundUpToVector(v.columns);
  plan.v_in_place = v.dtype == DType::kFloat32 && v.column_step == 1 && v.columns == plan.padded_width;
  plan.conversions = ChooseRowConversions();
  plan.fns = HWY_DYNAMIC_DISPATCH(AttentionOfTarget)();
  plan.threads = std::max(1, context.threads);
  return KernelOf(std::move(plan));
}

}  // namespace octavo
#endif
