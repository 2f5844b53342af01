#include "octavo/tensor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>
#include <vector>

namespace octavo {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

TEST(TensorTest, MemoryIsAlignedAndShared) {
  for (const int64_t size : {0, 1, 3, 1000}) {
    auto tensor = Tensor::Zeros(DType::kInt8, {size});
    ASSERT_TRUE(tensor.ok());
    EXPECT_EQ(reinterpret_cast<uintptr_t>(tensor->data()) % 64, 0u);
    EXPECT_EQ(tensor->bytes(), static_cast<size_t>(size));
  }
  Tensor a = Tensor::FromVector<float>({2, 2}, {1, 2, 3, 4});
  Tensor shared = a.Reshaped({4});
  Tensor cloned = *a.Clone();
  a.mutable_values<float>()[0] = 9;
  EXPECT_EQ(shared.values<float>()[0], 9);
  EXPECT_EQ(cloned.values<float>()[0], 1);
  EXPECT_FALSE(a.Reshaped({5}).defined());
}

TEST(TensorTest, BadDimsAreErrors) {
  EXPECT_EQ(Tensor::Create(DType::kFloat32, {-1}).status().code(), ErrorCode::kInvalidArgument);
  EXPECT_EQ(Tensor::Create(DType::kUndefined, {1}).status().code(), ErrorCode::kInvalidArgument);
  EXPECT_EQ(CheckedElementCount({int64_t{1} << 32, int64_t{1} << 32}).status().code(), ErrorCode::kInvalidArgument);
  // A zero does not excuse dimensions whose strides would overflow.
  EXPECT_FALSE(CheckedElementCount({0, int64_t{1} << 62, 4}).ok());
  EXPECT_EQ(*CheckedElementCount({int64_t{1} << 40}), int64_t{1} << 40);
  EXPECT_EQ(*CheckedElementCount({3, 0, 2}), 0);
  EXPECT_EQ(*CheckedElementCount({}), 1);
  // 2^40 doubles: accepted as a count, refused as memory.
  EXPECT_EQ(Tensor::Create(DType::kFloat64, {int64_t{1} << 40}).status().code(), ErrorCode::kIo);
}

TEST(TensorTest, DimsAsTextAndStrides) {
  EXPECT_EQ(ToString({1, 3, -1}), "1x3x?");
  EXPECT_EQ(ToString({}), "scalar");
  EXPECT_THAT(ContiguousStrides({2, 3, 4}), ElementsAre(12, 4, 1));
}

TEST(TensorTest, ToInt64sTakesWholeNumbersOnly) {
  EXPECT_THAT(*ToInt64s(Tensor::FromVector<int32_t>({2}, {-1, 7})), ElementsAre(-1, 7));
  EXPECT_THAT(*ToInt64s(Tensor::FromVector<float>({2}, {-3, 4})), ElementsAre(-3, 4));
  EXPECT_THAT(ToInt64s(Tensor::Scalar(0.5f)).status().message(), HasSubstr("0.5"));
  EXPECT_FALSE(ToInt64s(Tensor::Scalar(std::numeric_limits<float>::quiet_NaN())).ok());
  EXPECT_FALSE(ToInt64s(Tensor::Scalar(0x1p63f)).ok());
  EXPECT_EQ(ToInt64s(Tensor::Scalar(-0x1p63f))->front(), INT64_MIN);
  EXPECT_FALSE(ToInt64s(Tensor::Scalar(UINT64_MAX)).ok());
  EXPECT_FALSE(ToInt64s(Tensor()).ok());
}

TEST(TensorTest, ToFloatsWidens) {
  EXPECT_THAT(*ToFloats(Tensor::Scalar(true)), ElementsAre(1));
  uint16_t half = 0x3c00, brain = 0x3f80;
  EXPECT_THAT(*ToFloats(Tensor::Wrap(DType::kFloat16, {1}, &half, nullptr)), ElementsAre(1));
  EXPECT_THAT(*ToFloats(Tensor::Wrap(DType::kBFloat16, {1}, &brain, nullptr)), ElementsAre(1));
}

TEST(Float16Test, EveryValueSurvivesTheRoundTrip) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const float value = Float16ToFloat(static_cast<uint16_t>(bits));
    if (std::isnan(value)) {
      EXPECT_TRUE(std::isnan(Float16ToFloat(FloatToFloat16(value))));
    } else {
      ASSERT_EQ(FloatToFloat16(value), bits);
    }
  }
}

TEST(Float16Test, RoundsToNearestEven) {
  // Between each two neighbours: halfway goes to the even one, and the floats just beside halfway to the nearer one.
  for (uint16_t bits = 0; bits < 0x7bff; ++bits) {
    const float low = Float16ToFloat(bits), high = Float16ToFloat(static_cast<uint16_t>(bits + 1));
    const float middle = (low + high) / 2;  // exact: one bit more than float16 holds
    ASSERT_EQ(FloatToFloat16(middle), bits % 2 == 0 ? bits : bits + 1) << bits;
    ASSERT_EQ(FloatToFloat16(std::nextafter(middle, 0.0f)), bits);
    ASSERT_EQ(FloatToFloat16(std::nextafter(middle, 1e9f)), bits + 1);
  }
  EXPECT_EQ(FloatToFloat16(65519.996f), 0x7bff);
  EXPECT_EQ(FloatToFloat16(65520.0f), 0x7c00);  // halfway between 65504 and 65536, which is infinity
  EXPECT_EQ(FloatToFloat16(-1e30f), 0xfc00);
  EXPECT_EQ(FloatToFloat16(-0.0f), 0x8000);
  EXPECT_EQ(FloatToFloat16(std::numeric_limits<float>::denorm_min()), 0);
}

TEST(BFloat16Test, RoundsToNearestEven) {
  EXPECT_EQ(FloatToBFloat16(1.0f), 0x3f80);
  EXPECT_EQ(FloatToBFloat16(std::bit_cast<float>(0x3f808000u)), 0x3f80);
  EXPECT_EQ(FloatToBFloat16(std::bit_cast<float>(0x3f818000u)), 0x3f82);
  EXPECT_EQ(FloatToBFloat16(std::bit_cast<float>(0x3f808001u)), 0x3f81);
  EXPECT_EQ(FloatToBFloat16(std::numeric_limits<float>::max()), 0x7f80);
  EXPECT_EQ(FloatToBFloat16(-std::numeric_limits<float>::infinity()), 0xff80);
  // A NaN whose payload lies in the dropped half must not become infinity.
  EXPECT_TRUE(std::isnan(BFloat16ToFloat(FloatToBFloat16(std::bit_cast<float>(0x7f800001u)))));
}

}  // namespace
}  // namespace octavo
