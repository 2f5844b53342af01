#include "calibration/channel_axis.h"

#include <gtest/gtest.h>

#include "passes/pass_test_graph.h"

namespace octavo {
namespace {

TEST(ChannelAxesTest, FollowsReadersThenMakersThenRank) {
  TestGraph b;
  const ValueId picture = b.Input("picture", {1, 4, 6, 6});
  const ValueId tokens = b.Input("tokens", {1, 5, 8});
  const ValueId windows = b.Input("windows", {1, 2, 2, 8});  // channels last, rank 4
  const ValueId scalar = b.Input("scalar", {});
  const ValueId conv = b.Op("Conv", {picture, b.Random({3, 4, 1, 1})});
  const ValueId product = b.Op("MatMul", {windows, b.Random({8, 8})});
  const ValueId relu = b.Op("Relu", {product});  // nothing but its rank to go by
  const ValueId sum = b.Op("Add", {tokens, scalar});
  const Graph graph = b.Finish({conv, relu, sum});
  EXPECT_EQ(ChannelAxes(graph, {picture, conv, tokens, windows, product, scalar, sum, relu}),
            (std::vector<int>{1, 1, 2, 3, 3, 0, 2, 1}));
}

}  // namespace
}  // namespace octavo
