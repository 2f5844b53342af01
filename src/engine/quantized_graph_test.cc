// Forms that Q/DQ graphs take in files, through Session: which run on integers, which in float and why, and that both
// compute what the graph says.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

#include "engine/quantized_graph_testing.h"
#include "kernels/kernel_testing.h"
#include "octavo/onnx.h"

namespace octavo {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using Ints = std::vector<int64_t>;

// The reasons of everything that is not fused, one per line.
bool HasStep(const PlanInfo& plan, const std::string& op) {
  return std::any_of(plan.steps.begin(), plan.steps.end(), [&](const StepInfo& step) { return step.op == op; });
}

std::string Reasons(const PlanInfo& plan) {
  std::string text;
  for (const auto& unfused : plan.unfused) text += unfused.op + ": " + unfused.reason + "\n";
  return text;
}

Tensor Bytes(const Dims& dims, uint32_t seed) {
  Tensor tensor = *Tensor::Create(DType::kUInt8, dims);
  std::mt19937 engine(seed);
  for (auto& v : tensor.mutable_values<uint8_t>()) v = static_cast<uint8_t>(engine());
  return tensor;
}

// int8 weights with one scale.
ValueId WeightsOfOneScale(QuantizedGraph& g, Dims dims, float scale = 0.004f) {
  Tensor q = *Tensor::Create(DType::kInt8, std::move(dims));
  std::mt19937 engine(9);
  for (auto& v : q.mutable_values<int8_t>()) v = static_cast<int8_t>(static_cast<int>(engine() % 255) - 127);
  return g.Op("DequantizeLinear", {g.Constant(std::move(q)), g.Scalar(scale)});
}

ValueId IntsConstant(QuantizedGraph& g, const Ints& values) {
  return g.Constant(Tensor::FromVector<int64_t>({static_cast<int64_t>(values.size())}, values));
}

TEST(QuantizedGraph, BiasesOfEveryKind) {
  const auto convolution = [](QuantizedGraph& g, ValueId bias) {
    g.Output(g.Op("Conv", {g.Fake(g.x), g.Weights({5, 6, 3, 3}, 0), bias}, {{"auto_pad", std::string("VALID")}}));
  };
  const Dims input{1, 6, 8, 7};
  QuantizedGraph none(input), real(input), one_scale(input), scales(input), computed(input);
  convolution(none, kNoValue);
  convolution(real, real.Constant(real.Normal({5})));
  const Tensor integers = Tensor::FromVector<int32_t>({5}, {100000, -7, 0, 2, -30000});
  convolution(one_scale, one_scale.Op("DequantizeLinear", {one_scale.Constant(integers), one_scale.Scalar(1e-5f)}));
  convolution(scales, scales.Op("DequantizeLinear",
                                {scales.Constant(integers), scales.Floats({1e-5f, 0.5f, 1, 0.25f, 1e-4f}),
                                 scales.Constant(*Tensor::Zeros(DType::kInt32, {5}))},
                                {{"axis", int64_t{0}}}));
  ExpectInteger(none, kSums);
  ExpectInteger(real, kSums);
  // The float bias is rounded once; it is as large as 3.
  ExpectInteger(one_scale, kSums);
  ExpectInteger(scales, kSums);

  // A bias that depends on the input.
  const ValueId mean =
      computed.Op("ReduceMean", {computed.x, IntsConstant(computed, {0, 2, 3})}, {{"keepdims", int64_t{0}}});
  convolution(computed, computed.Op("Slice", {mean, IntsConstant(computed, {0}), IntsConstant(computed, {5})}));
  const Ran ran = ExpectInteger(computed, kSums, 0);
  EXPECT_THAT(Reasons(ran.plan), HasSubstr("bias"));
}

TEST(QuantizedGraph, OneDimensionalConvolutions) {
  for (const int64_t groups : {1, 3, 6}) {
    for (const char* pad : {"SAME_UPPER", "SAME_LOWER", "VALID"}) {
      SCOPED_TRACE(std::string(pad) + " groups " + std::to_string(groups));
      QuantizedGraph g({2, 6, 31});
      g.Output(g.Op("Conv", {g.Fake(g.x, 0.04f, 11), g.Weights({12, 6 / groups, 4}, 0)},
                    {{"auto_pad", std::string(pad)}, {"group", groups}, {"strides", Ints{2}}}));
      ExpectInteger(g, kSums);
    }
  }
}

TEST(QuantizedGraph, ConvolutionsThatStayFloat) {
  {
    QuantizedGraph g({1, 4, 5, 6, 4});
    g.Output(g.Op("Conv", {g.Fake(g.x), g.Weights({3, 4, 2, 2, 2}, 0)}));
    EXPECT_THAT(Reasons(ExpectInteger(g, kSums, 0).plan), HasSubstr("spatial axes"));
  }
  {
    QuantizedGraph g({1, 4, 5, 6});
    g.Output(g.Op("ConvTranspose", {g.Fake(g.x), g.Weights({4, 3, 2, 2}, 1)}, {{"group", int64_t{2}}}));
    EXPECT_THAT(Reasons(ExpectInteger(g, kSums, 0).plan), HasSubstr("groups"));
  }
  {
    // Scales along the input channels cannot leave the sum.
    QuantizedGraph g({1, 4, 5, 6});
    g.Output(g.Op("Conv", {g.Fake(g.x), g.Weights({3, 4, 2, 2}, 1)}));
    EXPECT_THAT(Reasons(ExpectInteger(g, kSums, 0).plan), HasSubstr("axis 1"));
  }
  {
    QuantizedGraph g({1, 4, 5, 6});
    Tensor q = *Tensor::Zeros(DType::kInt16, {3, 4, 2, 2});
    for (auto& v : q.mutable_values<int16_t>()) v = 1000;
    g.Output(g.Op("Conv", {g.Fake(g.x), g.Op("DequantizeLinear", {g.Constant(std::move(q)), g.Scalar(1e-4f)})}));
    ExpectInteger(g, kSums, 0);
  }
}

TEST(QuantizedGraph, TransposedConvolutionWithMoreStrideThanKernel) {
  // Pixels that no window reaches hold the bias.
  QuantizedGraph g({1, 4, 3, 5});
  g.Output(g.Op("ConvTranspose", {g.Fake(g.x), g.Weights({4, 3, 1, 2}, 1), g.Floats({0.5f, -1, 3})},
                {{"strides", Ints{2, 3}}, {"output_padding", Ints{1, 0}}}));
  const Tensor input = g.Normal({1, 4, 3, 5});
  const Ran ran = RunSession(g.graph, input);
  ASSERT_EQ(ran.outputs.size(), 1u);
  const auto expected = EvaluateGraph(g.graph, std::vector<Tensor>{input});
  ASSERT_TRUE(expected.ok()) << expected.status().message();
  ExpectNear(ran.outputs[0], (*expected)[0], kSums, "output");
}

TEST(QuantizedGraph, GemmWithEveryShapeOfC) {
  // Five rows and five columns: a column of C must not pass for a row.
  const std::vector<std::pair<Dims, double>> cases = {{{5}, 1},    {{1, 5}, 1}, {{5, 1}, 0}, {{5, 5}, 0},
                                                      {{1, 1}, 0}, {{1}, 0},    {{}, 0}};
  for (const auto& [dims, share] : cases) {
    for (const int64_t transposed : {0, 1}) {
      SCOPED_TRACE(ToString(dims) + " transB " + std::to_string(transposed));
      QuantizedGraph g({5, 12});
      const ValueId weights = transposed != 0 ? g.Weights({5, 12}, 0) : g.Weights({12, 5}, 1);
      g.Output(g.Op("Gemm", {g.Fake(g.x), weights, g.Constant(g.Normal(dims))}, {{"transB", transposed}}));
      ExpectInteger(g, kSums, share);
    }
  }
}

TEST(QuantizedGraph, FloatGemmWithAColumnOfC) {
  QuantizedGraph g({5, 12});
  g.Output(g.Op("Gemm", {g.x, g.Constant(g.Normal({12, 5})), g.Constant(g.Normal({5, 1}))}));
  ExpectInteger(g, kSums, 0);
}

TEST(QuantizedGraph, GemmAttributesThatStayFloat) {
  const std::vector<std::map<std::string, Attribute>> cases = {
      {{"alpha", 0.5f}}, {{"beta", 2.0f}}, {{"transA", int64_t{1}}}};
  for (const auto& attributes : cases) {
    SCOPED_TRACE(attributes.begin()->first);
    QuantizedGraph g({12, 12});
    g.Output(g.Op("Gemm", {g.Fake(g.x), g.Weights({12, 5}, 1), g.Constant(g.Normal({5}))}, attributes));
    EXPECT_THAT(Reasons(ExpectInteger(g, kSums, 0).plan), HasSubstr("alpha, beta or transA"));
  }
}

TEST(QuantizedGraph, MatMulOfManyShapes) {
  for (const Dims& input : {Dims{1, 1}, Dims{1, 40}, Dims{33, 1}, Dims{2, 1, 3, 7}, Dims{2, 3, 1, 17}}) {
    for (const int64_t columns : {1, 5, 48}) {
      SCOPED_TRACE(ToString(input) + " columns " + std::to_string(columns));
      QuantizedGraph g(input);
      g.Output(g.Op("MatMul", {g.Fake(g.x), g.Weights({input.back(), columns}, 1)}));
      ExpectInteger(g, kSums);
    }
  }
  QuantizedGraph batch({3, 4, 6});
  batch.Output(batch.Op("MatMul", {batch.Fake(batch.x), batch.Weights({3, 6, 5}, 2)}));
  EXPECT_THAT(Reasons(ExpectInteger(batch, kSums, 0).plan), HasSubstr("batch of constant matrices"));
  QuantizedGraph vector({6});
  vector.Output(vector.Op("MatMul", {vector.Fake(vector.x), vector.Weights({6, 5}, 1)}));
  ExpectInteger(vector, kSums, 0);
}

TEST(QuantizedGraph, ProductsOfTwoActivationsBroadcast) {
  const std::vector<std::pair<Dims, Dims>> cases = {
      {{2, 3, 4, 8}, {2, 3, 8, 5}}, {{2, 1, 4, 8}, {1, 3, 8, 5}}, {{4, 8}, {2, 3, 8, 5}}, {{2, 3, 4, 8}, {8, 5}},
      {{3, 1, 1}, {3, 1, 1}},       {{1, 70, 33}, {1, 33, 17}},   {{2, 1, 9}, {2, 9, 1}}};
  for (const auto& [a, b] : cases) {
    SCOPED_TRACE(ToString(a) + " by " + ToString(b));
    QuantizedGraph g(a);
    const ValueId y = g.graph.AddValue("y", DType::kFloat32, b);
    g.graph.inputs.push_back(y);
    g.Output(g.Op("MatMul", {g.Fake(g.x, 0.03f, 100), g.Fake(y, 0.02f, 140)}));
    ExpectIntegerOn(g, {g.Normal(a), g.Normal(b)}, kSums);
  }
}

TEST(QuantizedGraph, ProductsOfAnEmptySum) {
  QuantizedGraph g({3, 0});
  const ValueId y = g.graph.AddValue("y", DType::kFloat32, Dims{0, 4});
  g.graph.inputs.push_back(y);
  g.Output(g.Op("MatMul", {g.Fake(g.x), g.Fake(y)}));
  const Ran ran =
      ExpectIntegerOn(g, {*Tensor::Zeros(DType::kFloat32, {3, 0}), *Tensor::Zeros(DType::kFloat32, {0, 4})}, 0, 0);
  ASSERT_EQ(ran.outputs.size(), 1u);

  QuantizedGraph constant({3, 0});
  Tensor none = *Tensor::Create(DType::kInt8, {0, 4});
  constant.Output(constant.Op(
      "MatMul",
      {constant.Fake(constant.x), constant.Op("DequantizeLinear", {constant.Constant(none), constant.Scalar(1)})}));
  ExpectIntegerOn(constant, {*Tensor::Zeros(DType::kFloat32, {3, 0})}, 0, 0);
}

TEST(QuantizedGraph, EmptyBatches) {
  QuantizedGraph g({0, 6, 5, 5});
  g.Output(g.Op("Conv", {g.Fake(g.x), g.Weights({4, 6, 3, 3}, 0)}));
  const Ran ran = ExpectIntegerOn(g, {*Tensor::Zeros(DType::kFloat32, {0, 6, 5, 5})}, 0, 0);
  ASSERT_EQ(ran.outputs.size(), 1u);
  EXPECT_EQ(ran.outputs[0].dims(), (Dims{0, 4, 3, 3}));
}

// Between QuantizeLinear and DequantizeLinear the integers may be moved about: strides of every kind reach the product.
TEST(QuantizedGraph, ViewsOfIntegers) {
  enum class View { kTranspose, kReversed, kStepped, kExpand };
  for (const View view : {View::kTranspose, View::kReversed, View::kStepped, View::kExpand}) {
    SCOPED_TRACE(static_cast<int>(view));
    QuantizedGraph g({2, 6, 8});
    const ValueId q = g.Q8(g.x, 0.03f, 90);
    ValueId moved = kNoValue;
    switch (view) {
      case View::kTranspose:
        moved = g.Op("Transpose", {q}, {{"perm", Ints{0, 2, 1}}});
        break;
      case View::kReversed:
        moved = g.Op("Slice", {q, IntsConstant(g, {-1, -1}), IntsConstant(g, {-100, -100}), IntsConstant(g, {1, 2}),
                               IntsConstant(g, {-1, -1})});
        break;
      case View::kStepped:
        moved =
            g.Op("Slice", {q, IntsConstant(g, {0}), IntsConstant(g, {6}), IntsConstant(g, {1}), IntsConstant(g, {2})});
        break;
      case View::kExpand:
        moved = g.Op("Expand", {q, IntsConstant(g, {3, 2, 6, 8})});
        break;
    }
    const ValueId real = g.D8(moved, 0.03f, 90);
    const ValueId other =
        g.Op("Transpose", {real}, {{"perm", view == View::kExpand ? Ints{0, 1, 3, 2} : Ints{0, 2, 1}}});
    g.Output(g.Op("MatMul", {real, g.Fake(other, 0.03f, 90)}));
    g.Output(g.Op("MatMul", {real, g.Weights({view == View::kTranspose ? 6 : 8, 5}, 1)}));
    ExpectInteger(g, kSums);
  }
}

TEST(QuantizedGraph, PoolingAndConcatOfIntegers) {
  QuantizedGraph g({1, 4, 8, 8});
  const ValueId q = g.Q8(g.x, 0.03f);
  const ValueId pooled = g.Op("MaxPool", {q}, {{"kernel_shape", Ints{2, 2}}, {"strides", Ints{2, 2}}});
  const ValueId both = g.Op("Concat", {pooled, pooled}, {{"axis", int64_t{1}}});
  g.Output(g.Op("Conv", {g.D8(both, 0.03f), g.Weights({5, 8, 1, 1}, 0)}));
  ExpectInteger(g, kSums);
}

TEST(QuantizedGraph, WeightsThroughViews) {
  const Dims input{1, 6, 5, 5};
  {
    QuantizedGraph g(input);
    const ValueId w = g.Op("Reshape", {WeightsOfOneScale(g, {4, 54}), IntsConstant(g, {4, 6, 3, 3})});
    g.Output(g.Op("Conv", {g.Fake(g.x), w}));
    ExpectInteger(g, kSums);
  }
  {
    // Scales per output channel stay with their channel.
    QuantizedGraph g(input);
    g.Output(g.Op("Conv", {g.Fake(g.x), g.Op("Reshape", {g.Weights({4, 54}, 0), IntsConstant(g, {4, 6, 3, 3})})}));
    ExpectInteger(g, kSums);
  }
  {
    QuantizedGraph g(input);
    g.Output(g.Op("Conv", {g.Fake(g.x), g.Op("Unsqueeze", {g.Weights({4, 6}, 0), IntsConstant(g, {2, -1})})}));
    ExpectInteger(g, kSums);
  }
  {
    QuantizedGraph g({3, 6});
    g.Output(g.Op("MatMul", {g.Fake(g.x), g.Op("Squeeze", {g.Weights({1, 6, 4}, 2), IntsConstant(g, {0})})}));
    ExpectInteger(g, kSums);
  }
  {
    // A slice of scales that a reshape tears apart: float, and right.
    QuantizedGraph g({3, 8});
    g.Output(g.Op("MatMul", {g.Fake(g.x), g.Op("Reshape", {g.Weights({4, 6}, 1), IntsConstant(g, {8, 3})})}));
    ExpectInteger(g, kSums, 0);
  }
  {
    // The weights are read by a float op too, and are an output.
    QuantizedGraph g({3, 6});
    const ValueId w = g.Weights({4, 6}, 0);
    g.Output(g.Op("MatMul", {g.Fake(g.x), g.Op("Transpose", {w}, {{"perm", Ints{1, 0}}})}));
    g.Output(w);
    g.Output(g.Op("Softmax", {w}));
    ExpectInteger(g, kSums);
  }
}

TEST(QuantizedGraph, WeightsThatAFloatOpReadsFirst) {
  QuantizedGraph g({3, 6});
  const ValueId w = g.Weights({6, 4}, 1);
  const ValueId soft = g.Op("Softmax", {g.Op("Add", {w, g.Op("ReduceMax", {g.x}, {{"keepdims", int64_t{0}}})})});
  g.Output(soft);
  g.Output(g.Op("MatMul", {g.Fake(g.x), w}));
  ExpectInteger(g, kSums);
}

TEST(QuantizedGraph, WeightsThatTheGraphQuantizes) {
  QuantizedGraph g({1, 6, 5, 5});
  const ValueId scales = g.Floats({0.01f, 0.02f, 0.03f, 0.04f});
  const ValueId zeros = g.Constant(*Tensor::Zeros(DType::kInt8, {4}));
  const ValueId q = g.Op("QuantizeLinear", {g.Constant(g.Normal({4, 6, 3, 3})), scales, zeros}, {{"axis", int64_t{0}}});
  g.Output(g.Op("Conv", {g.Fake(g.x), g.Op("DequantizeLinear", {q, scales, zeros}, {{"axis", int64_t{0}}})}));
  ExpectInteger(g, kSums);
}

TEST(QuantizedGraph, UnsignedWeightsWithZeroPointsPerChannel) {
  for (const Dims& weights : {Dims{5, 6, 3, 3}, Dims{6, 1, 3, 3}}) {
    SCOPED_TRACE(ToString(weights));
    QuantizedGraph g({1, 6, 7, 7});
    std::vector<float> scales;
    std::vector<uint8_t> zeros;
    for (int64_t c = 0; c < weights[0]; ++c) {
      scales.push_back(0.002f * static_cast<float>(c + 1));
      zeros.push_back(static_cast<uint8_t>(c * 51));  // 0 to 255
    }
    const ValueId w = g.Op(
        "DequantizeLinear",
        {g.Constant(Bytes(weights, 3)), g.Floats(scales), g.Constant(Tensor::FromVector<uint8_t>({weights[0]}, zeros))},
        {{"axis", int64_t{-4}}});
    g.Output(g.Op("Conv", {g.Fake(g.x), w},
                  {{"group", weights[1] == 1 ? int64_t{6} : int64_t{1}}, {"pads", Ints{1, 1, 1, 1}}}));
    // Sums of 54 products of up to 4 * 3.
    ExpectInteger(g, 10 * kSums);
  }
}

TEST(QuantizedGraph, SumsThatMayNotFitStayFloat) {
  // 255 * 127 * 70000 > 2^31.
  QuantizedGraph g({1, 70000});
  Tensor q = *Tensor::Create(DType::kInt8, {70000, 2});
  for (auto& v : q.mutable_values<int8_t>()) v = 127;
  g.Output(
      g.Op("MatMul", {g.Fake(g.x, 1.0f, 0), g.Op("DequantizeLinear", {g.Constant(std::move(q)), g.Scalar(1e-6f)})}));
  const Ran ran = RunSession(g.graph, g.Normal({1, 70000}));
  EXPECT_EQ(ran.plan.int8_macs_share(), 0);
  EXPECT_THAT(Reasons(ran.plan), HasSubstr("32 bits"));
}

TEST(QuantizedGraph, ScalesWhoseProductIsNoScaleStayFloat) {
  QuantizedGraph g({1, 8});
  const float tiny = std::ldexp(1.0f, -80);
  g.Output(g.Op("MatMul", {g.Fake(g.x, tiny), WeightsOfOneScale(g, {8, 3}, tiny)}));
  // Products below 2^-126 are flushed to zero.
  EXPECT_THAT(Reasons(ExpectInteger(g, std::ldexp(1.0f, -126), 0).plan), HasSubstr("product of its scales"));
}

TEST(QuantizedGraph, ResidualsFromAQuantizedInput) {
  QuantizedGraph g({1, 8, 6, 6});
  const ValueId bytes = g.graph.AddValue("bytes", DType::kUInt8, Dims{1, 8, 6, 6});
  g.graph.inputs.push_back(bytes);
  const ValueId conv = g.Op("Conv", {g.Fake(g.x), g.Weights({8, 8, 1, 1}, 0)});
  const ValueId sum = g.Op("Relu", {g.Op("Add", {g.D8(bytes, 0.02f, 77), conv})});
  g.Output(sum);
  const Ran ran = ExpectIntegerOn(g, {g.Normal({1, 8, 6, 6}), Bytes({1, 8, 6, 6}, 4)}, kSums);
  // The input's QuantizeLinear alone is left.
  EXPECT_EQ(ran.plan.unfused.size(), 1u) << Reasons(ran.plan);
}

TEST(QuantizedGraph, ResidualsThatBroadcastOrMeetThemselves) {
  QuantizedGraph g({1, 8, 6, 6});
  const ValueId conv = g.Op("Conv", {g.Fake(g.x), g.Weights({8, 8, 1, 1}, 0)});
  const ValueId pooled = g.Op("GlobalAveragePool", {g.Fake(conv, 0.05f)});
  const ValueId gate = g.Op("Conv", {g.Fake(pooled, 0.02f), g.Weights({8, 8, 1, 1}, 0)});
  const ValueId scaled = g.Op("Mul", {g.Fake(conv, 0.05f), g.Fake(gate, 0.02f)});
  g.Output(g.Op("Add", {scaled, scaled}));
  // A step of the gate (0.02) and, through it, one of the pool (0.02 * 8 * 1.27), times values of up to 128 * 0.05;
  // doubled.
  ExpectInteger(g, 2 * 0.23f * 6.4f);
}

TEST(QuantizedGraph, BytesAsInputs) {
  QuantizedGraph g({1});
  g.graph.inputs.clear();
  const ValueId bytes = g.graph.AddValue("bytes", DType::kUInt8, Dims{2, 3, 10, 10});
  g.graph.inputs = {bytes};
  g.Output(g.Op("Conv", {g.D8(bytes, 1 / 64.0f, 120), g.Weights({7, 3, 3, 3}, 0)}, {{"strides", Ints{2, 2}}}));
  const Ran ran = ExpectIntegerOn(g, {Bytes({2, 3, 10, 10}, 5)}, kSums);
  EXPECT_TRUE(ran.plan.unfused.empty()) << Reasons(ran.plan);

  // int8 that arrives from outside cannot become uint8.
  QuantizedGraph s({1});
  const ValueId ints = s.graph.AddValue("ints", DType::kInt8, Dims{1, 3, 5, 5});
  s.graph.inputs = {ints};
  s.Output(s.Op("Conv", {s.Op("DequantizeLinear", {ints, s.Scalar(0.03f)}), s.Weights({7, 3, 3, 3}, 0)}));
  Tensor input = *Tensor::Create(DType::kInt8, {1, 3, 5, 5});
  for (size_t i = 0; i < 75; ++i) input.mutable_values<int8_t>()[i] = static_cast<int8_t>(i * 3 - 110);
  EXPECT_THAT(Reasons(ExpectIntegerOn(s, {input}, kSums, 0).plan), HasSubstr("int8"));
}

TEST(QuantizedGraph, FloatOpsReadAndWriteIntegers) {
  QuantizedGraph g({2, 5, 16});
  const ValueId real = g.Fake(g.x);
  const ValueId norm = g.Op("LayerNormalization", {real, g.Constant(g.Normal({16})), g.Constant(g.Normal({16}))});
  const ValueId soft = g.Op("Softmax", {real}, {{"axis", int64_t{-1}}});
  g.Output(g.Op("MatMul", {g.Fake(norm, 0.05f), g.Weights({16, 4}, 1)}));
  g.Output(soft);
  // One step of the norm, where it lies next to a tie, times a weight of up to 1.27.
  const Ran ran = ExpectInteger(g, 0.05f * 1.27f + kSums);
  EXPECT_THAT(Reasons(ran.plan), HasSubstr("DequantizeLinear: LayerNorm"));
  // The norm itself writes integers.
  EXPECT_THAT(Reasons(ran.plan), Not(HasSubstr("QuantizeLinear: LayerNorm")));
  EXPECT_TRUE(HasStep(ran.plan, "LayerNorm+Quantize"));
}

// `build` makes a value of a graph over x. It has the same bits where its node quantizes it, and where somebody else
// reads the value, so that a QuantizeLinear does.
void ExpectSameBitsBehind(const Dims& dims, const std::string& step, bool multiplies,
                          const std::function<ValueId(QuantizedGraph&)>& build, float tolerance = 0) {
  SCOPED_TRACE(step);
  std::vector<Ran> ran;
  for (const bool is_read : {false, true}) {
    QuantizedGraph g(dims);
    const ValueId made = build(g);
    ValueId value = made;
    if (multiplies) {
      Dims factors(dims.size(), 1);
      factors[dims.size() == 4 ? 1 : dims.size() - 1] = dims[dims.size() == 4 ? 1 : dims.size() - 1];
      value = g.Op("Mul", {made, g.Constant(g.Normal(factors))});
    }
    g.Output(g.FakeSigned(value, 0.021f));
    g.Output(g.Fake(g.Op("Abs", {g.x}), 0.02f, 0));
    if (is_read) g.Output(made);
    std::mt19937 engine(7);
    Tensor input = *Tensor::Create(DType::kFloat32, dims);
    for (float& v : input.mutable_values<float>()) v = std::normal_distribution<float>()(engine);
    for (const int threads : {1, 3}) ran.push_back(RunSession(g.graph, input, threads));
    for (const auto& r : ran) ASSERT_GE(r.outputs.size(), 2u);
  }
  EXPECT_TRUE(HasStep(ran[0].plan, step + (multiplies ? "+Mul+Quantize" : "+Quantize")));
  EXPECT_FALSE(HasStep(ran[2].plan, step + (multiplies ? "+Mul+Quantize" : "+Quantize")));
  EXPECT_TRUE(HasStep(ran[0].plan, "Abs+Quantize"));
  for (const Ran& other : ran) {
    ExpectNear(other.outputs[0], ran[0].outputs[0], tolerance, step);
    ExpectNear(other.outputs[1], ran[0].outputs[1], 0, "Abs");
  }
}

TEST(QuantizedGraph, KernelsQuantizeBehindTheirNodes) {
  ForEachIsa([] {
    for (const bool multiplies : {false, true}) {
      ExpectSameBitsBehind({3, 7, 45}, "LayerNorm", multiplies, [](QuantizedGraph& g) {
        return g.Op("LayerNormalization", {g.x, g.Constant(g.Normal({45})), g.Constant(g.Normal({45}))});
      });
      for (const char* activation : {"none", "silu"}) {
        // Without a function between them the norm's scale takes the factors along.
        if (multiplies && std::string(activation) == "none") continue;
        // A rough SiLU (kRoughShare of a step off) may fall to the other side of a tie.
        const float tolerance = std::string(activation) == "silu" ? 0.0211f : 0;
        ExpectSameBitsBehind(
            {2, 36, 5, 7}, "GroupNorm", multiplies,
            [&](QuantizedGraph& g) {
              // Channels are neighbours behind a convolution.
              const ValueId conv = g.Op("Conv", {g.x, g.Constant(g.Normal({36, 36, 1, 1}))});
              return g.Op("GroupNorm", {conv, g.Constant(g.Normal({36})), g.Constant(g.Normal({36}))},
                          {{"num_groups", int64_t{4}}, {"activation", std::string(activation)}},
                          std::string(kOctavoDomain));
            },
            tolerance);
      }
    }
    ExpectSameBitsBehind({5, 37}, "Tanh", false, [](QuantizedGraph& g) { return g.Op("Tanh", {g.x}); });
    ExpectSameBitsBehind({5, 37}, "Add", false, [](QuantizedGraph& g) {
      return g.Op("Add", {g.x, g.Constant(g.Normal({5, 37}))});
    });
    ExpectSameBitsBehind({2, 19, 3, 5}, "Mul", false, [](QuantizedGraph& g) {
      const ValueId conv = g.Op("Conv", {g.x, g.Constant(g.Normal({19, 19, 1, 1}))});
      return g.Op("Mul", {g.Op("Erf", {conv}), g.Constant(g.Normal({1, 19, 1, 1}))});
    });
  });
}

// A product, reshaped into heads and split into queries, keys and values that are each scaled and quantized.
TEST(QuantizedGraph, ProductsQuantizePartsOfTheirChannels) {
  for (const bool convolution : {true, false}) {
    SCOPED_TRACE(convolution);
    QuantizedGraph g(convolution ? Dims{1, 24, 5, 7} : Dims{1, 35, 24});
    const auto ints = [&](const Ints& values) {
      return g.Constant(Tensor::FromVector<int64_t>({static_cast<int64_t>(values.size())}, values));
    };
    ValueId made =
        convolution ? g.Op("Conv", {g.Fake(g.x), g.Weights({48, 24, 1, 1}, 0), g.Constant(g.Normal({48}))})
                    : g.Op("Add", {g.Op("MatMul", {g.Fake(g.x), g.Weights({24, 48}, 1)}), g.Constant(g.Normal({48}))});
    // Heads outside for the convolution, inside the parts for the product.
    made = g.Op("Reshape", {made, ints(convolution ? Ints{1, 2, 24, 35} : Ints{1, 35, 3, 2, 8})});
    std::vector<ValueId> parts;
    for (int i = 0; i < 3; ++i) parts.push_back(g.graph.AddValue("part"));
    g.graph.AddNode("Split", "", "Split", {made, ints({8, 8, 8})}, parts, {{"axis", int64_t{2}}});
    if (!convolution) g.graph.nodes.back().inputs[1] = ints({1, 1, 1});
    for (size_t i = 0; i < 3; ++i) {
      ValueId value = parts[i];
      if (i < 2) value = g.Op("Mul", {value, g.Scalar(0.35f)});
      if (convolution) value = g.Op("Transpose", {value}, {{"perm", Ints{0, 1, 3, 2}}});
      g.Output(g.Fake(value, 0.011f * static_cast<float>(i + 1), 100 + 20 * static_cast<int>(i)));
    }
    const Tensor input = g.Normal(g.graph.value(g.x).dims);
    SessionOptions options;
    options.disabled_passes = {"early-quantize"};
    const Ran apart = RunWith(g.graph, {input}, options), ran = RunSession(g.graph, input);
    ASSERT_EQ(apart.outputs.size(), 3u);
    ExpectSameBits(ran.outputs, apart.outputs, "early");
    EXPECT_TRUE(HasStep(ran.plan, convolution ? "Conv+Bias+Mul+Quantize" : "MatMul+Bias+Mul+Quantize"));
    EXPECT_FALSE(HasStep(ran.plan, "Mul+Quantize"));
    EXPECT_FALSE(HasStep(ran.plan, "QuantizeLinear") && ran.plan.unfused.size() > 4) << Reasons(ran.plan);
  }
}

TEST(QuantizedGraph, QuantizersAlone) {
  QuantizedGraph g({3, 37});
  g.Output(g.Fake(g.x, 0.01f, 3));
  g.Output(g.FakeSigned(g.x));
  // DequantizeLinear straight into another QuantizeLinear.
  g.Output(g.Fake(g.Fake(g.x, 0.05f), 0.03f));
  ExpectInteger(g, 0, 0);  // exact: both divide and round alike
}

TEST(QuantizedGraph, SignedIntegersAsOutputsStaySigned) {
  QuantizedGraph g({1, 8, 6, 6});
  const ValueId conv = g.Op("Conv", {g.Fake(g.x), g.Weights({4, 8, 1, 1}, 0)});
  const ValueId zero = g.Constant(Tensor::Scalar<int8_t>(-5));
  const ValueId q = g.Op("QuantizeLinear", {conv, g.Scalar(0.04f), zero});
  g.Output(q);
  g.Output(g.Op("DequantizeLinear", {q, g.Scalar(0.04f), zero}));
  const Ran ran = ExpectInteger(g, 1);  // one step, which is 1 as an integer and less as a real
  ASSERT_EQ(ran.outputs.size(), 2u);
  EXPECT_EQ(ran.outputs[0].dtype(), DType::kInt8);
}

TEST(QuantizedGraph, ManyQuantizersOfOneValue) {
  QuantizedGraph g({1, 8, 6, 6});
  const ValueId conv = g.Op("Conv", {g.Fake(g.x), g.Weights({8, 8, 1, 1}, 0)});
  for (int i = 1; i <= 5; ++i) {
    g.Output(g.Op("Conv", {g.Fake(conv, 0.02f * static_cast<float>(i), 100 + i), g.Weights({3, 8, 1, 1}, 0)}));
  }
  g.Output(conv);
  // The first convolution may round its sum the other way: a step of the coarsest quantizer (0.1) times 1.27.
  ExpectInteger(g, 0.13f);
}

TEST(QuantizedGraph, OneDequantizeForIntegersAndFloats) {
  QuantizedGraph g({1, 8, 6, 6});
  const ValueId conv = g.Op("Conv", {g.Fake(g.x), g.Weights({8, 8, 1, 1}, 0)});
  const ValueId real = g.Fake(conv, 0.04f);
  const ValueId next = g.Op("Conv", {real, g.Weights({8, 8, 1, 1}, 0)});
  g.Output(g.Op("Add", {next, real}));
  g.Output(g.Op("GlobalAveragePool", {real}));
  g.Output(g.Op("Sigmoid", {real}));
  // A step of the middle by a weight of up to 1.27, and itself.
  ExpectInteger(g, 0.04f * 2.27f + kSums);
}

TEST(QuantizedGraph, WithoutItsPassesTheGraphMeansTheSame) {
  QuantizedGraph g({2, 9, 20});
  const ValueId transposed = g.Op("Transpose", {g.Weights({33, 20}, 0)}, {{"perm", Ints{1, 0}}});
  g.Output(g.Op("MatMul", {g.FakeSigned(g.x), transposed}));
  const Tensor input = g.Normal({2, 9, 20});
  const Ran all = ExpectIntegerOn(g, {input}, kSums);
  for (const char* pass : {"unsigned-activations", "dequantize-weights"}) {
    SCOPED_TRACE(pass);
    SessionOptions options;
    options.disabled_passes = {pass};
    const Ran ran = RunWith(g.graph, {input}, options);
    ASSERT_EQ(ran.outputs.size(), 1u);
    EXPECT_EQ(ran.plan.int8_macs_share(), 0);
    EXPECT_FALSE(ran.plan.unfused.empty());
    ExpectNear(ran.outputs[0], all.outputs[0], kSums, pass);
  }
}

TEST(QuantizedGraph, ObservedAndWatchedValues) {
  QuantizedGraph g({1, 8, 6, 6});
  const ValueId conv = g.Op("Conv", {g.Fake(g.x), g.Weights({8, 8, 3, 3}, 0)}, {{"pads", Ints{1, 1, 1, 1}}});
  const ValueId q = g.Q8(conv, 0.04f);
  const ValueId real = g.D8(q, 0.04f);
  g.Output(g.Op("Conv", {real, g.Weights({4, 8, 1, 1}, 0)}));
  const Tensor input = g.Normal({1, 8, 6, 6});
  const auto plain = RunSession(g.graph, input);
  ASSERT_EQ(plain.outputs.size(), 1u);

  const std::vector<std::string> names{g.graph.value(conv).name, g.graph.value(q).name, g.graph.value(real).name};
  SessionOptions options;
  options.threads = 2;
  options.observed = names;
  const Ran observed = RunWith(g.graph, {input}, options);
  ASSERT_EQ(observed.outputs.size(), 4u);
  EXPECT_EQ(observed.plan.int8_macs_share(), 1);
  ExpectSameBits({observed.outputs[0]}, plain.outputs, "observed");
  EXPECT_EQ(observed.outputs[2].dtype(), DType::kUInt8);
  const auto sums = observed.outputs[1].values<float>(), reals = observed.outputs[3].values<float>();
  const auto integers = observed.outputs[2].values<uint8_t>();
  for (size_t i = 0; i < sums.size(); ++i) {
    const float steps = std::min(std::max(sums[i] / 0.04f, -128.0f), 127.0f);
    EXPECT_EQ(integers[i], std::nearbyint(steps) + 128);
    EXPECT_EQ(reals[i], static_cast<float>(integers[i] - 128) * 0.04f);
  }

  std::vector<std::vector<float>> seen(names.size());
  std::vector<DType> types(names.size());
  options.observed.clear();
  options.watched = names;
  options.watch = [&](size_t index, const TensorView& value) {
    types[index] = value.dtype;
    // Row-major order, wherever it lies.
    for (int64_t c = 0; c < 8; ++c) {
      for (int64_t i = 0; i < 36; ++i) {
        const int64_t at = c * value.strides[1] + i / 6 * value.strides[2] + i % 6 * value.strides[3];
        seen[index].push_back(value.dtype == DType::kUInt8
                                  ? static_cast<float>(static_cast<const uint8_t*>(value.data)[at])
                                  : static_cast<const float*>(value.data)[at]);
      }
    }
  };
  const Ran watched = RunWith(g.graph, {input}, options);
  ASSERT_EQ(watched.outputs.size(), 1u);
  EXPECT_EQ(watched.plan.int8_macs_share(), 1);
  ExpectSameBits(watched.outputs, plain.outputs, "watched");
  EXPECT_EQ(types, (std::vector<DType>{DType::kFloat32, DType::kUInt8, DType::kFloat32}));
  for (size_t k = 0; k < names.size(); ++k) EXPECT_EQ(seen[k], *ToFloats(observed.outputs[k + 1])) << names[k];
}

TEST(QuantizedGraph, ObservedSignedIntegers) {
  QuantizedGraph g({1, 8, 6, 6});
  const ValueId real = g.FakeSigned(g.x);
  const ValueId q = g.graph.node(g.graph.value(real).producer).input(0);
  g.Output(g.Op("Conv", {real, g.Weights({4, 8, 1, 1}, 0)}));
  SessionOptions options;
  options.observed = {g.graph.value(q).name};
  const Tensor input = g.Normal({1, 8, 6, 6});
  const Ran ran = RunWith(g.graph, {input}, options);
  ASSERT_EQ(ran.outputs.size(), 2u);
  EXPECT_EQ(ran.outputs[1].dtype(), DType::kInt8);
  for (size_t i = 0; i < 288; ++i) {
    const float steps = input.values<float>()[i] / 0.03f;
    EXPECT_EQ(ran.outputs[1].values<int8_t>()[i], std::min(std::max(std::nearbyint(steps) + 3, -128.0f), 127.0f));
  }
}

TEST(QuantizedGraph, ABatchIsItsSamples) {
  QuantizedGraph g({-1, 6, 9, 9});
  const ValueId conv = g.Op("Conv", {g.FakeSigned(g.x), g.Weights({8, 6, 3, 3}, 0)}, {{"pads", Ints{1, 1, 1, 1}}});
  const ValueId pooled = g.Op("GlobalAveragePool", {g.Fake(g.Op("Relu", {conv}), 0.05f, 0)});
  g.Output(g.Op("Conv", {g.Fake(pooled, 0.02f), g.Weights({4, 8, 1, 1}, 0)}));
  SessionOptions options;
  options.threads = 2;
  auto session = Session::Create(g.graph, options);
  ASSERT_TRUE(session.ok()) << session.status().message();
  const Tensor batch = g.Normal({3, 6, 9, 9});
  const auto together = session->Run(std::vector<Tensor>{batch});
  ASSERT_TRUE(together.ok()) << together.status().message();
  EXPECT_EQ(session->plan().int8_macs_share(), 1);
  for (size_t i = 0; i < 3; ++i) {
    const auto all = batch.values<float>();
    const Tensor one = Tensor::FromValues<float>({1, 6, 9, 9}, all.subspan(i * 486, 486));
    const auto alone = session->Run(std::vector<Tensor>{one});
    ASSERT_TRUE(alone.ok()) << alone.status().message();
    const auto a = (*alone)[0].values<float>(), b = (*together)[0].values<float>().subspan(i * 4, 4);
    EXPECT_TRUE(std::equal(a.begin(), a.end(), b.begin())) << "sample " << i;
  }
}

TEST(QuantizedGraph, BFloat16ResidualsAndOutputs) {
  QuantizedGraph g({1, 8, 6, 6});
  const ValueId stem = g.Op("Conv", {g.x, g.Constant(g.Normal({8, 8, 1, 1}, 0.3f))});
  const ValueId conv = g.Op("Conv", {g.Fake(stem), g.Weights({8, 8, 1, 1}, 0)});
  g.Output(g.Op("Conv", {g.Fake(g.Op("Add", {conv, stem}), 0.05f), g.Weights({4, 8, 1, 1}, 0)}));
  g.Output(g.Op("Softmax", {g.Fake(conv, 0.05f)}, {{"axis", int64_t{1}}}));
  const Tensor input = g.Normal({1, 8, 6, 6});
  const Ran narrow = RunSession(g.graph, input, 2, Precision::kBFloat16), full = RunSession(g.graph, input);
  ASSERT_EQ(narrow.outputs.size(), 2u);
  // All but the stem, a third or more of the products.
  EXPECT_EQ(narrow.plan.int8_macs_share(), full.plan.int8_macs_share());
  EXPECT_GT(narrow.plan.int8_macs_share(), 0.5);
  // The stem's values, up to 4, differ by bfloat16's rounding of operands and result: 3 * 4 / 256 = 0.05, two steps of
  // 0.03. Each of eight channels passes that on by a weight of up to 1.27 to the sum, which is itself rounded to 0.05.
  const float first = 8 * 1.27f * 0.06f + 0.05f;
  ExpectNear(narrow.outputs[0], full.outputs[0], 8 * 1.27f * (first + 0.05f), "output");
  // Softmax's slope is at most 1/4, in each of the channels.
  ExpectNear(narrow.outputs[1], full.outputs[1], 0.25f * 8 * (first + 0.05f), "softmax");
}

// Before opset 13 there is no axis; since 21 there is output_dtype.
TEST(QuantizedGraph, Opsets) {
  for (const int64_t opset : {10, 13, 19, 21}) {
    SCOPED_TRACE(opset);
    QuantizedGraph g({1, 6, 7, 7});
    g.graph.opsets[""] = opset;
    const ValueId w = WeightsOfOneScale(g, {4, 6, 3, 3});
    if (opset < 21) {
      g.Output(g.Op("Conv", {g.Fake(g.x), w}));
    } else {
      const ValueId q = g.Op("QuantizeLinear", {g.x, g.Scalar(0.03f)}, {{"output_dtype", int64_t{3}}});  // int8
      g.Output(g.Op("Conv", {g.Op("DequantizeLinear", {q, g.Scalar(0.03f)}), w}));
    }
    ExpectInteger(g, kSums);
  }
}

// ---- hostile graphs ----

void ExpectError(QuantizedGraph& g, const std::string& node, const std::string& text) {
  SCOPED_TRACE(text);
  auto session = Session::Create(g.graph);
  ASSERT_TRUE(session.ok()) << session.status().message();
  const auto outputs = session->Run(std::vector<Tensor>{g.Normal(g.graph.value(g.x).dims)});
  ASSERT_FALSE(outputs.ok());
  EXPECT_THAT(outputs.status().message(), HasSubstr(node));
  EXPECT_THAT(outputs.status().message(), HasSubstr(text));
}

TEST(HostileQuantizers, ScalesThatDequantizeLinearComputes) {
  // The inner nodes are computed first, whoever asks.
  QuantizedGraph g({1, 8, 6, 6});
  const ValueId largest = g.Op("ReduceMax", {g.Op("Abs", {g.x})}, {{"keepdims", int64_t{0}}});
  const ValueId zero = g.Constant(Tensor::Scalar<uint8_t>(0));
  const ValueId scale = g.D8(g.Op("QuantizeLinear", {largest, g.Scalar(0.05f), zero}), 0.05f / 127, 0);
  const ValueId q = g.Op("QuantizeLinear", {g.x, scale, g.Constant(Tensor::Scalar<uint8_t>(128))});
  const ValueId real = g.Op("DequantizeLinear", {q, scale, g.Constant(Tensor::Scalar<uint8_t>(128))});
  g.Output(g.Op("Conv", {real, g.Weights({4, 8, 1, 1}, 0)}));
  EXPECT_THAT(Reasons(ExpectInteger(g, kSums, 0).plan), HasSubstr("not constant"));
}

TEST(HostileQuantizers, ScalesOfScales) {
  // Each DequantizeLinear's scale comes from the one before; nobody else asks for it.
  QuantizedGraph g({2, 3});
  const ValueId largest = g.Op("ReduceMax", {g.Op("Abs", {g.x})}, {{"keepdims", int64_t{0}}});
  const ValueId q = g.Op("QuantizeLinear", {largest, g.Scalar(0.05f), g.Constant(Tensor::Scalar<uint8_t>(0))});
  const ValueId one = g.Constant(Tensor::Scalar<uint8_t>(1));
  ValueId scale = g.D8(q, 0.05f, 0);
  for (int i = 0; i < 2000; ++i) scale = g.Op("DequantizeLinear", {one, scale});
  g.Output(g.Op("DequantizeLinear", {g.Q8(g.x, 0.03f), scale, g.Constant(Tensor::Scalar<uint8_t>(128))}));
  ExpectInteger(g, 0, 0);
}

TEST(HostileQuantizers, ZeroPointsThatTheGraphComputes) {
  QuantizedGraph g({1, 8, 6, 6});
  const ValueId mean = g.Op("ReduceMax", {g.x}, {{"keepdims", int64_t{0}}});
  const ValueId zero = g.Op("QuantizeLinear", {mean, g.Scalar(0.05f), g.Constant(Tensor::Scalar<uint8_t>(0))});
  const ValueId q = g.Op("QuantizeLinear", {g.x, g.Scalar(0.03f), zero});
  g.Output(g.Op("Conv", {g.Op("DequantizeLinear", {q, g.Scalar(0.03f), zero}), g.Weights({4, 8, 1, 1}, 0)}));
  EXPECT_THAT(Reasons(ExpectInteger(g, kSums, 0).plan), HasSubstr("zero point is computed"));
}

TEST(HostileQuantizers, ComputedScalesAreCheckedWhenTheyAreKnown) {
  QuantizedGraph g({1, 8, 6, 6});
  const ValueId largest = g.Op("ReduceMax", {g.x}, {{"keepdims", int64_t{0}}});
  const ValueId zero = g.Op("Mul", {largest, g.Scalar(0)});
  g.Output(g.Op("QuantizeLinear", {g.x, zero, g.Constant(Tensor::Scalar<uint8_t>(0))}));
  ExpectError(g, "QuantizeLinear", "its scale is 0");
}

TEST(HostileQuantizers, ScalesOfWeights) {
  for (const float scale : {0.0f, -1.0f, NAN, INFINITY, 1e-39f, 2e38f}) {
    for (const bool per_channel : {false, true}) {
      SCOPED_TRACE(std::to_string(scale) + (per_channel ? " per channel" : ""));
      QuantizedGraph g({3, 4});
      const ValueId scales = per_channel ? g.Floats({0.1f, scale}) : g.Scalar(scale);
      const ValueId w =
          g.Op("DequantizeLinear", {g.Constant(*Tensor::Zeros(DType::kInt8, {4, 2})), scales}, {{"axis", int64_t{1}}});
      g.Output(g.Op("MatMul", {g.Fake(g.x), w}));
      ExpectError(g, "DequantizeLinear", "scale");
    }
  }
}

TEST(HostileQuantizers, ShapesAndTypesThatDoNotFit) {
  const auto zeros = [](Dims dims, DType dtype) { return *Tensor::Zeros(dtype, std::move(dims)); };
  struct Case {
    Tensor integers, scale, zero;
    std::map<std::string, Attribute> attributes;
    const char* text;
  };
  const auto floats = [](Dims dims) {
    Tensor t = *Tensor::Create(DType::kFloat32, std::move(dims));
    for (float& v : t.mutable_values<float>()) v = 0.1f;
    return t;
  };
  const Tensor w = zeros({4, 2}, DType::kInt8);
  const std::vector<Case> cases = {
      {w, floats({4}), {}, {{"axis", int64_t{2}}}, "axis"},
      {w, floats({4}), {}, {{"axis", int64_t{-3}}}, "axis"},
      {w, floats({4}), {}, {{"axis", std::numeric_limits<int64_t>::max()}}, "axis"},
      {w, floats({4}), {}, {{"axis", std::numeric_limits<int64_t>::min()}}, "axis"},
      {w, floats({4}), {}, {{"axis", int64_t{1}}}, "4 scales"},
      {w, floats({4, 2}), {}, {{"axis", int64_t{1}}}, "blocked"},
      {w, floats({2, 1}), {}, {{"axis", int64_t{1}}, {"block_size", int64_t{2}}}, "blocked"},
      {w, floats({2}), zeros({4}, DType::kInt8), {{"axis", int64_t{1}}}, "zero point has shape"},
      {w, floats({2}), zeros({}, DType::kInt8), {{"axis", int64_t{1}}}, "zero point has shape"},
      {w, floats({}), zeros({2}, DType::kInt8), {{"axis", int64_t{1}}}, "zero point has shape"},
      {w, floats({}), zeros({}, DType::kUInt8), {}, "zero point is uint8"},
      {w, floats({}), zeros({}, DType::kInt32), {}, "zero point is int32"},
      {w, floats({}), zeros({}, DType::kFloat32), {}, "zero point is float32"},
      {w, floats({0}), {}, {{"axis", int64_t{1}}}, "0 scales"},
      {w, zeros({}, DType::kInt32), {}, {}, "scale is int32"},
      {zeros({4, 2}, DType::kInt64), floats({}), {}, {}, "int64"},
      {zeros({4, 2}, DType::kBool), floats({}), {}, {}, "bool"},
      {floats({4, 2}), floats({}), {}, {}, "float32"},
  };
  for (size_t i = 0; i < cases.size(); ++i) {
    const Case& c = cases[i];
    SCOPED_TRACE("case " + std::to_string(i));
    QuantizedGraph g({3, 4});
    const ValueId w_zero = c.zero.defined() ? g.Constant(c.zero) : kNoValue;
    g.Output(g.Op("MatMul", {g.Fake(g.x), g.Op("DequantizeLinear",
                                               {g.Constant(c.integers), g.Constant(c.scale), w_zero}, c.attributes)}));
    ExpectError(g, "DequantizeLinear", c.text);
  }
}

TEST(HostileQuantizers, Int32WithAZeroPointFollowsTheFormula) {
  // ONNX leaves INT32 without a zero point; files have one all the same, nearly always 0.
  QuantizedGraph g({1, 2});
  const ValueId integers = g.Constant(Tensor::FromVector<int32_t>({2}, {7, -3}));
  const ValueId real = g.Op("DequantizeLinear", {integers, g.Scalar(0.5f), g.Constant(Tensor::Scalar<int32_t>(5))});
  g.Output(g.Op("Add", {g.x, real}));
  const Ran ran = RunSession(g.graph, *Tensor::Zeros(DType::kFloat32, {1, 2}));
  ASSERT_EQ(ran.outputs.size(), 1u);
  EXPECT_EQ(ran.outputs[0].values<float>()[0], 1);
  EXPECT_EQ(ran.outputs[0].values<float>()[1], -4);
}

TEST(HostileQuantizers, OutputTypesThatNobodyHas) {
  // int4, float8, something unknown; a type that is no quantized one.
  for (const int64_t type : {22, 17, 1000, -1, 1, 7}) {
    SCOPED_TRACE(type);
    QuantizedGraph g({3, 4});
    g.graph.opsets[""] = 21;
    g.Output(g.Op("QuantizeLinear", {g.x, g.Scalar(0.1f)}, {{"output_dtype", type}}));
    ExpectError(g, "QuantizeLinear", "quantizes to");
  }
}

TEST(HostileQuantizers, Files) {
  const std::vector<std::pair<const char*, const char*>> files = {
      {"good", ""},
      {"int4", "initializer 'w': its element type int4 is not supported"},
      {"float8", "initializer 'w': its element type float8e4m3fn is not supported"},
      {"float8_activation", "initializer 'z': its element type float8e4m3fn is not supported"},
      {"blocked", "DequantizeLinear 'dequantize_w': its scale is blocked"},
      {"int32_zero_point", "DequantizeLinear 'dequantize_w': its zero point is int32, its input int8"},
      {"wrong_axis", "DequantizeLinear 'dequantize_w': axis 5 is out of range"},
      {"scale_count", "DequantizeLinear 'dequantize_w': it has 3 scales for axis 1, which has 2 slices"},
      {"zero_scale", "DequantizeLinear 'dequantize_w': its scale is 0;"},
      {"negative_scale", "DequantizeLinear 'dequantize_w': its scale is -0.5;"},
      {"nan_scale", "DequantizeLinear 'dequantize_w': its scale is nan;"},
      {"infinite_scale", "DequantizeLinear 'dequantize_w': its scale is inf;"},
      {"denormal_scale", "DequantizeLinear 'dequantize_w': its scale is 1e-40;"},
  };
  for (const auto& [name, text] : files) {
    SCOPED_TRACE(name);
    const auto run = [&, file = name]() -> Status {
      OCTAVO_ASSIGN(Graph graph,
                    LoadOnnx(std::string(OCTAVO_SOURCE_DIR "/tests/corpora/onnx/quantize_") + file + ".onnx"));
      OCTAVO_ASSIGN(Session session, Session::Create(std::move(graph)));
      return session.Run(std::vector<Tensor>{*Tensor::Zeros(DType::kFloat32, {3, 4})}).status();
    };
    const Status status = run();
    EXPECT_EQ(status.ok(), *text == 0) << status.message();
    EXPECT_THAT(status.message(), HasSubstr(text));
  }
}

TEST(HostileQuantizers, AttributesOfTheWrongKind) {
  QuantizedGraph g({3, 4});
  g.Output(g.Op("QuantizeLinear", {g.x, g.Floats({1, 2, 3, 4})}, {{"axis", std::string("1")}, {"output_dtype", 1.5f}}));
  // Read as if they were not there: axis 1, uint8.
  const Ran ran = ExpectInteger(g, 0, 0);
  ASSERT_EQ(ran.outputs.size(), 1u);
  EXPECT_EQ(ran.outputs[0].dtype(), DType::kUInt8);
}

}  // namespace
}  // namespace octavo
