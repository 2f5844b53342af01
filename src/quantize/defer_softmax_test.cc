#include "quantize/defer_softmax.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "octavo/compare.h"
#include "octavo/session.h"
#include "quantize/quantize_testing.h"

namespace octavo {
namespace {

using testing::HasSubstr;

constexpr int64_t kTokens = 300;

// softmax(x) . v, with other readers and other sides as asked.
struct AttentionGraph {
  Graph graph;
  std::string softmax;

  explicit AttentionGraph(int64_t opset = 13, bool shown = false, bool on_the_right = false, int64_t axis = -1) {
    TestGraph builder(opset);
    const ValueId x = builder.Input("x", {1, 2, kTokens, kTokens}), v = builder.Input("v", {1, 2, kTokens, kTokens});
    const ValueId p = builder.Op("Softmax", {x}, {{"axis", axis}});
    softmax = builder.graph().node(0).name;
    std::vector<ValueId> outputs{on_the_right ? builder.Op("MatMul", {v, p}) : builder.Op("MatMul", {p, v})};
    if (shown) outputs.push_back(p);
    graph = PrepareForQuantization(builder.Finish(outputs)).value();
  }
  Recipe Deferred() const {
    Recipe recipe;
    recipe.deferrals = {{softmax}};
    return recipe;
  }
};

Policy Quantized(const std::string& target = "octavo") {
  Policy policy;
  policy.target = target;
  policy.quantize_attention = true;
  return policy;
}

TEST(DeferSoftmax, ComputesTheSame) {
  for (const int64_t opset : {11, 13, 18}) {
    const AttentionGraph attention(opset, false, false, 3);
    const auto deferred = RewriteByRecipe(attention.graph, attention.Deferred());
    ASSERT_TRUE(deferred.ok()) << deferred.status().message();
    EXPECT_EQ(CountOps(*deferred, "Softmax"), 0);
    // Sums of 300 products of weights that add up to 1: 300 * 2^-24.
    ExpectSameOutputs(attention.graph, *deferred, 2e-5);
  }
}

TEST(DeferSoftmax, TakesOnlyWhatWeighsValues) {
  for (const AttentionGraph& other :
       {AttentionGraph(13, true), AttentionGraph(13, false, true), AttentionGraph(13, false, false, 2)}) {
    const Placement placement = Place(other.graph, Quantized()).value();
    EXPECT_EQ(placement.edges.size(), 2u);
    EXPECT_TRUE(DeferrableSoftmaxes(other.graph, placement).empty());
    const auto refused = RewriteByRecipe(other.graph, other.Deferred());
    ASSERT_FALSE(refused.ok());
    EXPECT_THAT(refused.status().message(), HasSubstr("deferral at node '" + other.softmax + "': it is no Softmax"));
  }
  const AttentionGraph attention;
  EXPECT_EQ(DeferrableSoftmaxes(attention.graph, Place(attention.graph, Quantized()).value()).size(), 1u);
  EXPECT_TRUE(DeferrableSoftmaxes(attention.graph, Place(attention.graph, {}).value()).empty());
}

TEST(DeferSoftmax, NumeratorsHaveAFixedScale) {
  const AttentionGraph attention;
  const Graph deferred = RewriteByRecipe(attention.graph, attention.Deferred()).value();
  for (const auto& [target, scale] : {std::pair("octavo", 1.0f / 255), std::pair("tensorrt", 1.0f / 127)}) {
    const Recipe recipe = Decide(deferred, UniformStats(deferred, -9, 9), Quantized(target)).value();
    const ActivationRecipe* numerators = FindActivation(recipe, attention.softmax + "/numerators");
    ASSERT_NE(numerators, nullptr);
    EXPECT_EQ(numerators->scale, scale);
    EXPECT_EQ(numerators->zero_point, 0);
    EXPECT_EQ(recipe.activations.size(), 2u);  // these and v; what divides is float
  }
}

// 300 tokens that attend to each other nearly alike: weights of 1/300 are less than a step of 1/255, and round to 0 or
// 1 of them, an error of 100 %. Numerators lie in [e^-2, 1], 35 to 255 steps.
TEST(DeferSoftmax, KeepsRowsThatAttendToEverything) {
  const AttentionGraph attention;
  const std::vector<Tensor> values = RandomInputs(attention.graph, -1, 1);
  const std::map<std::string, Tensor> inputs{{"x", values[0]}, {"v", values[1]}};
  SessionOptions options;
  options.threads = 1;
  const auto run = [&](const Graph& graph) { return Session::Create(graph, options).value().Run(inputs).value()[0]; };
  const auto sqnr = [&](const Recipe& rewrites) {
    const Graph rewritten = RewriteByRecipe(attention.graph, rewrites).value();
    Recipe recipe = Decide(rewritten, UniformStats(rewritten, -1, 1), Quantized()).value();
    for (ActivationRecipe& entry : recipe.activations) {
      if (entry.tensor.starts_with("Softmax")) entry.scale = 1.0f / 255, entry.zero_point = 0;
    }
    return Compare(run(attention.graph), run(ApplyRecipe(rewritten, recipe).value())).value().sqnr_db;
  };
  EXPECT_LT(sqnr({}), 10.0);
  EXPECT_GT(sqnr(attention.Deferred()), 35.0);
}

}  // namespace
}  // namespace octavo
