#include <gtest/gtest.h>

#include "graph/quantization.h"
#include "passes/pass_test_graph.h"
#include "passes/rewrites.h"

namespace octavo {
namespace {

// Every element is multiplied and rounded as before.
constexpr double kExact = 0.0;

using Ints = std::vector<int64_t>;

ValueId Quantize(TestGraph& g, ValueId value, float scale, uint8_t zero = 117) {
  return g.Op("QuantizeLinear", {value, g.Scalar(scale), g.graph().AddConstant("z", Tensor::Scalar<uint8_t>(zero))});
}
ValueId Fake(TestGraph& g, ValueId value, float scale, uint8_t zero = 117) {
  const ValueId q = Quantize(g, value, scale, zero);
  return g.Op("DequantizeLinear", {q, g.Scalar(scale), g.graph().AddConstant("z", Tensor::Scalar<uint8_t>(zero))});
}

// What the node that makes `node`'s input `i` is called.
std::string OpBehind(const Graph& graph, const Node& node, size_t i = 0) {
  const NodeId producer = graph.value(node.input(i)).producer;
  return producer == kNoNode ? "" : graph.node(producer).op;
}

TEST(EarlyQuantize, GoesBeforeMovesAndScalars) {
  TestGraph g;
  const ValueId x = g.Input("x", {2, 5, 12});
  const ValueId product = g.Op("MatMul", {x, g.Random({12, 8})});
  const ValueId heads = g.Op("Reshape", {product, g.Ints({2, 5, 2, 4})});
  const ValueId moved = g.Op("Transpose", {heads}, {{"perm", Ints{0, 2, 3, 1}}});
  Graph graph = g.Finish({Fake(g, g.Op("Mul", {moved, g.Scalar(0.3f)}), 0.02f)});
  const Graph before = graph;
  EXPECT_GT(Apply(QuantizeEarly, graph), 0);
  const Node& quantize = *FindOnly(graph, "QuantizeLinear");
  EXPECT_EQ(OpBehind(graph, quantize), "Mul");
  const Node& mul = *FindOnly(graph, "Mul");
  EXPECT_EQ(OpBehind(graph, mul), "MatMul");
  // Behind a contraction the scalar is a factor per channel.
  EXPECT_EQ(graph.value(mul.input(1)).dims, (Dims{1, 1, 8}));
  EXPECT_EQ(CountOps(graph, "Reshape"), 1);
  EXPECT_EQ(CountOps(graph, "Transpose"), 1);
  ExpectSameOutputs(before, graph, kExact);
  EXPECT_EQ(Apply(QuantizeEarly, graph), 0);
}

TEST(EarlyQuantize, LeavesWhatOthersRead) {
  TestGraph g;
  const ValueId x = g.Input("x", {2, 6});
  const ValueId moved = g.Op("Transpose", {g.Op("Tanh", {x})}, {{"perm", Ints{1, 0}}});
  const ValueId scaled = g.Op("Mul", {moved, g.Scalar(3.0f)});
  // The product is an output, so it stays where it is, and what is quantized with it.
  Graph graph = g.Finish({Fake(g, scaled, 0.02f), scaled, Fake(g, moved, 0.03f), g.Op("Neg", {moved})});
  const Graph before = graph;
  // Only the second QuantizeLinear moves; the transposed floats stay for the others.
  EXPECT_EQ(Apply(QuantizeEarly, graph), 1);
  EXPECT_EQ(CountOps(graph, "Transpose"), 2);
  ExpectSameOutputs(before, graph, kExact);
}

TEST(EarlyQuantize, PartsOfAConvolution) {
  TestGraph g;
  const ValueId x = g.Input("x", {1, 3, 4, 5});
  const ValueId conv = g.Op("Conv", {x, g.Random({12, 3, 1, 1})});
  const ValueId heads = g.Op("Reshape", {conv, g.Ints({1, 2, 6, 20})});
  const std::vector<ValueId> parts = g.Ops("Split", {heads, g.Ints({2, 4})}, 2, {{"axis", int64_t{2}}});
  Graph graph = g.Finish({Fake(g, g.Op("Mul", {parts[0], g.Scalar(0.5f)}), 0.01f, 9), Fake(g, parts[1], 0.02f, 200)});
  const Graph before = graph;
  EXPECT_EQ(Apply(QuantizeEarly, graph), 1);
  EXPECT_EQ(CountOps(graph, "QuantizeLinear"), 1);
  const Result<QuantizeParams> params = QuantizeParamsOf(graph, *FindOnly(graph, "QuantizeLinear"));
  ASSERT_TRUE(params.ok()) << params.status().message();
  EXPECT_EQ(params->axis, 1);
  const std::vector<int32_t> zeros{9, 9, 200, 200, 200, 200, 9, 9, 200, 200, 200, 200};
  EXPECT_EQ(params->zero_points, zeros);
  EXPECT_EQ(OpBehind(graph, *FindOnly(graph, "Mul")), "Conv");
  ExpectSameOutputs(before, graph, kExact);
}

TEST(EarlyQuantize, PartsThatAreNoChannelsStay) {
  TestGraph g;
  const ValueId x = g.Input("x", {1, 3, 4, 6});
  // Along the width: no channel has one scale.
  const ValueId conv = g.Op("Conv", {x, g.Random({5, 3, 1, 1})});
  const std::vector<ValueId> parts = g.Ops("Split", {conv, g.Ints({2, 4})}, 2, {{"axis", int64_t{3}}});
  // Behind a function.
  const std::vector<ValueId> others = g.Ops("Split", {g.Op("Tanh", {x}), g.Ints({1, 2})}, 2, {{"axis", int64_t{1}}});
  // One part that somebody else reads.
  const ValueId last = g.Op("Conv", {x, g.Random({6, 3, 1, 1})});
  const std::vector<ValueId> read = g.Ops("Split", {last, g.Ints({3, 3})}, 2, {{"axis", int64_t{1}}});
  Graph graph =
      g.Finish({Fake(g, parts[0], 0.01f), Fake(g, parts[1], 0.02f), Fake(g, others[0], 0.01f),
                Fake(g, others[1], 0.02f), Fake(g, read[0], 0.01f), Fake(g, read[1], 0.02f), g.Op("Neg", {read[1]})});
  EXPECT_EQ(Apply(QuantizeEarly, graph), 0);
}

}  // namespace
}  // namespace octavo
