#include "quantize/keep_float.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "octavo/onnx.h"
#include "quantize/quantize_testing.h"

namespace octavo {
namespace {

using testing::HasSubstr;

TEST(MatchesGlob, KnowsStarsAndQuestionMarks) {
  EXPECT_TRUE(MatchesGlob("*", ""));
  EXPECT_TRUE(MatchesGlob("/neck/*", "/neck/conv/Conv"));
  EXPECT_TRUE(MatchesGlob("*conv?", "a/conv1"));
  EXPECT_TRUE(MatchesGlob("a*b*c", "a-b-b-c"));
  EXPECT_FALSE(MatchesGlob("a*b*c", "a-b-b-d"));
  EXPECT_FALSE(MatchesGlob("conv", "conv1"));
  EXPECT_FALSE(MatchesGlob("?", ""));
  EXPECT_FALSE(MatchesGlob("[ab]", "a"));
}

TEST(MatchesGlob, EndsSoonOnManyStars) {
  EXPECT_FALSE(MatchesGlob("*a*a*a*a*a*a*a*a*a*a*a*a*b", std::string(20000, 'a')));
}

size_t CountKept(const Graph& graph, const std::string& entry, std::string_view op) {
  const auto reasons = ResolveKeepFloat(graph, {entry});
  EXPECT_TRUE(reasons.ok()) << reasons.status().message();
  size_t kept = 0;
  for (size_t n = 0; reasons.ok() && n < graph.nodes.size(); ++n) {
    kept += !reasons->reasons[n].empty() && graph.nodes[n].op == op ? 1 : 0;
  }
  return kept;
}

TEST(KeepFloat, FindsPatternsOfTheDemoEncoder) {
  const std::string path = std::string(OCTAVO_SOURCE_DIR) + "/models/efficientvit-sam-nano-encoder.onnx";
  const Graph graph = PrepareForQuantization(LoadOnnx(path).value()).value();
  // Two blocks of two products each; their convolutions are no part of it.
  EXPECT_EQ(CountKept(graph, "linear-attention", "MatMul"), 4u);
  EXPECT_EQ(CountKept(graph, "linear-attention", "Conv"), 0u);
  EXPECT_EQ(CountKept(graph, "Conv", "Conv"), 45u);
  EXPECT_GT(CountKept(graph, "depthwise", "Conv"), 3u);
  EXPECT_LT(CountKept(graph, "depthwise", "Conv"), 20u);
  const auto softmax = ResolveKeepFloat(graph, {"attention"});
  ASSERT_FALSE(softmax.ok());  // it has none
  EXPECT_THAT(softmax.status().message(), HasSubstr("'attention' matches no node"));
}

TEST(KeepFloat, NotesWhatChangesNothing) {
  ResidualGraph residual;
  EXPECT_EQ(ResolveKeepFloat(residual.graph, {"Conv", "Relu"})->idle, std::vector<std::string>{"Relu"});
  const Graph prepared = PrepareForQuantization(residual.graph).value();
  Policy policy;
  policy.keep_float = {"Relu"};
  const Recipe recipe = Decide(prepared, UniformStats(prepared, -1, 1), policy).value();
  ASSERT_EQ(recipe.notes.size(), 1u);
  EXPECT_THAT(recipe.notes[0], HasSubstr("'Relu' changes nothing"));
}

TEST(KeepFloat, SuggestsNames) {
  ResidualGraph residual;
  const auto reasons = ResolveKeepFloat(residual.graph, {"block/Conv*9"});
  ASSERT_FALSE(reasons.ok());
  EXPECT_THAT(reasons.status().message(), HasSubstr("there are 'Conv"));
}

}  // namespace
}  // namespace octavo
