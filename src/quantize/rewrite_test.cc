#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "quantize/quantize_testing.h"

namespace octavo {
namespace {

using testing::HasSubstr;

class RewriteTest : public testing::Test {
 protected:
  RewriteTest() {
    prepared_ = PrepareForQuantization(residual_.graph).value();
    conv_ = residual_.NodeName("Conv", 1);
  }
  std::string Error(const Recipe& recipe) const {
    const auto graph = RewriteByRecipe(prepared_, recipe);
    return graph.ok() ? "no error" : graph.status().message();
  }

  ResidualGraph residual_;
  Graph prepared_;
  std::string conv_;  // reads relu, four channels
};

TEST_F(RewriteTest, MigratesRescalesAndAddsBiases) {
  Recipe recipe;
  recipe.migrations = {{residual_.relu, {conv_}, {1, 4, 1, 1}, {2, 1, 0.5f, 4}}};
  recipe.rescales = {{conv_, 1, {1, 4, 1, 1}, {0.5f, 1, 2, 0.25f}}};
  const Graph same = RewriteByRecipe(prepared_, recipe).value();
  EXPECT_EQ(CountOps(same, "Mul"), 1);
  ExpectSameOutputs(prepared_, same, 0);  // powers of two
  recipe.biases = {{conv_, {0, 0, 0, 0}}};
  const Graph biased = RewriteByRecipe(prepared_, recipe).value();
  ExpectSameOutputs(prepared_, biased, 0);
  for (const Node& node : biased.nodes) {
    EXPECT_TRUE(node.name != conv_ || node.has_input(2));
  }
}

TEST_F(RewriteTest, LeavesSharedConstantsOfOthersAlone) {
  TestGraph builder;
  const ValueId x = builder.Input("x", {2, 2}), w = builder.Constant({2, 2}, {1, 2, 3, 4});
  const ValueId a = builder.Op("MatMul", {x, w}), b = builder.Op("MatMul", {x, w});
  const Graph graph = builder.Finish({a, b});
  Recipe recipe;
  recipe.rescales = {{graph.node(graph.value(a).producer).name, 1, {1, 2}, {2, 2}}};
  const Graph rewritten = RewriteByRecipe(graph, recipe).value();
  const auto outputs = EvaluateGraph(rewritten, std::vector{Tensor::FromVector<float>({2, 2}, {1, 0, 0, 1})}).value();
  EXPECT_EQ(outputs[0].values<float>()[3], 8);
  EXPECT_EQ(outputs[1].values<float>()[3], 4);
}

// relu is read by a convolution without a bias: an Add in front, a bias behind. Sums of 4 products of |w| < 1 and
// |x| < 9, |v| <= 4, rounded 7 times each with u = 2^-24, are off by 4 * (9 + 2 * 4) * 7 u; the last convolution adds
// up 4 of them.
TEST_F(RewriteTest, ShiftsThroughAnAdd) {
  Recipe recipe;
  recipe.shifts = {{residual_.relu, {conv_}, {-4, 0.3f, 2, -0.01f}}};
  const Graph shifted = RewriteByRecipe(prepared_, recipe).value();
  EXPECT_EQ(CountOps(shifted, "Add"), CountOps(prepared_, "Add") + 1);
  ExpectSameOutputs(prepared_, shifted, 4 * 4 * (9 + 2 * 4) * 7 * 0x1p-24);
  recipe.shifts[0].consumers.clear();
  ExpectSameOutputs(shifted, RewriteByRecipe(prepared_, recipe).value(), 0);
}

// Numbers are small and whole: shifted or not, floats hold every sum exactly.
class ShiftTest : public testing::Test {
 protected:
  ValueId Whole(Dims dims) {
    std::vector<float> values;
    for (int64_t i = 0; i < ElementCount(dims); ++i) values.push_back(static_cast<float>((i * 7 + 3) % 9 - 4));
    return builder_.Constant(std::move(dims), values);
  }
  static std::vector<float> Outputs(const Graph& graph) {
    std::vector<float> values;
    const Dims& dims = graph.value(graph.inputs[0]).dims;
    for (int64_t i = 0; i < ElementCount(dims); ++i) values.push_back(static_cast<float>(i % 7 - 3));
    const auto outputs = EvaluateGraph(graph, std::vector{Tensor::FromVector<float>(dims, values)}).value();
    return {outputs[0].values<float>().begin(), outputs[0].values<float>().end()};
  }
  // `tensor` shifted by whole numbers for all its readers: as many nodes of each kind more as said, the same outputs.
  void ExpectShifted(ValueId tensor, ValueId output, size_t channels, int adds) {
    const Graph graph = builder_.Finish({output});
    Recipe recipe;
    recipe.shifts = {{graph.value(tensor).name, {}, {}}};
    for (size_t c = 0; c < channels; ++c) recipe.shifts[0].values.push_back(static_cast<float>(c) - 3);
    const auto shifted = RewriteByRecipe(graph, recipe);
    ASSERT_TRUE(shifted.ok()) << shifted.status().message();
    EXPECT_EQ(CountOps(*shifted, "Add"), CountOps(graph, "Add") + adds);
    EXPECT_EQ(Outputs(*shifted), Outputs(graph));
  }
  std::string Error(ValueId tensor, ValueId output, std::vector<float> values = {1, 2}) {
    const Graph graph = builder_.Finish({output});
    Recipe recipe;
    recipe.shifts = {{graph.value(tensor).name, {}, std::move(values)}};
    const auto shifted = RewriteByRecipe(graph, recipe);
    return shifted.ok() ? "no error" : shifted.status().message();
  }

