#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "kernels/generic/elements.h"
#include "kernels/generic/node_testing.h"

namespace octavo {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

template <typename T>
Tensor Values(const std::vector<T>& values) {
  return Tensor::FromVector<T>({static_cast<int64_t>(values.size())}, values);
}

template <typename Q>
std::vector<Q> Quantize(const std::vector<float>& x, float scale, Q zero) {
  return ValuesOf<Q>(MakeNode("QuantizeLinear"), {Values(x), Tensor::Scalar(scale), Tensor::Scalar<Q>(zero)}, 21);
}

template <typename Q>
std::vector<float> Dequantize(const std::vector<Q>& x, float scale, Q zero) {
  return ValuesOf<float>(MakeNode("DequantizeLinear"), {Values(x), Tensor::Scalar(scale), Tensor::Scalar<Q>(zero)}, 21);
}

TEST(Quantize, RoundsHalvesToEven) {
  const std::vector<float> x = {-2.5f, -1.5f, -0.5f, -0.0f, 0.5f, 1.5f, 2.5f, 3.5f, 0.49999997f, 2.5000002f};
  EXPECT_THAT(Quantize<int8_t>(x, 1, 0), ElementsAre(-2, -2, 0, 0, 0, 2, 2, 4, 0, 3));
  // An odd zero point moves the result, not the tie.
  EXPECT_THAT(Quantize<int8_t>(x, 1, 3), ElementsAre(1, 1, 3, 3, 3, 5, 5, 7, 3, 6));
  EXPECT_THAT(Quantize<uint8_t>(x, 1, 129), ElementsAre(127, 127, 129, 129, 129, 131, 131, 133, 129, 132));
  EXPECT_THAT(Quantize<int16_t>({0.375f, -0.375f, 0.625f}, 0.25f, 0), ElementsAre(2, -2, 2));
}

TEST(Quantize, Saturates) {
  const std::vector<float> x = {-1e30f, -400, 400, 1e30f, -kInfinity, kInfinity};
  EXPECT_THAT(Quantize<int8_t>(x, 1, 10), ElementsAre(-128, -128, 127, 127, -128, 127));
  EXPECT_THAT(Quantize<uint8_t>(x, 1, 10), ElementsAre(0, 0, 255, 255, 0, 255));
  EXPECT_THAT(Quantize<int16_t>(x, 0.001f, 0), ElementsAre(-32768, -32768, 32767, 32767, -32768, 32767));
  EXPECT_THAT(Quantize<uint16_t>(x, 0.001f, 500), ElementsAre(0, 0, 65535, 65535, 0, 65535));
  // The last values inside: with the zero point at one end, the whole range lies on one side.
  EXPECT_THAT(Quantize<uint8_t>({-0.5f, 0.5f, 254.5f, 255.4f, 255.5f}, 1, 0), ElementsAre(0, 0, 254, 255, 255));
  EXPECT_THAT(Quantize<uint8_t>({0.6f, -0.6f, -254.5f, -255.6f}, 1, 255), ElementsAre(255, 254, 1, 0));
  EXPECT_THAT(Quantize<int8_t>({255.4f, -0.4f, -3}, 1, -128), ElementsAre(127, -128, -128));
}

TEST(Quantize, NanIsTheLowestValue) {
  EXPECT_THAT(Quantize<int8_t>({kNan, -kNan}, 0.5f, 7), ElementsAre(-128, -128));
  EXPECT_THAT(Quantize<uint8_t>({kNan}, 0.5f, 7), ElementsAre(0));
  EXPECT_THAT(Quantize<int16_t>({kNan}, 0.5f, 7), ElementsAre(-32768));
  EXPECT_THAT(Quantize<uint16_t>({kNan}, 0.5f, 7), ElementsAre(0));
}

TEST(Quantize, DividesAndDoesNotMultiplyByTheInverse) {
  // 0.1f * 10.5 rounds to 1.05f, and 1.05f / 0.1f to 10.5 or its neighbour: whatever float32 division gives.
  for (int i = 0; i < 200; ++i) {
    const float scale = 0.1f, x = (static_cast<float>(i) + 0.5f) * scale;
    const float expected = std::nearbyint(x / scale);
    EXPECT_EQ(Quantize<uint8_t>({x}, scale, 0)[0], expected) << i;
  }
}

TEST(Quantize, ExtremeScales) {
  const float smallest = std::ldexp(1.0f, -126), largest = std::ldexp(1.0f, 126);
  EXPECT_THAT(Quantize<int8_t>({2 * smallest, -3 * smallest, 1, -1}, smallest, 0), ElementsAre(2, -3, 127, -128));
  EXPECT_THAT(Quantize<int8_t>({largest, -1.5f * largest, 1, 3e38f}, largest, 0), ElementsAre(1, -2, 0, 4));
  EXPECT_THAT(Dequantize<int8_t>({2, -127}, smallest, 0), ElementsAre(2 * smallest, -127 * smallest));
  EXPECT_THAT(Dequantize<int8_t>({1, 127}, largest, 0), ElementsAre(largest, kInfinity));
}

TEST(Quantize, ReadsIntegersAndNarrowFloats) {
  const Tensor scale = Tensor::Scalar(2.0f), zero = Tensor::Scalar<uint8_t>(100);
  EXPECT_THAT(ValuesOf<uint8_t>(MakeNode("QuantizeLinear"), {Values<int32_t>({-1000, -3, 5, 1000}), scale, zero}),
              ElementsAre(0, 98, 102, 255));
  Tensor half = *Tensor::Create(DType::kFloat16, {3}), brain = *Tensor::Create(DType::kBFloat16, {3});
  for (size_t i = 0; i < 3; ++i) {
    static_cast<uint16_t*>(half.mutable_data())[i] = FloatToFloat16(static_cast<float>(i) * 6);
    static_cast<uint16_t*>(brain.mutable_data())[i] = FloatToBFloat16(static_cast<float>(i) * -6);
  }
  EXPECT_THAT(ValuesOf<uint8_t>(MakeNode("QuantizeLinear"), {half, scale, zero}), ElementsAre(100, 103, 106));
  EXPECT_THAT(ValuesOf<uint8_t>(MakeNode("QuantizeLinear"), {brain, scale, zero}), ElementsAre(100, 97, 94));
}

TEST(Dequantize, SubtractsExactly) {
  EXPECT_THAT(Dequantize<uint8_t>({0, 128, 255}, 0.5f, 128), ElementsAre(-64, 0, 63.5f));
  EXPECT_THAT(Dequantize<int8_t>({-128, 0, 127}, 0.25f, 127), ElementsAre(-63.75f, -31.75f, 0));
  EXPECT_THAT(Dequantize<uint16_t>({0, 65535}, 1, 65535), ElementsAre(-65535, 0));
  EXPECT_THAT(Dequantize<int16_t>({-32768, 32767}, 1, 32767), ElementsAre(-65535, 0));
  // Rounded once: 2^24 + 1 has no float, and neither has 2^31 - 1.
  EXPECT_THAT(
      Dequantize<int32_t>({16777217, std::numeric_limits<int32_t>::max(), std::numeric_limits<int32_t>::min()}, 1, 0),
      ElementsAre(16777216.0f, 2147483648.0f, -2147483648.0f));
}

// x is 2x3x2; the values of a slice are the same.
TEST(Quantize, ScalesPerSliceOfAnyAxis) {
  const std::vector<float> x = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
  const Tensor tensor = Floats({2, 3, 2}, x);
  struct Case {
    int64_t axis;
    std::vector<float> scales;
  };
  const std::vector<Case> cases = {{0, {1, 2}}, {1, {1, 2, 4}}, {2, {2, 1}}};
  for (const auto& [axis, scales] : cases) {
    for (const int64_t written : {axis, axis - 3}) {
      SCOPED_TRACE(written);
      std::vector<int8_t> zeros;
      for (size_t i = 0; i < scales.size(); ++i) zeros.push_back(static_cast<int8_t>(i * 10));
      const Attributes attributes{{"axis", written}};
      const auto q =
          ValuesOf<int8_t>(MakeNode("QuantizeLinear", attributes), {tensor, Values(scales), Values(zeros)}, 13);
      ASSERT_EQ(q.size(), x.size());
      const Tensor integers = Tensor::FromVector<int8_t>({2, 3, 2}, q);
      const auto real =
          ValuesOf<float>(MakeNode("DequantizeLinear", attributes), {integers, Values(scales), Values(zeros)}, 13);
      ASSERT_EQ(real.size(), x.size());
      for (size_t i = 0; i < x.size(); ++i) {
        const size_t at[] = {i / 6, i / 2 % 3, i % 2}, slice = at[axis];
        EXPECT_EQ(q[i], std::nearbyint(x[i] / scales[slice]) + static_cast<float>(slice * 10)) << i;
        EXPECT_EQ(real[i], static_cast<float>(q[i] - zeros[slice]) * scales[slice]) << i;
      }
    }
  }
}

TEST(Quantize, TheDefaultAxisIsOne) {
  EXPECT_THAT(
      ValuesOf<uint8_t>(MakeNode("QuantizeLinear"), {Floats({2, 3}, {8, 8, 8, 8, 8, 8}), Values<float>({1, 2, 4})}, 13),
      ElementsAre(8, 4, 2, 8, 4, 2));
}

TEST(Quantize, OneScaleInAVectorIsAScalar) {
  // Files write per-tensor scales as vectors of one; the axis then means nothing.
  EXPECT_THAT(ValuesOf<uint8_t>(MakeNode("QuantizeLinear", {{"axis", int64_t{7}}}),
                                {Floats({2, 2}, {2, 4, 6, 8}), Values<float>({2}), Tensor::Scalar<uint8_t>(1)}, 13),
              ElementsAre(2, 3, 4, 5));
}

TEST(Quantize, TypesComeFromTheZeroPointOrTheAttribute) {
  const Tensor x = Values<float>({-3, 3}), scale = Tensor::Scalar(1.0f);
  EXPECT_THAT(ValuesOf<uint8_t>(MakeNode("QuantizeLinear"), {x, scale}, 10), ElementsAre(0, 3));
  EXPECT_THAT(ValuesOf<int8_t>(MakeNode("QuantizeLinear", {{"output_dtype", int64_t{3}}}), {x, scale}, 21),
              ElementsAre(-3, 3));
  EXPECT_THAT(ValuesOf<int16_t>(MakeNode("QuantizeLinear", {{"output_dtype", int64_t{5}}}), {x, scale}, 21),
              ElementsAre(-3, 3));
  EXPECT_THAT(ValuesOf<uint16_t>(MakeNode("QuantizeLinear", {{"output_dtype", int64_t{4}}}), {x, scale}, 21),
              ElementsAre(0, 3));
}

TEST(Quantize, EmptyTensors) {
  const auto q = RunNode(MakeNode("QuantizeLinear"), {*Tensor::Create(DType::kFloat32, {0, 3}), Tensor::Scalar(1.0f)});
  ASSERT_TRUE(q.ok()) << q.status().message();
  EXPECT_EQ(q->dims(), (Dims{0, 3}));
  const auto real = RunNode(MakeNode("DequantizeLinear"), {*q, Tensor::Scalar(1.0f)});
  ASSERT_TRUE(real.ok()) << real.status().message();
  EXPECT_EQ(real->dims(), (Dims{0, 3}));
}

TEST(Quantize, RefusesUnusableScales) {
  for (const float scale : {0.0f, -0.0f, -1.0f, kNan, kInfinity, -kInfinity, 1e-40f, 1.1754942e-38f, 1e38f}) {
    for (const bool one_of_two : {false, true}) {
      SCOPED_TRACE(scale);
      const Tensor scales = one_of_two ? Values<float>({1, scale}) : Tensor::Scalar(scale);
      const Attributes attributes{{"axis", int64_t{0}}};
      const auto q = RunNode(MakeNode("QuantizeLinear", attributes), {Values<float>({1, 2}), scales});
      ASSERT_FALSE(q.ok());
      EXPECT_THAT(q.status().message(), HasSubstr("its scale is"));
      const auto real = RunNode(MakeNode("DequantizeLinear", attributes), {Values<uint8_t>({1, 2}), scales});
      ASSERT_FALSE(real.ok());
      EXPECT_THAT(real.status().message(), HasSubstr("its scale is"));
    }
  }
}

TEST(Quantize, RefusesScalesThatAreNotFloat32) {
  const Tensor half = *Tensor::Zeros(DType::kFloat16, {});
  const auto q = RunNode(MakeNode("QuantizeLinear"), {*Tensor::Zeros(DType::kFloat16, {2}), half}, 19);
  ASSERT_FALSE(q.ok());
  EXPECT_THAT(q.status().message(), HasSubstr("float32 scales"));
}

}  // namespace
}  // namespace octavo
