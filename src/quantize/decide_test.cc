#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "quantize/quantize_testing.h"

namespace octavo {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

Recipe DecideFor(const Graph& prepared, const Policy& policy) {
  const auto recipe = Decide(prepared, UniformStats(prepared, -100.0f, 410.0f), policy);
  EXPECT_TRUE(recipe.ok()) << recipe.status().message();
  return recipe.ok() ? *recipe : Recipe();
}

Policy ForTarget(const std::string& target) {
  Policy policy;
  policy.target = target;
  return policy;
}

class DecideTest : public testing::Test {
 protected:
  DecideTest() : prepared_(PrepareForQuantization(residual_.graph).value()) {}
  ResidualGraph residual_;
  Graph prepared_;
};

TEST_F(DecideTest, QuantizesOperandsInUint8WhereTheTargetTakesThem) {
  for (const char* target : {"octavo", "openvino"}) {
    const Recipe recipe = DecideFor(prepared_, ForTarget(target));
    ASSERT_EQ(recipe.activations.size(), 3u) << target;
    for (const ActivationRecipe& entry : recipe.activations) {
      EXPECT_EQ(entry.dtype, DType::kUInt8);
      EXPECT_EQ(entry.scale, 2.0f);  // 510 / 255
      EXPECT_EQ(entry.zero_point, 50);
    }
    // The Add and the Concat read x as it is.
    EXPECT_THAT(FindActivation(recipe, "x")->consumers, ElementsAre(residual_.NodeName("Conv", 0)));
    EXPECT_EQ(FindActivation(recipe, residual_.sum), nullptr);
  }
}

TEST_F(DecideTest, QuantizesWeightsPerOutputChannel) {
  const Recipe recipe = DecideFor(prepared_, {});
  ASSERT_EQ(recipe.weights.size(), 3u);
  EXPECT_EQ(recipe.weights[0].axis, 0);
  EXPECT_EQ(recipe.weights[0].scales.size(), 4u);
  EXPECT_EQ(recipe.weights[2].scales.size(), 2u);
}

// A convolution's result is quantized for all of its readers, behind its Relu; one that is an output cannot be.
TEST_F(DecideTest, FollowsOnnxRuntimesRules) {
  const Recipe recipe = DecideFor(prepared_, ForTarget("onnxruntime"));
  const std::string a = residual_.NodeName("Conv", 0), b = residual_.NodeName("Conv", 1),
                    c = residual_.NodeName("Conv", 2);
  ASSERT_EQ(recipe.float_nodes.size(), 1u);
  EXPECT_EQ(recipe.float_nodes[0].node, c);
  EXPECT_THAT(recipe.float_nodes[0].reason, HasSubstr("its result cannot be quantized"));
  std::vector<std::string> made_by;
  for (const ActivationRecipe& entry : recipe.activations) {
    EXPECT_EQ(entry.dtype, DType::kUInt8);
    if (entry.result_of.empty()) continue;
    made_by.push_back(entry.result_of);
    EXPECT_EQ(entry.tensor == residual_.relu, entry.result_of == a);
    EXPECT_TRUE(entry.consumers.empty());
  }
  EXPECT_THAT(made_by, testing::UnorderedElementsAre(a, b));
  const Graph graph = ApplyRecipe(prepared_, recipe).value();
  // x, what the Relu makes (read by one pair, though it is an operand too), what conv_b makes.
  EXPECT_EQ(CountOps(graph, "QuantizeLinear"), 3);
  for (const Node& node : graph.nodes) {
    if (!node.Is("Add")) continue;
    EXPECT_TRUE(graph.node(graph.value(node.input(0)).producer).Is("DequantizeLinear"));
  }
}

TEST_F(DecideTest, WithoutAScaleAResultsContractionStaysFloat) {
  CalibrationCache cache;
  const std::vector<std::string> tensors = QuantizableTensors(prepared_).value();
  for (const std::string& tensor : tensors) cache.scales[tensor] = 0.02f;
  cache.scales.erase(residual_.relu);
  Policy policy = ForTarget("onnxruntime");
  policy.float_without_scale = true;
  const Recipe recipe = DecideFromCache(prepared_, cache, policy).value();
  EXPECT_TRUE(recipe.activations.empty());  // conv_a makes it, conv_b reads it
  EXPECT_TRUE(recipe.weights.empty());
}

TEST_F(DecideTest, WhatMovesAResultHasItsScale) {
  TestGraph builder(13);
  const ValueId x = builder.Input("x", {1, 4, 4, 4});
  const ValueId y = builder.Op("Conv", {x, builder.Random({8, 4, 1, 1})});
  const ValueId rows = builder.Op("Transpose", {builder.Op("Reshape", {y, builder.Ints({1, 8, 16})})},
                                  {{"perm", std::vector<int64_t>{0, 2, 1}}});
  const Graph prepared =
      PrepareForQuantization(builder.Finish({builder.Op("MatMul", {rows, builder.Random({8, 3})})})).value();
  Stats stats = UniformStats(prepared, -1.0f, 1.0f);
  stats.tensors.at(prepared.value(rows).name).max = 3.0f;
  const Recipe recipe = Decide(prepared, stats, ForTarget("onnxruntime")).value();
  const ActivationRecipe *result = FindActivation(recipe, prepared.value(y).name),
                         *moved = FindActivation(recipe, prepared.value(rows).name);
  ASSERT_TRUE(result != nullptr && moved != nullptr);
  EXPECT_EQ(moved->scale, result->scale);
  EXPECT_EQ(moved->zero_point, result->zero_point);
}

TEST_F(DecideTest, FollowsTensorRtsRules) {
  const Recipe recipe = DecideFor(prepared_, ForTarget("tensorrt"));
  for (const ActivationRecipe& entry : recipe.activations) {
    EXPECT_EQ(entry.dtype, DType::kInt8);
    EXPECT_EQ(entry.zero_point, 0);
  }
  // The skip is quantized for the Add, with the Q/DQ that the convolution reads, too.
  EXPECT_THAT(FindActivation(recipe, "x")->consumers,
              ElementsAre(residual_.NodeName("Conv", 0), residual_.NodeName("Add", 0)));
  // What the Concat joins has the scale of its result, x a second Q/DQ for that.
  const std::string concat = residual_.NodeName("Concat", 0);
  ASSERT_NE(FindActivation(recipe, residual_.sum, concat), nullptr);
  ASSERT_NE(FindActivation(recipe, "x", concat), nullptr);
  EXPECT_EQ(FindActivation(recipe, residual_.sum, concat)->scale, FindActivation(recipe, residual_.concat)->scale);
}

TEST_F(DecideTest, SharesTheConcatsOwnScale) {
  Stats stats = UniformStats(prepared_, -127.0f, 127.0f);
  stats.tensors.at(residual_.concat).max = 254.0f;
  const Recipe recipe = Decide(prepared_, stats, ForTarget("tensorrt")).value();
  const std::string concat = residual_.NodeName("Concat", 0);
  EXPECT_EQ(FindActivation(recipe, "x", concat)->scale, 2.0f);
  EXPECT_EQ(FindActivation(recipe, "x", residual_.NodeName("Conv", 0))->scale, 1.0f);
}

TEST_F(DecideTest, OneTensorOfSeveralContractionsIsQuantizedOnce) {
  TestGraph builder(13);
  const ValueId x = builder.Input("x", {1, 4, 8});
  const ValueId a = builder.Op("MatMul", {x, builder.Random({8, 3})});
  const ValueId b = builder.Op("MatMul", {x, builder.Random({8, 5})});
  const Graph prepared = PrepareForQuantization(builder.Finish({a, b})).value();
  const Recipe recipe = DecideFor(prepared, {});
  ASSERT_EQ(recipe.activations.size(), 1u);
  EXPECT_EQ(recipe.activations[0].consumers.size(), 2u);
  EXPECT_EQ(recipe.weights[1].axis, 1);
  EXPECT_EQ(recipe.weights[1].scales.size(), 5u);
}

TEST_F(DecideTest, FindsTheOutputChannelsOfEveryContraction) {
  TestGraph builder(13);
  const ValueId x = builder.Input("x", {2, 8});
  const ValueId y = builder.Input("y", {1, 4, 3, 3});
  const ValueId a = builder.Op("Gemm", {x, builder.Random({5, 8})}, {{"transB", int64_t{1}}});
  const ValueId b = builder.Op("Gemm", {x, builder.Random({8, 6})});
  const ValueId c = builder.Op("ConvTranspose", {y, builder.Random({4, 7, 2, 2})});
  const ValueId d = builder.Op("MatMul", {x, builder.Random({8})});
  const ValueId e = builder.Op("MatMul", {builder.Random({3, 2}), x});
  const Graph prepared = PrepareForQuantization(builder.Finish({a, b, c, d, e})).value();
  const Recipe recipe = DecideFor(prepared, {});
  ASSERT_EQ(recipe.weights.size(), 5u);
  const auto expect = [&](size_t i, int input, int axis, size_t scales) {
    EXPECT_EQ(recipe.weights[i].input, input) << i;
    EXPECT_EQ(recipe.weights[i].axis, axis) << i;
    EXPECT_EQ(recipe.weights[i].scales.size(), scales) << i;
  };
  expect(0, 1, 0, 5);
  expect(1, 1, 1, 6);
  expect(2, 1, 1, 7);
  expect(3, 1, -1, 1);
  expect(4, 0, -1, 1);
}

// softmax(q k^T) v of one input.
Graph AttentionGraph() {
  TestGraph builder(13);
  const ValueId x = builder.Input("x", {1, 6, 8});
  const ValueId q = builder.Op("MatMul", {x, builder.Random({8, 8})});
  const ValueId k = builder.Op("Transpose", {x}, {{"perm", std::vector<int64_t>{0, 2, 1}}});
  const ValueId scores = builder.Op("Softmax", {builder.Op("MatMul", {q, k})}, {{"axis", int64_t{-1}}});
  const Graph graph = builder.Finish({builder.Op("MatMul", {scores, x})});
  return PrepareForQuantization(graph).value();
}

TEST_F(DecideTest, LeavesProductsOfActivationsFloatUnlessAsked) {
  const Graph prepared = AttentionGraph();
  const Recipe plain = DecideFor(prepared, {});
  EXPECT_EQ(plain.activations.size(), 1u);
  ASSERT_EQ(plain.float_nodes.size(), 2u);
  EXPECT_EQ(plain.float_nodes[0].reason, "both operands are activations");
  Policy policy;
  policy.quantize_attention = true;
  const Recipe whole = DecideFor(prepared, policy);
  EXPECT_EQ(whole.activations.size(), 4u);  // x, q, its transposition, the scores
  EXPECT_TRUE(whole.float_nodes.empty());
}

TEST_F(DecideTest, KeepsFloatWhatIsNamed) {
  const std::string first = residual_.NodeName("Conv", 0);
  Policy policy;
  policy.keep_float = {first};
  Recipe recipe = DecideFor(prepared_, policy);
  ASSERT_EQ(recipe.float_nodes.size(), 1u);
  EXPECT_EQ(recipe.float_nodes[0].node, first);
  EXPECT_THAT(recipe.float_nodes[0].reason, HasSubstr("kept float by '" + first + "'"));
  EXPECT_EQ(recipe.weights.size(), 2u);
  policy.keep_float = {"Conv"};
  recipe = DecideFor(prepared_, policy);
  EXPECT_EQ(recipe.float_nodes.size(), 3u);
  EXPECT_TRUE(recipe.activations.empty());
  policy.keep_float = {"Con?*"};
  EXPECT_EQ(DecideFor(prepared_, policy).float_nodes.size(), 3u);
}

TEST_F(DecideTest, KeepsInSixteenBitsWhatIsNamed) {
  Policy policy;
  policy.bfloat16 = {residual_.NodeName("Conv", 0), "Relu"};
  policy.float16 = {residual_.NodeName("Conv", 1)};
  policy.keep_float = {"Conv"};
  const Recipe recipe = DecideFor(prepared_, policy);
  ASSERT_EQ(recipe.float_nodes.size(), 3u);
  EXPECT_EQ(recipe.float_nodes[0].precision, DType::kBFloat16);
  EXPECT_EQ(recipe.float_nodes[1].precision, DType::kFloat16);
  EXPECT_EQ(recipe.float_nodes[2].precision, DType::kFloat32);
  EXPECT_TRUE(ApplyRecipe(prepared_, recipe).ok());
  policy.float16 = {"Con*"};
  EXPECT_THAT(CheckPolicy(prepared_, policy).message(), HasSubstr("cannot be both bf16 and fp16"));
  policy.float16 = {"nobody"};
  EXPECT_THAT(CheckPolicy(prepared_, policy).message(), HasSubstr("fp16 'nobody' matches no node"));
}

TEST_F(DecideTest, BFloat16StandsBetweenIntegers) {
  const Graph prepared = AttentionGraph();
  Policy policy;
  policy.bfloat16 = {"attention"};
  const Recipe recipe = DecideFor(prepared, policy);
  ASSERT_EQ(recipe.float_nodes.size(), 2u);
  EXPECT_EQ(recipe.float_nodes[0].precision, DType::kBFloat16);
  EXPECT_EQ(recipe.float_nodes[1].precision, DType::kBFloat16);
  const auto graph = ApplyRecipe(prepared, recipe);
  ASSERT_TRUE(graph.ok()) << graph.status().message();
  EXPECT_EQ(CountOps(*graph, "Cast"), 8);
  EXPECT_EQ(CountOps(*graph, "QuantizeLinear"), 1);
}

TEST_F(DecideTest, RefusesAPatternThatMatchesNothing) {
  Policy policy;
  policy.keep_float = {"Conv", "*onv_of_another_model"};
  const auto recipe = Decide(prepared_, UniformStats(prepared_, -1.0f, 1.0f), policy);
  ASSERT_FALSE(recipe.ok());
  EXPECT_THAT(recipe.status().message(), HasSubstr("'*onv_of_another_model' matches no node"));
  EXPECT_FALSE(CheckPolicy(prepared_, policy).ok());
}

TEST_F(DecideTest, RefusesStatisticsThatDoNotFit) {
  Stats other = UniformStats(prepared_, -1.0f, 1.0f);
  other.fingerprint = "0123";
  EXPECT_THAT(Decide(prepared_, other, {}).status().message(), HasSubstr("another model"));
  Stats missing = UniformStats(prepared_, -1.0f, 1.0f);
  missing.tensors.erase("x");
  EXPECT_THAT(Decide(prepared_, missing, {}).status().message(), HasSubstr("'x'"));
  EXPECT_THAT(Decide(prepared_, UniformStats(prepared_, -1, 1), ForTarget("tpu")).status().message(),
              HasSubstr("'tpu' is no target: octavo, onnxruntime, openvino, tensorrt"));
  Policy policy;
  policy.preset = "magic";
  EXPECT_THAT(CheckPolicy(prepared_, policy).message(), HasSubstr("'magic' is no preset"));
}

TEST_F(DecideTest, RefusesWeightsThatAreNotFinite) {
  Value& weights = prepared_.value(prepared_.nodes.front().input(1));
  weights.constant = weights.constant.Clone().value();
  weights.constant.mutable_values<float>()[3] = std::numeric_limits<float>::infinity();
  const auto recipe = Decide(prepared_, UniformStats(prepared_, -1, 1), {});
  ASSERT_FALSE(recipe.ok());
  EXPECT_THAT(recipe.status().message(), HasSubstr("'" + residual_.NodeName("Conv", 0) + "': its weights hold NaN"));
}

TEST_F(DecideTest, GivesDegenerateTensorsAndChannelsUsableScales) {
  Value& weights = prepared_.value(prepared_.nodes.front().input(1));
  weights.constant = weights.constant.Clone().value();
  const std::span<float> values = weights.constant.mutable_values<float>();
  std::fill(values.begin(), values.begin() + 4, 0.0f);
  std::fill(values.begin() + 4, values.begin() + 8, std::numeric_limits<float>::denorm_min());
  const Recipe recipe = Decide(prepared_, UniformStats(prepared_, 0.0f, 0.0f), {}).value();
  EXPECT_EQ(recipe.weights[0].scales[0], kZeroRangeScale);
  EXPECT_EQ(recipe.weights[0].scales[1], kSmallestScale);
  EXPECT_EQ(FindActivation(recipe, "x")->scale, kZeroRangeScale);
  EXPECT_TRUE(ApplyRecipe(prepared_, recipe).ok());
}

TEST_F(DecideTest, ImplicitPresetQuantizesWhatTensorRtKeepsInMemory) {
  Policy policy;
  policy.preset = "tensorrt8-implicit";
  const Recipe recipe = DecideFor(prepared_, policy);
  // conv_a -> Relu is one layer, and so is conv_b -> Add: x, relu, sum and concat are what is left in memory.
  ASSERT_EQ(recipe.activations.size(), 4u);
  EXPECT_EQ(FindActivation(recipe, "x")->consumers.size(), 3u);
  EXPECT_NE(FindActivation(recipe, residual_.relu), nullptr);
  EXPECT_NE(FindActivation(recipe, residual_.sum), nullptr);
  EXPECT_NE(FindActivation(recipe, residual_.concat), nullptr);
  for (const ActivationRecipe& entry : recipe.activations) EXPECT_EQ(entry.dtype, DType::kInt8);
  const Recipe attention = DecideFor(AttentionGraph(), policy);
  EXPECT_TRUE(attention.float_nodes.empty());
  EXPECT_EQ(attention.activations.size(), 5u);  // x and its transposition, q, the product, the softmax
}

TEST_F(DecideTest, ImplicitPresetKeepsTheEarlierOfTwoAddedProducts) {
  TestGraph builder(13);
  const ValueId x = builder.Input("x", {1, 4, 4, 4});
  const ValueId a = builder.Op("Conv", {x, builder.Random({4, 4, 1, 1})});
  const ValueId b = builder.Op("Conv", {x, builder.Random({4, 4, 1, 1})});
  const ValueId sum = builder.Op("Add", {a, b});
  const Graph graph =
      builder.Finish({builder.Op("AveragePool", {sum}, {{"kernel_shape", std::vector<int64_t>{2, 2}}})});
  Policy policy;
  policy.preset = "tensorrt8-implicit";
  const Graph prepared = PrepareForQuantization(graph).value();
  const Recipe recipe = DecideFor(prepared, policy);
  EXPECT_NE(FindActivation(recipe, graph.value(a).name), nullptr);
  EXPECT_EQ(FindActivation(recipe, graph.value(b).name), nullptr);
  EXPECT_EQ(recipe.activations.size(), 3u);  // x, a, the sum
}

TEST_F(DecideTest, TakesScalesFromACache) {
  CalibrationCache cache;
  const std::vector<std::string> tensors = QuantizableTensors(prepared_).value();
  for (const std::string& name : tensors) cache.scales[name] = 0.25f;
  cache.scales[residual_.relu] = 0.5f;
  const Recipe recipe = DecideFromCache(prepared_, cache, {}).value();
  EXPECT_EQ(FindActivation(recipe, "x")->scale, 0.25f);
  EXPECT_EQ(FindActivation(recipe, residual_.relu)->scale, 0.5f);
  EXPECT_EQ(FindActivation(recipe, residual_.relu)->dtype, DType::kInt8);
  // What nothing reads quantized may be missing; what is read may not.
  cache.scales.erase(residual_.sum);
  EXPECT_TRUE(DecideFromCache(prepared_, cache, {}).ok());
  cache.scales.erase(residual_.relu);
  EXPECT_THAT(DecideFromCache(prepared_, cache, {}).status().message(), HasSubstr("'" + residual_.relu + "'"));
  Policy policy;
  policy.keep_float = {residual_.NodeName("Conv", 1)};
  EXPECT_TRUE(DecideFromCache(prepared_, cache, policy).ok());
}

TEST_F(DecideTest, WritesACacheOfEveryTensor) {
  const CalibrationCache cache = MakeCalibrationCache(prepared_, UniformStats(prepared_, -254.0f, 1.0f), {}).value();
  const std::vector<std::string> tensors = QuantizableTensors(prepared_).value();
  ASSERT_EQ(cache.scales.size(), tensors.size());
  for (const std::string& name : tensors) EXPECT_EQ(cache.scales.at(name), 2.0f) << name;
}

}  // namespace
}  // namespace octavo
