#include <gtest/gtest.h>

#include "passes/pass_test_graph.h"
#include "passes/rewrites.h"

namespace octavo {
namespace {

// Sums of at most 12 products of magnitude <= 4 in another order: 12 * 2^-24 relative to the largest.
constexpr double kTolerance = 2e-6;

void ExpectRewritten(const std::string& equation, const Dims& a, const Dims& b, size_t nodes) {
  SCOPED_TRACE(equation);
  TestGraph g;
  Graph graph = g.Finish({g.Op("Einsum", {g.Input("a", a), g.Input("b", b)}, {{"equation", equation}})});
  const Graph before = graph;
  EXPECT_EQ(Apply(RewriteEinsum, graph), 1);
  EXPECT_EQ(graph.nodes.size(), nodes);
  EXPECT_EQ(CountOps(graph, "MatMul"), 1);
  EXPECT_EQ(CountOps(graph, "Einsum"), 0);
  ExpectSameOutputs(before, graph, kTolerance);
}

TEST(EinsumToMatMul, RewritesBatchedProducts) {
  ExpectRewritten("bij,bjk->bik", {2, 3, 4}, {2, 4, 5}, 1);
  ExpectRewritten("bct,bcs->bts", {2, 4, 3}, {2, 4, 5}, 2);
  ExpectRewritten("bts,bcs->bct", {2, 3, 5}, {2, 4, 5}, 3);
  ExpectRewritten("b q h d, b k h d -> b h q k", {2, 3, 2, 4}, {2, 5, 2, 4}, 3);
}

TEST(EinsumToMatMul, ReshapesSeveralOrNoFreeLabels) {
  ExpectRewritten("abij,ijk->abk", {2, 3, 2, 4}, {2, 4, 5}, 4);  // two contracted, two rows
  ExpectRewritten("i,j->ij", {3}, {4}, 3);                       // nothing contracted
  ExpectRewritten("bi,bi->b", {2, 3}, {2, 3}, 4);                // no rows, no columns
}

TEST(EinsumToMatMul, LeavesWhatIsNoProduct) {
  const auto untouched = [](const std::string& equation, const Dims& a, const Dims& b) {
    SCOPED_TRACE(equation);
    TestGraph g;
    Graph graph = g.Finish({g.Op("Einsum", {g.Input("a", a), g.Input("b", b)}, {{"equation", equation}})});
    EXPECT_EQ(Apply(RewriteEinsum, graph), 0);
  };
  untouched("ij,k->ik", {3, 4}, {5});      // sums j of one operand
  untouched("ii,ij->ij", {3, 3}, {3, 4});  // a diagonal
}

}  // namespace
}  // namespace octavo
