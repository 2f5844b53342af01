#include "quantize/biases_apart.h"

#include <gtest/gtest.h>

#include "passes/pass_test_graph.h"

namespace octavo {
namespace {

ValueId Dequantized(TestGraph& g, Dims dims) {
  const auto count = static_cast<size_t>(ElementCount(dims));
  std::vector<int8_t> values(count);
  for (size_t i = 0; i < count; ++i) values[i] = static_cast<int8_t>(static_cast<int>(i * 37 % 255) - 127);
  return g.Op("DequantizeLinear",
              {g.graph().AddConstant("w", Tensor::FromVector<int8_t>(std::move(dims), values)), g.Scalar(0.01f)});
}

ValueId Fake(TestGraph& g, ValueId x) {
  return g.Op("DequantizeLinear", {g.Op("QuantizeLinear", {x, g.Scalar(0.02f)}), g.Scalar(0.02f)});
}

Graph Moved(const Graph& before) {
  Graph after = before;
  EXPECT_TRUE(MoveBiasesApart(after).ok());
  EXPECT_TRUE(after.Sort().ok());
  EXPECT_TRUE(Verify(after).ok()) << Verify(after).message();
  ExpectSameOutputs(before, after, 1e-6);  // sums of the same terms in another order: a few times 2^-24
  return after;
}

TEST(BiasesApart, OfGemm) {
  for (const float beta : {1.0f, 0.5f}) {
    TestGraph g;
    const ValueId x = Fake(g, g.Input("x", {3, 8}));
    const ValueId y =
        g.Op("Gemm", {x, Dequantized(g, {5, 8}), g.Random({5})}, {{"transB", int64_t{1}}, {"beta", beta}});
    const Graph after = Moved(g.Finish({y}));
    EXPECT_EQ(CountOps(after, "Add"), 1);
    for (const Node& node : after.nodes) {
      EXPECT_FALSE(node.Is("Gemm") && node.has_input(2));
    }
  }
}

TEST(BiasesApart, OfMatMul) {
  TestGraph g;
  const ValueId bias = g.Random({5});
  const ValueId tokens = g.Op("MatMul", {Fake(g, g.Input("x", {2, 3, 8})), Dequantized(g, {8, 5})});
  const ValueId rows = g.Op("MatMul", {Fake(g, g.Input("y", {3, 8})), Dequantized(g, {8, 5})});
  const Graph after = Moved(g.Finish({g.Op("Add", {bias, tokens}), g.Op("Add", {rows, bias})}));
  EXPECT_EQ(CountOps(after, "Gemm"), 1);  // of matrices
  EXPECT_EQ(CountOps(after, "MatMul"), 1);
  for (const Node& node : after.nodes) {
    if (!node.Is("Add") || after.value(node.output(0)).dims.size() != 3) continue;
    EXPECT_EQ(after.value(node.input(0)).dims, (Dims{1, 5}));
  }
}

TEST(BiasesApart, FloatProductsAndOtherSumsStay) {
  TestGraph g;
  const ValueId x = g.Input("x", {3, 8});
  const ValueId plain = g.Op("Add", {g.Op("MatMul", {x, g.Random({8, 5})}), g.Random({5})});
  const ValueId whole = g.Op("Add", {g.Op("MatMul", {Fake(g, x), Dequantized(g, {8, 5})}), g.Random({3, 1})});
  const ValueId gemm = g.Op("Gemm", {x, g.Random({8, 5}), g.Random({5})});
  const Graph after = Moved(g.Finish({plain, whole, gemm}));
  EXPECT_EQ(CountOps(after, "MatMul"), 2);
  EXPECT_EQ(CountOps(after, "Gemm"), 1);
  EXPECT_EQ(CountOps(after, "Add"), 2);
}

}  // namespace
}  // namespace octavo
