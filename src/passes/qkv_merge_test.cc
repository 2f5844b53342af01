#include <gtest/gtest.h>

#include "passes/pass_test_graph.h"
#include "passes/rewrites.h"

namespace octavo {
namespace {

// Each output element is the same sum of 4 products; a kernel may order it by the matrix's width: 4 * 2^-24 * 2.
constexpr double kTolerance = 1e-6;

TEST(QkvMerge, JoinsProjectionsOfOneInput) {
  TestGraph g;
  const ValueId x = g.Input("x", {2, 3, 4});
  const auto project = [&](int64_t outputs) {
    return g.Op("Add", {g.Random({outputs}), g.Op("MatMul", {x, g.Random({4, outputs})})});
  };
  const ValueId q = project(6), k = project(6), v = project(5);
  Graph graph = g.Finish({q, g.Op("Abs", {k}), v});
  const Graph before = graph;
  EXPECT_EQ(Apply(MergeSiblingMatMuls, graph), 1);
  EXPECT_EQ(CountOps(graph, "MatMul"), 1);
  EXPECT_EQ(CountOps(graph, "Add"), 1);
  EXPECT_EQ(CountOps(graph, "Split"), 1);
  EXPECT_EQ(graph.nodes.size(), 4u);
  ExpectSameOutputs(before, graph, kTolerance);
}

TEST(QkvMerge, JoinsGemms) {
  for (const int64_t trans_b : {0, 1}) {
    TestGraph g;
    const ValueId x = g.Input("x", {2, 4});
    const auto gemm = [&](int64_t outputs) {
      return g.Op("Gemm", {x, trans_b != 0 ? g.Random({outputs, 4}) : g.Random({4, outputs}), g.Random({outputs})},
                  {{"transB", trans_b}});
    };
    Graph graph = g.Finish({gemm(3), gemm(5)});
    const Graph before = graph;
    EXPECT_EQ(Apply(MergeSiblingMatMuls, graph), 1);
    EXPECT_EQ(CountOps(graph, "Gemm"), 1);
    ExpectSameOutputs(before, graph, kTolerance);
  }
}

TEST(QkvMerge, KeepsBiasedAndUnbiasedAndOtherInputsApart) {
  TestGraph g;
  const ValueId x = g.Input("x", {3, 4}), y = g.Input("y", {3, 4});
  const ValueId biased = g.Op("Add", {g.Op("MatMul", {x, g.Random({4, 6})}), g.Random({6})});
  const ValueId bare = g.Op("MatMul", {x, g.Random({4, 6})});
  const ValueId other = g.Op("MatMul", {y, g.Random({4, 6})});
  const ValueId runtime = g.Op("MatMul", {y, g.Input("w", {4, 6})});
  Graph graph = g.Finish({biased, bare, other, runtime});
  EXPECT_EQ(Apply(MergeSiblingMatMuls, graph), 0);
}

}  // namespace
}  // namespace octavo
