#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/test_files.h"
#include "octavo/onnx.h"
#include "quantize/quantize_testing.h"

namespace octavo {
namespace {

using testing::HasSubstr;

class ApplyTest : public testing::Test {
 protected:
  ApplyTest()
      : prepared_(PrepareForQuantization(residual_.graph).value()),
        recipe_(Decide(prepared_, UniformStats(prepared_, -100.0f, 410.0f), {}).value()) {}

  void ExpectError(const std::string& message) {
    const auto graph = ApplyRecipe(prepared_, recipe_);
    ASSERT_FALSE(graph.ok());
    EXPECT_THAT(graph.status().message(), HasSubstr(message));
  }

  ResidualGraph residual_;
  Graph prepared_;
  Recipe recipe_;
};

TEST_F(ApplyTest, PutsOnePairOnEachEdgeAndOneDequantizeOnEachWeight) {
  const Graph graph = ApplyRecipe(prepared_, recipe_).value();
  EXPECT_EQ(CountOps(graph, "QuantizeLinear"), 3);
  EXPECT_EQ(CountOps(graph, "DequantizeLinear"), 6);
  for (const Node& node : graph.nodes) {
    if (node.op != "Conv") continue;
    const Node& weight = graph.node(graph.value(node.input(1)).producer);
    EXPECT_EQ(weight.op, "DequantizeLinear");
    EXPECT_EQ(graph.value(weight.input(0)).dtype, DType::kInt8);
    EXPECT_EQ(weight.Int("axis", -7), 0);
    if (node.has_input(2)) {
      EXPECT_EQ(graph.value(node.input(2)).dtype, DType::kFloat32);  // the bias stays
    }
  }
  // No float weights are left.
  for (const Value& value : graph.values) {
    EXPECT_FALSE(value.is_constant() && value.dtype == DType::kFloat32 && value.dims.size() == 4) << value.name;
  }
  EXPECT_EQ(graph.metadata.at("octavo.target"), "octavo");
  EXPECT_EQ(graph.metadata.at("octavo.estimator"), "minmax");
  EXPECT_EQ(graph.metadata.at("octavo.recipe").size(), 16u);
}

TEST_F(ApplyTest, ComputesWhatTheScalesSay) {
  TestGraph builder(13);
  const ValueId x = builder.Input("x", {1, 2});
  const ValueId y = builder.Op("MatMul", {x, builder.Constant({2, 1}, {1.27f, -0.634f})});
  const Graph prepared = PrepareForQuantization(builder.Finish({y})).value();
  Recipe recipe = Decide(prepared, UniformStats(prepared, -1.0f, 1.0f), {}).value();
  recipe.activations[0].scale = 0.5f;
  recipe.activations[0].zero_point = 100;
  const Graph graph = ApplyRecipe(prepared, recipe).value();
  // 1.3 / 0.5 = 2.6 -> 3 -> 1.5;  100 / 0.5 = 200 + 100 saturates at 255 -> 77.5.  -0.634 / 0.01 = -63.4 -> -63.
  const auto outputs = EvaluateGraph(graph, std::vector{Tensor::FromVector<float>({1, 2}, {1.3f, 100.0f})});
  ASSERT_TRUE(outputs.ok()) << outputs.status().message();
  // 1.27f / 127 is rounded, as are two products and a sum of about 50: 4 * 2^-24 * 50 < 2e-5.
  EXPECT_NEAR((*outputs)[0].values<float>()[0], 1.5f * 1.27f + 77.5f * -0.63f, 2e-5f);
}

TEST_F(ApplyTest, StaysWithinHalfAStep) {
  TestGraph builder(13);
  const ValueId x = builder.Input("x", {1, 4, 4, 4});
  const ValueId y = builder.Op("Conv", {x, builder.Random({3, 4, 1, 1}), builder.Random({3})});
  const Graph prepared = PrepareForQuantization(builder.Finish({y})).value();
  const Recipe recipe = Decide(prepared, UniformStats(prepared, -2.0f, 2.0f), {}).value();
  // Inputs lie in [-2, 2], four weights per output in [-1, 1]: half a step of 4 / 255 times 1, and half a step of at
  // most 1 / 127 times 2 + half a step of the input: 4 * (2 / 255 + 2.01 / 254) = 0.0631, and float rounding.
  ExpectSameOutputs(prepared, ApplyRecipe(prepared, recipe).value(), 0.0632);
}

TEST_F(ApplyTest, SharedWeightsStayShared) {
  TestGraph builder(13);
  const ValueId x = builder.Input("x", {3, 3});
  const ValueId w = builder.Random({3, 3});
  const ValueId y = builder.Op("MatMul", {builder.Op("Relu", {builder.Op("MatMul", {x, w})}), w});
  const Graph prepared = PrepareForQuantization(builder.Finish({y})).value();
  const Graph graph = ApplyRecipe(prepared, Decide(prepared, UniformStats(prepared, -1, 1), {}).value()).value();
  EXPECT_EQ(CountOps(graph, "DequantizeLinear"), 3);  // two activations, one weight
}

TEST_F(ApplyTest, KeepsNodesNearTheirReaders) {
  const Graph graph = ApplyRecipe(prepared_, recipe_).value();
  for (size_t n = 0; n + 1 < graph.nodes.size(); ++n) {
    if (graph.nodes[n].op == "QuantizeLinear") {
      EXPECT_EQ(graph.nodes[n + 1].op, "DequantizeLinear");
    }
  }
  EXPECT_EQ(graph.nodes.back().op, "Conv");
}

TEST_F(ApplyTest, ReadsBackWhatItSaves) {
  const Graph graph = ApplyRecipe(prepared_, recipe_).value();
  const TemporaryFolder folder;
  const std::string path = folder / "model.onnx";
  ASSERT_TRUE(SaveOnnx(graph, path).ok());
  const auto loaded = LoadOnnx(path);
  ASSERT_TRUE(loaded.ok()) << loaded.status().message();
  EXPECT_EQ(loaded->nodes.size(), graph.nodes.size());
  EXPECT_EQ(loaded->metadata, graph.metadata);
}

TEST_F(ApplyTest, RefusesARecipeOfAnotherModel) {
  recipe_.fingerprint = "00";
  ExpectError("another model");
  recipe_.fingerprint.clear();
  EXPECT_TRUE(ApplyRecipe(prepared_, recipe_).ok());
}

TEST_F(ApplyTest, RefusesActivationsThatMakeNoSense) {
  const ActivationRecipe good = recipe_.activations[0];
  ActivationRecipe& entry = recipe_.activations[0];
  entry.tensor = "nothing";
  ExpectError("no such tensor");
  entry = good;
  for (const float scale :
       {0.0f, -1.0f, std::numeric_limits<float>::quiet_NaN(), 1e-40f, std::numeric_limits<float>::infinity()}) {
    entry.scale = scale;
    ExpectError("not a positive normal number");
  }
  entry = good;
  entry.zero_point = 256;
  ExpectError("zero point 256");
  entry = good;
  entry.dtype = DType::kInt8;
  entry.zero_point = 128;
  ExpectError("zero point 128");
  entry = good;
  entry.consumers = {"nobody"};
  ExpectError("no node 'nobody'");
  entry.consumers = {residual_.NodeName("Conv", 1)};
  ExpectError("does not read it");
  entry = good;
  recipe_.activations.push_back(good);
  ExpectError("quantized twice");
}

TEST_F(ApplyTest, RefusesWeightsThatMakeNoSense) {
  const WeightRecipe good = recipe_.weights[0];
  WeightRecipe& entry = recipe_.weights[0];
  entry.input = 7;
  ExpectError("no input 7");
  entry.input = -1;
  ExpectError("no input -1");
  entry.input = 0;
  ExpectError("no float32 constant");
  entry = good;
  entry.axis = 4;
  ExpectError("axis 4");
  entry = good;
  entry.scales.pop_back();
  ExpectError("3 scales for 4 channels");
  entry = good;
  entry.scales[1] = -1.0f;
  ExpectError("not a positive normal number");
  entry = good;
  recipe_.weights.push_back(good);
  ExpectError("listed twice");
}

TEST_F(ApplyTest, AllMeansEveryReader) {
  recipe_.activations[0].consumers.clear();
  const Graph graph = ApplyRecipe(prepared_, recipe_).value();
  const auto uses = graph.Uses();
  EXPECT_EQ(uses[static_cast<size_t>(graph.Find("x"))].size(), 1u);  // the QuantizeLinear alone
}

class HalfTest : public testing::TestWithParam<DType> {
 protected:
  HalfTest() : prepared_(PrepareForQuantization(residual_.graph).value()) {}

