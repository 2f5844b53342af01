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

TEST(Silu, FusesQuickGelu) {
  TestGraph g;
  const ValueId x = g.Input("x", {3, 4}), y = g.Input("y", {3, 4});
  const ValueId gate = g.Op("Sigmoid", {g.Op("Mul", {g.Scalar(1.702f), x})});
  const ValueId wide = g.Op("Sigmoid", {g.Op("Div", {y, g.Scalar(4.0f)})});
  Graph graph = g.Finish({g.Op("Mul", {x, gate}), g.Op("Mul", {wide, y})});
  const Graph before = graph;
  EXPECT_EQ(Apply(RewriteSilu, graph), 2);
  ASSERT_EQ(graph.nodes.size(), 2u);
  EXPECT_EQ(graph.nodes[0].Float("alpha", 1), 1.702f);
  EXPECT_EQ(graph.nodes[1].Float("alpha", 1), 0.25f);
  ExpectSameOutputs(before, graph, kTolerance);
}

TEST(Silu, AScaledXIsTheX) {
  TestGraph g;
  const ValueId x = g.Op("Mul", {g.Input("x", {3, 4}), g.Scalar(3.0f)});
  Graph graph = g.Finish({g.Op("Mul", {x, g.Op("Sigmoid", {x})})});
  const Graph before = graph;
  EXPECT_EQ(Apply(RewriteSilu, graph), 1);
  EXPECT_EQ(CountOps(graph, "Mul"), 1);
  ExpectSameOutputs(before, graph, kTolerance);
}

TEST(Silu, LeavesAGateOnAnotherValueAndOneOfChannelsFactors) {
  TestGraph g;
  const ValueId x = g.Input("x", {3, 4}), y = g.Input("y", {3, 4});
  const ValueId scaled = g.Op("Sigmoid", {g.Op("Mul", {x, g.Random({4})})});
  const ValueId zero = g.Op("Sigmoid", {g.Op("Mul", {x, g.Scalar(0.0f)})});
  Graph graph = g.Finish({g.Op("Mul", {x, g.Op("Sigmoid", {y})}), g.Op("Mul", {x, scaled}), g.Op("Mul", {x, zero})});
  EXPECT_EQ(Apply(RewriteSilu, graph), 0);
}

}  // namespace
}  // namespace octavo
