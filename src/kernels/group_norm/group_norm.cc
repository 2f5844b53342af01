#include "kernels/group_norm/group_norm.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <string>
#include <utility>

#include "graph/quantization.h"
#include "kernels/channel_vector.h"
#include "kernels/integer/rows_to_bytes.h"
#include "kernels/parts.h"
#include "kernels/simd/targets.h"
#include "kernels/strided.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/group_norm/group_norm.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/simd/math-inl.h"
#include "kernels/simd/vectors-inl.h"

#ifndef OCTAVO_KERNELS_GROUP_NORM_ONCE_
#define OCTAVO_KERNELS_GROUP_NORM_ONCE_
namespace octavo {

// What each channel is normalized with: y = (x - mean) * factor + offset.
struct ChannelNorms {
  const float* mean;
  const float* factor;
  const float* offset;
};

// sums[c] and squares[c] of x - shift[c] over `rows` rows that are `step` elements apart.
using ChannelSumsFn = void (*)(const void* x, int64_t step, int64_t rows, int64_t channels, const float* shift,
                               float* sums, float* squares);
using NormalizeChannelsFn = void (*)(const void* x, int64_t x_step, void* y, int64_t y_step, int64_t rows,
                                     int64_t channels, const ChannelNorms& norms, bool silu);
struct GroupNormFns {
  ChannelSumsFn sum;
  NormalizeChannelsFn normalize;
};

}  // namespace octavo
#endif

HWY_BEFORE_NAMESPACE();
namespace octavo {
namespace HWY_NAMESPACE {
namespace {

using V = FloatVec;
constexpr FloatTag kTag;

template <int kVectors, typename X>
HWY_INLINE void SumVectors(const X* x, int64_t step, int64_t rows, const float* shift, float* sums, float* squares) {
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(kTag));
  V offset[kVectors], sum[kVectors], square[kVectors];
  for (int n = 0; n < kVectors; ++n) {
    offset[n] = hn::LoadU(kTag, shift + n * lanes);
    sum[n] = square[n] = hn::Zero(kTag);
  }
  for (int64_t r = 0; r < rows; ++r) {
    for (int n = 0; n < kVectors; ++n) {
      const V distance = hn::Sub(LoadFloats(kTag, x + r * step + n * lanes), offset[n]);
      sum[n] = hn::Add(sum[n], distance);
      square[n] = hn::MulAdd(distance, distance, square[n]);
    }
  }
  for (int n = 0; n < kVectors; ++n) {
    hn::StoreU(sum[n], kTag, sums + n * lanes);
    hn::StoreU(square[n], kTag, squares + n * lanes);
  }
}

template <typename X>
void SumChannels(const void* data, int64_t step, int64_t rows, int64_t channels, const float* shift, float* sums,
                 float* squares) {
  const X* x = static_cast<const X*>(data);
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(kTag));
  int64_t c = 0;
  for (; c + 4 * lanes <= channels; c += 4 * lanes) {
    SumVectors<4>(x + c, step, rows, shift + c, sums + c, squares + c);
  }
  for (; c + lanes <= channels; c += lanes) SumVectors<1>(x + c, step, rows, shift + c, sums + c, squares + c);
  for (; c < channels; ++c) {
    float sum = 0, square = 0;
    for (int64_t r = 0; r < rows; ++r) {
      const float distance = LoadFloat(x + r * step + c) - shift[c];
      sum += distance;
      square += distance * distance;
    }
    sums[c] = sum;
    squares[c] = square;
  }
}

template <bool kSilu>
HWY_INLINE V NormalizeVector(V x, V mean, V factor, V bias) {
  const V y = hn::MulAdd(hn::Sub(x, mean), factor, bias);
  return kSilu ? hn::Div(y, hn::Add(hn::Set(kTag, 1.0f), FastExp(kTag, hn::Neg(y)))) : y;
}

template <bool kSilu, typename X, typename Y>
void NormalizeRows(const X* x, int64_t x_step, Y* y, int64_t y_step, int64_t rows, int64_t channels,
                   const ChannelNorms& norms) {
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(kTag));
  for (int64_t r = 0; r < rows; ++r, x += x_step, y += y_step) {
    int64_t c = 0;
    for (; c + lanes <= channels; c += lanes) {
      const V result = NormalizeVector<kSilu>(LoadFloats(kTag, x + c), hn::LoadU(kTag, norms.mean + c),
                                              hn::LoadU(kTag, norms.factor + c), hn::LoadU(kTag, norms.offset + c));
      StoreFloats(result, kTag, y + c);
    }
    if (c == channels) continue;
    const size_t rest = static_cast<size_t>(channels - c);
    const V result =
        NormalizeVector<kSilu>(LoadFirst(kTag, x + c, rest), LoadFirst(kTag, norms.mean + c, rest),
                               LoadFirst(kTag, norms.factor + c, rest), LoadFirst(kTag, norms.offset + c, rest));
    StoreFirst(result, kTag, y + c, rest);
  }
}

