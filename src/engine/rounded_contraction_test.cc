// Contractions whose operands pass through 16 bits. Operands are integers whose sums are exact in float32, so that the
// order of a sum makes no difference: the engine must have the bits of the generic kernels, roundings included.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/onednn.h"
#include "engine/quantized_graph_testing.h"
#include "graph/rounding.h"

namespace octavo {
namespace {

class RoundedGraph : public QuantizedGraph {
 public:
  RoundedGraph(DType dtype, Dims input)
      : QuantizedGraph(std::move(input)), number_(dtype == DType::kFloat16 ? kOnnxFloat16 : kOnnxBFloat16) {}

  ValueId Rounded(ValueId value) { return Op("Cast", {Op("Cast", {value}, {{"to", number_}})}, {{"to", kOnnxFloat}}); }
  // Integers in [-limit, limit].
  Tensor Integers(Dims dims, int limit) {
    Tensor tensor = *Tensor::Create(DType::kFloat32, std::move(dims));
    for (float& v : tensor.mutable_values<float>()) v = static_cast<float>(Draw(limit));
    return tensor;
  }
  ValueId Weights(Dims dims, int limit = 3) { return Rounded(Constant(Integers(std::move(dims), limit))); }
  // One constant per output channel.
  ValueId Bias(int64_t channels) { return Constant(Integers({channels}, 99)); }

 private:
  int Draw(int limit) { return std::uniform_int_distribution<int>(-limit, limit)(random_); }

