#include <gtest/gtest.h>

#include <limits>

#include "graph/op_table.h"
#include "passes/pass_test_graph.h"
#include "passes/rewrites.h"

namespace octavo {
namespace {

// Scores are sums of 4 products of magnitude <= 4 whose scale is applied elsewhere: their error, 4 * 4 * 2 * 2^-24 =
// 2e-6, is the relative error of the exponentials.
constexpr double kTolerance = 1e-5;
const std::vector<int64_t> kSwap{0, 1, 3, 2};

void ExpectFused(Graph graph, float scale, size_t inputs, size_t nodes) {
  const Graph before = graph;
  EXPECT_EQ(Apply(RewriteAttention, graph), 1);
  EXPECT_EQ(graph.nodes.size(), nodes);
  const Node* attention = FindOnly(graph, "Attention", kOctavoDomain);
  ASSERT_NE(attention, nullptr);
  EXPECT_FLOAT_EQ(attention->Float("scale", 0.0f), scale);
  EXPECT_EQ(attention->inputs.size(), inputs);
  ExpectSameOutputs(before, graph, kTolerance);
}

struct Operands {
  ValueId q, k, v;
};

Operands Inputs(TestGraph& g) {
  return {g.Input("q", {1, 2, 5, 4}), g.Input("k", {1, 2, 3, 4}), g.Input("v", {1, 2, 3, 6})};
}

TEST(SoftmaxAttention, FusesScoresDividedByANumber) {
  TestGraph g;
  const auto [q, k, v] = Inputs(g);
  const ValueId scores = g.Op("Div", {g.Op("MatMul", {q, g.Op("Transpose", {k}, {{"perm", kSwap}})}), g.Scalar(2.0f)});
  ExpectFused(g.Finish({g.Op("MatMul", {g.Op("Softmax", {scores}, {{"axis", int64_t{-1}}}), v})}), 0.5f, 3, 1);
}

TEST(SoftmaxAttention, FusesScaledOperandsAndAMask) {
  TestGraph g;
  const auto [q, k, v] = Inputs(g);
  const ValueId scaled_q = g.Op("Mul", {q, g.Scalar(0.7f)});
  const ValueId scaled_k = g.Op("Mul", {g.Scalar(0.7f), g.Op("Transpose", {k}, {{"perm", kSwap}})});
  const ValueId scores = g.Op("Add", {g.Input("mask", {5, 3}), g.Op("MatMul", {scaled_q, scaled_k})});
  ExpectFused(g.Finish({g.Op("MatMul", {g.Op("Softmax", {scores}, {{"axis", int64_t{3}}}), v})}), 0.49f, 4, 1);
}

TEST(SoftmaxAttention, ComposesTheKeysOwnTranspose) {
  TestGraph g;
  const ValueId q = g.Input("q", {1, 2, 5, 4}), v = g.Input("v", {1, 2, 3, 6});
  const ValueId k = g.Input("k", {1, 3, 2, 4});  // tokens before heads, as a projection leaves them
  const ValueId kt = g.Op("Transpose", {k}, {{"perm", std::vector<int64_t>{0, 2, 3, 1}}});
  Graph graph = g.Finish({g.Op("MatMul", {g.Op("Softmax", {g.Op("MatMul", {q, kt})}), v})});
  ExpectFused(graph, 1.0f, 3, 2);
  Apply(RewriteAttention, graph);
  EXPECT_EQ(FindOnly(graph, "Transpose")->Ints("perm"), (std::vector<int64_t>{0, 2, 1, 3}));
}

TEST(SoftmaxAttention, TransposesKeysThatComeTransposed) {
  TestGraph g;
  const ValueId q = g.Input("q", {2, 5, 4}), kt = g.Input("k", {2, 4, 3}), v = g.Input("v", {2, 3, 6});
  ExpectFused(g.Finish({g.Op("MatMul", {g.Op("Softmax", {g.Op("MatMul", {q, kt})}), v})}), 1.0f, 3, 2);
}

TEST(SoftmaxAttention, FusesAUNetsEinsums) {
  TestGraph g(18);
  const ValueId q = g.Input("q", {2, 4, 5}), k = g.Input("k", {2, 4, 5}), v = g.Input("v", {2, 4, 5});
  const ValueId scores = g.Op("Einsum", {g.Op("Mul", {q, g.Scalar(0.7f)}), g.Op("Mul", {k, g.Scalar(0.7f)})},
                              {{"equation", std::string("bct,bcs->bts")}});
  const ValueId p = g.Op("Softmax", {scores}, {{"axis", int64_t{-1}}});
  Graph graph = g.Finish({g.Op("Einsum", {p, v}, {{"equation", std::string("bts,bcs->bct")}})});
  const Graph before = graph;
  EXPECT_EQ(Apply(RewriteEinsum, graph), 2);
  EXPECT_EQ(Apply(RewriteAttention, graph), 1);
  EXPECT_EQ(CountOps(graph, "MatMul") + CountOps(graph, "Softmax") + CountOps(graph, "Einsum"), 0);
  const Node* attention = FindOnly(graph, "Attention", kOctavoDomain);
  ASSERT_NE(attention, nullptr);
  EXPECT_EQ(graph.value(attention->input(0)).dims, (Dims{2, 5, 4}));
  ExpectSameOutputs(before, graph, kTolerance);
}

TEST(SoftmaxAttention, FindsFactorsBehindViews) {
  TestGraph g;
  const ValueId q = g.Input("q", {1, 5, 8}), k = g.Input("k", {1, 3, 8}), v = g.Input("v", {1, 2, 3, 6});
  const auto heads = [&](ValueId x, int64_t tokens, const std::vector<int64_t>& perm) {
    const ValueId scaled = g.Op("Mul", {x, g.Scalar(0.7f)});
    return g.Op("Transpose", {g.Op("Reshape", {scaled, g.Ints({1, tokens, 2, 4})})}, {{"perm", perm}});
  };
  const ValueId scores = g.Op("MatMul", {heads(q, 5, {0, 2, 1, 3}), heads(k, 3, {0, 2, 3, 1})});
  ExpectFused(g.Finish({g.Op("MatMul", {g.Op("Softmax", {scores}), v})}), 0.49f, 3, 5);
}

TEST(SoftmaxAttention, AddsUpSeveralMasks) {
  TestGraph g;
  const auto [q, k, v] = Inputs(g);
  const ValueId scores = g.Op("MatMul", {q, g.Op("Transpose", {k}, {{"perm", kSwap}})});
  const ValueId biased = g.Op("Add", {scores, g.Random({1, 2, 5, 3})});
  const ValueId masked = g.Op("Add", {g.Input("mask", {3}), biased});
  ExpectFused(g.Finish({g.Op("MatMul", {g.Op("Softmax", {masked}), v})}), 1.0f, 4, 2);
}

// Swin's shifted windows: 2 pictures of 3 windows, 2 heads; a bias per head and a mask per window.
ValueId Windowed(TestGraph& g, const std::vector<int64_t>& split, Dims bias, Dims mask) {
  const ValueId q = g.Input("q", {6, 2, 5, 4}), k = g.Input("k", {6, 2, 5, 4}), v = g.Input("v", {6, 2, 5, 4});
  const ValueId scores = g.Op("MatMul", {g.Op("Mul", {q, g.Scalar(0.5f)}), g.Op("Transpose", {k}, {{"perm", kSwap}})});
  const ValueId biased = g.Op("Add", {scores, g.Random(std::move(bias))});
  const ValueId masked = g.Op("Add", {g.Op("Reshape", {biased, g.Ints(split)}), g.Random(std::move(mask))});
  const ValueId joined = g.Op("Reshape", {masked, g.Ints({-1, 2, 5, 5})});
  return g.Op("MatMul", {g.Op("Softmax", {joined}), v});
}

TEST(SoftmaxAttention, FusesShiftedWindows) {
  for (const Dims& bias : {Dims{1, 2, 5, 5}, Dims{6, 1, 5, 5}, Dims{5, 5}}) {
    TestGraph g;
    // Reshapes of q, k, v and of the result, of the bias where it has four axes; an Add of both masks.
    const size_t nodes = bias.size() == 4 ? 7 : 6;
    ExpectFused(g.Finish({Windowed(g, {2, 3, 2, 5, 5}, bias, {1, 3, 1, 5, 5})}), 0.5f, 4, nodes);
  }
}

// What PyTorch 2.9 writes where a mask may leave a query without keys.
TEST(SoftmaxAttention, FusesAGuardAgainstNan) {
  if (FindOp("", "IsNaN") == nullptr) GTEST_SKIP() << "IsNaN is not supported";
  for (const float instead : {0.0f, 1.0f}) {
    TestGraph g;
    const auto [q, k, v] = Inputs(g);
    const float none = -std::numeric_limits<float>::infinity();
    const ValueId mask = g.Constant({5, 3}, {0, 0, none, none, none, none, 0, none, 0, 0, 0, 0, none, none, 0});
    const ValueId scores = g.Op("MatMul", {q, g.Op("Transpose", {k}, {{"perm", kSwap}})});
    const ValueId p = g.Op("Softmax", {g.Op("Add", {scores, mask})});
    const ValueId guarded = g.Op("Where", {g.Op("IsNaN", {p}), g.Scalar(instead), p});
    Graph graph = g.Finish({g.Op("MatMul", {guarded, v})});
    if (instead == 0) {
      ExpectFused(graph, 1.0f, 4, 1);
      Apply(RewriteAttention, graph);
      EXPECT_EQ(FindOnly(graph, "Attention", kOctavoDomain)->Int("guarded", 0), 1);
    } else {
      EXPECT_EQ(Apply(RewriteAttention, graph), 0);
    }
  }
}

TEST(SoftmaxAttention, LeavesWindowsThatAreNotASplitOfTheFirstAxis) {
  TestGraph g;
  Graph graph = g.Finish({Windowed(g, {3, 4, 1, 5, 5}, {1, 2, 5, 5}, {1, 4, 1, 5, 5})});
  EXPECT_EQ(Apply(RewriteAttention, graph), 0);
}

TEST(SoftmaxAttention, LeavesAFactorThatIsReadElsewhere) {
  TestGraph g;
  const auto [q, k, v] = Inputs(g);
  const ValueId scaled = g.Op("Mul", {q, g.Scalar(0.7f)});
  const ValueId scores = g.Op("MatMul", {scaled, g.Op("Transpose", {k}, {{"perm", kSwap}})});
  ExpectFused(g.Finish({g.Op("MatMul", {g.Op("Softmax", {scores}), v}), scaled}), 1.0f, 3, 2);
}

TEST(SoftmaxAttention, LeavesNearMisses) {
  TestGraph g;
  const auto [q, k, v] = Inputs(g);
  const ValueId kt = g.Op("Transpose", {k}, {{"perm", kSwap}});
  const ValueId shown = g.Op("Softmax", {g.Op("MatMul", {q, kt})});  // probabilities are a graph output
  const ValueId axis = g.Op("Softmax", {g.Op("MatMul", {q, kt})}, {{"axis", int64_t{2}}});
  const ValueId bent = g.Op("Softmax", {g.Op("Tanh", {g.Op("MatMul", {q, kt})})});
  const ValueId vector = g.Op("Softmax", {g.Op("Mul", {g.Op("MatMul", {q, kt}), g.Random({3})})});
  Graph graph = g.Finish({g.Op("MatMul", {shown, v}), shown, g.Op("MatMul", {axis, v}), g.Op("MatMul", {bent, v}),
                          g.Op("MatMul", {vector, v})});
  EXPECT_EQ(Apply(RewriteAttention, graph), 0);
}

}  // namespace
}  // namespace octavo