  TestGraph builder_;
};

TEST_F(ShiftTest, IsFreeInABias) {
  const ValueId x = builder_.Input("x", {1, 2, 3, 3});
  const ValueId a = builder_.Op("Conv", {x, Whole({4, 2, 3, 3}), Whole({4})}, {{"pads", std::vector<int64_t>(4, 1)}});
  ExpectShifted(a, builder_.Op("Conv", {a, Whole({4, 2, 2, 2})}, {{"group", int64_t{2}}}), 4, 0);
}

TEST_F(ShiftTest, IsFreeInAnAdd) {
  const ValueId x = builder_.Input("x", {2, 3, 4});
  const ValueId a = builder_.Op("Add", {Whole({4}), builder_.Op("Relu", {x})});
  const ValueId b = builder_.Op("MatMul", {a, Whole({4, 2})}), c = builder_.Op("MatMul", {a, Whole({4, 2})});
  const ValueId biased = builder_.Op("Add", {b, Whole({2})});
  ExpectShifted(a, builder_.Op("Mul", {biased, c}), 4, 1);  // c had no bias
}

TEST_F(ShiftTest, OthersKeepReadingTheTensor) {
  const ValueId x = builder_.Input("x", {2, 4});
  const ValueId a = builder_.Op("Gemm", {x, Whole({4, 4}), Whole({4})});
  const ValueId b = builder_.Op("Gemm", {a, Whole({4, 4})}, {{"transB", int64_t{1}}});
  const ValueId sum = builder_.Op("Add", {a, b});
  const Graph graph = builder_.Finish({sum});
  Recipe recipe;
  recipe.shifts = {{graph.value(a).name, {graph.node(graph.value(b).producer).name}, {1, 2, 3, 4}}};
  const Graph shifted = RewriteByRecipe(graph, recipe).value();
  EXPECT_EQ(CountOps(shifted, "Add"), 2);
  EXPECT_EQ(Outputs(shifted), Outputs(graph));
  recipe.shifts[0].consumers.clear();
  EXPECT_THAT(RewriteByRecipe(graph, recipe).status().message(), HasSubstr("no sum over channels"));
}

TEST_F(ShiftTest, RefusesWhatNoBiasTakesBack) {
  const ValueId x = builder_.Input("x", {1, 2, 3, 3});
  const ValueId a = builder_.Op("Relu", {x});
  const auto conv = [&](TestGraph::Attributes attributes) {
    return builder_.Op("Conv", {a, Whole({2, 2, 3, 3})}, std::move(attributes));
  };
  EXPECT_THAT(Error(a, conv({}), {1}), HasSubstr("1 values for axis 1"));
  EXPECT_THAT(Error(a, conv({}), {1, std::numeric_limits<float>::infinity()}), HasSubstr("NaN or infinite"));
}

TEST_F(ShiftTest, RefusesPadding) {
  const ValueId a = builder_.Op("Relu", {builder_.Input("x", {1, 2, 3, 3})});
  const ValueId y = builder_.Op("Conv", {a, Whole({2, 2, 3, 3})}, {{"auto_pad", std::string("SAME_UPPER")}});
  EXPECT_THAT(Error(a, y), HasSubstr("pads with zeros"));
}

TEST_F(ShiftTest, RefusesTransposedConvolutions) {
  const ValueId a = builder_.Op("Relu", {builder_.Input("x", {1, 2, 3, 3})});
  EXPECT_THAT(Error(a, builder_.Op("ConvTranspose", {a, Whole({2, 2, 2, 2})})), HasSubstr("different parts"));
}

TEST_F(ShiftTest, RefusesASquare) {
  const ValueId a = builder_.Op("Relu", {builder_.Input("x", {2, 2})});
  EXPECT_THAT(Error(a, builder_.Op("MatMul", {a, a})), HasSubstr("no sum over channels"));
}

TEST_F(RewriteTest, RefusesWhatDoesNotFit) {
  const float infinite = std::numeric_limits<float>::infinity();
  const auto migration = [&](const std::string& tensor, const std::string& node, Dims dims,
                             std::vector<float> factors) {
    Recipe recipe;
    recipe.migrations = {{tensor, {node}, std::move(dims), std::move(factors)}};
    return Error(recipe);
  };
  EXPECT_THAT(migration("nothing", conv_, {1}, {1}), HasSubstr("no such tensor"));
  EXPECT_THAT(migration(residual_.relu, "nothing", {1}, {1}), HasSubstr("no node 'nothing'"));
  EXPECT_THAT(migration(residual_.relu, residual_.NodeName("Conv", 0), {1}, {1}), HasSubstr("does not read it"));
  EXPECT_THAT(migration(residual_.relu, conv_, {1, 3, 1, 1}, {1, 1, 1}), HasSubstr("factors of dims 1x3x1x1"));
  EXPECT_THAT(migration(residual_.relu, conv_, {1, 4, 1, 1}, {1, 1, 1}), HasSubstr("3 factors for dims"));
  EXPECT_THAT(migration(residual_.relu, conv_, {1}, {0}), HasSubstr("not positive and normal"));
  EXPECT_THAT(migration(residual_.relu, conv_, {1}, {infinite}), HasSubstr("not positive and normal"));
  EXPECT_THAT(migration(residual_.relu, conv_, {int64_t{1} << 60}, {1}), HasSubstr("recipe, migration"));

  const auto rescale = [&](const std::string& node, int input, Dims dims, std::vector<float> factors) {
    Recipe recipe;
    recipe.rescales = {{node, input, std::move(dims), std::move(factors)}};
    return Error(recipe);
  };
  EXPECT_EQ(rescale(conv_, 1, {1}, {-1}), "no error");
  EXPECT_THAT(rescale(conv_, 1, {1}, {-2}), HasSubstr("not positive and normal"));
  EXPECT_THAT(rescale(conv_, 1, {1}, {-0.0f}), HasSubstr("not positive and normal"));
  EXPECT_THAT(migration(residual_.relu, conv_, {1}, {-1}), HasSubstr("not positive and normal"));
  EXPECT_THAT(rescale("nothing", 1, {1}, {1}), HasSubstr("no node"));
  EXPECT_THAT(rescale(conv_, 7, {1}, {1}), HasSubstr("no input 7"));
  EXPECT_THAT(rescale(conv_, -1, {1}, {1}), HasSubstr("no input -1"));
  EXPECT_THAT(rescale(conv_, 0, {1}, {1}), HasSubstr("no float32 constant"));
  EXPECT_THAT(rescale(conv_, 1, {2, 4, 4, 1, 1}, std::vector<float>(32, 1)), HasSubstr("for a constant of 4x4x1x1"));
  EXPECT_THAT(rescale(conv_, 1, {4, 4, 3, 1}, std::vector<float>(48, 1)), HasSubstr("for a constant of 4x4x1x1"));
  EXPECT_THAT(rescale(conv_, 1, {0}, {}), HasSubstr("factors of dims 0"));

  const auto bias = [&](const std::string& node, std::vector<float> values) {
    Recipe recipe;
    recipe.biases = {{node, std::move(values)}};
    return Error(recipe);
  };
  EXPECT_THAT(bias(conv_, {1, 2, 3}), HasSubstr("3 values for a result of"));
  EXPECT_THAT(bias(conv_, {1, 2, 3, infinite}), HasSubstr("NaN or infinite"));
  EXPECT_THAT(bias(residual_.NodeName("Relu", 0), {1}), HasSubstr("it has no bias"));
}

TEST_F(RewriteTest, BelongsToOneModel) {
  Recipe recipe;
  recipe.fingerprint = "0123";
  EXPECT_THAT(Error(recipe), HasSubstr("another model"));
}

}  // namespace
}  // namespace octavo