  int64_t number_;
  std::mt19937 random_{3};
};

std::string NameOfPrecision(DType dtype) { return dtype == DType::kFloat16 ? "fp16" : "bf16"; }

// The multiply-accumulates of steps of that precision.
int64_t MacsIn(const PlanInfo& plan, std::string_view precision) {
  int64_t macs = 0;
  for (const StepInfo& step : plan.steps) macs += step.precision == precision ? step.macs : 0;
  return macs;
}

int CountSteps(const PlanInfo& plan, std::string_view op) {
  return static_cast<int>(
      std::count_if(plan.steps.begin(), plan.steps.end(), [&](const StepInfo& step) { return step.op == op; }));
}

// The bits of the generic kernels, with all products stated to run in `precision`.
Ran ExpectExact(const QuantizedGraph& g, const Tensor& input, const std::string& precision,
                const std::vector<std::string>& observed = {}) {
  SessionOptions options;
  options.threads = 2;
  options.observed = observed;
  Ran ran = RunWith(g.graph, {input}, options);
  Graph bound = g.graph;
  EXPECT_TRUE(BindShapes(bound, {{"x", input.dims()}}).ok());
  const auto expected = EvaluateGraph(bound, std::vector{input});
  EXPECT_TRUE(expected.ok()) << expected.status().message();
  if (!expected.ok() || ran.outputs.size() < expected->size()) return ran;
  for (size_t k = 0; k < expected->size(); ++k) ExpectNear(ran.outputs[k], (*expected)[k], 0, precision);
  EXPECT_NEAR(static_cast<double>(MacsIn(ran.plan, precision)), static_cast<double>(ran.plan.contraction_macs), 8);
  if (observed.empty()) {
    EXPECT_EQ(CountSteps(ran.plan, "Cast"), 0);
  }
  return ran;
}

class RoundedContraction : public testing::TestWithParam<DType> {
 protected:
  // Beyond the integers that the type holds, so that rounding shows: bfloat16 has 8 bits, float16 11.
  int Limit() const { return GetParam() == DType::kFloat16 ? 3000 : 400; }
  std::string precision() const { return NameOfPrecision(GetParam()); }
};
INSTANTIATE_TEST_SUITE_P(Types, RoundedContraction, testing::Values(DType::kBFloat16, DType::kFloat16),
                         [](const auto& type) { return NameOfPrecision(type.param); });

TEST_P(RoundedContraction, Convolutions) {
  struct Case {
    Dims weights;
    int64_t group, stride;
  };
  for (const auto& [weights, group, stride] :
       {Case{{24, 16, 1, 1}, 1, 1}, Case{{24, 16, 3, 3}, 1, 2}, Case{{16, 1, 3, 3}, 16, 1}, Case{{8, 4, 3, 3}, 4, 1}}) {
    RoundedGraph g(GetParam(), {2, 16, 9, 7});
    g.Output(g.Op("Relu", {g.Op("Conv", {g.Rounded(g.x), g.Weights(weights), g.Bias(weights[0])},
                                {{"group", group},
                                 {"strides", std::vector<int64_t>{stride, stride}},
                                 {"pads", std::vector<int64_t>{1, 1, 1, 1}}})}));
    ExpectExact(g, g.Integers({2, 16, 9, 7}, Limit()), precision());
  }
}

TEST_P(RoundedContraction, TransposedConvolutions) {
  for (const int64_t kernel : {2, 3}) {
    RoundedGraph g(GetParam(), {1, 16, 6, 5});
    g.Output(g.Op("ConvTranspose", {g.Rounded(g.x), g.Weights({16, 8, kernel, kernel}), g.Bias(8)},
                  {{"strides", std::vector<int64_t>{2, 2}}}));
    ExpectExact(g, g.Integers({1, 16, 6, 5}, Limit()), precision());
  }
}

TEST_P(RoundedContraction, ProductsWithConstants) {
  RoundedGraph g(GetParam(), {3, 5, 24});
  const ValueId product = g.Op("MatMul", {g.Rounded(g.x), g.Weights({24, 40})});
  const ValueId flat =
      g.Op("Reshape", {g.Op("Add", {product, g.Bias(40)}), g.Constant(Tensor::FromVector<int64_t>({2}, {15, 40}))});
  // Sums of 24 products up to 3 * 3000 need 18 bits: they are rounded again.
  g.Output(g.Op("Gemm", {g.Rounded(g.Op("Div", {flat, g.Scalar(8)})), g.Weights({16, 40}), g.Bias(16)},
                {{"transB", int64_t{1}}}));
  ExpectExact(g, g.Integers({3, 5, 24}, Limit()), precision());
}

TEST_P(RoundedContraction, ProductsOfActivations) {
  RoundedGraph g(GetParam(), {2, 3, 10, 16});
  const ValueId other =
      g.Op("Transpose", {g.Op("Clip", {g.x, g.Scalar(-9), g.Scalar(9)})}, {{"perm", std::vector<int64_t>{0, 1, 3, 2}}});
  g.Output(g.Op("MatMul", {g.Rounded(g.x), g.Rounded(other)}));
  ExpectExact(g, g.Integers({2, 3, 10, 16}, Limit()), precision());
}

TEST_P(RoundedContraction, OneRoundingForSeveralReaders) {
  RoundedGraph g(GetParam(), {1, 16, 8, 8});
  const ValueId x = g.Rounded(g.x);
  const ValueId y = g.Op("Conv", {x, g.Weights({16, 16, 1, 1})});
  const ValueId z = g.Op("Conv", {g.Rounded(g.x), g.Weights({16, 16, 1, 1})});
  g.Output(g.Op("Add", {y, g.Op("Add", {z, g.x})}));
  const Ran ran = ExpectExact(g, g.Integers({1, 16, 8, 8}, Limit()), precision());
  EXPECT_EQ(CountSteps(ran.plan, "Convert") + CountSteps(ran.plan, "RoundTo"), 1);
}

TEST_P(RoundedContraction, ReachesOutputsAndObservers) {
  RoundedGraph g(GetParam(), {1, 16, 8, 8});
  const ValueId x = g.Rounded(g.Op("Relu", {g.x}));
  g.Output(g.Op("Conv", {x, g.Weights({16, 16, 1, 1})}));
  g.Output(x);
  const std::vector<std::string> observed = {g.graph.value(g.graph.node(g.graph.value(x).producer).input(0)).name,
                                             "Relu"};
  const Ran ran = ExpectExact(g, g.Integers({1, 16, 8, 8}, Limit()), precision(), observed);
  ASSERT_EQ(ran.outputs.size(), 4u);
  const auto rounded = *ToFloats(ran.outputs[1]), narrow = *ToFloats(ran.outputs[2]), relu = *ToFloats(ran.outputs[3]);
  EXPECT_EQ(rounded, narrow);
  EXPECT_NE(rounded, relu);
}

TEST_P(RoundedContraction, BehindIntegers) {
  RoundedGraph g(GetParam(), {1, 16, 8, 8});
  const ValueId integers = g.Op("Conv", {g.Fake(g.x, 4.0f), g.QuantizedGraph::Weights({16, 16, 1, 1}, 0)});
  g.Output(g.Op("Conv", {g.Rounded(g.Fake(integers, 2.0f)), g.Weights({8, 16, 1, 1})}));
  const Tensor input = g.Integers({1, 16, 8, 8}, 400);
  const Ran ran = RunSession(g.graph, input);
  const auto expected = EvaluateGraph(g.graph, std::vector{input});
  ASSERT_TRUE(expected.ok());
  // Integers up to 255 times 2: exact in either type.
  ExpectNear(ran.outputs[0], (*expected)[0], 0, precision());
  EXPECT_EQ(MacsIn(ran.plan, "int8"), 16 * 16 * 64);
  EXPECT_EQ(MacsIn(ran.plan, precision()), 16 * 8 * 64);
}

// Products and convolutions in a row, in any precision, with what moves elements and what reads them unrounded between
// them. Clip keeps the integers small enough for exact sums.
class RandomGraph : public RoundedGraph {
 public:
  explicit RandomGraph(uint32_t seed) : RoundedGraph(DType::kBFloat16, {1, 8, 6, 6}), random_(seed) {
    std::vector<ValueId> values = {x};
    for (int i = 0; i < 8; ++i) {
      const ValueId value = values[Below(values.size())];
      values.push_back(Next(value, values));
      if (Below(6) == 0) Output(values.back());
    }
    Output(Op("Relu", {values.back()}));
  }

