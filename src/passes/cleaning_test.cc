// The passes that only remove, merge or regroup: outputs must stay equal bit for bit.
#include <gtest/gtest.h>

#include "passes/pass_test_graph.h"
#include "passes/rewrites.h"

namespace octavo {
namespace {

constexpr double kExact = 0.0;
using Ints = std::vector<int64_t>;

TEST(IdentityClean, RemovesNodesThatChangeNothing) {
  TestGraph g;
  const ValueId x = g.Input("x", {2, 3});
  ValueId y = g.Op("Abs", {x});
  y = g.Op("Identity", {y});
  y = g.Op("Dropout", {y});
  y = g.Op("Cast", {y}, {{"to", int64_t{1}}});
  y = g.Op("Reshape", {y, g.Ints({2, -1})});
  y = g.Op("Transpose", {y}, {{"perm", Ints{0, 1}}});
  y = g.Op("Mul", {g.Scalar(1.0f), y});
  y = g.Op("Add", {y, g.Filled({3}, 0.0f)});
  y = g.Op("Sub", {y, g.Scalar(0.0f)});
  y = g.Op("Div", {y, g.Scalar(1.0f)});
  y = g.Op("Pow", {y, g.Scalar(1.0f)});
  y = g.Op("Expand", {y, g.Ints({1, 3})});
  y = g.Op("Concat", {y}, {{"axis", int64_t{0}}});
  y = g.Op("Slice", {y, g.Ints({0}), g.Ints({99}), g.Ints({1}), g.Ints({1})});
  y = g.Op("Pad", {y, g.Ints({0, 0, 0, 0})});
  y = g.Op("Tile", {y, g.Ints({1, 1})});
  Graph graph = g.Finish({g.Op("Neg", {y})});
  const Graph before = graph;
  EXPECT_EQ(Apply(CleanIdentities, graph), 15);
  EXPECT_EQ(graph.nodes.size(), 2u);
  ExpectSameOutputs(before, graph, kExact);
}

TEST(IdentityClean, KeepsTheNamesOfOutputs) {
  TestGraph g;
  const ValueId x = g.Input("x", {2, 3});
  const ValueId made = g.Op("Identity", {g.Op("Abs", {x})});  // Abs makes it under its name
  const ValueId passed = g.Op("Identity", {x});               // nothing else could: an input has its own name
  Graph graph = g.Finish({made, passed});
  const Graph before = graph;
  EXPECT_EQ(Apply(CleanIdentities, graph), 1);
  EXPECT_EQ(graph.nodes.size(), 2u);
  ExpectSameOutputs(before, graph, kExact);
}

TEST(IdentityClean, LeavesWhatChangesValuesOrShape) {
  TestGraph g;
  const ValueId x = g.Input("x", {2, 3});
  Graph graph = g.Finish({
      g.Op("Slice", {x, g.Ints({-1}), g.Ints({INT64_MIN}), g.Ints({1}), g.Ints({-1})}),  // turned around
      g.Op("Pad", {x, g.Ints({0, 1, 0, -1})}),                                           // shifted
      g.Op("Mul", {x, g.Filled({1, 2, 3}, 1.0f)}),                                       // one dimension more
      g.Op("Sub", {g.Scalar(0.0f), x}),
      g.Op("Div", {g.Scalar(1.0f), x}),
      g.Op("Mul", {x, g.Constant({3}, {1.0f, 1.0f, 2.0f})}),
  });
  EXPECT_EQ(Apply(CleanIdentities, graph), 0);
}

TEST(TransposeReshapeClean, ComposesAndCanonicalizes) {
  TestGraph g;
  const ValueId x = g.Input("x", {2, 3, 4});
  ValueId y = g.Op("Transpose", {x}, {{"perm", Ints{1, 2, 0}}});
  y = g.Op("Transpose", {y}, {{"perm", Ints{1, 2, 0}}});  // together: {2, 0, 1}
  y = g.Op("Unsqueeze", {y, g.Ints({0})});
  y = g.Op("Reshape", {y, g.Ints({8, 3})});
  y = g.Op("Flatten", {y}, {{"axis", int64_t{0}}});
  Graph graph = g.Finish({y});
  const Graph before = graph;
  EXPECT_GT(Apply(CleanTransposesAndReshapes, graph), 0);
  ASSERT_EQ(graph.nodes.size(), 2u);
  EXPECT_EQ(FindOnly(graph, "Transpose")->Ints("perm"), (Ints{2, 0, 1}));
  EXPECT_EQ(CountOps(graph, "Reshape"), 1);
  ExpectSameOutputs(before, graph, kExact);
}

TEST(TransposeReshapeClean, TurnsATransposeOfOnesIntoAReshape) {
  TestGraph g;
  const ValueId y = g.Op("Transpose", {g.Input("x", {1, 3, 1, 4})}, {{"perm", Ints{1, 0, 3, 2}}});
  Graph graph = g.Finish({y});
  const Graph before = graph;
  EXPECT_EQ(Apply(CleanTransposesAndReshapes, graph), 1);
  EXPECT_EQ(CountOps(graph, "Reshape"), 1);
  EXPECT_EQ(CountOps(graph, "Transpose"), 0);
  ExpectSameOutputs(before, graph, kExact);
}

TEST(TransposeReshapeClean, KeepsAnIntermediateThatIsAnOutput) {
  TestGraph g;
  const ValueId first = g.Op("Transpose", {g.Input("x", {2, 3, 4})}, {{"perm", Ints{1, 2, 0}}});
  Graph graph = g.Finish({first, g.Op("Transpose", {first}, {{"perm", Ints{1, 2, 0}}})});
  const Graph before = graph;
  EXPECT_EQ(Apply(CleanTransposesAndReshapes, graph), 1);
  EXPECT_EQ(graph.nodes.size(), 2u);
  ExpectSameOutputs(before, graph, kExact);
}

TEST(CommonSubexpression, MergesEqualNodesThroughEqualConstants) {
  TestGraph g;
  const ValueId x = g.Input("x", {2, 3});
  const ValueId a = g.Op("Exp", {g.Op("Mul", {x, g.Scalar(2.0f)})});
  const ValueId b = g.Op("Exp", {g.Op("Mul", {x, g.Scalar(2.0f)})});
  const ValueId c = g.Op("Exp", {g.Op("Mul", {x, g.Scalar(3.0f)})});
  Graph graph = g.Finish({g.Op("Add", {g.Op("Sub", {a, b}), c})});
  const Graph before = graph;
  EXPECT_EQ(Apply(MergeCommonSubexpressions, graph), 3);  // a constant, a Mul, an Exp
  EXPECT_EQ(CountOps(graph, "Exp"), 2);
  EXPECT_EQ(CountOps(graph, "Mul"), 2);
  ExpectSameOutputs(before, graph, kExact);
}

TEST(CommonSubexpression, LooksAtAttributesAndKeepsTwoOutputsApart) {
  TestGraph g;
  const ValueId x = g.Input("x", {2, 2});
  const ValueId rows = g.Op("ReduceMax", {x}, {{"axes", Ints{0}}, {"keepdims", int64_t{0}}});
  const ValueId columns = g.Op("ReduceMax", {x}, {{"axes", Ints{1}}, {"keepdims", int64_t{0}}});
  Graph graph = g.Finish({rows, columns, g.Op("Neg", {x}), g.Op("Neg", {x})});
  const Graph before = graph;
  EXPECT_EQ(Apply(MergeCommonSubexpressions, graph), 0);
  ExpectSameOutputs(before, graph, kExact);
}

TEST(CommonSubexpression, GivesAnOutputToTheNodeThatStays) {
  TestGraph g;
  const ValueId x = g.Input("x", {2, 2});
  const ValueId first = g.Op("Abs", {x}), second = g.Op("Abs", {x});
  Graph graph = g.Finish({g.Op("Neg", {first}), second});
  const Graph before = graph;
  EXPECT_EQ(Apply(MergeCommonSubexpressions, graph), 1);
  EXPECT_EQ(graph.nodes.size(), 2u);
  ExpectSameOutputs(before, graph, kExact);
}

TEST(DeadCode, RemovesChainsAndUnreadOptionalOutputs) {
  TestGraph g;
  const ValueId x = g.Input("x", {1, 1, 4, 4});
  g.Op("Exp", {g.Op("Neg", {x})});
  const auto pool = g.Ops("MaxPool", {x}, 2, {{"kernel_shape", Ints{2, 2}}});
  Graph graph = g.Finish({pool[0]});
  const Graph before = graph;
  EXPECT_EQ(Apply(RemoveDeadCode, graph), 3);
  ASSERT_EQ(graph.nodes.size(), 1u);
  EXPECT_EQ(graph.nodes[0].outputs.size(), 1u);
  EXPECT_EQ(graph.values.size(), 2u);
  ExpectSameOutputs(before, graph, kExact);
}

TEST(DeadCode, TakesNodesThatMakeNothingInEveryPass) {
  TestGraph g;
  const ValueId x = g.Input("x", {2, 3});
  Graph graph = g.Finish({g.Op("Abs", {x})});
  graph.AddNode("nothing", "", "Reshape", {x, graph.AddConstant("shape", Int64Constant({6}))}, {kNoValue});
  graph.AddNode("less", "", "Neg", {x}, {});
  EXPECT_EQ(Apply(CleanTransposesAndReshapes, graph), 0);
  EXPECT_EQ(graph.nodes.size(), 1u);
}

TEST(ConstantFold, FoldsWhatBecameConstant) {
  TestGraph g;
  const ValueId x = g.Input("x", {2, 3}), later = g.Input("w", {2, 3});
  const auto halves = g.Ops("Split", {g.Op("Neg", {later}), g.Ints({1, 1})}, 2, {{"axis", int64_t{0}}});
  Graph graph = g.Finish({g.Op("Add", {x, g.Op("Exp", {halves[1]})})});
  const auto same = EvaluateGraph(
      graph, std::vector<Tensor>{RandomInputs(graph)[0], Tensor::FromVector<float>({2, 3}, {1, 2, 3, 4, 5, 6})});
  ASSERT_TRUE(same.ok());
  std::erase(graph.inputs, later);
  graph.value(later).constant = Tensor::FromVector<float>({2, 3}, {1, 2, 3, 4, 5, 6});
  EXPECT_EQ(Apply(FoldConstants, graph), 3);
  EXPECT_EQ(graph.nodes.size(), 1u);
  const auto folded = EvaluateGraph(graph, RandomInputs(graph));
  ASSERT_TRUE(folded.ok());
  for (int64_t i = 0; i < 6; ++i) {
    EXPECT_EQ((*same)[0].values<float>()[static_cast<size_t>(i)], (*folded)[0].values<float>()[static_cast<size_t>(i)]);
  }
}

}  // namespace
}  // namespace octavo
