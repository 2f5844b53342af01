#include <gmock/gmock.h>

#include <cmath>

#include "kernels/generic/node_testing.h"

namespace octavo {
namespace {

using ::testing::ElementsAre;
using ::testing::FloatNear;

Node Fused(std::string_view op, Attributes attributes) { return MakeNode(op, std::move(attributes), kOctavoDomain); }

TEST(AttentionTest, WeighsValuesByScaledScores) {
  // Scores 0.5 * 2 * {ln 3, 0}: weights 3/4 and 1/4.
  const float ln3 = std::log(3.0f);
  const auto y = ValuesOf<float>(Fused("Attention", {{"scale", 0.5f}}),
                                 {Floats({1, 1}, {2}), Floats({2, 1}, {ln3, 0}), Floats({2, 2}, {4, 8, 0, 16})});
  EXPECT_THAT(y, ElementsAre(FloatNear(3, 1e-6f), FloatNear(10, 1e-6f)));  // ln 3 is rounded to float: 3e-8 of a weight
}

TEST(AttentionTest, AddsABroadcastMask) {
  const auto y = ValuesOf<float>(
      Fused("Attention", {{"scale", 1.0f}}),
      {Floats({2, 1}, {5, -3}), Floats({2, 1}, {1, 1}), Floats({2, 1}, {7, 9}), Floats({2}, {-INFINITY, 0})});
  EXPECT_THAT(y, ElementsAre(9, 9));
}

// The formula step by step with ONNX's own ops, over many tokens and heads.
TEST(AttentionTest, EqualsItsParts) {
  const Tensor q = Scrambled({2, 3, 33, 8}, 1), k = Scrambled({2, 3, 70, 8}, 2), v = Scrambled({2, 3, 70, 5}, 3);
  const auto fused = RunNode(Fused("Attention", {{"scale", 0.25f}}), {q, k, v});
  ASSERT_TRUE(fused.ok()) << fused.status().message();
  const auto scores = RunNode(MakeNode("Einsum", {{"equation", std::string("bhid,bhjd->bhij")}}), {q, k});
  ASSERT_TRUE(scores.ok());
  const auto scaled = RunNode(MakeNode("Mul"), {*scores, Tensor::Scalar(0.25f)});
  const auto weights = RunNode(MakeNode("Softmax", {{"axis", int64_t{-1}}}), {*scaled});
  const auto expected = RunNode(MakeNode("MatMul"), {*weights, v});
  ASSERT_TRUE(expected.ok());
  for (int64_t i = 0; i < expected->size(); ++i) {
    // Three roundings to float between the parts, of values below 2 and weights that sum to 1.
    EXPECT_NEAR(fused->values<float>()[static_cast<size_t>(i)], expected->values<float>()[static_cast<size_t>(i)],
                1e-6f);
  }
}

TEST(LinearAttentionTest, DividesPerTokenAfterRelu) {
  // D = 1, two tokens. relu(k) = {1, 0}: state = 2 * 1, sum 1. relu(q) = {3, 0}: (2 * 3) / (1 * 3 + 1), 0 / (0 + 1).
  const auto y = ValuesOf<float>(Fused("LinearAttention", {{"epsilon", 1.0f}}),
                                 {Floats({1, 2}, {3, -4}), Floats({1, 2}, {1, -5}), Floats({1, 2}, {2, 100})});
  EXPECT_THAT(y, ElementsAre(1.5, 0));
}

TEST(LinearAttentionTest, EqualsItsParts) {
  const Tensor q = Scrambled({2, 3, 8, 50}, 1), k = Scrambled({2, 3, 8, 50}, 2), v = Scrambled({2, 3, 6, 50}, 3);
  const auto fused = RunNode(Fused("LinearAttention", {{"epsilon", 1e-3f}}), {q, k, v});
  ASSERT_TRUE(fused.ok()) << fused.status().message();
  const auto einsum = [](const char* equation) { return MakeNode("Einsum", {{"equation", std::string(equation)}}); };
  const auto relu_q = RunNode(MakeNode("Relu"), {q}), relu_k = RunNode(MakeNode("Relu"), {k});
  const auto state = RunNode(einsum("bhen,bhdn->bhed"), {v, *relu_k});
  const auto above = RunNode(einsum("bhed,bhdn->bhen"), {*state, *relu_q});
  const auto below = RunNode(einsum("bhdm,bhdn->bhn"), {*relu_k, *relu_q});
  ASSERT_TRUE(above.ok() && below.ok());
  for (size_t batch = 0; batch < 6; ++batch) {
    for (size_t e = 0; e < 6; ++e) {
      for (size_t n = 0; n < 50; ++n) {
        const float expected =
            above->values<float>()[(batch * 6 + e) * 50 + n] / (below->values<float>()[batch * 50 + n] + 1e-3f);
        // Quotients of magnitude below 1, of terms that were rounded to float once or twice.
        EXPECT_NEAR(fused->values<float>()[(batch * 6 + e) * 50 + n], expected, 2e-6f);
      }
    }
  }
}

TEST(LayerNormTest, NormalizesOneAxisOnly) {
  const auto y = ValuesOf<float>(Fused("LayerNorm", {{"axis", int64_t{1}}, {"epsilon", 0.0f}}),
                                 {Floats({1, 2, 2}, {0, 10, 2, 30}), Floats({2}, {1, 2}), Floats({2}, {0, 5})});
  EXPECT_THAT(y, ElementsAre(-1, -1, 7, 7));
  EXPECT_THAT(ValuesOf<float>(Fused("LayerNorm", {{"axis", int64_t{-1}}, {"epsilon", 0.0f}}), {Floats({2}, {1, 3})}),
              ElementsAre(-1, 1));
}

TEST(GroupNormTest, ScalesPerImageThenActivates) {
  const Tensor x = Floats({2, 2, 1}, {-1, 1, -3, 3});
  const Attributes attributes = {{"num_groups", int64_t{1}}, {"epsilon", 0.0f}};
  EXPECT_THAT(
      ValuesOf<float>(Fused("GroupNorm", attributes), {x, Floats({2, 2}, {1, 1, 2, 4}), Floats({1, 2}, {0, 1})}),
      ElementsAre(-1, 2, -2, 5));
  Attributes silu = attributes;
  silu["activation"] = std::string("silu");
  const auto y = ValuesOf<float>(Fused("GroupNorm", silu), {x, Floats({2}, {1, 1}), Floats({2}, {0, 0})});
  // -sigmoid(-1) and sigmoid(1), rounded once.
  EXPECT_THAT(y, ElementsAre(FloatNear(-0.26894142f, 3e-8f), FloatNear(0.73105858f, 6e-8f),
                             FloatNear(-0.26894142f, 3e-8f), FloatNear(0.73105858f, 6e-8f)));
}

}  // namespace
}  // namespace octavo
