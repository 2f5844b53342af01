#include "quantize/window_rows.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>

#include "octavo/reference.h"
#include "passes/pass_test_graph.h"

namespace octavo {
namespace {

using testing::ElementsAre;

// A row times a row of weights is an output of the convolution.
void ExpectConvolves(const Dims& x_dims, const Dims& w_dims, TestGraph::Attributes attributes) {
  TestGraph builder;
  const ValueId x = builder.Input("x", x_dims), w = builder.Random(w_dims);
  const Graph graph = builder.Finish({builder.Op("Conv", {x, w}, std::move(attributes))});
  std::vector<float> values(static_cast<size_t>(ElementCount(x_dims)));
  std::iota(values.begin(), values.end(), 1.0f);
  const Tensor operand = Tensor::FromVector<float>(x_dims, values);
  const Tensor y = RunReference(graph, {{"x", operand}}).value()[0];
  const auto rows = WindowRows::OfConv(graph.nodes[0], x_dims, w_dims);
  ASSERT_TRUE(rows.ok()) << rows.status().message();
  const int64_t places = ElementCount(y.dims()) / y.dims()[0] / y.dims()[1], outputs = w_dims[0] / rows->groups();
  ASSERT_EQ(rows->positions(), y.dims()[0] * places);
  ASSERT_EQ(rows->inputs() * w_dims[0], ElementCount(w_dims));
  std::vector<float> row(static_cast<size_t>(rows->inputs()));
  for (int64_t p = 0; p < rows->positions(); ++p) {
    for (int64_t o = 0; o < w_dims[0]; ++o) {
      const int64_t position[] = {p};
      rows->Gather(operand.values<float>(), o / outputs, position, row.data());
      const float* weights = graph.value(w).constant.values<float>().data() + o * rows->inputs();
      const double sum = std::inner_product(row.begin(), row.end(), weights, 0.0);
      const int64_t at = (p / places * w_dims[0] + o) * places + p % places;
      // Sums of fewer than 100 products of at most 1000, in float: 100 * 100 * 1000 * 2^-24.
      ASSERT_NEAR(sum, y.values<float>()[static_cast<size_t>(at)], 1.0) << "position " << p << ", output " << o;
    }
  }
}

TEST(WindowRows, Convolves) {
  using Ints = std::vector<int64_t>;
  ExpectConvolves({1, 3, 5, 6}, {4, 3, 3, 2}, {{"pads", Ints{1, 0, 1, 1}}, {"strides", Ints{2, 1}}});
  ExpectConvolves({2, 4, 7, 5}, {4, 1, 3, 3},
                  {{"group", int64_t{4}}, {"pads", Ints{2, 2, 2, 2}}, {"dilations", Ints{2, 1}}});
  ExpectConvolves({1, 4, 9}, {6, 2, 3}, {{"group", int64_t{2}}, {"auto_pad", std::string("SAME_UPPER")}});
  ExpectConvolves({1, 2, 3, 4, 3}, {2, 2, 2, 1, 2}, {});
}

TEST(WindowRows, OfAProductAreTheOperands) {
  const WindowRows rows = WindowRows::OfProduct({2, 3, 2});
  EXPECT_EQ(rows.positions(), 6);
  const std::vector<float> operand = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11};
  const int64_t positions[] = {1, 5};
  std::vector<float> out(4);
  rows.Gather(operand, 0, positions, out.data());
  EXPECT_THAT(out, ElementsAre(2, 3, 10, 11));
}

TEST(SpreadPositions, TakesOneOfEachPart) {
  EXPECT_THAT(SpreadPositions(3, 5, 1), ElementsAre(0, 1, 2));
  const std::vector<int64_t> positions = SpreadPositions(1000, 10, 1);
  ASSERT_EQ(positions.size(), 10u);
  for (size_t i = 0; i < positions.size(); ++i) EXPECT_EQ(positions[i] / 100, static_cast<int64_t>(i));
  EXPECT_NE(positions, SpreadPositions(1000, 10, 2));
}

}  // namespace
}  // namespace octavo
