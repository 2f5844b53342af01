#include "quantize/scales.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "graph/rounding.h"

namespace octavo {
namespace {

constexpr int kInt8Limit = 127;
constexpr int kUInt8Limit = 255;

float Bounded(double scale) {
  if (scale == 0) return kZeroRangeScale;
  return std::max(static_cast<float>(scale), kSmallestScale);
}

// Elements outside and inside of the axis: element i belongs to channel i / inner % channels.
struct Channels {
  int64_t count = 1, inner = 1;
  size_t Of(int64_t element) const { return static_cast<size_t>(element / inner % count); }
};

Channels ChannelsOf(const Dims& dims, int axis) {
  if (axis < 0) return {1, std::max<int64_t>(1, ElementCount(dims))};
  const auto at = static_cast<size_t>(axis);
  return {dims[at], ElementCount({dims.begin() + axis + 1, dims.end()})};
}

}  // namespace

ScaleAndZero SignedScale(const Range& range) {
  return {Bounded(std::max(std::abs(double{range.low}), std::abs(double{range.high})) / kInt8Limit), 0};
}

ScaleAndZero UnsignedScale(const Range& range) {
  const float scale = Bounded((double{range.high} - double{range.low}) / kUInt8Limit);
  const double zero_point = std::nearbyint(-double{range.low} / double{scale});
  return {scale, static_cast<int>(std::clamp(zero_point, 0.0, double{kUInt8Limit}))};
}

Result<std::vector<float>> WeightScales(const Tensor& weights, int axis, int limit) {
  const Channels channels = ChannelsOf(weights.dims(), axis);
  std::vector<float> largest(static_cast<size_t>(channels.count), 0.0f);
  const std::span<const float> values = weights.values<float>();
  for (int64_t i = 0; i < weights.size(); ++i) {
    const float magnitude = std::abs(values[static_cast<size_t>(i)]);
    if (!std::isfinite(magnitude)) return InvalidArgument("its weights hold NaN or infinity");
    float& channel = largest[channels.Of(i)];
    channel = std::max(channel, magnitude);
  }
  for (float& scale : largest) scale = Bounded(double{scale} / limit);
  return largest;
}

Result<Tensor> QuantizeWeights(const Tensor& weights, int axis, const std::vector<float>& scales,
                               const std::vector<int8_t>& offsets) {
  const Channels channels = ChannelsOf(weights.dims(), axis);
  if (static_cast<int64_t>(scales.size()) != channels.count) {
    return InvalidArgument(fmt::format("{} scales for {} channels", scales.size(), channels.count));
  }
  if (!offsets.empty() && static_cast<int64_t>(offsets.size()) != weights.size()) {
    return InvalidArgument(fmt::format("{} offsets for {} weights", offsets.size(), weights.size()));
  }
  OCTAVO_ASSIGN(Tensor quantized, Tensor::Create(DType::kInt8, weights.dims()));
  const std::span<const float> values = weights.values<float>();
  const std::span<int8_t> out = quantized.mutable_values<int8_t>();
  for (int64_t i = 0; i < weights.size(); ++i) {
    const float value = values[static_cast<size_t>(i)];
    if (!std::isfinite(value)) return InvalidArgument("its weights hold NaN or infinity");
    const float nearest = std::nearbyint(value / scales[channels.Of(i)]);
    float step = std::clamp<float>(nearest, -kInt8Limit, kInt8Limit);
    if (!offsets.empty()) step += static_cast<float>(offsets[static_cast<size_t>(i)]);
    out[static_cast<size_t>(i)] = static_cast<int8_t>(std::clamp<float>(step, -kInt8Limit, kInt8Limit));
  }
  return quantized;
}

Result<Tensor> RoundWeights(const Tensor& weights, int axis, const std::vector<float>& scales) {
  OCTAVO_ASSIGN(const Tensor quantized, QuantizeWeights(weights, axis, scales));
  OCTAVO_ASSIGN(Tensor rounded, Tensor::Create(DType::kFloat32, weights.dims()));
  const Channels channels = ChannelsOf(weights.dims(), axis);
  const std::span<float> out = rounded.mutable_values<float>();
  for (int64_t i = 0; i < weights.size(); ++i) {
    const auto at = static_cast<size_t>(i);
    out[at] = static_cast<float>(quantized.values<int8_t>()[at]) * scales[channels.Of(i)];
  }
  return rounded;
}

Result<Tensor> NarrowWeights(const Tensor& weights, DType dtype) {
  OCTAVO_ASSIGN(Tensor narrow, Tensor::Create(dtype, weights.dims()));
  const std::span<const float> values = weights.values<float>();
  auto* out = static_cast<uint16_t*>(narrow.mutable_data());
  for (size_t i = 0; i < values.size(); ++i) {
    if (!std::isfinite(values[i])) return InvalidArgument("its weights hold NaN or infinity");
    if (!std::isfinite(RoundTo(dtype, values[i]))) {
      return InvalidArgument(
          fmt::format("its weights reach {}, beyond the largest {}: make it bf16 or fp32", values[i], NameOf(dtype)));
    }
    out[i] = dtype == DType::kBFloat16 ? FloatToBFloat16(values[i]) : FloatToFloat16(values[i]);
  }
  return narrow;
}

}  // namespace octavo
