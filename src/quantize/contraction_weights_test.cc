#include "quantize/contraction_weights.h"

#include <gtest/gtest.h>

#include "passes/pass_test_graph.h"

namespace octavo {
namespace {

std::vector<double> SharesOf(std::string_view op, Dims x, Dims w, TestGraph::Attributes attributes) {
  TestGraph builder;
  const ValueId y = builder.Op(op, {builder.Input("x", std::move(x)), builder.Random(std::move(w))}, attributes);
  const Graph graph = builder.Finish({y});
  return WindowShares(graph, graph.node(graph.value(y).producer)).value();
}

TEST(WindowShares, OfPaddedConvolutions) {
  const std::vector<int64_t> pads = {1, 0, 1, 0};
  // Of 4 rows the outer taps miss one; columns have no padding.
  EXPECT_EQ(SharesOf("Conv", {1, 1, 4, 4}, {1, 1, 3, 3}, {{"pads", pads}}),
            (std::vector<double>{0.75, 0.75, 0.75, 1, 1, 1, 0.75, 0.75, 0.75}));
  // Rows -1 and 1 of the first tap, 0 and 2 of the second, 1 and 3 of the third.
  EXPECT_EQ(SharesOf("Conv", {1, 1, 4, 4}, {1, 1, 3, 1}, {{"pads", pads}, {"strides", std::vector<int64_t>{2, 1}}}),
            (std::vector<double>{0.5, 1, 1}));
  EXPECT_EQ(SharesOf("MatMul", {2, 3}, {3, 4}, {}), std::vector<double>{1});
}

// Each result of a 2 x 2 window with strides of 2 comes from one element of the window.
TEST(WindowShares, OfTransposedConvolutions) {
  EXPECT_EQ(SharesOf("ConvTranspose", {1, 1, 3, 3}, {1, 1, 2, 2}, {{"strides", std::vector<int64_t>{2, 2}}}),
            std::vector<double>(4, 0.25));
}

TEST(ContractionWeights, IndexEveryLayout) {
  TestGraph builder;
  const ValueId x = builder.Input("x", {1, 4, 5, 5}), rows = builder.Input("rows", {2, 3});
  const ValueId conv = builder.Op("Conv", {x, builder.Random({6, 2, 3, 3})}, {{"group", int64_t{2}}});
  const ValueId up = builder.Op("ConvTranspose", {x, builder.Random({4, 3, 2, 2})}, {{"group", int64_t{2}}});
  const ValueId product = builder.Op("MatMul", {rows, builder.Random({3, 5})});
  const ValueId gemm = builder.Op("Gemm", {rows, builder.Random({5, 3})}, {{"transB", int64_t{1}}});
  const Graph graph = builder.Finish({conv, up, product, gemm});
  const auto of = [&](ValueId value) { return WeightsOf(graph, graph.node(graph.value(value).producer)).value(); };
  // Output 4 is the second of group 1, which reads channels 2 and 3.
  EXPECT_EQ(of(conv).At(4, 1, 2), size_t{(4 * 2 + 1) * 9 + 2});
  EXPECT_EQ(of(conv).Input(4, 1), 3u);
  EXPECT_EQ(of(up).outputs, 6);
  EXPECT_EQ(of(up).At(4, 1, 2), size_t{(3 * 3 + 1) * 4 + 2});
  EXPECT_EQ(of(up).Input(4, 1), 3u);
  EXPECT_EQ(of(product).At(4, 1, 0), size_t{1 * 5 + 4});
  EXPECT_EQ(of(gemm).At(4, 1, 0), size_t{4 * 3 + 1});
  EXPECT_EQ(of(gemm).operand_axis, 1);
}

}  // namespace
}  // namespace octavo