  Recipe For(std::initializer_list<int> convolutions) const {
    Recipe recipe;
    for (const int n : convolutions) recipe.float_nodes.push_back({residual_.NodeName("Conv", n), "", GetParam()});
    return recipe;
  }
  std::string ErrorOf(const Recipe& recipe) const {
    const auto graph = ApplyRecipe(prepared_, recipe);
    return graph.ok() ? "no error" : graph.status().message();
  }

  ResidualGraph residual_{11};
  Graph prepared_;
};
INSTANTIATE_TEST_SUITE_P(Types, HalfTest, testing::Values(DType::kBFloat16, DType::kFloat16),
                         [](const auto& type) { return std::string(NameOf(type.param)); });

TEST_P(HalfTest, RoundsOperandsThroughCasts) {
  const Graph graph = ApplyRecipe(prepared_, For({0, 1})).value();
  EXPECT_EQ(graph.opset(), 13);
  EXPECT_EQ(CountOps(graph, "Cast"), 6);  // a pair for each activation, the way back for each weight
  const Node* conv = nullptr;
  for (const Node& node : graph.nodes) {
    if (node.name == residual_.NodeName("Conv", 0)) conv = &node;
  }
  ASSERT_NE(conv, nullptr);
  EXPECT_EQ(graph.value(conv->input(2)).dtype, DType::kFloat32);  // the bias stays
  EXPECT_TRUE(graph.value(conv->input(2)).is_constant());
  const Node& weight = graph.node(graph.value(conv->input(1)).producer);
  EXPECT_EQ(weight.op, "Cast");
  EXPECT_TRUE(graph.value(weight.input(0)).is_constant());
  EXPECT_EQ(graph.value(weight.input(0)).constant.dtype(), GetParam());
  // Right before its reader.
  EXPECT_EQ(graph.nodes[0].op, "Cast");
  EXPECT_EQ(graph.nodes[3].name, conv->name);
  // The first convolution's four products of inputs up to 2 and weights up to 1, each off by 2^-8 of itself twice:
  // 2^-4; the second one adds that for each of its four weights and its own error: less than 0.6 of outputs.
  ExpectSameOutputs(prepared_, graph, GetParam() == DType::kBFloat16 ? 0.6 : 0.075);
}

TEST_P(HalfTest, OnePairPerTensor) {
  TestGraph builder(13);
  const ValueId x = builder.Input("x", {2, 4}), w = builder.Random({4, 4});
  const Graph prepared = PrepareForQuantization(builder.Finish({builder.Op("MatMul", {x, w}),
                                                                builder.Op("MatMul", {builder.Op("Relu", {x}), w}),
                                                                builder.Op("MatMul", {x, builder.Random({4, 3})})}))
                             .value();
  Recipe recipe;
  for (const Node& node : prepared.nodes) {
    if (node.op == "MatMul") recipe.float_nodes.push_back({node.name, "", GetParam()});
  }
  const Graph graph = ApplyRecipe(prepared, recipe).value();
  EXPECT_EQ(CountOps(graph, "Cast"), 2 + 2 + 1 + 1);  // x, Relu(x), two weights
  for (const Value& value : graph.values) EXPECT_FALSE(value.is_constant() && value.dtype == DType::kFloat32);
}

TEST_P(HalfTest, ReadsBackWhatItSaves) {
  const Graph graph = ApplyRecipe(prepared_, For({0, 1, 2})).value();
  const TemporaryFolder folder;
  const std::string path = folder / "model.onnx";
  ASSERT_TRUE(SaveOnnx(graph, path).ok());
  const auto loaded = LoadOnnx(path);
  ASSERT_TRUE(loaded.ok()) << loaded.status().message();
  ExpectSameOutputs(graph, *loaded, 0);
}

TEST_P(HalfTest, RefusesWhatMakesNoSense) {
  Recipe recipe = For({0, 0});
  EXPECT_THAT(ErrorOf(recipe), HasSubstr("listed twice"));
  recipe.float_nodes = {{"nobody", "", GetParam()}};
  EXPECT_THAT(ErrorOf(recipe), HasSubstr("no node 'nobody'"));
  recipe.float_nodes = {{residual_.NodeName("Relu", 0), "", GetParam()}};
  EXPECT_THAT(ErrorOf(recipe), HasSubstr("only contractions run in 16 bits"));
  recipe = Decide(prepared_, UniformStats(prepared_, -1, 1), {}).value();
  recipe.float_nodes = For({1}).float_nodes;
  EXPECT_THAT(ErrorOf(recipe), HasSubstr("quantized: leave one of the two out"));
}

TEST(HalfWeights, StayWithinTheType) {
  TestGraph builder(13);
  const ValueId x = builder.Input("x", {1, 2});
  const Graph prepared =
      PrepareForQuantization(builder.Finish({builder.Op("MatMul", {x, builder.Constant({2, 1}, {1, -65520})})}))
          .value();
  Recipe recipe;
  recipe.float_nodes = {{prepared.nodes[0].name, "", DType::kFloat16}};
  const auto graph = ApplyRecipe(prepared, recipe);
  ASSERT_FALSE(graph.ok());
  EXPECT_THAT(graph.status().message(), HasSubstr("float node '" + prepared.nodes[0].name + "'"));
  EXPECT_THAT(graph.status().message(), HasSubstr("its weights reach -65520, beyond the largest float16"));
  recipe.float_nodes[0].precision = DType::kBFloat16;
  EXPECT_TRUE(ApplyRecipe(prepared, recipe).ok());
}

Graph SmallGraph(int64_t opset, std::string_view op, TestGraph::Attributes attributes) {
  TestGraph builder(opset);
  const ValueId x = builder.Input("x", {2, 3, 4});
  const ValueId y = builder.Op("MatMul", {x, builder.Random({4, 4})});
  return PrepareForQuantization(builder.Finish({builder.Op(op, {y}, std::move(attributes))})).value();
}

Result<Graph> QuantizeSmall(const Graph& prepared) {
  return ApplyRecipe(prepared, Decide(prepared, UniformStats(prepared, -2, 2), {}).value());
}

TEST(RaiseOpset, MovesAttributesThatBecameInputs) {
  const Graph prepared = SmallGraph(11, "ReduceSum", {{"axes", std::vector<int64_t>{1}}, {"keepdims", int64_t{0}}});
  const auto graph = QuantizeSmall(prepared);
  ASSERT_TRUE(graph.ok()) << graph.status().message();
  EXPECT_EQ(graph->opset(), 13);
  EXPECT_GE(graph->ir_version, 7);
  const Node* sum = FindOnly(*graph, "ReduceSum");
  EXPECT_FALSE(sum->Has("axes"));
  EXPECT_EQ(*ConstantInts(*graph, sum->input(1)), (std::vector<int64_t>{1}));
  // Three sums of four products, each within the half steps of StaysWithinHalfAStep: 3 * 0.0632.
  ExpectSameOutputs(prepared, *graph, 0.19);
}

TEST(RaiseOpset, KeepsSoftmaxOverTheLastAxis) {
  const Graph prepared = SmallGraph(11, "Softmax", {{"axis", int64_t{2}}});
  const auto graph = QuantizeSmall(prepared);
  ASSERT_TRUE(graph.ok()) << graph.status().message();
  EXPECT_EQ(FindOnly(*graph, "Softmax")->Int("axis", -9), 2);
}

TEST(RaiseOpset, RefusesWhatMeansSomethingElse) {
  for (const TestGraph::Attributes& attributes :
       {TestGraph::Attributes{}, TestGraph::Attributes{{"axis", int64_t{1}}}}) {
    const auto graph = QuantizeSmall(SmallGraph(11, "Softmax", attributes));
    ASSERT_FALSE(graph.ok());
    EXPECT_EQ(graph.status().code(), ErrorCode::kUnsupported);
    EXPECT_THAT(graph.status().message(), HasSubstr("convert_version"));
    EXPECT_THAT(graph.status().message(), HasSubstr("Softmax"));
  }
}

TEST(QuantizeImplicit, EqualsTheModelWrittenFromTheCache) {
  ResidualGraph residual;
  const Graph prepared = PrepareForQuantization(residual.graph).value();
  const CalibrationCache cache = MakeCalibrationCache(prepared, UniformStats(prepared, -10, 10), {}).value();
  const Graph implicit = QuantizeImplicit(prepared, cache).value();
  const Graph written = ApplyRecipe(prepared, DecideFromCache(prepared, cache, {}).value()).value();
  ExpectSameOutputs(implicit, written, 0);
  EXPECT_EQ(CountOps(implicit, "QuantizeLinear"), 3);
}

}  // namespace
}  // namespace octavo
