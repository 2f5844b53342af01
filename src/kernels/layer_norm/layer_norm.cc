#include "kernels/layer_norm/layer_norm.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <utility>

#include "graph/quantization.h"
#include "kernels/channel_vector.h"
#include "kernels/copy/transpose.h"
#include "kernels/parts.h"
#include "kernels/simd/targets.h"
#include "kernels/strided.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/layer_norm/layer_norm.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/integer/quantize-inl.h"
#include "kernels/simd/vectors-inl.h"

#ifndef OCTAVO_KERNELS_LAYER_NORM_ONCE_
#define OCTAVO_KERNELS_LAYER_NORM_ONCE_
namespace octavo {

// One row of n elements.
using LayerNormRowFn = void (*)(const void* x, void* y, size_t n, const float* scale, const float* bias, float epsilon);

// What follows it on the way to 8 bits.
struct BytesTail {
  const float* factor = nullptr;  // per element; null: none
  float scale = 1;
  int32_t zero_point = 0, lowest = 0;
};
using LayerNormBytesFn = void (*)(const void* x, uint8_t* y, size_t n, const float* scale, const float* bias,
                                  float epsilon, const BytesTail& tail);
struct LayerNormFns {
  LayerNormRowFn normalize;
  LayerNormBytesFn to_bytes;
};

}  // namespace octavo
#endif

