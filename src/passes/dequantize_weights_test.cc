#include <gtest/gtest.h>

#include <optional>

#include "passes/pass_test_graph.h"
#include "passes/rewrites.h"

namespace octavo {
namespace {

// Only constants move.
constexpr double kExact = 0.0;
using Ints = std::vector<int64_t>;

// int8 constants 1, 2, 3, ... and scales that differ from slice to slice of `axis`; one scale where axis is absent.
ValueId Dequantized(TestGraph& g, Dims dims, std::optional<int64_t> axis) {
  Tensor q = *Tensor::Create(DType::kInt8, dims);
  for (size_t i = 0; i < static_cast<size_t>(q.size()); ++i) q.mutable_values<int8_t>()[i] = static_cast<int8_t>(i + 1);
  const ValueId integers = g.graph().AddConstant("q", std::move(q));
  if (!axis) return g.Op("DequantizeLinear", {integers, g.Scalar(0.5f)});
  const int64_t count = dims[static_cast<size_t>(*axis < 0 ? *axis + static_cast<int64_t>(dims.size()) : *axis)];
  return g.Op("DequantizeLinear", {integers, g.Random({count}, 0.1f, 1.0f)}, {{"axis", *axis}});
}

// x times the view of the weights.
struct Product {
  Graph before, after;
  int rewrites = 0;
};
Product Rewrite(TestGraph& g, ValueId weights, int64_t rows) {
  const ValueId x = g.Input("x", {3, rows});
  Product product;
  product.after = g.Finish({g.Op("MatMul", {x, weights})});
  product.before = product.after;
  product.rewrites = Apply(MoveViewsBeforeDequantize, product.after);
  ExpectSameOutputs(product.before, product.after, kExact);
  return product;
}

void ExpectMoved(TestGraph& g, ValueId weights, int64_t rows, int64_t axis) {
  const Product product = Rewrite(g, weights, rows);
  EXPECT_EQ(product.rewrites, 1);
  const Node* dequantize = FindOnly(product.after, "DequantizeLinear");
  ASSERT_NE(dequantize, nullptr);
  EXPECT_EQ(dequantize->output(0), FindOnly(product.after, "MatMul")->input(1));
  if (axis >= 0) {
    EXPECT_EQ(dequantize->Int("axis", 1), axis);
  }
}

TEST(DequantizeWeights, MovesATransposeWithItsScales) {
  TestGraph rows, columns, negative, plain;
  ExpectMoved(rows, rows.Op("Transpose", {Dequantized(rows, {5, 4}, 0)}, {{"perm", Ints{1, 0}}}), 4, 1);
  ExpectMoved(columns, columns.Op("Transpose", {Dequantized(columns, {5, 4}, 1)}, {{"perm", Ints{1, 0}}}), 4, 0);
  ExpectMoved(negative, negative.Op("Transpose", {Dequantized(negative, {5, 4}, -2)}), 4, 1);
  ExpectMoved(plain, plain.Op("Transpose", {Dequantized(plain, {5, 4}, std::nullopt)}), 4, -1);
}

TEST(DequantizeWeights, FollowsAThreeWayPermutation) {
  TestGraph g;
  // Axis 2 of the input is axis 0 of the output: (i, j, k) -> (k, i, j).
  const ValueId weights = Dequantized(g, {1, 4, 6}, 2);
  const ValueId moved = g.Op("Transpose", {weights}, {{"perm", Ints{2, 0, 1}}});
  const ValueId x = g.Input("x", {6, 2, 1});
  Graph graph = g.Finish({g.Op("MatMul", {x, moved})});
  const Graph before = graph;
  EXPECT_EQ(Apply(MoveViewsBeforeDequantize, graph), 1);
  EXPECT_EQ(FindOnly(graph, "DequantizeLinear")->Int("axis", 1), 0);
  ExpectSameOutputs(before, graph, kExact);
}

TEST(DequantizeWeights, MovesReshapesThatKeepTheScalesAxis) {
  TestGraph squeezed, split, joined, single;
  ExpectMoved(squeezed, squeezed.Op("Squeeze", {Dequantized(squeezed, {1, 4, 5}, 2), squeezed.Ints({0})}), 4, 1);
  ExpectMoved(split, split.Op("Reshape", {Dequantized(split, {2, 2, 5}, -1), split.Ints({4, 5})}), 4, 1);
  ExpectMoved(joined, joined.Op("Flatten", {Dequantized(joined, {4, 5, 1}, 0)}, {{"axis", int64_t{1}}}), 4, 0);
  ExpectMoved(single, single.Op("Reshape", {Dequantized(single, {20}, std::nullopt), single.Ints({4, 5})}), 4, -1);
}

TEST(DequantizeWeights, MovesAChainOfViews) {
  TestGraph g;
  const ValueId squeezed = g.Op("Squeeze", {Dequantized(g, {5, 4, 1, 1}, 0), g.Ints({2, 3})});
  const Product product = Rewrite(g, g.Op("Transpose", {squeezed}), 4);
  EXPECT_EQ(product.rewrites, 2);
  EXPECT_EQ(product.after.nodes.size(), 2u);
}

TEST(DequantizeWeights, LeavesReshapesThatCutOrJoinSlices) {
  TestGraph cut, joined, moved;
  EXPECT_EQ(Rewrite(cut, cut.Op("Reshape", {Dequantized(cut, {6, 4}, 0), cut.Ints({3, 8})}), 3).rewrites, 0);
  EXPECT_EQ(Rewrite(joined, joined.Op("Reshape", {Dequantized(joined, {2, 2, 5}, 1), joined.Ints({4, 5})}), 4).rewrites,
            0);
  // As many slices, but others.
  EXPECT_EQ(Rewrite(moved, moved.Op("Reshape", {Dequantized(moved, {4, 6}, 0), moved.Ints({6, 4})}), 6).rewrites, 0);
}

TEST(DequantizeWeights, LeavesWhatIsNoViewOfEightBitConstants) {
  {
    TestGraph g;  // an activation
    const ValueId q = g.Input("q", {5, 4}, DType::kInt8);
    const ValueId real = g.Op("DequantizeLinear", {q, g.Scalar(0.5f)});
    Graph graph = g.Finish({g.Op("Neg", {g.Op("Transpose", {real})})});
    EXPECT_EQ(Apply(MoveViewsBeforeDequantize, graph), 0);
  }
  {
    TestGraph g;  // the view is an output of the graph, under its own name
    const ValueId x = g.Input("x", {3, 4});
    const ValueId view = g.Op("Transpose", {Dequantized(g, {5, 4}, 0)});
    Graph graph = g.Finish({g.Op("MatMul", {x, view}), view});
    EXPECT_EQ(Apply(MoveViewsBeforeDequantize, graph), 0);
  }
  {
    TestGraph g;  // scales that the graph computes
    const ValueId x = g.Input("x", {3, 4});
    const ValueId scale = g.Op("ReduceMax", {x}, {{"keepdims", int64_t{0}}});
    const ValueId q = g.graph().AddConstant("q", *Tensor::Zeros(DType::kInt8, {5, 4}));
    Graph graph = g.Finish({g.Op("MatMul", {x, g.Op("Transpose", {g.Op("DequantizeLinear", {q, scale})})})});
    EXPECT_EQ(Apply(MoveViewsBeforeDequantize, graph), 0);
  }
}

TEST(DequantizeWeights, KeepsTheOriginalForItsOtherReaders) {
  TestGraph g;
  const ValueId x = g.Input("x", {3, 4}), y = g.Input("y", {3, 5});
  const ValueId weights = Dequantized(g, {5, 4}, 0);
  Graph graph = g.Finish({g.Op("MatMul", {x, g.Op("Transpose", {weights})}), g.Op("MatMul", {y, weights})});
  const Graph before = graph;
  EXPECT_EQ(Apply(MoveViewsBeforeDequantize, graph), 1);
  EXPECT_EQ(CountOps(graph, "DequantizeLinear"), 2);
  ExpectSameOutputs(before, graph, kExact);
}

}  // namespace
}  // namespace octavo
