#include <gtest/gtest.h>

#include "passes/pass_test_graph.h"
#include "passes/rewrites.h"

namespace octavo {
namespace {

// Two products and a quotient of values of magnitude <= 6: 3 * 2^-24 * 6.
constexpr double kTolerance = 1.1e-6;

TEST(HardSwish, FusesItsThreeForms) {
  TestGraph g;
  const ValueId x = g.Input("x", {64});
  const ValueId wide = g.Op("Mul", {x, g.Scalar(3.0f)});  // beyond both knees
  const ValueId hard = g.Op("Mul", {wide, g.Op("HardSigmoid", {wide}, {{"alpha", 1.0f / 6}, {"beta", 0.5f}})});
  const ValueId shifted = g.Op("Add", {wide, g.Scalar(3.0f)});
  const ValueId clip6 = g.Op("Clip", {shifted, g.Scalar(0.0f), g.Scalar(6.0f)});
  const ValueId six = g.Op("Div", {g.Op("Mul", {wide, clip6}), g.Scalar(6.0f)});
  const ValueId unit = g.Op("Add", {g.Op("Div", {wide, g.Scalar(6.0f)}), g.Scalar(0.5f)});
  const ValueId one = g.Op("Mul", {g.Op("Clip", {unit, g.Scalar(0.0f), g.Scalar(1.0f)}), wide});
  Graph graph = g.Finish({hard, six, one});
  const Graph before = graph;
  EXPECT_EQ(Apply(RewriteHardSwish, graph), 3);
  EXPECT_EQ(CountOps(graph, "HardSwish"), 3);
  EXPECT_EQ(graph.nodes.size(), 4u);
  ExpectSameOutputs(before, graph, kTolerance);
}

TEST(HardSwish, LeavesOtherSlopesAndBounds) {
  TestGraph g;
  const ValueId x = g.Input("x", {64});
  const ValueId slope = g.Op("Mul", {x, g.Op("HardSigmoid", {x}, {{"alpha", 0.2f}, {"beta", 0.5f}})});
  const ValueId clip5 = g.Op("Clip", {g.Op("Add", {x, g.Scalar(3.0f)}), g.Scalar(0.0f), g.Scalar(5.0f)});
  const ValueId bound = g.Op("Div", {g.Op("Mul", {x, clip5}), g.Scalar(6.0f)});
  Graph graph = g.Finish({slope, bound});
  EXPECT_EQ(Apply(RewriteHardSwish, graph), 0);
}

}  // namespace
}  // namespace octavo
