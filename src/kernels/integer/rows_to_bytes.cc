#include "kernels/integer/rows_to_bytes.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "base/parallel.h"
#include "graph/quantization.h"
#include "kernels/elementwise/elementwise.h"
#include "kernels/simd/targets.h"
#include "kernels/strided.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/integer/rows_to_bytes.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/integer/quantize-inl.h"
#include "kernels/simd/math-inl.h"
#include "kernels/simd/rough-inl.h"
#include "kernels/simd/vectors-inl.h"

HWY_BEFORE_NAMESPACE();
namespace octavo {
namespace HWY_NAMESPACE {
namespace {

constexpr FloatTag kTag;

using Activation = RowsActivation;

// kRows neighbouring rows from r on, the lanes of `d` from channel c on.
template <typename X, bool kNormalizes, Activation kActivation, bool kFactor, bool kByChannel, int kRows, class D>
HWY_INLINE void RunGroup(D d, const RowsToBytes& rows, const ByteTerms<D>& tensor_terms, int64_t r, int64_t c) {
  const X* x = static_cast<const X*>(rows.x) + r * rows.x_step + c;
  hn::Vec<D> v[kRows];
  for (int i = 0; i < kRows; ++i) {
    v[i] = LoadFloats(d, x + i * rows.x_step);
    if constexpr (kNormalizes) {
      v[i] = hn::MulAdd(hn::Sub(v[i], hn::LoadU(d, rows.mean + c)), hn::LoadU(d, rows.slope + c),
                        hn::LoadU(d, rows.offset + c));
    }
    if constexpr (kActivation == Activation::kSilu) {
      v[i] = hn::Div(v[i], hn::Add(hn::Set(d, 1.0f), FastExp(d, hn::Neg(v[i]))));
    } else if constexpr (kActivation == Activation::kRoughSilu) {
      v[i] = RoughSilu(d, v[i]);
    }
    if constexpr (kFactor) v[i] = hn::Mul(v[i], hn::LoadU(d, rows.factor + c));
  }
  hn::Vec<hn::RebindToUnsigned<D>> q[kRows];
  if constexpr (kByChannel) {
    QuantizeToBytes(d, v, ChannelByteTerms(d, *rows.channels_by, c, rows.lowest), q);
  } else {
    QuantizeToBytes(d, v, tensor_terms, q);
  }
  for (int i = 0; i < kRows; ++i) StoreBytes(d, q[i], rows.y + (r + i) * rows.y_step + c);
}

template <typename X, bool kNormalizes, Activation kActivation, bool kFactor, bool kByChannel>
void RunRows(const RowsToBytes& rows) {
  constexpr int kRows = 4;
  const hn::CappedTag<float, 1> one;
  const auto terms = MakeByteTerms(kTag, rows.scale, rows.zero_point, rows.lowest);
  const auto terms_of_one = MakeByteTerms(one, rows.scale, rows.zero_point, rows.lowest);
  const auto lanes = static_cast<int64_t>(hn::Lanes(kTag));
  const auto run = [&](auto count, int64_t r) HWY_ATTR {
    constexpr int kCount = decltype(count)::value;
    int64_t c = 0;
    for (; c + lanes <= rows.channels; c += lanes) {
      RunGroup<X, kNormalizes, kActivation, kFactor, kByChannel, kCount>(kTag, rows, terms, r, c);
    }
    for (; c < rows.channels; ++c) {
      RunGroup<X, kNormalizes, kActivation, kFactor, kByChannel, kCount>(one, rows, terms_of_one, r, c);
    }
  };
  int64_t r = 0;
  for (; r + kRows <= rows.rows; r += kRows) run(std::integral_constant<int, kRows>(), r);
  for (; r < rows.rows; ++r) run(std::integral_constant<int, 1>(), r);
}

template <typename X>
RowsToBytesFn RowsFunction(bool normalizes, Activation activation, bool factor, bool by_channel) {
  constexpr Activation kNone = Activation::kNone, kSilu = Activation::kSilu, kRough = Activation::kRoughSilu;
  if (!normalizes) {
    if (activation != kNone) return nullptr;
    if (by_channel) return factor ? RunRows<X, false, kNone, true, true> : RunRows<X, false, kNone, false, true>;
    return factor ? RunRows<X, false, kNone, true, false> : RunRows<X, false, kNone, false, false>;
  }
  if (by_channel) return nullptr;
  switch (activation) {
    case kNone:
      return factor ? RunRows<X, true, kNone, true, false> : RunRows<X, true, kNone, false, false>;
    case kSilu:
      return factor ? RunRows<X, true, kSilu, true, false> : RunRows<X, true, kSilu, false, false>;
    case kRough:
      return factor ? RunRows<X, true, kRough, true, false> : RunRows<X, true, kRough, false, false>;
  }
  return nullptr;
}

RowsToBytesFn RowsToBytesOfTarget(DType x, bool normalizes, Activation activation, bool factor, bool by_channel) {
  if (x == DType::kFloat32) return RowsFunction<float>(normalizes, activation, factor, by_channel);
  if (x == DType::kBFloat16) return RowsFunction<uint16_t>(normalizes, activation, factor, by_channel);
  return nullptr;
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace octavo
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace octavo {
namespace {

HWY_EXPORT(RowsToBytesOfTarget);

struct ChannelQuantizePlan {
  StridedLoop<2> positions;
  std::vector<float> factor;
  EpilogueOutput output;
  int64_t channels = 0, x_bytes = 4;
  RowsToBytesFn run = nullptr;
  int threads = 1;

  size_t scratch_bytes() const { return 0; }

  void Run(const KernelArgs& args) const {
    const auto steps = positions.inner_steps();
    const int64_t grain = std::max<int64_t>(1, 16384 / channels);
    ParallelFor(threads, positions.count(), grain, [&](int64_t begin, int64_t end) {
      positions.ForElements(begin, end, [&](const auto& at, int64_t n) {
        RowsToBytes rows;
        rows.x = static_cast<const char*>(args.inputs[0]) + at[0] * x_bytes;
        rows.y = static_cast<uint8_t*>(args.outputs[0]) + at[1];
        rows.x_step = steps[0];
        rows.y_step = steps[1];
        rows.rows = n;
        rows.channels = channels;
        rows.factor = factor.empty() ? nullptr : factor.data();
        rows.scale = output.scale;
        rows.zero_point = output.zero_point;
        rows.lowest = LowestByte(output.dtype);
        rows.channels_by = &output.channels;
        run(rows);
      });
    });
  }
};

}  // namespace

RowsToBytesFn ChooseRowsToBytes(DType x, bool normalizes, RowsActivation activation, bool has_factor, bool by_channel) {
  return HWY_DYNAMIC_DISPATCH(RowsToBytesOfTarget)(x, normalizes, activation, has_factor, by_channel);
}

bool MayBeRough(const QuantizedTail& tail) {
  float largest = tail.factor.empty() ? 1.0f : 0.0f;
  for (const float f : tail.factor) largest = std::max(largest, std::abs(f));
  return kRoughError * largest <= kRoughShare * tail.scale;
}

Result<BoundKernel> BindChannelQuantize(const Operand& x, const Operand& y, size_t axis, std::vector<float> factor,
                                        const EpilogueOutput& output, int threads) {
  if (x.dims != y.dims || axis >= x.dims.size() || x.dims.size() > kMaxRank || ElementCount(x.dims) == 0 ||
      SizeOf(y.dtype) != 1) {
    return Unsupported("types or shapes");
  }
  ChannelQuantizePlan plan;
  plan.channels = x.dims[axis];
  if (plan.channels > 1 && (x.strides[axis] != 1 || y.strides[axis] != 1)) {
    return Unsupported("channels are no neighbours");
  }
  const auto count = static_cast<size_t>(plan.channels);
  if ((!factor.empty() && factor.size() != count) ||
      (!output.channels.empty() && output.channels.scales.size() != count)) {
    return InvalidArgument("factors or scales are not one per channel");
  }
  plan.positions = LoopOverRows<2>(x.dims, {x.strides, y.strides}, axis);
  plan.run = ChooseRowsToBytes(x.dtype, false, RowsActivation::kNone, !factor.empty(), !output.channels.empty());
  if (plan.run == nullptr) return Unsupported("only float32 and bfloat16 are fast");
  plan.factor = std::move(factor);
  plan.output = output;
  plan.x_bytes = static_cast<int64_t>(SizeOf(x.dtype));
  plan.threads = threads;
  return KernelOf(std::move(plan));
}

}  // namespace octavo
#endif
