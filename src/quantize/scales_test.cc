#include "quantize/scales.h"

#include <gtest/gtest.h>

#include <limits>

namespace octavo {
namespace {

TEST(Scales, OfSignedRangesReach127) {
  EXPECT_EQ(SignedScale({-254.0f, 254.0f}).scale, 2.0f);
  EXPECT_EQ(SignedScale({-1.0f, 254.0f}).scale, 2.0f);
  EXPECT_EQ(SignedScale({-254.0f, 254.0f}).zero_point, 0);
}

TEST(Scales, OfUnsignedRangesRepresentZero) {
  const ScaleAndZero positive = UnsignedScale({0.0f, 510.0f});
  EXPECT_EQ(positive.scale, 2.0f);
  EXPECT_EQ(positive.zero_point, 0);
  const ScaleAndZero mixed = UnsignedScale({-100.0f, 410.0f});
  EXPECT_EQ(mixed.scale, 2.0f);
  EXPECT_EQ(mixed.zero_point, 50);
  EXPECT_EQ(UnsignedScale({-510.0f, 0.0f}).zero_point, 255);
}

TEST(Scales, StayNormalWhereRangesAreZeroTinyOrHuge) {
  EXPECT_EQ(SignedScale({0.0f, 0.0f}).scale, kZeroRangeScale);
  EXPECT_EQ(UnsignedScale({0.0f, 0.0f}).scale, kZeroRangeScale);
  EXPECT_EQ(UnsignedScale({0.0f, 0.0f}).zero_point, 0);
  const float subnormal = std::numeric_limits<float>::denorm_min();
  EXPECT_EQ(SignedScale({-subnormal, subnormal}).scale, kSmallestScale);
  EXPECT_EQ(UnsignedScale({-subnormal, subnormal}).scale, kSmallestScale);
  // high - low overflows in float32: 2 * max / 255.
  const float largest = std::numeric_limits<float>::max();
  EXPECT_FLOAT_EQ(UnsignedScale({-largest, largest}).scale, largest / 127.5f);
}

TEST(Scales, OfWeightsFollowTheAxis) {
  const Tensor weights = Tensor::FromVector<float>({2, 3}, {1.27f, -12.7f, 0.0f, 127.0f, 3.0f, 0.0f});
  EXPECT_EQ(*WeightScales(weights, 0, 127), (std::vector<float>{12.7f / 127, 1.0f}));
  const std::vector<float> columns = *WeightScales(weights, 1, 127);
  ASSERT_EQ(columns.size(), 3u);
  EXPECT_EQ(columns[0], 1.0f);
  EXPECT_FLOAT_EQ(columns[1], 0.1f);
  EXPECT_EQ(columns[2], kZeroRangeScale);  // a channel that is all zero
  EXPECT_EQ(*WeightScales(weights, -1, 127), (std::vector<float>{1.0f}));
}

TEST(Scales, OfTheMiddleAxisWrapAround) {
  const Tensor weights = Tensor::FromVector<float>({2, 2, 1}, {127.0f, 254.0f, -381.0f, 1.0f});
  EXPECT_EQ(*WeightScales(weights, 1, 127), (std::vector<float>{3.0f, 2.0f}));
}

TEST(QuantizeWeights, RoundsHalfToEvenAndSaturates) {
  const Tensor weights = Tensor::FromVector<float>({6}, {0.5f, 1.5f, -2.5f, 127.0f, 1000.0f, -1000.0f});
  const Tensor quantized = *QuantizeWeights(weights, -1, {1.0f});
  const std::vector<int8_t> expected{0, 2, -2, 127, 127, -127};
  for (size_t i = 0; i < expected.size(); ++i) EXPECT_EQ(quantized.values<int8_t>()[i], expected[i]) << i;
}

TEST(QuantizeWeights, AddsOffsetsToWhatFits) {
  const Tensor weights = Tensor::FromVector<float>({4}, {0.5f, 1.4f, 130.0f, -127.0f});
  const Tensor quantized = *QuantizeWeights(weights, -1, {1.0f}, {1, -2, -1, -1});
  const std::span<const int8_t> values = quantized.values<int8_t>();
  EXPECT_EQ(std::vector<int8_t>(values.begin(), values.end()), (std::vector<int8_t>{1, -1, 126, -127}));
  EXPECT_FALSE(QuantizeWeights(weights, -1, {1.0f}, {1, 2, 1}).ok());
}

TEST(QuantizeWeights, RefusesWhatIsNotFinite) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const Tensor weights = Tensor::FromVector<float>({2}, {1.0f, nan});
  EXPECT_FALSE(WeightScales(weights, -1, 127).ok());
  EXPECT_FALSE(QuantizeWeights(weights, -1, {1.0f}).ok());
  EXPECT_FALSE(
      QuantizeWeights(Tensor::FromVector<float>({2}, {1.0f, 2.0f}), 0, {1.0f}).ok());  // one scale, two channels
}

}  // namespace
}  // namespace octavo
