#include <gtest/gtest.h>

#include "passes/pass_test_graph.h"
#include "passes/rewrites.h"

namespace octavo {
namespace {

// A product of two values of magnitude <= 2: one rounding more or less, and exp is good to 2 ulp.
constexpr double kTolerance = 1e-6;

TEST(Silu, FusesEitherOrder) {
  TestGraph g;
  const ValueId x = g.Input("x", {3, 4}), y = g.Input("y", {3, 4});
  Graph graph = g.Finish({g.Op("Mul", {x, g.Op("Sigmoid", {x})}), g.Op("Mul", {g.Op("Sigmoid", {y}), y})});
  const Graph before = graph;
  EXPECT_EQ(Apply(RewriteSilu, graph), 2);
  EXPECT_EQ(graph.nodes.size(), 2u);
  EXPECT_EQ(CountOps(graph, "Silu", kOctavoDomain), 2);
  ExpectSameOutputs(before, graph, kTolerance);
}

TEST(Silu, LeavesASigmoidThatIsReadElsewhere) {
  TestGraph g;
  const ValueId x = g.Input("x", {3, 4});
  const ValueId gate = g.Op("Sigmoid", {x});
  Graph graph = g.Finish({g.Op("Mul", {x, gate}), gate});
  EXPECT_EQ(Apply(RewriteSilu, graph), 0);
}

TEST(Silu, LeavesAGateOnAnotherValueAndAScaledOne) {
  TestGraph g;
  const ValueId x = g.Input("x", {3, 4}), y = g.Input("y", {3, 4});
  const ValueId scaled = g.Op("Sigmoid", {g.Op("Mul", {x, g.Scalar(1.702f)})});
  Graph graph = g.Finish({g.Op("Mul", {x, g.Op("Sigmoid", {y})}), g.Op("Mul", {x, scaled})});
  EXPECT_EQ(Apply(RewriteSilu, graph), 0);
}

}  // namespace
}  // namespace octavo
