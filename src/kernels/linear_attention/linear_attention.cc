#include "kernels/linear_attention/linear_attention.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "kernels/linear_attention/heads.h"
#include "kernels/simd/targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/linear_attention/linear_attention.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/simd/multiply-inl.h"
#include "kernels/simd/vectors-inl.h"

#ifndef OCTAVO_KERNELS_LINEAR_ATTENTION_ONCE_
#define OCTAVO_KERNELS_LINEAR_ATTENTION_ONCE_
namespace octavo {

struct LinearAttentionSizes {
  int64_t depth = 0, width = 0;                // channels of q and k, of v
  int64_t padded_depth = 0, padded_width = 0;  // rounded up to vectors

  // v relu(k)^T transposed, [depth][padded_width], then the sum of relu(k), [padded_depth].
  int64_t state_size() const { return depth * padded_width + padded_depth; }
  // Blocks of q or k, of v, of results.
  int64_t block_size() const { return kTokenBlock * (padded_depth + padded_width); }
};

// Both take a block of up to kTokenBlock tokens.
struct LinearAttentionFns {
  // state += sums over the tokens.
  void (*sum)(const LinearAttentionSizes& sizes, TokenRows k, TokenRows v, int64_t tokens, float* state, float* block);
  void (*attend)(const LinearAttentionSizes& sizes, TokenRows q, int64_t tokens, const float* state, float epsilon,
                 DType y_type, void* y, int64_t y_step, float* block);
};

}  // namespace octavo
#endif

HWY_BEFORE_NAMESPACE();
namespace octavo {
namespace HWY_NAMESPACE {
namespace {

using V = FloatVec;
constexpr FloatTag kTag;

// One token's channels as floats, padded with zeros.
template <typename T>
HWY_INLINE void LoadToken(const T* from, int64_t n, int64_t padded, bool relu, float* to) {
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(kTag));
  const V zero = hn::Zero(kTag);
  for (int64_t i = 0; i < padded; i += lanes) {
    V x = zero;
    if (i + lanes <= n) {
      x = LoadFloats(kTag, from + i);
    } else if (i < n) {
      x = LoadFirst(kTag, from + i, static_cast<size_t>(n - i));
    }
    hn::StoreU(relu ? MaxElseSecond(zero, x) : x, kTag, to + i);
  }
}

void LoadTokens(const TokenRows& rows, int64_t count, int64_t n, int64_t padded, bool relu, float* to) {
  for (int64_t t = 0; t < count; ++t) {
    const int64_t at = t * rows.step;
    if (rows.dtype == DType::kFloat32) {
      LoadToken(static_cast<const float*>(rows.data) + at, n, padded, relu, to + t * padded);
    } else {
      LoadToken(static_cast<const uint16_t*>(rows.data) + at, n, padded, relu, to + t * padded);
    }
  }
}

// sums += the rows of a block, added up.
HWY_INLINE void AddRows(const float* block, int64_t count, int64_t padded, float* sums) {
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(kTag));
  for (int64_t i = 0; i < padded; i += lanes) {
    V sum = hn::Zero(kTag);
    for (int64_t t = 0; t < count; ++t) sum = hn::Add(sum, hn::LoadU(kTag, block + t * padded + i));
    hn::StoreU(hn::Add(sum, hn::LoadU(kTag, sums + i)), kTag, sums + i);
  }
}

void SumKeysAndValues(const LinearAttentionSizes& s, TokenRows k, TokenRows v, int64_t tokens, float* state,
                      float* block) {
  float* keys = block;
  float* values = block + kTokenBlock * s.padded_depth;
  // The block's own sums start at 0: what is added to the large sum is rounded once per block.
  float* products = values + kTokenBlock * s.padded_width;
  LoadTokens(k, tokens, s.depth, s.padded_depth, true, keys);
  LoadTokens(v, tokens, s.width, s.padded_width, false, values);
  Multiply({keys, 1, s.padded_depth}, values, s.padded_width, s.depth, tokens, s.padded_width, products, s.padded_width,
           false);
  AddRows(products, 1, s.depth * s.padded_width, state);
  AddRows(keys, tokens, s.padded_depth, state + s.depth * s.padded_width);
}

HWY_INLINE float DotPadded(const float* a, const float* b, int64_t n) {
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(kTag));
  V sum = hn::Zero(kTag);
  for (int64_t i = 0; i < n; i += lanes) sum = hn::MulAdd(hn::LoadU(kTag, a + i), hn::LoadU(kTag, b + i), sum);
  return hn::GetLane(hn::SumOfLanes(kTag, sum));
}

