#include <gmock/gmock.h>

#include <cmath>
#include <limits>

#include "kernels/generic/node_testing.h"

namespace octavo {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

template <typename T>
Tensor Vector(const std::vector<T>& values) {
  return Tensor::FromVector<T>({static_cast<int64_t>(values.size())}, values);
}

TEST(ArithmeticTest, BroadcastsBothWays) {
  const Tensor column = Floats({2, 1}, {10, 20});
  const Tensor row = Floats({3}, {1, 2, 3});
  EXPECT_THAT(ValuesOf<float>(MakeNode("Sub"), {column, row}), ElementsAre(9, 8, 7, 19, 18, 17));
  EXPECT_THAT(ValuesOf<float>(MakeNode("Sub"), {row, column}), ElementsAre(-9, -8, -7, -19, -18, -17));
}

TEST(ArithmeticTest, IntegersWrap) {
  constexpr int32_t kMax = std::numeric_limits<int32_t>::max(), kMin = std::numeric_limits<int32_t>::min();
  EXPECT_THAT(ValuesOf<int32_t>(MakeNode("Add"), {Vector<int32_t>({kMax}), Vector<int32_t>({1})}), ElementsAre(kMin));
  EXPECT_THAT(ValuesOf<int8_t>(MakeNode("Mul"), {Vector<int8_t>({100}), Vector<int8_t>({3})}), ElementsAre(44));
  EXPECT_THAT(ValuesOf<int32_t>(MakeNode("Neg"), {Vector<int32_t>({kMin, 5})}), ElementsAre(kMin, -5));
  EXPECT_THAT(ValuesOf<int32_t>(MakeNode("Div"), {Vector<int32_t>({kMin}), Vector<int32_t>({-1})}), ElementsAre(kMin));
  EXPECT_THAT(ValuesOf<int32_t>(MakeNode("Mod"), {Vector<int32_t>({kMin}), Vector<int32_t>({-1})}), ElementsAre(0));
}

TEST(ArithmeticTest, IntegerDivisionTruncates) {
  EXPECT_THAT(ValuesOf<int64_t>(MakeNode("Div"), {Vector<int64_t>({7, -7, 7, -7}), Vector<int64_t>({2, 2, -2, -2})}),
              ElementsAre(3, -3, -3, 3));
}

TEST(ArithmeticTest, IntegerDivisionByZeroIsAnError) {
  for (const char* op : {"Div", "Mod"}) {
    const auto result = RunNode(MakeNode(op), {Vector<int32_t>({1, 2}), Vector<int32_t>({1, 0})});
    ASSERT_FALSE(result.ok()) << op;
    EXPECT_THAT(result.status().message(), HasSubstr("division by zero"));
  }
  EXPECT_THAT(ValuesOf<float>(MakeNode("Div"), {Vector<float>({1}), Vector<float>({0})}), ElementsAre(INFINITY));
}

TEST(ArithmeticTest, ModTakesTheDivisorsSignAndFmodTheDividends) {
  const std::vector<Tensor> operands = {Vector<int32_t>({7, -7, 7, -7}), Vector<int32_t>({3, 3, -3, -3})};
  EXPECT_THAT(ValuesOf<int32_t>(MakeNode("Mod"), operands), ElementsAre(1, 2, -2, -1));
  EXPECT_THAT(ValuesOf<int32_t>(MakeNode("Mod", {{"fmod", int64_t{1}}}), operands), ElementsAre(1, -1, 1, -1));
  EXPECT_THAT(ValuesOf<float>(MakeNode("Mod", {{"fmod", int64_t{1}}}), {Vector<float>({-7.5f}), Vector<float>({2})}),
              ElementsAre(-1.5f));
  EXPECT_FALSE(RunNode(MakeNode("Mod"), {Vector<float>({1}), Vector<float>({2})}).ok());
}

TEST(ArithmeticTest, PowHasTheBasesType) {
  EXPECT_THAT(ValuesOf<float>(MakeNode("Pow"), {Vector<float>({2, 3}), Vector<int64_t>({3, -1})}),
              ElementsAre(8, 1.0f / 3));
  EXPECT_THAT(ValuesOf<int64_t>(MakeNode("Pow"), {Vector<int64_t>({3, -2, -1, 2}), Vector<int64_t>({39, 3, -3, -1})}),
              ElementsAre(4052555153018976267, -8, -1, 0));
  EXPECT_THAT(ValuesOf<int32_t>(MakeNode("Pow"), {Vector<int32_t>({10, 9}), Vector<float>({20, 0.5f})}),
              ElementsAre(std::numeric_limits<int32_t>::max(), 3));
}

TEST(ArithmeticTest, MinAndMaxKeepNaN) {
  const std::vector<Tensor> operands = {Vector<float>({NAN, 1, 5}), Vector<float>({1, NAN, 4}),
                                        Vector<float>({0, 0, 6})};
  const auto largest = ValuesOf<float>(MakeNode("Max"), operands);
  EXPECT_TRUE(std::isnan(largest[0]) && std::isnan(largest[1]));
  EXPECT_EQ(largest[2], 6);
  const auto smallest = ValuesOf<float>(MakeNode("Min"), operands);
  EXPECT_TRUE(std::isnan(smallest[0]) && std::isnan(smallest[1]));
  EXPECT_EQ(smallest[2], 4);
}

TEST(ArithmeticTest, RoundsHalvesToEven) {
  EXPECT_THAT(ValuesOf<float>(MakeNode("Round"), {Vector<float>({-2.5f, -1.5f, -0.5f, 0.5f, 1.5f, 2.5f, 2.6f})}),
              ElementsAre(-2, -2, 0, 0, 2, 2, 3));
}

TEST(ArithmeticTest, ClipTakesAbsentAndCrossedBounds) {
  const Tensor x = Vector<float>({-2, 0, 2});
  const Tensor low = Tensor::Scalar(-1.0f), high = Tensor::Scalar(1.0f);
  EXPECT_THAT(ValuesOf<float>(MakeNode("Clip"), {x, low, high}), ElementsAre(-1, 0, 1));
  EXPECT_THAT(ValuesOf<float>(MakeNode("Clip"), {x, low}), ElementsAre(-1, 0, 2));
  EXPECT_THAT(ValuesOf<float>(MakeNode("Clip"), {x, Tensor(), high}), ElementsAre(-2, 0, 1));
  EXPECT_THAT(ValuesOf<float>(MakeNode("Clip"), {x}), ElementsAre(-2, 0, 2));
  EXPECT_THAT(ValuesOf<float>(MakeNode("Clip"), {x, high, low}), ElementsAre(-1, -1, -1));
  EXPECT_THAT(ValuesOf<float>(MakeNode("Clip", {{"min", -1.0f}, {"max", 0.5f}}), {x}, 10), ElementsAre(-1, 0, 0.5f));
}

TEST(ArithmeticTest, ComparesIntegersExactly) {
  // 2^53 + 1 and 2^53 are one double.
  const std::vector<Tensor> operands = {Vector<int64_t>({9007199254740993}), Vector<int64_t>({9007199254740992})};
  EXPECT_THAT(ValuesOf<bool>(MakeNode("Equal"), operands), ElementsAre(false));
  EXPECT_THAT(ValuesOf<bool>(MakeNode("Greater"), operands), ElementsAre(true));
}

TEST(ArithmeticTest, GeluKeepsItsPrecisionInTheTail) {
  // x * Phi(x) at -5, from the series of erfc; 1 + erf(x) would leave no correct digit in float.
  const auto values = ValuesOf<float>(MakeNode("Gelu"), {Vector<float>({-5, 0, 1})});
  // erfcf is good to a few ulp: 1e-5 is a margin of about 80.
  EXPECT_NEAR(values[0], -1.4332579e-6f, 1.4e-6f * 1e-5f);
  EXPECT_EQ(values[1], 0);
  EXPECT_NEAR(values[2], 0.8413447f, 2e-7f);  // two ulp
}

TEST(ArithmeticTest, SaturatingActivationsStayFinite) {
  const Tensor x = Vector<float>({-1000, 1000});
  EXPECT_THAT(ValuesOf<float>(MakeNode("Sigmoid"), {x}), ElementsAre(0, 1));
  EXPECT_THAT(ValuesOf<float>(MakeNode("Softplus"), {x}), ElementsAre(0, 1000));
  EXPECT_THAT(ValuesOf<float>(MakeNode("Mish"), {x}), ElementsAre(0, 1000));
  EXPECT_THAT(ValuesOf<float>(MakeNode("Silu", {}, kOctavoDomain), {x}), ElementsAre(0, 1000));
  EXPECT_THAT(ValuesOf<float>(MakeNode("HardSwish"), {Vector<float>({-4, -3, 0, 3, 4})}), ElementsAre(0, 0, 0, 3, 4));
}

TEST(ArithmeticTest, LogicTreatsEveryNonZeroByteAsTrue) {
  const Tensor a = Vector<uint8_t>({0, 1, 2, 0});
  const Tensor b = Vector<uint8_t>({0, 2, 1, 4});
  const auto as_bool = [](Tensor bytes) {
    return Tensor::Wrap(DType::kBool, bytes.dims(), bytes.mutable_data(), std::make_shared<Tensor>(bytes));
  };
  EXPECT_THAT(ValuesOf<bool>(MakeNode("And"), {as_bool(a), as_bool(b)}), ElementsAre(false, true, true, false));
  EXPECT_THAT(ValuesOf<bool>(MakeNode("Xor"), {as_bool(a), as_bool(b)}), ElementsAre(false, false, false, true));
  EXPECT_THAT(ValuesOf<bool>(MakeNode("Not"), {as_bool(a)}), ElementsAre(true, false, false, true));
}

TEST(ArithmeticTest, PReluOfIntegersWraps) {
  constexpr int64_t kLowest = std::numeric_limits<int64_t>::min();
  const Tensor x = Vector<int64_t>({kLowest, kLowest, -3, 5}), slope = Vector<int64_t>({2, -1, 4, 7});
  EXPECT_THAT(ValuesOf<int64_t>(MakeNode("PRelu"), {x, slope}), ElementsAre(0, kLowest, -12, 5));
}

TEST(ArithmeticTest, RefusesMixedTypes) {
  EXPECT_FALSE(RunNode(MakeNode("Add"), {Vector<float>({1}), Vector<int32_t>({1})}).ok());
}

}  // namespace
}  // namespace octavo
