#include <gtest/gtest.h>

#include "passes/pass_test_graph.h"
#include "passes/rewrites.h"

namespace octavo {
namespace {

// The chains have at most 10 roundings of 2^-24 each, and erf and tanh are good to 4 ulp: 10 * 6e-8 + 4 * 1.2e-7 <
// 2e-6.
constexpr double kTolerance = 2e-6;
constexpr float kSqrt2OverPi = 0.7978845834732056f;

// x * (1 + erf(x / sqrt(2))) * 0.5, as PyTorch exports it.
ValueId ErfGelu(TestGraph& g, ValueId x) {
  const ValueId erf = g.Op("Erf", {g.Op("Div", {x, g.Scalar(1.4142135381698608f)})});
  return g.Op("Mul", {g.Op("Mul", {x, g.Op("Add", {erf, g.Scalar(1.0f)})}), g.Scalar(0.5f)});
}

// The inner argument of the tanh form, as EfficientViT exports it.
ValueId TanhArgument(TestGraph& g, ValueId x, float cubic = 0.044714998453855515f) {
  const ValueId cube = g.Op("Mul", {x, g.Op("Mul", {x, x})});
  const ValueId sum = g.Op("Add", {x, g.Op("Mul", {g.Scalar(cubic), cube})});
  return g.Op("Mul", {g.Scalar(kSqrt2OverPi), sum});
}

ValueId TanhGelu(TestGraph& g, ValueId x) {
  const ValueId gate = g.Op("Add", {g.Scalar(1.0f), g.Op("Tanh", {TanhArgument(g, x)})});
  return g.Op("Mul", {g.Scalar(0.5f), g.Op("Mul", {x, gate})});
}

void ExpectFused(Graph graph, const std::string& approximate) {
  const Graph before = graph;
  EXPECT_EQ(Apply(RewriteGelu, graph), 1);
  ASSERT_EQ(graph.nodes.size(), 1u);
  EXPECT_TRUE(graph.nodes[0].Is("Gelu"));
  EXPECT_EQ(graph.nodes[0].String("approximate", ""), approximate);
  ExpectSameOutputs(before, graph, kTolerance);
}

void ExpectUntouched(Graph graph) {
  const size_t nodes = graph.nodes.size();
  EXPECT_EQ(Apply(RewriteGelu, graph), 0);
  EXPECT_EQ(graph.nodes.size(), nodes);
}

TEST(Gelu, FusesTheErfChain) {
  TestGraph g;
  ExpectFused(g.Finish({ErfGelu(g, g.Input("x", {2, 5}))}), "none");
}

TEST(Gelu, FusesTheErfChainInAnyOrderOfFactors) {
  TestGraph g;
  const ValueId x = g.Input("x", {2, 5});
  const ValueId erf = g.Op("Erf", {g.Op("Mul", {g.Scalar(0.70710678f), x})});
  const ValueId half = g.Op("Mul", {x, g.Scalar(0.5f)});
  ExpectFused(g.Finish({g.Op("Mul", {g.Op("Add", {g.Scalar(1.0f), erf}), half})}), "none");
}

TEST(Gelu, FusesTheHalfDistributedOverTheSum) {
  TestGraph g;
  const ValueId x = g.Input("x", {2, 5});
  const ValueId erf = g.Op("Erf", {g.Op("Div", {x, g.Scalar(1.41421356f)})});
  const ValueId gate = g.Op("Add", {g.Op("Mul", {erf, g.Scalar(0.5f)}), g.Scalar(0.5f)});
  ExpectFused(g.Finish({g.Op("Mul", {x, gate})}), "none");
}

TEST(Gelu, FusesTheTanhChain) {
  TestGraph g;
  ExpectFused(g.Finish({TanhGelu(g, g.Input("x", {2, 5}))}), "tanh");
}

TEST(Gelu, FusesTheTanhChainWithPowAndOneFactoredOut) {
  TestGraph g;
  const ValueId x = g.Input("x", {2, 5});
  const ValueId square = g.Op("Pow", {x, g.Scalar(2.0f)});
  const ValueId sum = g.Op("Add", {g.Op("Mul", {square, g.Scalar(0.044715f)}), g.Scalar(1.0f)});
  const ValueId scaled = g.Op("Mul", {g.Op("Mul", {x, g.Scalar(kSqrt2OverPi)}), sum});
  const ValueId gate = g.Op("Add", {g.Op("Tanh", {scaled}), g.Scalar(1.0f)});
  ExpectFused(g.Finish({g.Op("Mul", {g.Op("Mul", {x, g.Scalar(0.5f)}), gate})}), "tanh");
}

TEST(Gelu, FusesTheTanhChainWithPow3) {
  TestGraph g;
  const ValueId x = g.Input("x", {2, 5});
  const ValueId cube = g.Op("Mul", {g.Op("Pow", {x, g.Scalar(3.0f)}), g.Scalar(0.044715f)});
  const ValueId scaled = g.Op("Mul", {g.Op("Add", {x, cube}), g.Scalar(kSqrt2OverPi)});
  const ValueId gate = g.Op("Add", {g.Op("Tanh", {scaled}), g.Scalar(1.0f)});
  ExpectFused(g.Finish({g.Op("Mul", {g.Op("Mul", {x, g.Scalar(0.5f)}), gate})}), "tanh");
}

TEST(Gelu, FusesEachOfAChainAndLeavesTheRest) {
  TestGraph g;
  const ValueId x = g.Input("x", {2, 5});
  Graph graph = g.Finish({g.Op("Mul", {ErfGelu(g, TanhGelu(g, x)), g.Scalar(3.0f)})});
  const Graph before = graph;
  EXPECT_EQ(Apply(RewriteGelu, graph), 2);
  EXPECT_EQ(graph.nodes.size(), 3u);
  EXPECT_EQ(CountOps(graph, "Mul"), 1);
  ExpectSameOutputs(before, graph, 2 * kTolerance);
}

TEST(Gelu, LeavesAnIntermediateThatIsAGraphOutput) {
  TestGraph g;
  const ValueId x = g.Input("x", {2, 5});
  const ValueId erf = g.Op("Erf", {g.Op("Div", {x, g.Scalar(1.41421356f)})});
  const ValueId gelu = g.Op("Mul", {g.Op("Mul", {x, g.Op("Add", {erf, g.Scalar(1.0f)})}), g.Scalar(0.5f)});
  ExpectUntouched(g.Finish({gelu, erf}));
}

TEST(Gelu, LeavesAnIntermediateThatIsReadElsewhere) {
  TestGraph g;
  const ValueId x = g.Input("x", {2, 5});
  const ValueId sum = g.Op("Add", {g.Op("Erf", {g.Op("Div", {x, g.Scalar(1.41421356f)})}), g.Scalar(1.0f)});
  const ValueId gelu = g.Op("Mul", {g.Op("Mul", {x, sum}), g.Scalar(0.5f)});
  ExpectUntouched(g.Finish({gelu, g.Op("Abs", {sum})}));
}

TEST(Gelu, LeavesOtherConstants) {
  TestGraph g;
  const ValueId x = g.Input("x", {2, 5});
  const ValueId gate = g.Op("Add", {g.Scalar(1.0f), g.Op("Tanh", {TanhArgument(g, x, 0.0448f)})});
  const ValueId cubic = g.Op("Mul", {g.Scalar(0.5f), g.Op("Mul", {x, gate})});
  const ValueId erf = g.Op("Erf", {g.Op("Div", {x, g.Scalar(1.4f)})});
  const ValueId narrow = g.Op("Mul", {g.Op("Mul", {x, g.Op("Add", {erf, g.Scalar(1.0f)})}), g.Scalar(0.5f)});
  ExpectUntouched(g.Finish({cubic, narrow}));
}

TEST(Gelu, LeavesAGateOnAnotherValue) {
  TestGraph g;
  const ValueId x = g.Input("x", {2, 5}), y = g.Input("y", {2, 5});
  const ValueId erf = g.Op("Erf", {g.Op("Div", {x, g.Scalar(1.41421356f)})});
  ExpectUntouched(g.Finish({g.Op("Mul", {g.Op("Mul", {y, g.Op("Add", {erf, g.Scalar(1.0f)})}), g.Scalar(0.5f)})}));
}

}  // namespace
}  // namespace octavo
