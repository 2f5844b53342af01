// Linear attention between DequantizeLinear nodes, lowered onto their integers.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/quantized_graph_testing.h"
#include "kernels/kernel_testing.h"

namespace octavo {
namespace {

using testing::HasSubstr;

constexpr int64_t kHeads = 2, kDepth = 8;
constexpr float kValueScale = 0.03f;

// x (1, heads, 3 depth, tokens) holds q, k and v of each head.
class LinearAttentionGraph : public QuantizedGraph {
 public:
  explicit LinearAttentionGraph(int64_t tokens, bool signed_values = false)
      : QuantizedGraph({1, kHeads, 3 * kDepth, tokens}) {
    const ValueId q = Fake(Op("Relu", {Channels(0)}), 0.015f, 0), k = Fake(Op("Relu", {Channels(1)}), 0.011f, 0);
    const ValueId v = signed_values ? FakeSigned(Channels(2), kValueScale) : Fake(Channels(2), kValueScale, 120);
    y = Op("LinearAttention", {q, k, v}, {{"epsilon", 1e-5f}}, std::string(kOctavoDomain));
  }

  ValueId y = kNoValue;

 private:
  ValueId Ints(int64_t value) { return Constant(Tensor::FromVector<int64_t>({1}, {value})); }
  ValueId Channels(int64_t part) {
    return Op("Slice", {x, Ints(part * kDepth), Ints((part + 1) * kDepth), Ints(2), Ints(1)});
  }
};

const StepInfo* StepOf(const PlanInfo& plan, const std::string& op) {
  for (const StepInfo& step : plan.steps) {
    if (step.op == op) return &step;
  }
  return nullptr;
}

// The reference multiplies what DequantizeLinear rounded: 3 roundings of 2^-24 in the numerator, 2 in the divisor and
// one of its result, and 8 of ours (docs/numerics.md), all relative to an average of |v|.
constexpr float kTolerance = 14.0f / (1 << 24) * 255 * kValueScale;

TEST(LinearAttentionOnIntegers, HasTheSameBitsOnEveryIsaAndThreadCount) {
  for (const bool signed_values : {false, true}) {
    constexpr int64_t kTokens = 150;
    LinearAttentionGraph g(kTokens, signed_values);
    g.Output(g.y);
    const Tensor input = g.Normal(g.graph.value(g.x).dims);
    const std::vector<Tensor> inputs{input};
    const Ran first = RunSession(g.graph, input, 1);
    ASSERT_EQ(first.outputs.size(), 1u);
    const StepInfo* step = StepOf(first.plan, "LinearAttention");
    ASSERT_NE(step, nullptr);
    EXPECT_EQ(step->precision, "int8");
    EXPECT_EQ(StepOf(first.plan, "DequantizeLinear"), nullptr);
    // Keys times values; queries times wider sums are not of 8 bits.
    EXPECT_EQ(first.plan.int8_macs, kHeads * kDepth * kDepth * kTokens);
    EXPECT_EQ(first.plan.contraction_macs - first.plan.int8_macs, kHeads * kDepth * (kDepth + 1) * kTokens);
    ExpectNear(first.outputs[0], EvaluateGraph(g.graph, inputs).value()[0], kTolerance, "reference");
    ForEachIsa([&] {
      for (const int threads : {1, 2, 3}) {
        ExpectSameBits(RunSession(g.graph, input, threads).outputs, first.outputs, std::to_string(threads));
      }
    });
  }
}

TEST(LinearAttentionOnIntegers, IsQuantizedBehindTheQuotient) {
  LinearAttentionGraph g(64);
  g.Output(g.Q8(g.y, 0.01f, 128));
  const Tensor input = g.Normal(g.graph.value(g.x).dims);
  const std::vector<Tensor> inputs{input};
  const Ran ran = RunSession(g.graph, input);
  ASSERT_EQ(ran.outputs.size(), 1u);
  ExpectNear(ran.outputs[0], EvaluateGraph(g.graph, inputs).value()[0], 1, "within a step");
  bool said = false;
  for (const UnfusedQuantization& unfused : ran.plan.unfused) {
    said |= unfused.reason.find("computes on integers and divides in float") != std::string::npos;
  }
  EXPECT_TRUE(said);
}

TEST(LinearAttentionOnIntegers, WritesBFloat16) {
  LinearAttentionGraph g(64);
  g.Output(g.Op("Add", {g.y, g.Scalar(0)}));
  const Tensor input = g.Normal(g.graph.value(g.x).dims);
  const std::vector<Tensor> inputs{input};
  const Ran ran = RunSession(g.graph, input, 2, Precision::kBFloat16);
  ASSERT_EQ(ran.outputs.size(), 1u);
  EXPECT_EQ(StepOf(ran.plan, "LinearAttention")->precision, "int8");
  // One rounding to 8 bits.
  ExpectNear(ran.outputs[0], EvaluateGraph(g.graph, inputs).value()[0], 255 * kValueScale / 256, "bfloat16");
}

TEST(LinearAttentionOnIntegers, SumsThatMayNotFitRunInFloat) {
  LinearAttentionGraph g(33026);
  g.Output(g.y);
  const Ran ran = RunSession(g.graph, g.Normal(g.graph.value(g.x).dims));
  ASSERT_EQ(ran.outputs.size(), 1u);
  EXPECT_EQ(ran.plan.int8_macs, 0);
  const StepInfo* step = StepOf(ran.plan, "LinearAttention");
  ASSERT_NE(step, nullptr);
  EXPECT_EQ(step->precision, "fp32");
  int dequantized = 0;
  for (const UnfusedQuantization& unfused : ran.plan.unfused) {
    if (unfused.op != "DequantizeLinear") continue;
    ++dequantized;
    EXPECT_THAT(unfused.reason, HasSubstr("its sums may not fit 32 bits"));
  }
  EXPECT_EQ(dequantized, 3);
}

}  // namespace
}  // namespace octavo
