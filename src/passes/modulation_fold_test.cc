#include <gtest/gtest.h>

#include "passes/pass_test_graph.h"
#include "passes/rewrites.h"

namespace octavo {
namespace {

// GroupNorm itself does not change. Scale and bias are sums of 5 products of magnitude <= 4 whose weights were rounded
// once more: 5 * 4 * 2 * 2^-24 = 2.4e-6, times a normalized value of at most 3 or so.
constexpr double kTolerance = 1e-5;

// A GroupNorm of 6 channels modulated by a Gemm of 12 columns; `gate` is what the UNet's "+ 1" is.
Graph Build(bool runtime_weights, bool shows_gemm, const std::string& gate = "Add") {
  TestGraph g;
  const ValueId x = g.Input("x", {2, 6, 2, 4}), e = g.Input("e", {2, 5});
  const ValueId weights = runtime_weights ? g.Input("w", {12, 5}) : g.Random({12, 5});
  const ValueId gemm = g.Op("Gemm", {e, weights, g.Random({12})}, {{"transB", int64_t{1}}, {"alpha", 0.5f}});
  const auto parts =
      g.Ops("Split", {g.Op("Reshape", {gemm, g.Ints({2, 12, 1, 1})}), g.Ints({6, 6})}, 2, {{"axis", int64_t{1}}});
  const ValueId factor = g.Op(gate, {parts[0], g.Scalar(1.0f)});
  ValueId y =
      g.Op("GroupNorm", {x, g.Random({6}), g.Random({6})},
           {{"num_groups", int64_t{3}}, {"epsilon", 1e-5f}, {"activation", std::string("none")}}, kOctavoDomain);
  y = g.Op("Add", {g.Op("Mul", {y, factor}), parts[1]});
  std::vector<ValueId> outputs{y};
  if (shows_gemm) outputs.push_back(gemm);
  Graph graph = g.Finish(outputs);
  EXPECT_EQ(Apply(RewriteGroupNorm, graph), 2);
  return graph;
}

TEST(ModulationFold, LeavesOneGemmAndOneSplit) {
  Graph graph = Build(false, false);
  const Graph before = graph;
  EXPECT_EQ(Apply(FoldModulation, graph), 1);
  EXPECT_EQ(graph.nodes.size(), 3u);
  EXPECT_EQ(CountOps(graph, "Gemm"), 1);
  EXPECT_EQ(CountOps(graph, "Split"), 1);
  ExpectSameOutputs(before, graph, kTolerance);
  EXPECT_EQ(Apply(FoldModulation, graph), 0);  // nothing is left to do
}

TEST(ModulationFold, LeavesNearMisses) {
  for (Graph graph : {Build(true, false), Build(false, true), Build(false, false, "Pow")}) {
    EXPECT_EQ(Apply(FoldModulation, graph), 0);
  }
}

}  // namespace
}  // namespace octavo
