// Softmax attention between DequantizeLinear nodes, with numerators that are quantized before the sum divides them.
#include "engine/integer_attention.h"

#include <gtest/gtest.h>

#include "engine/quantized_graph_testing.h"
#include "kernels/kernel_testing.h"

namespace octavo {
namespace {

struct Options {
  int64_t heads = 2, depth = 8, tokens = 150;
  bool is_signed = false;         // int8 everywhere
  bool channels_outside = false;  // x is (1, heads, 3 depth, tokens), otherwise (1, heads, tokens, 3 depth)
  bool masked = false;
  float numerator_scale = 1.0f / 255;
  int32_t numerator_zero = 0;
};

class AttentionGraph : public QuantizedGraph {
 public:
  explicit AttentionGraph(const Options& o)
      : QuantizedGraph(o.channels_outside ? Dims{1, o.heads, 3 * o.depth, o.tokens}
                                          : Dims{1, o.heads, o.tokens, 3 * o.depth}),
        options_(o) {
    const ValueId q = Quantized(Tokens(0), 0.021f, 120), k = Quantized(Channels(1), 0.017f, 100),
                  v = Quantized(Tokens(2), 0.03f, 133);
    ValueId s = Op("MatMul", {q, k});
    if (o.masked) s = Op("Add", {s, Constant(Tensor::FromVector<float>({o.tokens}, Mask()))});
    const ValueId shifted = Op("Sub", {s, Op("ReduceMax", {s}, {{"axes", std::vector<int64_t>{3}}})});
    numerators = Op("Exp", {shifted});
    const ValueId rounded = o.is_signed ? FakeSigned(numerators, 1.0f / 127)
                                        : Fake(numerators, o.numerator_scale, static_cast<uint8_t>(o.numerator_zero));
    product = Op("MatMul", {rounded, v});
    y = Op("Div", {product, Op("ReduceSum", {numerators, Ints(3)})});
  }

  ValueId numerators = kNoValue, product = kNoValue, y = kNoValue;

 private:
  ValueId Ints(int64_t value) { return Constant(Tensor::FromVector<int64_t>({1}, {value})); }
  ValueId Part(int64_t part) {
    return Op("Slice", {x, Ints(part * options_.depth), Ints((part + 1) * options_.depth),
                        Ints(options_.channels_outside ? 2 : 3), Ints(1)});
  }
  ValueId Transposed(ValueId value) { return Op("Transpose", {value}, {{"perm", std::vector<int64_t>{0, 1, 3, 2}}}); }
  ValueId Tokens(int64_t part) { return options_.channels_outside ? Transposed(Part(part)) : Part(part); }
  ValueId Channels(int64_t part) { return options_.channels_outside ? Part(part) : Transposed(Part(part)); }
  ValueId Quantized(ValueId value, float scale, uint8_t zero) {
    return options_.is_signed ? FakeSigned(value, scale) : Fake(value, scale, zero);
  }
  std::vector<float> Mask() const {
    std::vector<float> mask(static_cast<size_t>(options_.tokens), 0.0f);
    mask[0] = -1;
    return mask;
  }

