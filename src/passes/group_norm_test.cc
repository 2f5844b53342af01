#include <gtest/gtest.h>

#include "passes/pass_test_graph.h"
#include "passes/rewrites.h"

namespace octavo {
namespace {

// Moments over 24 elements in another order (24 * 2^-24), a division by a deviation near 1, 6 more roundings; times ten
// for groups whose deviation is small.
constexpr double kTolerance = 2e-5;

// The form PyTorch exports: [2, 6, 2, 4] in 3 groups.
ValueId Normalize(TestGraph& g, ValueId x) {
  const ValueId grouped = g.Op("Reshape", {x, g.Ints({0, 3, -1})});
  const ValueId normalized = g.Op("InstanceNormalization", {grouped, g.Filled({3}, 1.0f), g.Filled({3}, 0.0f)});
  return g.Op("Reshape", {normalized, g.Ints({2, 6, 2, 4})});
}

ValueId Affine(TestGraph& g, ValueId y) {
  return g.Op("Add", {g.Op("Mul", {y, g.Random({6, 1, 1})}), g.Random({6, 1, 1})});
}

ValueId Silu(TestGraph& g, ValueId y) { return g.Op("Silu", {y}, {}, kOctavoDomain); }

TEST(GroupNorm, FusesTheReshapedInstanceNormalization) {
  TestGraph g;
  Graph graph = g.Finish({Affine(g, Normalize(g, g.Input("x", {2, 6, 2, 4})))});
  const Graph before = graph;
  EXPECT_EQ(Apply(RewriteGroupNorm, graph), 1);
  ASSERT_EQ(graph.nodes.size(), 1u);
  EXPECT_TRUE(graph.nodes[0].Is("GroupNorm", kOctavoDomain));
  EXPECT_EQ(graph.nodes[0].Int("num_groups", 0), 3);
  EXPECT_EQ(graph.nodes[0].String("activation", ""), "none");
  ExpectSameOutputs(before, graph, kTolerance);
}

TEST(GroupNorm, TakesSiluIn) {
  TestGraph g;
  Graph graph = g.Finish({Silu(g, Affine(g, Normalize(g, g.Input("x", {2, 6, 2, 4}))))});
  const Graph before = graph;
  EXPECT_EQ(Apply(RewriteGroupNorm, graph), 2);
  ASSERT_EQ(graph.nodes.size(), 1u);
  EXPECT_EQ(graph.nodes[0].String("activation", ""), "silu");
  ExpectSameOutputs(before, graph, kTolerance);
}

TEST(GroupNorm, FoldsModulationPerSampleOnRows) {
  for (const int64_t batch : {1, 2}) {
    TestGraph g;
    const ValueId y = Affine(g, Normalize(g, g.Input("x", {2, 6, 2, 4})));
    const ValueId scale = g.Input("m", {batch, 6, 1, 1}), shift = g.Input("a", {batch, 6, 1, 1});
    Graph graph = g.Finish({Silu(g, g.Op("Add", {g.Op("Mul", {y, scale}), shift}))});
    const Graph before = graph;
    EXPECT_EQ(Apply(RewriteGroupNorm, graph), 4);
    const Node* norm = FindOnly(graph, "GroupNorm", kOctavoDomain);
    ASSERT_NE(norm, nullptr);
    EXPECT_EQ(norm->String("activation", ""), "silu");
    EXPECT_EQ(graph.value(norm->input(1)).dims, (Dims{batch, 6}));
    for (const Node& node : graph.nodes) {
      if (&node == norm) continue;
      EXPECT_LE(graph.value(node.output(0)).dims.size(), 2u) << node.op;
    }
    ExpectSameOutputs(before, graph, kTolerance);
  }
}

TEST(GroupNorm, FoldsAShiftAlone) {
  TestGraph g;
  const ValueId y = Affine(g, Normalize(g, g.Input("x", {2, 6, 2, 4})));
  Graph graph = g.Finish({g.Op("Add", {y, g.Input("a", {2, 6, 1, 1})})});
  const Graph before = graph;
  EXPECT_EQ(Apply(RewriteGroupNorm, graph), 2);
  EXPECT_EQ(graph.nodes.size(), 3u);  // Reshape and Add on rows, GroupNorm
  ExpectSameOutputs(before, graph, kTolerance);
}

TEST(GroupNorm, ConvertsTheStandardOpPerGroupAndPerChannel) {
  for (const int64_t opset : {18, 21}) {
    TestGraph g(opset);
    const int64_t parameters = opset == 18 ? 3 : 6;
    const ValueId y =
        g.Op("GroupNormalization", {g.Input("x", {2, 6, 2, 4}), g.Random({parameters}), g.Random({parameters})},
             {{"num_groups", int64_t{3}}, {"epsilon", 1e-4f}});
    Graph graph = g.Finish({y});
    const Graph before = graph;
    EXPECT_EQ(Apply(RewriteGroupNorm, graph), 1);
    ASSERT_EQ(graph.nodes.size(), 1u);
    EXPECT_TRUE(graph.nodes[0].Is("GroupNorm", kOctavoDomain));
    ExpectSameOutputs(before, graph, kTolerance);
  }
}

TEST(GroupNorm, LeavesNearMisses) {
  TestGraph g;
  const ValueId x = g.Input("x", {2, 6, 2, 4});
  const ValueId grouped = g.Op("Reshape", {x, g.Ints({0, 3, -1})});
  const ValueId shown = g.Op("InstanceNormalization", {grouped, g.Filled({3}, 1.0f), g.Filled({3}, 0.0f)});
  const ValueId back = g.Op("Reshape", {shown, g.Ints({2, 6, 2, 4})});
  const ValueId crossing = g.Op("Reshape", {x, g.Ints({1, 6, 16})});  // mixes the samples
  const ValueId mixed = g.Op("InstanceNormalization", {crossing, g.Filled({6}, 1.0f), g.Filled({6}, 0.0f)});
  Graph graph = g.Finish({back, shown, g.Op("Reshape", {mixed, g.Ints({2, 6, 2, 4})})});
  EXPECT_EQ(Apply(RewriteGroupNorm, graph), 0);
}

TEST(GroupNorm, LeavesASpatialFactorOutside) {
  TestGraph g;
  const ValueId y = Affine(g, Normalize(g, g.Input("x", {2, 6, 2, 4})));
  Graph graph = g.Finish({g.Op("Mul", {y, g.Input("m", {1, 1, 2, 4})})});
  const Graph before = graph;
  EXPECT_EQ(Apply(RewriteGroupNorm, graph), 1);
  EXPECT_EQ(CountOps(graph, "Mul"), 1);
  ExpectSameOutputs(before, graph, kTolerance);
}

}  // namespace
}  // namespace octavo