template <typename T>
HWY_INLINE void StoreQuotient(const float* x, float divisor, int64_t n, T* y) {
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(kTag));
  const V by = hn::Set(kTag, divisor);
  for (int64_t i = 0; i < n; i += lanes) {
    const V result = hn::Div(hn::LoadU(kTag, x + i), by);
    if (i + lanes <= n) {
      StoreFloats(result, kTag, y + i);
    } else {
      StoreFirst(result, kTag, y + i, static_cast<size_t>(n - i));
    }
  }
}

void AttendLinearly(const LinearAttentionSizes& s, TokenRows q, int64_t tokens, const float* state, float epsilon,
                    DType y_type, void* y, int64_t y_step, float* block) {
  float* queries = block;
  float* results = block + kTokenBlock * s.padded_depth;
  const float* key_sum = state + s.depth * s.padded_width;
  LoadTokens(q, tokens, s.depth, s.padded_depth, true, queries);
  Multiply({queries, s.padded_depth, 1}, state, s.padded_width, tokens, s.depth, s.padded_width, results,
           s.padded_width, false);
  for (int64_t t = 0; t < tokens; ++t) {
    const float divisor = DotPadded(queries + t * s.padded_depth, key_sum, s.padded_depth) + epsilon;
    const float* x = results + t * s.padded_width;
    if (y_type == DType::kFloat32) {
      StoreQuotient(x, divisor, s.width, static_cast<float*>(y) + t * y_step);
    } else {
      StoreQuotient(x, divisor, s.width, static_cast<uint16_t*>(y) + t * y_step);
    }
  }
}

LinearAttentionFns LinearAttentionOfTarget() { return {SumKeysAndValues, AttendLinearly}; }

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace octavo
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace octavo {
namespace {

HWY_EXPORT(LinearAttentionOfTarget);

struct LinearAttentionPlan {
  LinearAttentionSizes sizes;
  AttentionHeads heads;
  float epsilon = 0;
  LinearAttentionFns fns{};

  int64_t state_stride() const { return RoundUpToVector(sizes.state_size()); }
  // A block, and the products of keys and values of one.
  int64_t part_size() const { return sizes.block_size() + state_stride(); }
  size_t scratch_bytes() const {
    return static_cast<size_t>(heads.tasks() * state_stride() + heads.threads * part_size()) * sizeof(float);
  }

  // Adds the states of all splits into the first's, in order.
  void AddSplits(float* states) const {
    const int64_t size = heads.heads() * state_stride();
    for (int64_t split = 1; split < heads.splits; ++split) {
      const float* state = states + split * size;
      for (int64_t i = 0; i < size; ++i) states[i] += state[i];
    }
  }

  void Run(const KernelArgs& args) const {
    float* scratch = static_cast<float*>(args.scratch);
    float* blocks = scratch + heads.tasks() * state_stride();
    std::fill(scratch, blocks, 0.0f);
    const BatchMatrix &q = heads.q, &k = heads.k, &v = heads.v, &y = heads.y;
    heads.ForBlocks(k.columns, [&](int64_t part, int64_t task, size_t head, int64_t first, int64_t count) {
      fns.sum(sizes, heads.Rows(k, args.inputs[1], heads.batch[head][1], first),
              heads.Rows(v, args.inputs[2], heads.batch[head][2], first), count, scratch + task * state_stride(),
              blocks + part * part_size());
    });
    AddSplits(scratch);
    heads.ForBlocks(q.columns, [&](int64_t part, int64_t, size_t head, int64_t first, int64_t count) {
      const float* state = scratch + static_cast<int64_t>(head) * state_stride();
      fns.attend(sizes, heads.Rows(q, args.inputs[0], heads.batch[head][0], first), count, state, epsilon, y.dtype,
                 y.At(args.outputs[0], heads.batch[head][3] + first * y.column_step), y.column_step,
                 blocks + part * part_size());
    });
  }
};

}  // namespace

Result<BoundKernel> BindFastLinearAttention(const BindContext& context) {
  OCTAVO_ASSIGN(BatchMatrix q, BatchMatrixOf(context.inputs[0]));
  OCTAVO_ASSIGN(BatchMatrix k, BatchMatrixOf(context.inputs[1]));
  OCTAVO_ASSIGN(BatchMatrix v, BatchMatrixOf(context.inputs[2]));
  OCTAVO_ASSIGN(BatchMatrix y, BatchMatrixOf(context.outputs[0]));
  LinearAttentionPlan plan;
  plan.sizes = {q.rows, v.rows, RoundUpToVector(q.rows), RoundUpToVector(v.rows)};
  OCTAVO_ASSIGN(plan.heads,
                MakeAttentionHeads(std::move(q), std::move(k), std::move(v), std::move(y), context.threads));
  plan.epsilon = context.node.Float("epsilon", 1e-5f);
  plan.fns = HWY_DYNAMIC_DISPATCH(LinearAttentionOfTarget)();
  return KernelOf(std::move(plan));
}

}  // namespace octavo
#endif