HWY_BEFORE_NAMESPACE();
namespace octavo {
namespace HWY_NAMESPACE {
namespace {

using V = FloatVec;
constexpr FloatTag kTag;

// Four accumulators: the additions do not wait for each other, and each lane adds up a short sum.
struct Sums {
  V sum0, sum1, sum2, sum3;
  V square0, square1, square2, square3;
};

HWY_INLINE Sums ZeroSums() {
  const V zero = hn::Zero(kTag);
  return {zero, zero, zero, zero, zero, zero, zero, zero};
}

// Calls visit(vector, sum, square) over a row; the lanes beyond its end are `filler`.
template <typename X, class Visit>
HWY_INLINE void VisitRow(const X* x, size_t n, float filler, const Visit& visit, Sums& sums) {
  const size_t lanes = hn::Lanes(kTag);
  size_t i = 0;
  for (; i + 4 * lanes <= n; i += 4 * lanes) {
    visit(LoadFloats(kTag, x + i), sums.sum0, sums.square0);
    visit(LoadFloats(kTag, x + i + lanes), sums.sum1, sums.square1);
    visit(LoadFloats(kTag, x + i + 2 * lanes), sums.sum2, sums.square2);
    visit(LoadFloats(kTag, x + i + 3 * lanes), sums.sum3, sums.square3);
  }
  for (; i + lanes <= n; i += lanes) visit(LoadFloats(kTag, x + i), sums.sum0, sums.square0);
  if (i == n) return;
  const V rest = LoadFirst(kTag, x + i, n - i);
  visit(hn::IfThenElse(hn::FirstN(kTag, n - i), rest, hn::Set(kTag, filler)), sums.sum1, sums.square1);
}

HWY_INLINE float SumOf(V a, V b, V c, V d) {
  return hn::GetLane(hn::SumOfLanes(kTag, hn::Add(hn::Add(a, b), hn::Add(c, d))));
}

struct AddUp {
  HWY_INLINE void operator()(V x, V& sum, V&) const { sum = hn::Add(sum, x); }
};
struct AddUpCentered {
  V center;
  HWY_INLINE void operator()(V x, V& sum, V& square) const {
    const V distance = hn::Sub(x, center);
    sum = hn::Add(sum, distance);
    square = hn::MulAdd(distance, distance, square);
  }
};

// y = ((x - middle) * factor + shift) * scale + bias
struct RowMoments {
  float middle, factor, shift;
};

template <typename X>
HWY_INLINE RowMoments MomentsOf(const X* x, size_t n, float epsilon) {
  const float count = static_cast<float>(n);
  Sums sums = ZeroSums();
  VisitRow(x, n, 0.0f, AddUp(), sums);
  // The center is the mean up to rounding, which beside a large mean is not small: `rest` is what it lacks.
  const float center = SumOf(sums.sum0, sums.sum1, sums.sum2, sums.sum3) / count;
  const V middle = hn::Set(kTag, center);
  Sums centered = ZeroSums();
  VisitRow(x, n, center, AddUpCentered{middle}, centered);
  const float rest = SumOf(centered.sum0, centered.sum1, centered.sum2, centered.sum3) / count;
  const float squares = SumOf(centered.square0, centered.square1, centered.square2, centered.square3) / count;
  const float inverse = 1.0f / std::sqrt(squares - rest * rest + epsilon);
  return {center, inverse, -rest * inverse};
}

template <typename X, typename Y>
void NormalizeRow(const void* x_data, void* y_data, size_t n, const float* scale, const float* bias, float epsilon) {
  const X* x = static_cast<const X*>(x_data);
  Y* y = static_cast<Y*>(y_data);
  const RowMoments moments = MomentsOf(x, n, epsilon);
  const V middle = hn::Set(kTag, moments.middle), factor = hn::Set(kTag, moments.factor),
          shift = hn::Set(kTag, moments.shift);
  const size_t lanes = hn::Lanes(kTag);
  size_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    const V normal = hn::MulAdd(hn::Sub(LoadFloats(kTag, x + i), middle), factor, shift);
    StoreFloats(hn::MulAdd(normal, hn::LoadU(kTag, scale + i), hn::LoadU(kTag, bias + i)), kTag, y + i);
  }
  if (i == n) return;
  const V normal = hn::MulAdd(hn::Sub(LoadFirst(kTag, x + i, n - i), middle), factor, shift);
  const V result = hn::MulAdd(normal, LoadFirst(kTag, scale + i, n - i), LoadFirst(kTag, bias + i, n - i));
  StoreFirst(result, kTag, y + i, n - i);
}

template <typename X, class D>
HWY_INLINE int64_t BytesFrom(D d, const X* x, uint8_t* y, int64_t begin, int64_t n, const float* scale,
                             const float* bias, const RowMoments& moments, const BytesTail& tail) {
  const auto value = [&](int64_t i) HWY_ATTR {
    const auto normal = hn::MulAdd(hn::Sub(LoadFloats(d, x + i), hn::Set(d, moments.middle)),
                                   hn::Set(d, moments.factor), hn::Set(d, moments.shift));
    const auto result = hn::MulAdd(normal, hn::LoadU(d, scale + i), hn::LoadU(d, bias + i));
    return tail.factor == nullptr ? result : hn::Mul(result, hn::LoadU(d, tail.factor + i));
  };
  return QuantizeValues(d, value, y, begin, n, MakeByteTerms(d, tail.scale, tail.zero_point, tail.lowest));
}

template <typename X>
void NormalizeToBytes(const void* x_data, uint8_t* y, size_t n, const float* scale, const float* bias, float epsilon,
                      const BytesTail& tail) {
  const X* x = static_cast<const X*>(x_data);
  const RowMoments moments = MomentsOf(x, n, epsilon);
  const auto count = static_cast<int64_t>(n);
  const int64_t done = BytesFrom(kTag, x, y, 0, count, scale, bias, moments, tail);
  BytesFrom(hn::CappedTag<float, 1>(), x, y, done, count, scale, bias, moments, tail);
}

LayerNormFns LayerNormOfTarget(DType x, DType y) {
  const bool narrow = y == DType::kBFloat16;
  if (x == DType::kFloat32) {
    return {narrow ? NormalizeRow<float, uint16_t> : NormalizeRow<float, float>, NormalizeToBytes<float>};
  }
  return {narrow ? NormalizeRow<uint16_t, uint16_t> : NormalizeRow<uint16_t, float>, NormalizeToBytes<uint16_t>};
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace octavo
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace octavo {
namespace {

HWY_EXPORT(LayerNormOfTarget);

// Rows that are normalized before they are transposed into y.
constexpr int64_t kBlockRows = 64;

struct LayerNormPlan {
  int64_t size = 0;  // of the axis
  StridedLoop<2> rows;
  int64_t y_axis_stride = 1;
  int64_t x_bytes = 0, y_bytes = 0;
  float epsilon = 0;
  ChannelVectors scale, bias;
  LayerNormRowFn normalize = nullptr;
  QuantizedTail tail;
  LayerNormBytesFn to_bytes = nullptr;  // instead of `normalize`
  DType y_type = DType::kUndefined;
  TransposeFn transpose = nullptr;  // null: y has neighbours along the axis
  int threads = 1;

  int64_t grain() const { return std::max<int64_t>(1, 16384 / size); }
  int64_t vector_scratch() const { return scale.scratch_size() + bias.scratch_size(); }
  size_t scratch_bytes() const {
    const int64_t blocks = transpose == nullptr ? 0 : PartCount(threads, rows.count(), grain());
    return static_cast<size_t>(vector_scratch() + blocks * kBlockRows * size) * sizeof(float);
  }

  // n rows whose y is contiguous along the axis.
  void RunRows(const char* x, char* y, int64_t n, const float* scales, const float* biases) const {
    const auto step = rows.inner_steps();
    for (int64_t r = 0; r < n; ++r) {
      normalize(x + r * step[0] * x_bytes, y + r * step[1] * y_bytes, static_cast<size_t>(size), scales, biases,
                epsilon);
    }
  }

  void RunToBytes(const char* x, char* y, int64_t n, const float* scales, const float* biases) const {
    const auto step = rows.inner_steps();
    const BytesTail bytes{tail.factor.empty() ? nullptr : tail.factor.data(), tail.scale, tail.zero_point,
                          LowestByte(y_type)};
    for (int64_t r = 0; r < n; ++r) {
      to_bytes(x + r * step[0] * x_bytes, reinterpret_cast<uint8_t*>(y) + r * step[1], static_cast<size_t>(size),
               scales, biases, epsilon, bytes);
    }
  }

  // n rows that are neighbours in y.
  void RunTransposed(const char* x, char* y, int64_t n, const float* scales, const float* biases, float* block) const {
    const int64_t step = rows.inner_steps()[0];
    for (int64_t r = 0; r < n; r += kBlockRows) {
      const int64_t count = std::min(kBlockRows, n - r);
      for (int64_t i = 0; i < count; ++i) {
        normalize(x + (r + i) * step * x_bytes, block + i * size, static_cast<size_t>(size), scales, biases, epsilon);
      }
      transpose(block, size, y + r * y_bytes, y_axis_stride, count, size);
    }
  }

  void Run(const KernelArgs& args) const {
    float* scratch = static_cast<float*>(args.scratch);
    const float* scales = scale.Get(scale.scratch_size() > 0 ? args.inputs[1] : nullptr, scratch);
    const float* biases = bias.Get(bias.scratch_size() > 0 ? args.inputs[2] : nullptr, scratch + scale.scratch_size());
    float* blocks = scratch + vector_scratch();
    ParallelForParts(threads, rows.count(), grain(), [&](int64_t part, int64_t begin, int64_t end) {
      rows.ForElements(begin, end, [&](const auto& at, int64_t n) {
        const char* x = static_cast<const char*>(args.inputs[0]) + at[0] * x_bytes;
        char* y = static_cast<char*>(args.outputs[0]) + at[1] * y_bytes;
        if (to_bytes != nullptr) {
          RunToBytes(x, y, n, scales, biases);
        } else if (transpose == nullptr) {
          RunRows(x, y, n, scales, biases);
        } else {
          RunTransposed(x, y, n, scales, biases, blocks + part * kBlockRows * size);
        }
      });
    });
  }
};

bool IsFloat(DType dtype) { return dtype == DType::kFloat32 || dtype == DType::kBFloat16; }

}  // namespace

Result<BoundKernel> BindFastLayerNorm(const BindContext& context) {
  const Operand& x = context.inputs[0];
  const Operand& y = context.outputs[0];
  const bool to_bytes = context.tail != nullptr && SizeOf(y.dtype) == 1;
  if (!IsFloat(x.dtype) || !(IsFloat(y.dtype) || to_bytes)) return Unsupported("only float32 and bfloat16 are fast");
  const int64_t rank = static_cast<int64_t>(x.dims.size());
  const int64_t given = context.node.Int("axis", -1);
  if (given < -rank || given >= rank || y.dims != x.dims) return InvalidArgument("axis or shape is out of range");
  if (rank > static_cast<int64_t>(kMaxRank)) return Unsupported("the rank is too high");
  const size_t axis = static_cast<size_t>(given < 0 ? given + rank : given);
  LayerNormPlan plan;
  plan.size = x.dims[axis];
  if (plan.size < 1 || x.strides[axis] != 1) return Unsupported("x has no neighbours along the axis");
  const auto operand = [&](size_t i) { return i < context.inputs.size() ? &context.inputs[i] : nullptr; };
  OCTAVO_ASSIGN(plan.scale, ChannelVectors::Create(operand(1), 1, plan.size, 1.0f));
  OCTAVO_ASSIGN(plan.bias, ChannelVectors::Create(operand(2), 1, plan.size, 0.0f));
  plan.rows = LoopOverRows<2>(x.dims, {x.strides, y.strides}, axis);
  plan.y_axis_stride = y.strides[axis];
  if (to_bytes) {
    if (plan.y_axis_stride != 1 && plan.size > 1) return Unsupported("bytes have no neighbours along the axis");
    plan.tail = *context.tail;
    if (!plan.tail.factor.empty() && plan.tail.factor.size() != static_cast<size_t>(plan.size)) {
      return Unsupported("the factors behind it are not one per channel");
    }
    plan.y_type = y.dtype;
  } else if (plan.y_axis_stride != 1 && plan.size > 1) {
    if (plan.rows.inner_steps()[1] != 1) return Unsupported("y has no neighbours along any axis");
    plan.transpose = ChooseTranspose(DType::kFloat32, y.dtype);
  }
  // Rows that are transposed later are normalized into a block of float.
  const DType row_type = plan.transpose == nullptr && !to_bytes ? y.dtype : DType::kFloat32;
  const LayerNormFns fns = HWY_DYNAMIC_DISPATCH(LayerNormOfTarget)(x.dtype, row_type);
  plan.normalize = fns.normalize;
  if (to_bytes) plan.to_bytes = fns.to_bytes;
  plan.x_bytes = static_cast<int64_t>(SizeOf(x.dtype));
  plan.y_bytes = static_cast<int64_t>(SizeOf(y.dtype));
  plan.epsilon = context.node.Float("epsilon", 1e-5f);
  plan.threads = context.threads;
  return KernelOf(std::move(plan));
}

}  // namespace octavo
#endif
