#include "kernels/layer_norm/layer_norm.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <utility>

#include "kernels/channel_vector.h"
#include "kernels/copy/transpose.h"
#include "kernels/parts.h"
#include "kernels/simd/targets.h"
#include "kernels/strided.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/layer_norm/layer_norm.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/simd/vectors-inl.h"

#ifndef OCTAVO_KERNELS_LAYER_NORM_ONCE_
#define OCTAVO_KERNELS_LAYER_NORM_ONCE_
namespace octavo {

// One row of n elements.
using LayerNormRowFn = void (*)(const void* x, void* y, size_t n, const float* scale, const float* bias, float epsilon);

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

template <typename X, typename Y>
void NormalizeRow(const void* x_data, void* y_data, size_t n, const float* scale, const float* bias, float epsilon) {
  const X* x = static_cast<const X*>(x_data);
  Y* y = static_cast<Y*>(y_data);
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
  const V factor = hn::Set(kTag, inverse), shift = hn::Set(kTag, -rest * inverse);
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

LayerNormRowFn LayerNormRowOfTarget(DType x, DType y) {
  if (x == DType::kFloat32) {
    return y == DType::kFloat32 ? NormalizeRow<float, float> : NormalizeRow<float, uint16_t>;
  }
  return y == DType::kFloat32 ? NormalizeRow<uint16_t, float> : NormalizeRow<uint16_t, uint16_t>;
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace octavo
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace octavo {
namespace {

HWY_EXPORT(LayerNormRowOfTarget);

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
        if (transpose == nullptr) {
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
  if (!IsFloat(x.dtype) || !IsFloat(y.dtype)) return Unsupported("only float32 and bfloat16 are fast");
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
  Dims dims = x.dims;
  std::array<Dims, 2> strides = {x.strides, y.strides};
  dims.erase(dims.begin() + static_cast<int64_t>(axis));
  for (Dims& s : strides) s.erase(s.begin() + static_cast<int64_t>(axis));
  OrderByStride(1, dims, strides);
  plan.rows = StridedLoop<2>(dims, strides);
  plan.y_axis_stride = y.strides[axis];
  if (plan.y_axis_stride != 1 && plan.size > 1) {
    if (plan.rows.inner_steps()[1] != 1) return Unsupported("y has no neighbours along any axis");
    plan.transpose = ChooseTranspose(DType::kFloat32, y.dtype);
  }
  // Rows that are transposed later are normalized into a block of float.
  const DType row_type = plan.transpose == nullptr ? y.dtype : DType::kFloat32;
  plan.normalize = HWY_DYNAMIC_DISPATCH(LayerNormRowOfTarget)(x.dtype, row_type);
  plan.x_bytes = static_cast<int64_t>(SizeOf(x.dtype));
  plan.y_bytes = static_cast<int64_t>(SizeOf(y.dtype));
  plan.epsilon = context.node.Float("epsilon", 1e-5f);
  plan.threads = context.threads;
  return KernelOf(std::move(plan));
}

}  // namespace octavo
#endif
