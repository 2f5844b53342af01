#include <gmock/gmock.h>

#include <cmath>
#include <limits>

#include "kernels/generic/node_testing.h"

namespace octavo {
namespace {

using ::testing::ElementsAre;
using ::testing::FloatEq;
using Ints = std::vector<int64_t>;

TEST(ReductionTest, TakesAxesFromTheAttributeOrTheInput) {
  const Tensor x = Floats({2, 3}, {1, 2, 3, 4, 5, 6});
  EXPECT_THAT(ValuesOf<float>(MakeNode("ReduceMean", {{"axes", Ints{-1}}}), {x}, 13), ElementsAre(2, 5));
  EXPECT_THAT(ValuesOf<float>(MakeNode("ReduceMean"), {x, Tensor::FromVector<int64_t>({1}, {0})}, 18),
              ElementsAre(2.5f, 3.5f, 4.5f));
  EXPECT_THAT(ValuesOf<float>(MakeNode("ReduceSum"), {x}, 13), ElementsAre(21));
  EXPECT_THAT(ValuesOf<float>(MakeNode("ReduceSum", {{"noop_with_empty_axes", int64_t{1}}}), {x}, 13),
              ElementsAre(1, 2, 3, 4, 5, 6));
}

TEST(ReductionTest, SumsInDouble) {
  // 2^24 + 1 + 1 + ...: a float sum would stay at 2^24.
  std::vector<float> values(1001, 1.0f);
  values[0] = 16777216.0f;
  EXPECT_THAT(ValuesOf<float>(MakeNode("ReduceSum"), {Floats({1001}, values)}, 13), ElementsAre(16778216.0f));
}

TEST(ReductionTest, OfNothing) {
  const auto empty = Tensor::Create(DType::kFloat32, {2, 0});
  ASSERT_TRUE(empty.ok());
  const Attributes axis = {{"axes", Ints{1}}};
  EXPECT_THAT(ValuesOf<float>(MakeNode("ReduceProd", axis), {*empty}), ElementsAre(1, 1));
  EXPECT_THAT(ValuesOf<float>(MakeNode("ReduceMax", axis), {*empty}), ElementsAre(-INFINITY, -INFINITY));
}

TEST(ReductionTest, IntegerMeanTruncates) {
  EXPECT_THAT(ValuesOf<int32_t>(MakeNode("ReduceMean"), {Tensor::FromVector<int32_t>({2}, {-3, 0})}), ElementsAre(-1));
}

TEST(ReductionTest, ArgMaxTakesTheFirstOrLastOfEquals) {
  const Tensor x = Floats({2, 3}, {1, 3, 3, 2, 2, 1});
  EXPECT_THAT(ValuesOf<int64_t>(MakeNode("ArgMax", {{"axis", int64_t{1}}}), {x}), ElementsAre(1, 0));
  EXPECT_THAT(ValuesOf<int64_t>(MakeNode("ArgMax", {{"axis", int64_t{1}}, {"select_last_index", int64_t{1}}}), {x}),
              ElementsAre(2, 1));
}

TEST(ReductionTest, SoftmaxFlattensBeforeOpset13) {
  const Tensor x = Floats({1, 2, 2}, {0, 0, 0, 0});
  EXPECT_THAT(ValuesOf<float>(MakeNode("Softmax", {{"axis", int64_t{1}}}), {x}, 11),
              ElementsAre(0.25, 0.25, 0.25, 0.25));
  EXPECT_THAT(ValuesOf<float>(MakeNode("Softmax", {{"axis", int64_t{1}}}), {x}, 13), ElementsAre(0.5, 0.5, 0.5, 0.5));
}

TEST(ReductionTest, SoftmaxOfLargeAndMaskedValues) {
  EXPECT_THAT(ValuesOf<float>(MakeNode("Softmax"), {Floats({3}, {1e30f, -1e30f, -INFINITY})}), ElementsAre(1, 0, 0));
  EXPECT_THAT(ValuesOf<float>(MakeNode("LogSoftmax"), {Floats({2}, {1000, 0})}), ElementsAre(0, -1000));
}

TEST(ReductionTest, LayerNormalizationFarFromZero) {
  // Values 1e4 - 1, 1e4, 1e4 + 1: E[x^2] - E[x]^2 would cancel in float. Deviation sqrt(2/3).
  const auto y =
      ValuesOf<float>(MakeNode("LayerNormalization", {{"epsilon", 0.0f}}),
                      {Floats({1, 3}, {9999, 10000, 10001}), Floats({3}, {1, 1, 2}), Floats({3}, {0, 5, 0})});
  // One rounding to float of a result computed in double.
  EXPECT_THAT(y, ElementsAre(FloatEq(-1.2247449f), FloatEq(5), FloatEq(2.4494898f)));
}

TEST(ReductionTest, LayerNormalizationGivesItsStatistics) {
  const Node node = MakeNode("LayerNormalization", {{"epsilon", 0.0f}}, "", 3);
  const auto outputs = EvaluateNode(node, 17, std::vector<Tensor>{Floats({2, 2}, {1, 3, 2, 6}), Floats({2}, {1, 1})});
  ASSERT_TRUE(outputs.ok()) << outputs.status().message();
  EXPECT_EQ((*outputs)[1].dims(), (Dims{2, 1}));
  EXPECT_THAT((*outputs)[1].values<float>(), ElementsAre(2, 4));
  EXPECT_THAT((*outputs)[2].values<float>(), ElementsAre(1, 0.5));
}

TEST(ReductionTest, GroupNormalizationScalesPerGroupThenPerChannel) {
  const Tensor x = Floats({1, 4, 1}, {-1, 1, -2, 2});
  const Attributes groups = {{"num_groups", int64_t{2}}, {"epsilon", 0.0f}};
  EXPECT_THAT(
      ValuesOf<float>(MakeNode("GroupNormalization", groups), {x, Floats({2}, {1, 10}), Floats({2}, {0, 5})}, 18),
      ElementsAre(-1, 1, -5, 15));
  EXPECT_THAT(ValuesOf<float>(MakeNode("GroupNormalization", groups),
                              {x, Floats({4}, {1, 2, 3, 4}), Floats({4}, {0, 0, 0, 1})}, 21),
              ElementsAre(-1, 2, -3, 5));
}

TEST(ReductionTest, BatchNormalizationPerChannel) {
  EXPECT_THAT(ValuesOf<float>(MakeNode("BatchNormalization", {{"epsilon", 0.0f}}),
                              {Floats({1, 2, 1}, {3, 3}), Floats({2}, {1, 2}), Floats({2}, {0, 1}), Floats({2}, {1, 2}),
                               Floats({2}, {4, 1})}),
              ElementsAre(1, 3));
}

TEST(PoolTest, AverageCountsPaddingOnlyWhenAsked) {
  const Tensor x = Floats({1, 1, 3}, {3, 6, 9});
  Attributes attributes = {{"kernel_shape", Ints{3}}, {"pads", Ints{1, 1}}};
  EXPECT_THAT(ValuesOf<float>(MakeNode("AveragePool", attributes), {x}), ElementsAre(4.5, 6, 7.5));
  attributes["count_include_pad"] = int64_t{1};
  EXPECT_THAT(ValuesOf<float>(MakeNode("AveragePool", attributes), {x}), ElementsAre(3, 6, 5));
}

TEST(PoolTest, WindowsThatCeilModeAddsCountNothingBeyondThePadding) {
  // Windows at 0 and 2; the second covers elements 2, 3 and one position that is not even padding.
  const Attributes attributes = {
      {"kernel_shape", Ints{3}}, {"strides", Ints{2}}, {"ceil_mode", int64_t{1}}, {"count_include_pad", int64_t{1}}};
  EXPECT_THAT(ValuesOf<float>(MakeNode("AveragePool", attributes), {Floats({1, 1, 4}, {1, 2, 3, 6})}, 19),
              ElementsAre(2, 4.5));
}

TEST(PoolTest, MaxGivesFlatIndices) {
  const Node node = MakeNode("MaxPool", {{"kernel_shape", Ints{2, 2}}, {"strides", Ints{2, 2}}}, "", 2);
  const auto outputs = EvaluateNode(node, 12, std::vector<Tensor>{Floats({1, 2, 2, 2}, {1, 9, 3, 4, -1, -2, -3, -1})});
  ASSERT_TRUE(outputs.ok()) << outputs.status().message();
  EXPECT_THAT((*outputs)[0].values<float>(), ElementsAre(9, -1));
  EXPECT_THAT((*outputs)[1].values<int64_t>(), ElementsAre(1, 4));
}

}  // namespace
}  // namespace octavo
