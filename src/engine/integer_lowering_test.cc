// Q/DQ graphs through Session against the generic kernels, which compute in float on dequantized values.
#include <gtest/gtest.h>

#include "engine/quantized_graph_testing.h"

namespace octavo {
namespace {

TEST(IntegerLowering, Convolutions) {
  const Dims input{2, 16, 11, 13};
  struct Case {
    Dims weights;
    std::map<std::string, Attribute> attributes;
  };
  using Ints = std::vector<int64_t>;
  const std::vector<Case> cases = {
      {{8, 16, 1, 1}, {}},
      {{8, 16, 3, 3}, {{"pads", Ints{1, 1, 1, 1}}, {"strides", Ints{2, 2}}}},
      {{8, 4, 3, 3}, {{"group", int64_t{4}}, {"pads", Ints{0, 2, 1, 0}}}},
      {{16, 1, 5, 5}, {{"group", int64_t{16}}, {"pads", Ints{2, 2, 2, 2}}}},
      {{32, 1, 3, 3}, {{"group", int64_t{16}}, {"auto_pad", std::string("SAME_LOWER")}}},
      {{8, 16, 3, 2}, {{"dilations", Ints{2, 3}}, {"auto_pad", std::string("SAME_UPPER")}}},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(ToString(c.weights));
    QuantizedGraph g(input);
    // A bias that the file holds in INT32.
    std::vector<int32_t> bias(static_cast<size_t>(c.weights[0]));
    for (size_t i = 0; i < bias.size(); ++i) bias[i] = static_cast<int32_t>(i * 100) - 300;
    const ValueId b =
        g.Op("DequantizeLinear", {g.Constant(Tensor::FromVector<int32_t>({c.weights[0]}, bias)), g.Scalar(0.001f)});
    g.Output(g.Op("Relu", {g.Op("Conv", {g.Fake(g.x, 0.03f, 100), g.Weights(c.weights, 0), b}, c.attributes)}));
    const Ran ran = ExpectInteger(g, kSums);
    EXPECT_EQ(ran.plan.unfused.size(), 1u);  // the one that reads the graph's input
  }
}

// Share of the elements that differ from the reference's, none by more than one step.
double ShareOfOtherSteps(const QuantizedGraph& g, const Tensor& input, float step) {
  const std::vector<Tensor> inputs{input};
  const std::vector<float> found = *ToFloats(RunSession(g.graph, input).outputs.at(0)),
                           expected = *ToFloats(EvaluateGraph(g.graph, inputs).value()[0]);
  EXPECT_EQ(found.size(), expected.size());
  size_t others = 0;
  for (size_t i = 0; i < found.size(); ++i) {
    EXPECT_LE(std::abs(found[i] - expected[i]), 1.001f * step) << i;
    others += std::abs(found[i] - expected[i]) > 0.5f * step ? 1u : 0u;
  }
  return static_cast<double>(others) / static_cast<double>(found.size());
}

TEST(IntegerLowering, GeluBeforeEightBitsIsRough) {
  for (const char* form : {"none", "tanh"}) {
    // Steps of 0.02, those of a channel's factor of 20, and steps that a rough function is too coarse for.
    for (const auto& [step, factor] : {std::pair(0.02f, 1.0f), std::pair(0.2f, 20.0f), std::pair(0.001f, 1.0f)}) {
      QuantizedGraph g({4, 32, 16, 16});
      ValueId y = g.Op("Gelu", {g.Op("Conv", {g.Fake(g.x), g.Weights({16, 32, 1, 1}, 0)})},
                       {{"approximate", std::string(form)}});
      if (factor != 1) {
        y = g.Op("Mul", {y, g.Constant(Tensor::FromVector<float>({1, 16, 1, 1}, std::vector<float>(16, factor)))});
      }
      g.Output(g.Fake(y, step, 10));
      // A result moves by at most 1/64 of a step (kRoughShare), and so to the other side of a tie in no more than twice
      // that of all elements; those at rest around 0, half of them, do not move. Exact functions leave ties alone.
      const double share = ShareOfOtherSteps(g, g.Normal({4, 32, 16, 16}), step);
      EXPECT_LE(share, step < 0.0032f ? 0.001 : 1.0 / 64) << form << ' ' << step;
    }
  }
}

TEST(IntegerLowering, OneDimension) {
  QuantizedGraph g({1, 6, 40});
  g.Output(g.Op("Conv", {g.Fake(g.x), g.Weights({10, 6, 4}, 0)}, {{"pads", std::vector<int64_t>{1, 2}}}));
  ExpectInteger(g, kSums);
}

TEST(IntegerLowering, TransposedConvolutions) {
  using Ints = std::vector<int64_t>;
  for (const int64_t kernel : {2, 3, 4}) {
    SCOPED_TRACE(kernel);
    QuantizedGraph g({1, 12, 7, 6});
    std::map<std::string, Attribute> attributes{{"strides", Ints{2, 2}}};
    if (kernel > 2) attributes["pads"] = Ints{1, 1, 1, 1};
    if (kernel == 3) attributes["output_padding"] = Ints{1, 1};
    g.Output(
        g.Fake(g.Op("ConvTranspose", {g.Fake(g.x), g.Weights({12, 5, kernel, kernel}, 1)}, attributes), 0.05f, 120));
    // One step of the output where the reference's sum lies next to a tie.
    ExpectInteger(g, 0.0501f);
  }
}

TEST(IntegerLowering, MatrixProducts) {
  {
    QuantizedGraph g({9, 20});
    g.Output(g.Op("Gemm", {g.Fake(g.x), g.Weights({14, 20}, 0), g.Constant(g.Normal({14}))}, {{"transB", int64_t{1}}}));
    ExpectInteger(g, kSums);
  }
  {
    QuantizedGraph g({9, 20});
    g.Output(g.Op("Gemm", {g.Fake(g.x), g.Weights({20, 14}, 1)}));
    ExpectInteger(g, kSums);
  }
  {
    QuantizedGraph g({2, 9, 20});
    const ValueId product = g.Op("MatMul", {g.Fake(g.x), g.Weights({20, 33}, 1)});
    g.Output(g.Op("Gelu", {g.Op("Add", {product, g.Constant(g.Normal({33}))})}));
    ExpectInteger(g, kSums);
  }
  {
    // Weights that reach the product through a Transpose.
    QuantizedGraph g({2, 9, 20});
    const ValueId transposed = g.Op("Transpose", {g.Weights({33, 20}, 0)}, {{"perm", std::vector<int64_t>{1, 0}}});
    g.Output(g.Op("MatMul", {g.Fake(g.x), transposed}));
    ExpectInteger(g, kSums);
  }
  {
    QuantizedGraph g({9, 20});
    g.Output(g.Op("Gemm", {g.Fake(g.x), g.Weights({20, 14}, 1)}, {{"alpha", 0.5f}}));
    const Ran ran = ExpectInteger(g, kSums, 0);
    ASSERT_FALSE(ran.plan.unfused.empty());
    EXPECT_NE(ran.plan.unfused.back().reason.find("alpha"), std::string::npos) << ran.plan.unfused.back().reason;
  }
}

TEST(IntegerLowering, ProductsOfTwoActivations) {
  QuantizedGraph g({2, 3, 10, 8});
  const ValueId k = g.Op("Transpose", {g.Fake(g.x, 0.02f, 90)}, {{"perm", std::vector<int64_t>{0, 1, 3, 2}}});
  const ValueId scores = g.Op("MatMul", {g.Fake(g.x, 0.03f), g.Fake(k, 0.025f, 128)});
  g.Output(g.Op("MatMul", {g.Fake(g.Op("Softmax", {scores}, {{"axis", int64_t{-1}}}), 1 / 255.0f, 0), g.Fake(g.x)}));
  // A step of the softmax (1/255) times ten values of up to 4.
  ExpectInteger(g, 10 * 4 / 255.0f);
}

TEST(IntegerLowering, WeightsWithZeroPointsAndOneScale) {
  QuantizedGraph g({1, 16, 9, 9});
  Tensor q = *Tensor::Create(DType::kUInt8, {8, 16, 3, 3});
  uint32_t state = 1;
  for (auto& v : q.mutable_values<uint8_t>()) v = static_cast<uint8_t>((state = state * 1664525 + 1013904223) >> 24);
  const ValueId w =
      g.Op("DequantizeLinear", {g.Constant(std::move(q)), g.Scalar(0.004f), g.Constant(Tensor::Scalar<uint8_t>(77))});
  g.Output(g.Op("Conv", {g.Fake(g.x), w}));
  ExpectInteger(g, kSums);
}

TEST(IntegerLowering, SignedActivationsBecomeUnsigned) {
  QuantizedGraph g({1, 16, 9, 9});
  const ValueId first = g.Op("Conv", {g.FakeSigned(g.x), g.Weights({8, 16, 3, 3}, 0)});
  g.Output(g.Op("Conv", {g.FakeSigned(first, 0.05f), g.Weights({4, 8, 1, 1}, 0)}));
  // A step of the middle times the largest weight, 0.01 * 127, for one of the eight channels.
  ExpectInteger(g, 0.05f * 1.27f + kSums);
}

TEST(IntegerLowering, ResidualsAndSeveralReaders) {
  QuantizedGraph g({1, 16, 9, 9});
  const ValueId stem = g.Op("Conv", {g.Fake(g.x), g.Weights({16, 16, 1, 1}, 0)});
  const ValueId narrow = g.Fake(stem, 0.02f), wide = g.Fake(stem, 0.1f, 60);
  const ValueId a = g.Op("Conv", {narrow, g.Weights({16, 16, 3, 3}, 0)}, {{"pads", std::vector<int64_t>{1, 1, 1, 1}}});
  const ValueId with_integers = g.Op("Add", {a, wide});
  const ValueId b = g.Op("Conv", {g.Fake(with_integers, 0.08f), g.Weights({16, 16, 1, 1}, 0)});
  g.Output(g.Op("Add", {b, stem}));
  // Two layers of quantizers: a few steps of 0.08 and 0.1 times weights of up to 1.27.
  const Ran ran = ExpectInteger(g, 0.1f * 1.27f * 3);
  EXPECT_EQ(ran.plan.unfused.size(), 1u);
}

// Q and DQ between a convolution and what follows are part of its step: the bits are those of steps of their own, which
// they are where the integers are an output, too.
TEST(IntegerLowering, RoundsOnTheWay) {
  size_t steps[2] = {};
  Ran ran[2];
  for (const bool apart : {false, true}) {
    QuantizedGraph g({1, 16, 9, 9});
    const ValueId skip = g.Fake(g.x, 0.04f, 77);
    const ValueId q1 = g.Q8(
        g.Op("Conv", {g.Fake(g.x), g.Weights({16, 16, 1, 1}, 0), g.Floats(std::vector<float>(16, 0.1f))}), 0.05f, 130);
    const ValueId hidden = g.Fake(g.Op("HardSwish", {g.D8(q1, 0.05f, 130)}), 0.06f, 5);
    const ValueId q2 = g.Q8(g.Op("Conv", {hidden, g.Weights({16, 16, 1, 1}, 0)}), 0.07f);
    const ValueId sum = g.Op("Add", {skip, g.D8(q2, 0.07f)});
    g.Output(g.Op("Conv", {g.Fake(sum, 0.08f), g.Weights({8, 16, 1, 1}, 0)}));
    if (apart) {
      g.Output(q1);
      g.Output(q2);
    }
    const size_t i = apart ? 1 : 0;
    ran[i] = RunSession(g.graph, g.Normal({1, 16, 9, 9}));
    ASSERT_FALSE(ran[i].outputs.empty());
    steps[i] = ran[i].plan.steps.size();
    EXPECT_EQ(ran[i].plan.int8_macs_share(), 1.0);
    const auto has_round = [](const StepInfo& step) { return step.op.find("+Round") != std::string::npos; };
    EXPECT_EQ(std::count_if(ran[i].plan.steps.begin(), ran[i].plan.steps.end(), has_round), apart ? 0 : 2);
  }
  EXPECT_LT(steps[0], steps[1]);
  ExpectSameBits({ran[0].outputs[0]}, {ran[1].outputs[0]}, "rounded on the way");
}

// The pair's scales differ, others read the integers, or the product has a form for floats alone: nothing is left out.
TEST(IntegerLowering, PairsThatCannotBeRoundedOnTheWay) {
  for (const int form : {0, 1, 2}) {
    QuantizedGraph g(form == 2 ? Dims{1, 4, 3, 3, 3} : Dims{1, 4, 9, 9});
    const Dims kernel = form == 2 ? Dims{4, 4, 1, 1, 1} : Dims{4, 4, 1, 1};
    const ValueId q = g.Q8(g.Op("Conv", {g.Fake(g.x), g.Weights(kernel, 0)}), 0.05f, 130);
    const ValueId y = g.Op("Relu", {g.D8(q, form == 0 ? 0.06f : 0.05f, 130)});
    g.Output(g.Op("Tanh", {y}));
    if (form == 1) g.Output(g.Op("Sigmoid", {g.D8(q, 0.1f)}));
    // A step of 0.06 at most where a sum lies next to a tie.
    ExpectInteger(g, 0.0601f, form == 2 ? 0 : 1);
  }
}

TEST(IntegerLowering, FloatReadersAndQuantizedOutputs) {
  QuantizedGraph g({1, 8, 6, 6});
  const ValueId conv = g.Op("Conv", {g.Fake(g.x), g.Weights({8, 8, 1, 1}, 0)});
  const ValueId q = g.Q8(conv, 0.03f);
  const ValueId real = g.D8(q, 0.03f);
  g.Output(q);
  g.Output(real);
  g.Output(g.Op("Softmax", {real}, {{"axis", int64_t{1}}}));
  // One step of a quantized value, 1 as an integer.
  const Ran ran = ExpectInteger(g, 1.001f);
  ASSERT_EQ(ran.outputs.size(), 3u);
  EXPECT_EQ(ran.outputs[0].dtype(), DType::kUInt8);
}

TEST(IntegerLowering, ViewsBetweenQuantizeAndDequantize) {
  QuantizedGraph g({1, 8, 6, 6});
  const ValueId shape = g.Constant(Tensor::FromVector<int64_t>({4}, {1, 8, 4, 9}));
  const ValueId reshaped = g.Op("Reshape", {g.Q8(g.x, 0.03f), shape});
  g.Output(g.Op("Conv", {g.D8(reshaped, 0.03f), g.Weights({8, 8, 1, 1}, 0)}));
  ExpectInteger(g, kSums);
}

TEST(IntegerLowering, WhatStaysFloatSaysWhy) {
  {
    QuantizedGraph g({1, 8, 6, 6});
    const ValueId scales = g.Floats(std::vector<float>(8, 0.03f));
    const ValueId zeros = g.Constant(Tensor::FromVector<uint8_t>({8}, std::vector<uint8_t>(8, 128)));
    const ValueId q = g.Op("QuantizeLinear", {g.x, scales, zeros}, {{"axis", int64_t{1}}});
    const ValueId real = g.Op("DequantizeLinear", {q, scales, zeros}, {{"axis", int64_t{1}}});
    g.Output(g.Op("Conv", {real, g.Weights({8, 8, 1, 1}, 0)}));
    const Ran ran = ExpectInteger(g, kSums, 0);
    EXPECT_NE(ran.plan.unfused.back().reason.find("scale per channel"), std::string::npos);
  }
  {
    QuantizedGraph g({1, 8, 6, 6});
    const ValueId zero = g.Constant(Tensor::Scalar<int16_t>(0));
    const ValueId q = g.Op("QuantizeLinear", {g.x, g.Scalar(0.001f), zero});
    const ValueId real = g.Op("DequantizeLinear", {q, g.Scalar(0.001f), zero});
    g.Output(g.Op("Conv", {real, g.Weights({8, 8, 1, 1}, 0)}));
    const Ran ran = ExpectInteger(g, kSums, 0);
    EXPECT_NE(ran.plan.unfused.back().reason.find("int16"), std::string::npos);
  }
  {
    // A scale that the graph computes.
    QuantizedGraph g({1, 8, 6, 6});
    const ValueId axes = g.Constant(Tensor::FromVector<int64_t>({4}, {0, 1, 2, 3}));
    const ValueId largest = g.Op("ReduceMax", {g.Op("Abs", {g.x}), axes}, {{"keepdims", int64_t{0}}});
    const ValueId scale = g.Op("Mul", {largest, g.Scalar(1 / 127.0f)});
    const ValueId zero = g.Constant(Tensor::Scalar<uint8_t>(128));
    const ValueId real = g.Op("DequantizeLinear", {g.Op("QuantizeLinear", {g.x, scale, zero}), scale, zero});
    g.Output(g.Op("Conv", {real, g.Weights({8, 8, 1, 1}, 0)}));
    g.graph.opsets[""] = 18;
    const Ran ran = ExpectInteger(g, kSums, 0);
    EXPECT_NE(ran.plan.unfused.back().reason.find("not constant"), std::string::npos);
  }
}

TEST(IntegerLowering, BFloat16AroundIntegers) {
  QuantizedGraph g({1, 16, 9, 9});
  const ValueId first = g.Op("Relu", {g.Op("Conv", {g.Fake(g.x), g.Weights({8, 16, 3, 3}, 0)})});
  g.Output(g.Op("Conv", {g.Fake(first, 0.05f), g.Weights({4, 8, 1, 1}, 0)}));
  const Tensor input = g.Normal({1, 16, 9, 9});
  const Ran narrow = RunSession(g.graph, input, 2, Precision::kBFloat16);
  ASSERT_EQ(narrow.outputs.size(), 1u);
  EXPECT_EQ(narrow.plan.int8_macs_share(), 1);
  const Ran full = RunSession(g.graph, input);
  const auto a = narrow.outputs[0].values<float>(), b = full.outputs[0].values<float>();
  // Between the two only integers pass.
  for (size_t i = 0; i < a.size(); ++i) EXPECT_EQ(a[i], b[i]);
}

TEST(IntegerLowering, HostileScalesAreErrorsThatNameTheNode) {
  for (const float scale : {0.0f, -0.1f, NAN, INFINITY, 1e-40f, 1e38f}) {
    SCOPED_TRACE(scale);
    QuantizedGraph g({1, 8, 6, 6});
    g.Output(g.Op("Conv", {g.Fake(g.x, scale), g.Weights({8, 8, 1, 1}, 0)}));
    auto session = Session::Create(g.graph);
    ASSERT_TRUE(session.ok());
    const auto outputs = session->Run(std::vector<Tensor>{g.Normal({1, 8, 6, 6})});
    ASSERT_FALSE(outputs.ok());
    EXPECT_NE(outputs.status().message().find("uantizeLinear"), std::string::npos) << outputs.status().message();
    EXPECT_NE(outputs.status().message().find("scale"), std::string::npos) << outputs.status().message();
  }
}

TEST(IntegerLowering, HostileQuantizersAreErrorsThatNameTheNode) {
  const auto expect_error = [](QuantizedGraph& g, const std::string& text) {
    SCOPED_TRACE(text);
    auto session = Session::Create(g.graph);
    ASSERT_TRUE(session.ok()) << session.status().message();
    const auto outputs = session->Run(std::vector<Tensor>{g.Normal(g.graph.value(g.x).dims)});
    ASSERT_FALSE(outputs.ok());
    EXPECT_NE(outputs.status().message().find("uantizeLinear"), std::string::npos) << outputs.status().message();
    EXPECT_NE(outputs.status().message().find(text), std::string::npos) << outputs.status().message();
  };
  const auto quantize = [](QuantizedGraph& g, ValueId scale, ValueId zero,
                           std::map<std::string, Attribute> attributes = {}) {
    g.Output(g.Op("QuantizeLinear", {g.x, scale, zero}, std::move(attributes)));
  };
  const Dims dims{1, 8, 6, 6};
  QuantizedGraph axis(dims), count(dims), wide(dims), blocked(dims), mismatched(dims);
  const std::vector<uint8_t> zeros(8, 0);
  quantize(axis, axis.Floats(std::vector<float>(8, 0.1f)), axis.Constant(Tensor::FromVector<uint8_t>({8}, zeros)),
           {{"axis", int64_t{4}}});
  expect_error(axis, "axis");
  quantize(count, count.Floats({0.1f, 0.1f, 0.1f}), count.Constant(Tensor::FromVector<uint8_t>({3}, {0, 0, 0})),
           {{"axis", int64_t{1}}});
  expect_error(count, "3 scales");
  quantize(wide, wide.Scalar(0.1f), wide.Constant(Tensor::Scalar<int32_t>(0)));
  expect_error(wide, "int32");
  quantize(blocked, blocked.Constant(blocked.Normal({1, 4, 6, 6})),
           blocked.Constant(*Tensor::Zeros(DType::kUInt8, {1, 4, 6, 6})),
           {{"block_size", int64_t{2}}, {"axis", int64_t{1}}});
  expect_error(blocked, "blocked");
  const ValueId q = mismatched.Q8(mismatched.x, 0.1f);
  mismatched.Output(
      mismatched.Op("DequantizeLinear", {q, mismatched.Scalar(0.1f), mismatched.Constant(Tensor::Scalar<int8_t>(0))}));
  expect_error(mismatched, "zero point");
}

TEST(IntegerLowering, ZeroWeightChannelsGiveTheBias) {
  QuantizedGraph g({1, 8, 4, 4});
  const ValueId w =
      g.Op("DequantizeLinear", {g.Constant(*Tensor::Zeros(DType::kInt8, {3, 8, 1, 1})), g.Floats({1, 1, 1})},
           {{"axis", int64_t{0}}});
  g.Output(g.Op("Conv", {g.Fake(g.x), w, g.Floats({1.5f, -2, 0})}));
  const Ran ran = ExpectInteger(g, 0);
  ASSERT_EQ(ran.outputs.size(), 1u);
  EXPECT_EQ(ran.outputs[0].values<float>()[0], 1.5f);
  EXPECT_EQ(ran.outputs[0].values<float>()[16], -2);
}

}  // namespace
}  // namespace octavo