template <typename X, typename Y>
void NormalizeChannels(const void* x_data, int64_t x_step, void* y_data, int64_t y_step, int64_t rows, int64_t channels,
                       const ChannelNorms& norms, bool silu) {
  const X* x = static_cast<const X*>(x_data);
  Y* y = static_cast<Y*>(y_data);
  if (silu) {
    NormalizeRows<true>(x, x_step, y, y_step, rows, channels, norms);
  } else {
    NormalizeRows<false>(x, x_step, y, y_step, rows, channels, norms);
  }
}

GroupNormFns GroupNormOfTarget(DType x, DType y) {
  const bool wide = y == DType::kFloat32;
  if (x == DType::kFloat32) {
    return {SumChannels<float>, wide ? NormalizeChannels<float, float> : NormalizeChannels<float, uint16_t>};
  }
  return {SumChannels<uint16_t>, wide ? NormalizeChannels<uint16_t, float> : NormalizeChannels<uint16_t, uint16_t>};
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace octavo
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace octavo {
namespace {

HWY_EXPORT(GroupNormOfTarget);

// Rows that are summed in float before they are added to sums in double.
constexpr int64_t kSumRows = 32;
// Rows that the sample of a channel's mean is taken from.
constexpr int64_t kSampleRows = 8;

struct GroupNormPlan {
  int64_t images = 0, channels = 0, groups = 1;
  int64_t rows = 0;                                        // positions of an image
  int64_t x_image = 0, y_image = 0, x_row = 0, y_row = 0;  // strides
  DType x_type = DType::kUndefined, y_type = DType::kUndefined;
  double epsilon = 0;
  bool silu = false;
  ChannelVectors scale, bias;
  GroupNormFns fns{};
  QuantizedTail tail;
  RowsToBytesFn to_bytes = nullptr;  // instead of fns.normalize
  int threads = 1;

  // Parts of an image whose sums are taken apart.
  int64_t parts() const {
    if (images >= threads) return 1;
    return std::max<int64_t>(1, std::min<int64_t>(threads, rows * channels / 16384));
  }

  // Scratch: sums in double [images * parts][2][channels]; floats: mean, factor, offset and shift [images][channels]
  // each, one pair of block sums per task, and the runtime scale and bias.
  int64_t tasks() const { return images * parts(); }
  int64_t double_count() const { return tasks() * 2 * channels; }
  int64_t float_count() const {
    return 4 * images * channels + tasks() * 2 * channels + scale.scratch_size() + bias.scratch_size();
  }
  size_t scratch_bytes() const {
    return static_cast<size_t>(double_count()) * sizeof(double) + static_cast<size_t>(float_count()) * sizeof(float);
  }

  const void* X(const void* data, int64_t offset) const {
    return static_cast<const char*>(data) + offset * static_cast<int64_t>(SizeOf(x_type));
  }
  void* Y(void* data, int64_t offset) const {
    return static_cast<char*>(data) + offset * static_cast<int64_t>(SizeOf(y_type));
  }

  // A sample of each channel's mean: distances from it do not cancel when they are squared and summed.
  void SampleMeans(const void* x, float* shift) const {
    const int64_t count = std::min(rows, kSampleRows);
    for (int64_t image = 0; image < images; ++image) {
      for (int64_t c = 0; c < channels; ++c) {
        float sum = 0;
        for (int64_t s = 0; s < count; ++s) {
          const void* at = X(x, image * x_image + rows * s / count * x_row + c);
          sum += x_type == DType::kFloat32 ? *static_cast<const float*>(at)
                                           : BFloat16ToFloat(*static_cast<const uint16_t*>(at));
        }
        const float mean = sum / static_cast<float>(count);
        shift[image * channels + c] = std::isfinite(mean) ? mean : 0.0f;
      }
    }
  }

  void SumTask(const void* x, int64_t task, const float* shift, double* sums, float* block) const {
    const int64_t image = task / parts(), part = task % parts();
    const int64_t end = rows * (part + 1) / parts();
    std::fill_n(sums, 2 * channels, 0.0);
    for (int64_t row = rows * part / parts(); row < end; row += kSumRows) {
      fns.sum(X(x, image * x_image + row * x_row), x_row, std::min(kSumRows, end - row), channels,
              shift + image * channels, block, block + channels);
      for (int64_t i = 0; i < 2 * channels; ++i) sums[i] += static_cast<double>(block[i]);
    }
  }

  // Mean and sum of squared distances from it of one channel, from its shifted sums.
  struct Moments {
    double mean, squares;
  };
  Moments ChannelMoments(const double* sums, double shift, int64_t image, int64_t c) const {
    double sum = 0, square = 0;
    for (int64_t part = 0; part < parts(); ++part) {
      const double* of_part = sums + (image * parts() + part) * 2 * channels;
      sum += of_part[c];
      square += of_part[channels + c];
    }
    const double count = static_cast<double>(rows);
    return {shift + sum / count, square - sum * sum / count};
  }

  // The offset is the bias and what the mean loses when it is rounded.
  void FinishGroup(const double* sums, const float* shift, int64_t image, int64_t group, const float* scales,
                   const float* biases, float* mean, float* factor, float* offset) const {
    const int64_t size = channels / groups, first = group * size;
    const auto moments = [&](int64_t c) {
      return ChannelMoments(sums, static_cast<double>(shift[image * channels + c]), image, c);
    };
    double total = 0, squares = 0;
    for (int64_t c = first; c < first + size; ++c) total += moments(c).mean;
    const double center = total / static_cast<double>(size);
    for (int64_t c = first; c < first + size; ++c) {
      const Moments m = moments(c);
      squares += m.squares + static_cast<double>(rows) * (m.mean - center) * (m.mean - center);
    }
    const double inverse = 1 / std::sqrt(squares / static_cast<double>(rows * size) + epsilon);
    for (int64_t c = image * channels + first; c < image * channels + first + size; ++c) {
      mean[c] = static_cast<float>(center);
      const double slope = inverse * static_cast<double>(scales[c]);
      factor[c] = static_cast<float>(slope);
      offset[c] = static_cast<float>(static_cast<double>(biases[c]) + (static_cast<double>(mean[c]) - center) * slope);
    }
  }

  void NormalizeRange(const KernelArgs& args, int64_t begin, int64_t end, const ChannelNorms& norms) const {
    while (begin < end) {
      const int64_t image = begin / rows, row = begin % rows;
      const int64_t count = std::min(end - begin, rows - row);
      const int64_t at = image * channels;
      const void* from = X(args.inputs[0], image * x_image + row * x_row);
      void* to = Y(args.outputs[0], image * y_image + row * y_row);
      const ChannelNorms of_image{norms.mean + at, norms.factor + at, norms.offset + at};
      if (to_bytes != nullptr) {
        NormalizeToBytes(from, static_cast<uint8_t*>(to), count, of_image);
      } else {
        fns.normalize(from, x_row, to, y_row, count, channels, of_image, silu);
      }
      begin += count;
    }
  }

  void NormalizeToBytes(const void* from, uint8_t* to, int64_t count, const ChannelNorms& norms) const {
    RowsToBytes bytes;
    bytes.x = from;
    bytes.y = to;
    bytes.x_step = x_row;
    bytes.y_step = y_row;
    bytes.rows = count;
    bytes.channels = channels;
    bytes.mean = norms.mean;
    bytes.slope = norms.factor;
    bytes.offset = norms.offset;
    bytes.factor = tail.factor.empty() ? nullptr : tail.factor.data();
    bytes.scale = tail.scale;
    bytes.zero_point = tail.zero_point;
    bytes.lowest = LowestByte(y_type);
    to_bytes(bytes);
  }

  void Run(const KernelArgs& args) const {
    double* sums = static_cast<double*>(args.scratch);
    float* mean = reinterpret_cast<float*>(sums + double_count());
    float* factor = mean + images * channels;
    float* offset = factor + images * channels;
    float* shift = offset + images * channels;
    float* blocks = shift + images * channels;
    float* vectors = blocks + tasks() * 2 * channels;
    const float* scales = scale.Get(scale.scratch_size() > 0 ? args.inputs[1] : nullptr, vectors);
    const float* biases = bias.Get(bias.scratch_size() > 0 ? args.inputs[2] : nullptr, vectors + scale.scratch_size());
    SampleMeans(args.inputs[0], shift);
    ParallelFor(threads, tasks(), 1, [&](int64_t begin, int64_t end) {
      for (int64_t task = begin; task < end; ++task) {
        SumTask(args.inputs[0], task, shift, sums + task * 2 * channels, blocks + task * 2 * channels);
      }
    });
    for (int64_t i = 0; i < images * groups; ++i) {
      FinishGroup(sums, shift, i / groups, i % groups, scales, biases, mean, factor, offset);
    }
    const int64_t grain = std::max<int64_t>(1, 16384 / channels);
    ParallelFor(threads, images * rows, grain, [&](int64_t begin, int64_t end) {
      NormalizeRange(args, begin, end, {mean, factor, offset});
    });
  }
};

bool IsFloat(DType dtype) { return dtype == DType::kFloat32 || dtype == DType::kBFloat16; }

// The positions as one loop over x and y.
Status ReadPositions(const Operand& x, const Operand& y, GroupNormPlan& plan) {
  if (plan.channels > 1 && (x.strides[1] != 1 || y.strides[1] != 1)) return Unsupported("channels are no neighbours");
  Dims dims(x.dims.begin() + 2, x.dims.end());
  std::array<Dims, 2> strides = {Dims(x.strides.begin() + 2, x.strides.end()),
                                 Dims(y.strides.begin() + 2, y.strides.end())};
  OrderByStride(1, dims, strides);
  const StridedLoop<2> loop(dims, strides);
  if (loop.outer_count() != 1) return Unsupported("positions are more than one loop");
  plan.rows = loop.inner_size();
  plan.x_row = loop.inner_steps()[0];
  plan.y_row = loop.inner_steps()[1];
  plan.x_image = x.strides[0];
  plan.y_image = y.strides[0];
  return {};
}

}  // namespace

Result<BoundKernel> BindFastGroupNorm(const BindContext& context) {
  const Operand& x = context.inputs[0];
  const Operand& y = context.outputs[0];
  const bool to_bytes = context.tail != nullptr && SizeOf(y.dtype) == 1;
  if (!IsFloat(x.dtype) || !(IsFloat(y.dtype) || to_bytes)) return Unsupported("only float32 and bfloat16 are fast");
  if (x.dims.size() < 2 || x.dims.size() > kMaxRank || x.dims != y.dims || ElementCount(x.dims) == 0) {
    return Unsupported("the shape is not that of an image");
  }
  const Node& node = context.node;
  GroupNormPlan plan;
  plan.images = x.dims[0];
  plan.channels = x.dims[1];
  plan.groups = node.Int("num_groups", 1);
  if (plan.groups < 1 || plan.channels % plan.groups != 0) {
    return InvalidArgument("the channels cannot be split into " + std::to_string(plan.groups) + " groups");
  }
  const std::string activation = node.String("activation", "none");
  if (activation != "none" && activation != "silu") return InvalidArgument("activation is '" + activation + "'");
  plan.silu = activation == "silu";
  OCTAVO_RETURN_IF_ERROR(ReadPositions(x, y, plan));
  const auto operand = [&](size_t i) { return i < context.inputs.size() ? &context.inputs[i] : nullptr; };
  OCTAVO_ASSIGN(plan.scale, ChannelVectors::Create(operand(1), plan.images, plan.channels, 1.0f));
  OCTAVO_ASSIGN(plan.bias, ChannelVectors::Create(operand(2), plan.images, plan.channels, 0.0f));
  plan.x_type = x.dtype;
  plan.y_type = y.dtype;
  plan.epsilon = static_cast<double>(node.Float("epsilon", 1e-5f));
  plan.threads = std::max(1, context.threads);
  plan.fns = HWY_DYNAMIC_DISPATCH(GroupNormOfTarget)(x.dtype, y.dtype);
  if (to_bytes) {
    plan.tail = *context.tail;
    if (!plan.tail.factor.empty() && plan.tail.factor.size() != static_cast<size_t>(plan.channels)) {
      return Unsupported("the factors behind it are not one per channel");
    }
    const RowsActivation silu = MayBeRough(plan.tail) ? RowsActivation::kRoughSilu : RowsActivation::kSilu;
    plan.to_bytes =
        ChooseRowsToBytes(x.dtype, true, plan.silu ? silu : RowsActivation::kNone, !plan.tail.factor.empty(), false);
  }
  return KernelOf(std::move(plan));
}

}  // namespace octavo
#endif
