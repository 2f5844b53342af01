#include <gtest/gtest.h>

#include "passes/pass_test_graph.h"
#include "passes/rewrites.h"

namespace octavo {
namespace {

// Sums of at most 54 products, each rounded once more for the scaled weight and once in the sum: 54 * 2 * 2^-24 < 1e-5.
constexpr double kTolerance = 1e-5;

std::vector<ValueId> WithParameters(TestGraph& g, ValueId x, int64_t channels) {
  return {x, g.Random({channels}, 0.5f, 1.5f), g.Random({channels}), g.Random({channels}),
          g.Random({channels}, 0.2f, 2.0f)};
}

ValueId BatchNorm(TestGraph& g, ValueId x, int64_t channels) {
  return g.Op("BatchNormalization", WithParameters(g, x, channels), {{"epsilon", 1e-3f}});
}

// Expects one node `op` with as many inputs as stated, and equal outputs.
void ExpectFolded(Graph graph, std::string_view op, size_t inputs) {
  const Graph before = graph;
  EXPECT_EQ(Apply(FoldBatchNorm, graph), 1);
  ASSERT_EQ(graph.nodes.size(), 1u);
  EXPECT_TRUE(graph.nodes[0].Is(op));
  EXPECT_EQ(graph.nodes[0].inputs.size(), inputs);
  ExpectSameOutputs(before, graph, kTolerance);
}

TEST(BatchNormFold, FoldsIntoConvWithAndWithoutBias) {
  for (const bool bias : {false, true}) {
    TestGraph g;
    std::vector<ValueId> inputs{g.Input("x", {2, 4, 5, 5}), g.Random({6, 2, 3, 3})};
    if (bias) inputs.push_back(g.Random({6}));
    const ValueId conv = g.Op("Conv", inputs, {{"group", int64_t{2}}, {"pads", std::vector<int64_t>{1, 1, 1, 1}}});
    ExpectFolded(g.Finish({BatchNorm(g, conv, 6)}), "Conv", 3);
  }
}

TEST(BatchNormFold, FoldsIntoGroupedConvTranspose) {
  TestGraph g;
  const ValueId conv = g.Op("ConvTranspose", {g.Input("x", {1, 4, 3, 3}), g.Random({4, 3, 2, 2}), g.Random({6})},
                            {{"group", int64_t{2}}, {"strides", std::vector<int64_t>{2, 2}}});
  ExpectFolded(g.Finish({BatchNorm(g, conv, 6)}), "ConvTranspose", 3);
}

TEST(BatchNormFold, FoldsIntoGemm) {
  for (const int64_t trans_b : {0, 1}) {
    TestGraph g;
    const ValueId weights = trans_b != 0 ? g.Random({6, 4}) : g.Random({4, 6});
    const ValueId gemm = g.Op("Gemm", {g.Input("x", {3, 4}), weights, g.Random({6})},
                              {{"transB", trans_b}, {"alpha", 0.5f}, {"beta", 2.0f}});
    ExpectFolded(g.Finish({BatchNorm(g, gemm, 6)}), "Gemm", 3);
  }
}

TEST(BatchNormFold, FoldsIntoMatMulWithItsBias) {
  TestGraph g;
  const ValueId product = g.Op("MatMul", {g.Input("x", {3, 4}), g.Random({4, 6})});
  Graph graph = g.Finish({BatchNorm(g, g.Op("Add", {product, g.Random({6})}), 6)});
  const Graph before = graph;
  EXPECT_EQ(Apply(FoldBatchNorm, graph), 1);
  EXPECT_EQ(graph.nodes.size(), 2u);
  EXPECT_EQ(CountOps(graph, "MatMul") + CountOps(graph, "Add"), 2);
  ExpectSameOutputs(before, graph, kTolerance);
}

TEST(BatchNormFold, BecomesMulAndAddWhereNothingTakesIt) {
  TestGraph g;
  const ValueId x = g.Input("x", {2, 4, 3, 3});
  const ValueId conv = g.Op("Conv", {x, g.Random({4, 4, 1, 1})});
  Graph graph = g.Finish({BatchNorm(g, x, 4), conv, BatchNorm(g, conv, 4)});  // conv is an output too
  const Graph before = graph;
  EXPECT_EQ(Apply(FoldBatchNorm, graph), 2);
  EXPECT_EQ(CountOps(graph, "BatchNormalization"), 0);
  EXPECT_EQ(CountOps(graph, "Mul"), 2);
  EXPECT_EQ(CountOps(graph, "Add"), 2);
  EXPECT_EQ(CountOps(graph, "Conv"), 1);
  ExpectSameOutputs(before, graph, kTolerance);
}

TEST(BatchNormFold, LeavesParametersThatAreNotConstant) {
  TestGraph g;
  std::vector<ValueId> inputs = WithParameters(g, g.Input("x", {2, 4, 3, 3}), 4);
  inputs[1] = g.Input("gamma", {4});
  Graph graph = g.Finish({g.Op("BatchNormalization", inputs)});
  EXPECT_EQ(Apply(FoldBatchNorm, graph), 0);
}

}  // namespace
}  // namespace octavo
