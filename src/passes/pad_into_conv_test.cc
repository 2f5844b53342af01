#include <gtest/gtest.h>

#include "passes/pass_test_graph.h"
#include "passes/rewrites.h"

namespace octavo {
namespace {

// The same products in the same order but for zeros: a pool's or convolution's sum of 36 terms, 36 * 2^-24.
constexpr double kTolerance = 3e-6;
using Ints = std::vector<int64_t>;

ValueId Pad(TestGraph& g, ValueId x, const Ints& pads, float value = 0.0f) {
  return g.Op("Pad", {x, g.Ints(pads), g.Scalar(value)}, {{"mode", std::string("constant")}});
}

TEST(PadIntoConv, AddsToTheConvolutionsOwnPads) {
  TestGraph g;
  const ValueId x = Pad(g, g.Input("x", {1, 4, 5, 5}), {0, 0, 1, 0, 0, 0, 2, 3});
  Graph graph = g.Finish({g.Op("Conv", {x, g.Random({2, 4, 3, 3})}, {{"pads", Ints{1, 1, 0, 0}}})});
  const Graph before = graph;
  EXPECT_EQ(Apply(FoldPadIntoConv, graph), 1);
  ASSERT_EQ(graph.nodes.size(), 1u);
  EXPECT_EQ(graph.nodes[0].Ints("pads"), (Ints{2, 1, 2, 3}));
  ExpectSameOutputs(before, graph, kTolerance);
}

TEST(PadIntoConv, FoldsIntoAnAveragePoolThatHadNone) {
  TestGraph g;
  const ValueId x = Pad(g, g.Input("x", {1, 4, 5, 5}), {0, 0, 1, 1, 0, 0, 1, 1});
  Graph graph = g.Finish({g.Op("AveragePool", {x}, {{"kernel_shape", Ints{3, 3}}})});
  const Graph before = graph;
  EXPECT_EQ(Apply(FoldPadIntoConv, graph), 1);
  ASSERT_EQ(graph.nodes.size(), 1u);
  EXPECT_EQ(graph.nodes[0].Int("count_include_pad", 0), 1);
  ExpectSameOutputs(before, graph, kTolerance);
}

TEST(PadIntoConv, LeavesNearMisses) {
  TestGraph g;
  const ValueId x = g.Input("x", {1, 4, 5, 5});
  const auto conv = [&](ValueId from, int64_t channels) { return g.Op("Conv", {from, g.Random({2, channels, 3, 3})}); };
  const Ints spatial{0, 0, 1, 1, 0, 0, 1, 1};
  const ValueId shown = Pad(g, x, spatial);
  const ValueId reflected = g.Op("Pad", {x, g.Ints(spatial)}, {{"mode", std::string("reflect")}});
  const ValueId own = g.Op("AveragePool", {Pad(g, x, spatial)},
                           {{"kernel_shape", Ints{4, 4}}, {"pads", Ints{1, 1, 1, 1}}});  // divides by what it sees
  Graph graph = g.Finish({conv(shown, 4), shown, conv(Pad(g, x, spatial, 1.0f), 4), conv(reflected, 4), own,
                          conv(Pad(g, x, {0, 1, 0, 0, 0, 0, 0, 0}), 5), conv(Pad(g, x, {0, 0, -1, 0, 0, 0, 0, 0}), 4),
                          g.Op("MaxPool", {Pad(g, x, spatial)}, {{"kernel_shape", Ints{3, 3}}})});
  EXPECT_EQ(Apply(FoldPadIntoConv, graph), 0);
}

}  // namespace
}  // namespace octavo
