#include <gmock/gmock.h>

#include <cmath>

#include "kernels/generic/node_testing.h"

namespace octavo {
namespace {

using ::testing::ElementsAre;
using Ints = std::vector<int64_t>;

TEST(MatMulTest, TakesVectorsOnEitherSide) {
  const Tensor matrix = Floats({2, 3}, {1, 2, 3, 4, 5, 6});
  EXPECT_THAT(ValuesOf<float>(MakeNode("MatMul"), {Floats({2}, {1, 10}), matrix}), ElementsAre(41, 52, 63));
  EXPECT_THAT(ValuesOf<float>(MakeNode("MatMul"), {matrix, Floats({3}, {1, 0, -1})}), ElementsAre(-2, -2));
  const auto dot = RunNode(MakeNode("MatMul"), {Floats({2}, {1, 2}), Floats({2}, {3, 4})});
  ASSERT_TRUE(dot.ok());
  EXPECT_EQ(dot->dims(), Dims{});
  EXPECT_THAT(dot->values<float>(), ElementsAre(11));
}

TEST(MatMulTest, BroadcastsBatches) {
  const auto y = RunNode(MakeNode("MatMul"), {Floats({2, 1, 1, 1}, {2, 3}), Floats({3, 1, 1}, {1, 10, 100})});
  ASSERT_TRUE(y.ok()) << y.status().message();
  EXPECT_EQ(y->dims(), (Dims{2, 3, 1, 1}));
  EXPECT_THAT(y->values<float>(), ElementsAre(2, 20, 200, 3, 30, 300));
}

TEST(MatMulTest, SumsInDoubleAndWrapsIntegers) {
  std::vector<float> ones(1001, 1.0f), values(1001, 1.0f);
  values[0] = 16777216.0f;  // 2^24, where a float sum of ones stalls
  EXPECT_THAT(ValuesOf<float>(MakeNode("MatMul"), {Floats({1, 1001}, values), Floats({1001, 1}, ones)}),
              ElementsAre(16778216.0f));
  EXPECT_THAT(ValuesOf<int32_t>(MakeNode("MatMul"), {Tensor::FromVector<int32_t>({1, 1}, {1 << 30}),
                                                     Tensor::FromVector<int32_t>({1, 1}, {-6})}),
              ElementsAre(-2147483648));
}

TEST(GemmTest, ScalesTransposesAndBroadcasts) {
  const Attributes attributes = {{"alpha", 2.0f}, {"beta", 10.0f}, {"transA", int64_t{1}}};
  EXPECT_THAT(ValuesOf<float>(MakeNode("Gemm", attributes),
                              {Floats({2, 1}, {1, 2}), Floats({2, 2}, {1, 2, 3, 4}), Floats({2}, {1, -1})}),
              ElementsAre(24, 10));
}

TEST(EinsumTest, DiagonalTraceAndImplicitOutput) {
  const Tensor x = Floats({2, 2}, {1, 2, 3, 4});
  const auto einsum = [](const char* equation) { return MakeNode("Einsum", {{"equation", std::string(equation)}}); };
  EXPECT_THAT(ValuesOf<float>(einsum("ii->i"), {x}), ElementsAre(1, 4));
  EXPECT_THAT(ValuesOf<float>(einsum("ii"), {x}), ElementsAre(5));
  EXPECT_THAT(ValuesOf<float>(einsum("ba"), {x}), ElementsAre(1, 3, 2, 4));
  EXPECT_THAT(ValuesOf<float>(einsum("...i,...i->..."), {x, Floats({2}, {1, -1})}), ElementsAre(-1, -1));
  EXPECT_FALSE(RunNode(einsum("ij,jk->iz"), {x, x}).ok());
  EXPECT_FALSE(RunNode(einsum("ijk->i"), {x}).ok());
}

TEST(ConvTest, PadsStridesDilatesAndGroups) {
  const Tensor x = Floats({1, 1, 5}, {1, 2, 3, 4, 5});
  const Tensor w = Floats({1, 1, 2}, {1, 10});
  EXPECT_THAT(ValuesOf<float>(MakeNode("Conv"), {x, w}), ElementsAre(21, 32, 43, 54));
  EXPECT_THAT(ValuesOf<float>(MakeNode("Conv", {{"pads", Ints{1, 0}}, {"strides", Ints{2}}}), {x, w}),
              ElementsAre(10, 32, 54));
  EXPECT_THAT(ValuesOf<float>(MakeNode("Conv", {{"dilations", Ints{3}}}), {x, w, Floats({1}, {0.5f})}),
              ElementsAre(41.5f, 52.5f));
  EXPECT_THAT(ValuesOf<float>(MakeNode("Conv", {{"auto_pad", std::string("SAME_UPPER")}}), {x, w}),
              ElementsAre(21, 32, 43, 54, 5));
  EXPECT_THAT(ValuesOf<float>(MakeNode("Conv", {{"auto_pad", std::string("SAME_LOWER")}}), {x, w}),
              ElementsAre(10, 21, 32, 43, 54));
  EXPECT_THAT(ValuesOf<float>(MakeNode("Conv", {{"group", int64_t{2}}}),
                              {Floats({1, 2, 1}, {3, 5}), Floats({4, 1, 1}, {1, 2, 3, 4})}),
              ElementsAre(3, 6, 15, 20));
}

TEST(ConvTransposeTest, SpreadsEveryInput) {
  const Tensor x = Floats({1, 1, 2}, {1, 2});
  const Tensor w = Floats({1, 1, 3}, {1, 10, 100});
  EXPECT_THAT(ValuesOf<float>(MakeNode("ConvTranspose"), {x, w}), ElementsAre(1, 12, 120, 200));
  EXPECT_THAT(ValuesOf<float>(MakeNode("ConvTranspose", {{"strides", Ints{2}}, {"output_padding", Ints{1}}}), {x, w}),
              ElementsAre(1, 10, 102, 20, 200, 0));
  EXPECT_THAT(ValuesOf<float>(MakeNode("ConvTranspose", {{"strides", Ints{2}}, {"pads", Ints{1, 0}}}), {x, w}),
              ElementsAre(10, 102, 20, 200));
  EXPECT_THAT(ValuesOf<float>(MakeNode("ConvTranspose", {{"dilations", Ints{2}}}), {x, w, Floats({1}, {0.5f})}),
              ElementsAre(1.5f, 2.5f, 10.5f, 20.5f, 100.5f, 200.5f));
}

}  // namespace
}  // namespace octavo
