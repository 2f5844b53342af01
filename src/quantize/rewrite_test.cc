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
