#include <gtest/gtest.h>

#include "passes/pass_test_graph.h"
#include "passes/rewrites.h"

namespace octavo {
namespace {

// Sums of at most 36 products, each rounded once more for the scaled weight and once in the sum: 36 * 2 * 2^-24 < 1e-5.
constexpr double kTolerance = 1e-5;

TEST(ConvMul, FoldsScalesAndShiftsIntoConv) {
  TestGraph g;
  ValueId y = g.Op("Conv", {g.Input("x", {1, 4, 5, 5}), g.Random({6, 4, 3, 3})});
  y = g.Op("Mul", {y, g.Random({6, 1, 1})});
  y = g.Op("Add", {g.Random({1, 6, 1, 1}), y});
  y = g.Op("Div", {y, g.Scalar(3.0f)});
  y = g.Op("Sub", {g.Scalar(1.0f), y});
  Graph graph = g.Finish({y});
  const Graph before = graph;
  EXPECT_EQ(Apply(FoldChannelAffine, graph), 4);
  ASSERT_EQ(graph.nodes.size(), 1u);
  EXPECT_TRUE(graph.nodes[0].Is("Conv"));
  ExpectSameOutputs(before, graph, kTolerance);
}

TEST(ConvMul, FoldsLayerScaleIntoMatMulAndItsBias) {
  TestGraph g;
  const ValueId product = g.Op("MatMul", {g.Input("x", {2, 3, 4}), g.Random({4, 6})});
  const ValueId biased = g.Op("Add", {g.Random({6}), product});
  Graph graph = g.Finish({g.Op("Mul", {biased, g.Random({6})})});
  const Graph before = graph;
  EXPECT_EQ(Apply(FoldChannelAffine, graph), 1);
  EXPECT_EQ(graph.nodes.size(), 2u);
  EXPECT_EQ(CountOps(graph, "Mul"), 0);
  ExpectSameOutputs(before, graph, kTolerance);
}

TEST(ConvMul, LeavesTheBiasOfAMatMulAlone) {
  TestGraph g;
  const ValueId product = g.Op("MatMul", {g.Input("x", {2, 3, 4}), g.Random({4, 6})});
  Graph graph = g.Finish({g.Op("Add", {g.Random({6}), product})});
  EXPECT_EQ(Apply(FoldChannelAffine, graph), 0);
}

TEST(ConvMul, LeavesOtherAxesSharedValuesAndRuntimeOperands) {
  TestGraph g;
  const ValueId x = g.Input("x", {1, 4, 5, 5});
  const ValueId a = g.Op("Conv", {x, g.Random({6, 4, 1, 1})});
  const ValueId b = g.Op("Conv", {x, g.Random({6, 4, 1, 1})});
  const ValueId c = g.Op("Conv", {x, g.Random({1, 4, 1, 1})});
  Graph graph = g.Finish({g.Op("Mul", {a, g.Random({5})}), b, g.Op("Mul", {b, g.Random({6, 1, 1})}),
                          g.Op("Mul", {c, g.Random({6, 1, 1})})});  // the last one broadcasts the convolution's output
  EXPECT_EQ(Apply(FoldChannelAffine, graph), 0);
}

}  // namespace
}  // namespace octavo