 private:
  size_t Below(size_t n) { return random_() % n; }

  // Every value is 1 x 8 x 6 x 6.
  ValueId Next(ValueId value, const std::vector<ValueId>& values) {
    switch (Below(7)) {
      case 0:
      case 1:
        return Contraction(Op("Conv", {MaybeRounded(value), MaybeRounded(Constant(Integers({8, 8, 3, 3}, 2)))},
                              {{"pads", std::vector<int64_t>{1, 1, 1, 1}}}));
      case 2:
        return Contraction(Op("MatMul", {MaybeRounded(value), MaybeRounded(Constant(Integers({6, 6}, 2)))}));
      case 3:
        return Contraction(Op("MatMul", {MaybeRounded(value), MaybeRounded(values[Below(values.size())])}));
      case 4:
        return Op("Transpose", {value}, {{"perm", std::vector<int64_t>{0, 1, 3, 2}}});
      case 5:
        return Op(
            "Reshape",
            {Op("Reshape", {Op("Transpose", {value}, {{"perm", std::vector<int64_t>{0, 2, 3, 1}}}), Sizes({1, 36, 8})}),
             Sizes({1, 8, 6, 6})});
      default:
        return Op("Add", {value, Halves(values[Below(values.size())])});
    }
  }
  // The lower half of the channels twice.
  ValueId Halves(ValueId value) {
    const ValueId low = graph.AddValue("low"), high = graph.AddValue("high");
    graph.AddNode("Split", "", "Split", {value, Sizes({4, 4})}, {low, high}, {{"axis", int64_t{1}}});
    return Op("Concat", {Below(2) == 0 ? high : low, low}, {{"axis", int64_t{1}}});
  }
  ValueId Sizes(const std::vector<int64_t>& sizes) {
    return Constant(Tensor::FromVector<int64_t>({static_cast<int64_t>(sizes.size())}, sizes));
  }
  ValueId Contraction(ValueId product) {
    return Op("Clip", {Below(2) == 0 ? Op("Relu", {product}) : product, Scalar(-400), Scalar(400)});
  }
  ValueId MaybeRounded(ValueId value) {
    const size_t type = Below(5);
    if (type == 0) return value;
    const int64_t number = type == 1 ? kOnnxFloat16 : kOnnxBFloat16;
    return Op("Cast", {Op("Cast", {value}, {{"to", number}})}, {{"to", kOnnxFloat}});
  }

