#include "kernels/resize/resize.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <utility>
#include <vector>

#include "kernels/generic/movement.h"
#include "kernels/generic/resize_taps.h"
#include "kernels/parts.h"
#include "kernels/simd/targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/resize/resize.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/simd/vectors-inl.h"

#ifndef OCTAVO_KERNELS_RESIZE_ONCE_
#define OCTAVO_KERNELS_RESIZE_ONCE_
namespace octavo {

// y[i] = sum over k of weights[k] * x[offsets[k] + i] for i < n.
using BlendFn = void (*)(const void* x, const int64_t* offsets, const float* weights, int64_t taps, void* y, int64_t n);
// y[i] = sum over k of weights[k * n + i] * x[offsets[k * n + i]] for i < n: pixels too narrow for vectors of their
// own.
using GatherFn = void (*)(const float* x, const int32_t* offsets, const float* weights, int64_t taps, void* y,
                          int64_t n);

}  // namespace octavo
#endif

HWY_BEFORE_NAMESPACE();
namespace octavo {
namespace HWY_NAMESPACE {
namespace {

using V = FloatVec;
constexpr FloatTag kTag;

template <typename X, typename Y>
void Blend(const void* x_data, const int64_t* offsets, const float* weights, int64_t taps, void* y_data, int64_t n) {
  const X* x = static_cast<const X*>(x_data);
  Y* y = static_cast<Y*>(y_data);
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(kTag));
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    V sum = hn::Mul(hn::Set(kTag, weights[0]), LoadFloats(kTag, x + offsets[0] + i));
    for (int64_t k = 1; k < taps; ++k) {
      sum = hn::MulAdd(hn::Set(kTag, weights[k]), LoadFloats(kTag, x + offsets[k] + i), sum);
    }
    StoreFloats(sum, kTag, y + i);
  }
  if (i == n) return;
  const size_t rest = static_cast<size_t>(n - i);
  V sum = hn::Mul(hn::Set(kTag, weights[0]), LoadFirst(kTag, x + offsets[0] + i, rest));
  for (int64_t k = 1; k < taps; ++k) {
    sum = hn::MulAdd(hn::Set(kTag, weights[k]), LoadFirst(kTag, x + offsets[k] + i, rest), sum);
  }
  StoreFirst(sum, kTag, y + i, rest);
}

template <typename Y, class D>
HWY_INLINE int64_t GatherFrom(D d, const float* x, const int32_t* offsets, const float* weights, int64_t taps, Y* y,
                              int64_t i, int64_t n) {
  const hn::RebindToSigned<D> di;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  for (; i + lanes <= n; i += lanes) {
    auto sum = hn::Mul(hn::LoadU(d, weights + i), hn::GatherIndex(d, x, hn::LoadU(di, offsets + i)));
    for (int64_t k = 1; k < taps; ++k) {
      const auto from = hn::GatherIndex(d, x, hn::LoadU(di, offsets + k * n + i));
      sum = hn::MulAdd(hn::LoadU(d, weights + k * n + i), from, sum);
    }
    StoreFloats(sum, d, y + i);
  }
  return i;
}

template <typename Y>
void GatherLine(const float* x, const int32_t* offsets, const float* weights, int64_t taps, void* y_data, int64_t n) {
  Y* y = static_cast<Y*>(y_data);
  const int64_t done = GatherFrom(kTag, x, offsets, weights, taps, y, 0, n);
  GatherFrom(hn::CappedTag<float, 1>(), x, offsets, weights, taps, y, done, n);
}

GatherFn GatherOfTarget(DType y) { return y == DType::kFloat32 ? GatherLine<float> : GatherLine<uint16_t>; }

BlendFn BlendOfTarget(DType x, DType y) {
  if (x == DType::kBFloat16) return Blend<uint16_t, float>;
  return y == DType::kFloat32 ? Blend<float, float> : Blend<float, uint16_t>;
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace octavo
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace octavo {
namespace {

HWY_EXPORT(BlendOfTarget);
HWY_EXPORT(GatherOfTarget);

// Pixels of fewer channels are gathered, several in a vector.
constexpr int64_t kNarrowChannels = 16;

struct ResizeRows {
  int64_t images = 0, channels = 0, input_width = 0, output_height = 0, output_width = 0;
  Dims x, y;                // strides
  ResizeTaps vertical;      // index in elements of x
  ResizeTaps horizontal;    // index in elements of a blended row, or of x where rows are not blended
  bool blends_rows = true;  // false: every output row depends on one row of float
  int64_t x_bytes = 0, y_bytes = 0;
  BlendFn blend_rows = nullptr, blend_pixels = nullptr;
  GatherFn gather = nullptr;  // instead of blend_pixels
  std::vector<int32_t> gather_index;
  std::vector<float> gather_weight;
  int threads = 1;

  int64_t row_size() const { return blends_rows ? input_width * channels : 0; }
  int64_t grain() const {
    const int64_t taps = horizontal.taps + (blends_rows ? vertical.taps : 0);
    return std::max<int64_t>(1, 32768 / std::max<int64_t>(1, output_width * channels * taps));
  }
  size_t scratch_bytes() const {
    return static_cast<size_t>(PartCount(threads, images * output_height, grain()) * row_size()) * sizeof(float);
  }

  // The input rows of output row `o` as one row of float, its pixels next to each other.
  void BlendRows(const char* image, int64_t o, float* row) const {
    const int64_t* offsets = vertical.index.data() + o * vertical.taps;
    const float* weights = vertical.weight.data() + o * vertical.taps;
    if (x[3] == channels) {
      blend_rows(image, offsets, weights, vertical.taps, row, input_width * channels);
      return;
    }
    for (int64_t w = 0; w < input_width; ++w) {
      blend_rows(image + w * x[3] * x_bytes, offsets, weights, vertical.taps, row + w * channels, channels);
    }
  }

  void RunRow(const KernelArgs& args, int64_t image, int64_t o, float* scratch) const {
    const char* from = static_cast<const char*>(args.inputs[0]) + image * x[0] * x_bytes;
    char* to = static_cast<char*>(args.outputs[0]) + (image * y[0] + o * y[2]) * y_bytes;
    const void* row = scratch;
    if (blends_rows) {
      BlendRows(from, o, scratch);
    } else {
      row = from + vertical.index[static_cast<size_t>(o)] * x_bytes;
    }
    if (gather != nullptr) {
      gather(static_cast<const float*>(row), gather_index.data(), gather_weight.data(), horizontal.taps, to,
             output_width * channels);
      return;
    }
    const int64_t* offsets = horizontal.index.data();
    const float* weights = horizontal.weight.data();
    for (int64_t w = 0; w < output_width; ++w) {
      blend_pixels(row, offsets + w * horizontal.taps, weights + w * horizontal.taps, horizontal.taps,
                   to + w * y[3] * y_bytes, channels);
    }
  }

  // Where the pixels of an output row, and the channels of each, are neighbours.
  void PlanGather(DType y_type) {
    const int64_t n = output_width * channels;
    const bool neighbours = y[3] == channels && (channels == 1 || y[1] == 1);
    const bool fits = input_width * std::max(channels, x[3]) < std::numeric_limits<int32_t>::max();
    if (channels >= kNarrowChannels || !neighbours || !fits) return;
    for (int64_t k = 0; k < horizontal.taps; ++k) {
      for (int64_t i = 0; i < n; ++i) {
        const auto tap = static_cast<size_t>(i / channels * horizontal.taps + k);
        gather_index.push_back(static_cast<int32_t>(horizontal.index[tap] + i % channels));
        gather_weight.push_back(horizontal.weight[tap]);
      }
    }
    gather = HWY_DYNAMIC_DISPATCH(GatherOfTarget)(y_type);
  }

  void Run(const KernelArgs& args) const {
    ParallelForParts(threads, images * output_height, grain(), [&](int64_t part, int64_t begin, int64_t end) {
      float* scratch = static_cast<float*>(args.scratch) + part * row_size();
      for (int64_t i = begin; i < end; ++i) RunRow(args, i / output_height, i % output_height, scratch);
    });
  }
};

bool IsFloat(DType dtype) { return dtype == DType::kFloat32 || dtype == DType::kBFloat16; }

bool IsChannelsLastImage(const Operand& operand) {
  return operand.dims.size() == 4 && (operand.strides[1] == 1 || operand.dims[1] == 1) && IsFloat(operand.dtype);
}

}  // namespace

Result<BoundKernel> BindFastResize(const BindContext& context) {
  const Operand& x = context.inputs[0];
  const Operand& y = context.outputs[0];
  if (!IsChannelsLastImage(x) || !IsChannelsLastImage(y)) return Unsupported("no channels-last image of floats");
  const std::vector<InferInput> inputs = InferInputsOf(context);
  OCTAVO_ASSIGN(const ResizePlan plan, ResolveResize(context.node, context.opset, inputs));
  if (plan.axes[0].resized || plan.axes[1].resized) return Unsupported("resizing batch or channels");
  if (ElementCount(y.dims) == 0) return Unsupported("nothing to resize");
  OCTAVO_ASSIGN(std::vector<ResizeTaps> taps, MakeResizeTaps(plan));
  ResizeRows rows;
  rows.images = y.dims[0];
  rows.channels = y.dims[1];
  rows.input_width = x.dims[3];
  rows.output_height = y.dims[2];
  rows.output_width = y.dims[3];
  rows.x = x.strides;
  rows.y = y.strides;
  rows.vertical = std::move(taps[2]);
  rows.horizontal = std::move(taps[3]);
  rows.blends_rows = rows.vertical.taps > 1 || x.dtype != DType::kFloat32;
  for (int64_t& index : rows.vertical.index) index *= x.strides[2];
  for (int64_t& index : rows.horizontal.index) index *= rows.blends_rows ? rows.channels : x.strides[3];
  rows.x_bytes = static_cast<int64_t>(SizeOf(x.dtype));
  rows.y_bytes = static_cast<int64_t>(SizeOf(y.dtype));
  rows.blend_rows = HWY_DYNAMIC_DISPATCH(BlendOfTarget)(x.dtype, DType::kFloat32);
  rows.blend_pixels = HWY_DYNAMIC_DISPATCH(BlendOfTarget)(DType::kFloat32, y.dtype);
  rows.threads = std::max(1, context.threads);
  rows.PlanGather(y.dtype);
  return KernelOf(std::move(rows));
}

}  // namespace octavo
#endif
