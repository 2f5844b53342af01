#include <gtest/gtest.h>

#include "passes/pass_test_graph.h"
#include "passes/rewrites.h"

namespace octavo {
namespace {

// Means over 8 elements in another order (8 * 2^-24), then a division by a deviation near 1 and 4 more roundings; 1e-5
// leaves a factor of ten for inputs whose deviation is small.
constexpr double kTolerance = 1e-5;
const std::vector<int64_t> kLast{-1}, kChannels{1};

struct Chain {
  ValueId mean, centered, variance, normalized;
};

Chain Normalize(TestGraph& g, ValueId x, const std::vector<int64_t>& axes, const std::string& square = "pow",
                const std::string& division = "div") {
  Chain chain{};
  chain.mean = g.Op("ReduceMean", {x}, {{"axes", axes}});
  chain.centered = g.Op("Sub", {x, chain.mean});
  const ValueId squared =
      square == "pow" ? g.Op("Pow", {chain.centered, g.Scalar(2.0f)}) : g.Op("Mul", {chain.centered, chain.centered});
  chain.variance = g.Op("ReduceMean", {squared}, {{"axes", axes}});
  const ValueId shifted = g.Op("Add", {chain.variance, g.Scalar(1e-6f)});
  if (division == "pow") {
    chain.normalized = g.Op("Mul", {g.Op("Pow", {shifted, g.Scalar(-0.5f)}), chain.centered});
    return chain;
  }
  const ValueId root = g.Op("Sqrt", {shifted});
  if (division == "div") chain.normalized = g.Op("Div", {chain.centered, root});
  if (division == "reciprocal") chain.normalized = g.Op("Mul", {chain.centered, g.Op("Reciprocal", {root})});
  if (division == "one-over") chain.normalized = g.Op("Mul", {chain.centered, g.Op("Div", {g.Scalar(1.0f), root})});
  return chain;
}

void ExpectFused(Graph graph, int64_t axis, size_t inputs) {
  const Graph before = graph;
  EXPECT_EQ(Apply(RewriteLayerNorm, graph), 1);
  ASSERT_EQ(graph.nodes.size(), 1u);
  const Node& node = graph.nodes[0];
  EXPECT_TRUE(node.Is("LayerNorm", kOctavoDomain));
  EXPECT_EQ(node.Int("axis", -9), axis);
  EXPECT_FLOAT_EQ(node.Float("epsilon", 0.0f), 1e-6f);
  EXPECT_EQ(node.inputs.size(), inputs);
  ExpectSameOutputs(before, graph, kTolerance);
}

TEST(LayerNorm, FusesEveryFormOfSquareAndDivision) {
  for (const char* square : {"pow", "mul"}) {
    for (const char* division : {"div", "reciprocal", "one-over", "pow"}) {
      SCOPED_TRACE(std::string(square) + " " + division);
      TestGraph g;
      const ValueId y = Normalize(g, g.Input("x", {2, 3, 8}), kLast, square, division).normalized;
      ExpectFused(g.Finish({g.Op("Add", {g.Op("Mul", {y, g.Random({8})}), g.Random({8})})}), 2, 3);
    }
  }
}

TEST(LayerNorm, FusesOverChannels) {
  TestGraph g;
  const ValueId y = Normalize(g, g.Input("x", {2, 8, 3, 2}), kChannels).normalized;
  const ValueId scaled = g.Op("Mul", {g.Random({8, 1, 1}), y});
  ExpectFused(g.Finish({g.Op("Add", {scaled, g.Random({1, 8, 1, 1})})}), 1, 3);
}

TEST(LayerNorm, FusesWithoutScaleAndBias) {
  TestGraph g;
  ExpectFused(g.Finish({Normalize(g, g.Input("x", {2, 3, 8}), kLast).normalized}), 2, 1);
}

TEST(LayerNorm, KeepsABiasWithoutAScale) {
  TestGraph g;
  const ValueId y = Normalize(g, g.Input("x", {2, 3, 8}), kLast).normalized;
  ExpectFused(g.Finish({g.Op("Add", {y, g.Random({8})})}), 2, 3);
}

TEST(LayerNorm, LeavesAScaleOnAnotherAxisOutside) {
  TestGraph g;
  const ValueId y = Normalize(g, g.Input("x", {2, 8, 8}), kLast).normalized;
  Graph graph = g.Finish({g.Op("Mul", {y, g.Random({8, 1})})});
  const Graph before = graph;
  EXPECT_EQ(Apply(RewriteLayerNorm, graph), 1);
  EXPECT_EQ(CountOps(graph, "Mul"), 1);
  ExpectSameOutputs(before, graph, kTolerance);
}

TEST(LayerNorm, ConvertsTheStandardOp) {
  TestGraph g;
  const ValueId y = g.Op("LayerNormalization", {g.Input("x", {2, 3, 8}), g.Random({8}), g.Random({8})},
                         {{"axis", int64_t{-1}}, {"epsilon", 1e-6f}});
  ExpectFused(g.Finish({y}), 2, 3);
}

TEST(LayerNorm, LeavesTheStandardOpOverSeveralAxesOrWithItsMeanRead) {
  TestGraph g;
  const ValueId x = g.Input("x", {2, 3, 8});
  const ValueId wide = g.Op("LayerNormalization", {x, g.Random({3, 8}), g.Random({3, 8})}, {{"axis", int64_t{1}}});
  const auto three = g.Ops("LayerNormalization", {x, g.Random({8}), g.Random({8})}, 3, {{"axis", int64_t{-1}}});
  Graph graph = g.Finish({wide, three[0], three[1]});
  EXPECT_EQ(Apply(RewriteLayerNorm, graph), 0);
}

TEST(LayerNorm, LeavesNearMisses) {
  TestGraph g;
  const ValueId x = g.Input("x", {2, 8, 8});
  const Chain shown = Normalize(g, x, kLast);  // its mean is a graph output
  const ValueId mean = g.Op("ReduceMean", {x}, {{"axes", kLast}});
  const ValueId centered = g.Op("Sub", {x, mean});
  const ValueId squared = g.Op("Mul", {centered, centered});
  const ValueId other_axis = g.Op("ReduceMean", {squared}, {{"axes", kChannels}});
  const ValueId root = g.Op("Sqrt", {g.Op("Add", {other_axis, g.Scalar(1e-6f)})});
  const ValueId cubic = g.Op("Pow", {centered, g.Scalar(3.0f)});
  const ValueId third = g.Op("Sqrt", {g.Op("Add", {g.Op("ReduceMean", {cubic}, {{"axes", kLast}}), g.Scalar(9.0f)})});
  Graph graph = g.Finish({shown.normalized, shown.mean, g.Op("Div", {centered, root}), g.Op("Div", {centered, third})});
  EXPECT_EQ(Apply(RewriteLayerNorm, graph), 0);
}

}  // namespace
}  // namespace octavo
