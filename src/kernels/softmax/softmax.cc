#include "kernels/softmax/softmax.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <utility>

#include "base/parallel.h"
#include "kernels/simd/targets.h"
#include "kernels/strided.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/softmax/softmax.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/simd/softmax-inl.h"
#include "kernels/simd/vectors-inl.h"

#ifndef OCTAVO_KERNELS_SOFTMAX_ONCE_
#define OCTAVO_KERNELS_SOFTMAX_ONCE_
namespace octavo {

using SoftmaxRowFn = void (*)(const float* x, float* y, size_t n);

}  // namespace octavo
#endif

HWY_BEFORE_NAMESPACE();
namespace octavo {
namespace HWY_NAMESPACE {
namespace {

constexpr FloatTag kTag;

void SoftmaxRow(const float* x, float* y, size_t n) {
  const float factor = 1.0f / ExponentialsOf(x, LargestOf(x, n), y, n);
  const size_t lanes = hn::Lanes(kTag);
  size_t i = 0;
  for (; i + lanes <= n; i += lanes) hn::StoreU(hn::Mul(hn::LoadU(kTag, y + i), hn::Set(kTag, factor)), kTag, y + i);
  for (; i < n; ++i) y[i] *= factor;
}

// x - largest - log(sum)
void LogSoftmaxRow(const float* x, float* y, size_t n) {
  const float largest = LargestOf(x, n);
  const float log = std::log(ExponentialsOf(x, largest, y, n));
  const size_t lanes = hn::Lanes(kTag);
  size_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    const FloatVec distance = hn::Sub(hn::LoadU(kTag, x + i), hn::Set(kTag, largest));
    hn::StoreU(hn::Sub(distance, hn::Set(kTag, log)), kTag, y + i);
  }
  for (; i < n; ++i) y[i] = x[i] - largest - log;
}

SoftmaxRowFn SoftmaxRowOfTarget(bool log) { return log ? LogSoftmaxRow : SoftmaxRow; }

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace octavo
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace octavo {
namespace {

HWY_EXPORT(SoftmaxRowOfTarget);

}  // namespace

Result<BoundKernel> BindFastSoftmax(const BindContext& context) {
  const Operand& x = context.inputs[0];
  const Operand& y = context.outputs[0];
  if (x.dtype != DType::kFloat32 || y.dtype != DType::kFloat32) return Unsupported("only float32 is fast");
  const int64_t rank = static_cast<int64_t>(x.dims.size());
  const bool one_axis = context.opset >= 13;  // before, all axes from the given one on
  const int64_t given = context.node.Int("axis", one_axis ? -1 : 1);
  if (given < -rank || given >= rank || y.dims != x.dims) return Unsupported("a scalar, or an axis past the end");
  if (rank > static_cast<int64_t>(kMaxRank)) return Unsupported("the rank is too high");
  const int64_t axis = given < 0 ? given + rank : given;
  if (!one_axis && axis != rank - 1) return Unsupported("softmax over several axes");
  const size_t a = static_cast<size_t>(axis);
  const int64_t size = x.dims[a];
  if (size < 1 || x.strides[a] != 1 || y.strides[a] != 1) return Unsupported("no neighbours along the axis");
  BoundKernel kernel;
  kernel.run = [rows = LoopOverRows<2>(x.dims, {x.strides, y.strides}, a), size, threads = context.threads,
                row =
                    HWY_DYNAMIC_DISPATCH(SoftmaxRowOfTarget)(context.node.op == "LogSoftmax")](const KernelArgs& args) {
    const float* from = static_cast<const float*>(args.inputs[0]);
    float* to = static_cast<float*>(args.outputs[0]);
    ParallelFor(threads, rows.count(), std::max<int64_t>(1, 8192 / size), [&](int64_t begin, int64_t end) {
      rows.ForEachIn(begin, end, [&](const auto& at) { row(from + at[0], to + at[1], static_cast<size_t>(size)); });
    });
    return Status();
  };
  return kernel;
}

}  // namespace octavo
#endif