  Options options_;
};

const StepInfo* AttentionStep(const PlanInfo& plan) {
  for (const StepInfo& step : plan.steps) {
    if (step.op == "Attention") return &step;
  }
  return nullptr;
}

// y's elements are averages of |v| <= 0.03 * 255: the sum of up to 2000 exponentials in another order moves the
// quotient by less than 2000 * 2^-24 of itself, of which a sum in 16 lanes by two leaves a hundredth. A numerator that
// lies within 4e-6 of itself from a tie could be quantized to its other side; of these inputs none does.
constexpr float kTolerance = 0.03f * 255 * 2000 / (1 << 24) / 32;

class IntegerAttentionTest : public testing::TestWithParam<Options> {
 protected:
  void SetUp() override {
    if (!OneDnnSumsExactly()) GTEST_SKIP() << "no exact products of bytes on this CPU";
  }
};
INSTANTIATE_TEST_SUITE_P(Shapes, IntegerAttentionTest,
                         testing::Values(Options{}, Options{1, 32, 257}, Options{2, 16, 64, true},
                                         Options{3, 5, 33, false, true}, Options{2, 16, 190, true, true},
                                         Options{1, 8, 2000}, Options{2, 7, 70, false, false, false, 0.01f, 17}),
                         [](const auto& test) { return std::to_string(test.index); });

TEST_P(IntegerAttentionTest, GivesWhatItsNodesGive) {
  AttentionGraph fused(GetParam()), apart(GetParam());
  fused.Output(fused.y);
  apart.Output(apart.y);
  apart.Output(apart.product);  // somebody looks inside
  const Tensor input = fused.Normal(fused.graph.value(fused.x).dims);
  const Ran expected = RunSession(apart.graph, input, 1);
  ASSERT_EQ(expected.outputs.size(), 2u);
  EXPECT_EQ(AttentionStep(expected.plan), nullptr);
  const Ran first = RunSession(fused.graph, input, 1);
  ASSERT_EQ(first.outputs.size(), 1u);
  const StepInfo* step = AttentionStep(first.plan);
  ASSERT_NE(step, nullptr);
  EXPECT_EQ(step->precision, "int8");
  EXPECT_EQ(first.plan.int8_macs, expected.plan.int8_macs);
  EXPECT_EQ(first.plan.int8_macs, first.plan.contraction_macs);
  ExpectNear(first.outputs[0], expected.outputs[0], kTolerance, "apart");
  for (const int threads : {2, 3, 5}) {
    ExpectSameBits(RunSession(fused.graph, input, threads).outputs, first.outputs, std::to_string(threads));
  }
  ForEachIsa([&] { ExpectNear(RunSession(fused.graph, input, 2).outputs[0], first.outputs[0], kTolerance, "isa"); });
}

TEST_P(IntegerAttentionTest, WritesBFloat16) {
  AttentionGraph g(GetParam());
  g.Output(g.Op("Add", {g.y, g.Scalar(0)}));
  const Tensor input = g.Normal(g.graph.value(g.x).dims);
  const Ran ran = RunSession(g.graph, input, 2, Precision::kBFloat16);
  ASSERT_EQ(ran.outputs.size(), 1u);
  ASSERT_NE(AttentionStep(ran.plan), nullptr);
  const std::vector<Tensor> inputs{input};
  // One rounding to 8 bits, and of the exponentials whose arguments the float sums of the reference move by less than
  // 2^-12: a step of 1/255 (1/100) each in at most a few of them, which the average divides by the number of tokens.
  ExpectNear(ran.outputs[0], EvaluateGraph(g.graph, inputs).value()[0], 0.03f * 255 / 64, "bfloat16");
}

TEST(IntegerAttentionPattern, LeavesMasksToTheirNodes) {
  Options options;
  options.masked = true;
  AttentionGraph g(options);
  g.Output(g.y);
  const Tensor input = g.Normal(g.graph.value(g.x).dims);
  const Ran ran = RunSession(g.graph, input, 2);
  ASSERT_EQ(ran.outputs.size(), 1u);
  EXPECT_EQ(AttentionStep(ran.plan), nullptr);
}

TEST(IntegerAttentionPattern, SumsThatMayNotFitRunApart) {
  const auto operand = [](Dims dims) {
    Dims strides = ContiguousStrides(dims);
    return ByteOperand{{true, DType::kUInt8, std::move(dims), std::move(strides), nullptr}, 0.1f, 3};
  };
  IntegerAttentionSpec spec;
  spec.q = operand({4, 1});
  spec.k = operand({1, 32001});
  spec.v = operand({32001, 1});
  spec.y = {true, DType::kFloat32, {4, 1}, {1, 1}, nullptr};
  PackedWeights cache;
  OneDnnBuilder onednn(cache);
  EXPECT_EQ(BindIntegerAttention(onednn, spec).status().code(), ErrorCode::kUnsupported);
}

}  // namespace
}  // namespace octavo