  std::mt19937 random_;
};

TEST(RoundedContractions, AnyMixtureHasTheBitsOfTheGenericKernels) {
  int64_t narrow_macs = 0;
  for (uint32_t seed = 0; seed < 100; ++seed) {
    RandomGraph g(seed);
    const Tensor input = g.Integers({1, 8, 6, 6}, 600);
    Graph bound = g.graph;
    ASSERT_TRUE(BindShapes(bound, {}).ok());
    const auto expected = EvaluateGraph(bound, std::vector{input});
    ASSERT_TRUE(expected.ok()) << expected.status().message();
    const Ran ran = RunSession(g.graph, input, 1);
    ASSERT_EQ(ran.outputs.size(), expected->size());
    for (size_t k = 0; k < expected->size(); ++k) {
      ExpectNear(ran.outputs[k], (*expected)[k], 0, "seed " + std::to_string(seed));
    }
    if (HasFailure()) return;
    narrow_macs += MacsIn(ran.plan, "bf16") + MacsIn(ran.plan, "fp16");
  }
  EXPECT_GT(narrow_macs, 100 * 8 * 8 * 9 * 36);  // a convolution each, on average
}

TEST(RoundedContractions, BFloat16GoesFromOneToTheNextWithoutACopy) {
  if (!OneDnnHasBFloat16()) GTEST_SKIP() << "this CPU has no bfloat16 products";
  RoundedGraph g(DType::kBFloat16, {1, 16, 8, 8});
  const ValueId h = g.Op("Relu", {g.Op("Conv", {g.Rounded(g.x), g.Weights({48, 16, 1, 1}), g.Bias(48)})});
  g.Output(g.Op("Conv", {g.Rounded(h), g.Weights({16, 48, 1, 1})}));
  const Ran ran = ExpectExact(g, g.Integers({1, 16, 8, 8}, 300), "bf16");
  // The input's conversion, two convolutions, and the output in the caller's order.
  EXPECT_EQ(ran.plan.steps.size(), 4u);
  EXPECT_THAT(ran.plan.steps[1].kernel, testing::HasSubstr("onednn"));
  EXPECT_EQ(ran.plan.steps[1].op, "Conv+Relu");
}

TEST(RoundedContractions, Float16OverflowsToInfinity) {
  RoundedGraph g(DType::kFloat16, {1, 2});
  g.Output(g.Op("MatMul", {g.Rounded(g.x), g.Rounded(g.Constant(Tensor::FromVector<float>({2, 1}, {1, 1})))}));
  const Ran ran = RunSession(g.graph, Tensor::FromVector<float>({1, 2}, {65519, -65519}));
  EXPECT_EQ(ran.outputs[0].values<float>()[0], 0);
  const Ran beyond = RunSession(g.graph, Tensor::FromVector<float>({1, 2}, {65520, 1}));
  EXPECT_TRUE(std::isinf(beyond.outputs[0].values<float>()[0]));
}

// Operands that only look rounded keep float32 products: both must be.
TEST(RoundedContractions, WantBothOperandsRounded) {
  for (const bool activation : {false, true}) {
    RoundedGraph g(DType::kBFloat16, {4, 16});
    const ValueId weights = g.Constant(g.Integers({16, 8}, 1000));
    g.Output(g.Op("MatMul", {activation ? g.Rounded(g.x) : g.x, activation ? weights : g.Rounded(weights)}));
    ExpectExact(g, g.Integers({4, 16}, 1000), "fp32");
  }
  RoundedGraph g(DType::kBFloat16, {4, 16});
  const ValueId half = g.Op("Cast", {g.Op("Cast", {g.x}, {{"to", kOnnxFloat16}})}, {{"to", kOnnxFloat}});
  g.Output(g.Op("MatMul", {g.Rounded(g.x), g.Op("Transpose", {half})}));
  ExpectExact(g, g.Integers({4, 16}, 1000), "fp32");
}

}  // namespace
}  // namespace octavo
