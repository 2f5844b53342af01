#include <gtest/gtest.h>

#include "passes/pass_test_graph.h"
#include "passes/rewrites.h"

namespace octavo {
namespace {

// q - z is the same integer in both forms.
constexpr double kExact = 0.0;

ValueId Int8(TestGraph& g, const std::vector<int8_t>& values, bool scalar = true) {
  const Dims dims = scalar ? Dims{} : Dims{static_cast<int64_t>(values.size())};
  return g.graph().AddConstant("zero", Tensor::FromVector<int8_t>(dims, values));
}

Tensor ZeroPointOf(const Graph& graph, const Node& node) { return graph.value(node.input(2)).constant; }

void ExpectUnsigned(const Graph& graph) {
  for (const Node& node : graph.nodes) {
    if (node.op != "QuantizeLinear") continue;
    EXPECT_EQ(graph.value(node.output(0)).dtype, DType::kUInt8);
  }
}

TEST(UnsignedActivations, ShiftsEveryReader) {
  TestGraph g;
  const ValueId x = g.Input("x", {2, 40}), scale = g.Scalar(0.01f);
  const ValueId q = g.Op("QuantizeLinear", {x, scale, Int8(g, {-100})});
  // The second reader sees the integers with another zero point and another scale: its own business.
  const ValueId a = g.Op("DequantizeLinear", {q, scale, Int8(g, {-100})});
  const ValueId b = g.Op("DequantizeLinear", {q, g.Scalar(0.03f), Int8(g, {127})});
  const ValueId c = g.Op("DequantizeLinear", {q, scale});
  Graph graph = g.Finish({g.Op("Neg", {a}), g.Op("Neg", {b}), g.Op("Neg", {c})});
  const Graph before = graph;
  EXPECT_EQ(Apply(MakeActivationsUnsigned, graph), 1);
  ExpectUnsigned(graph);
  EXPECT_EQ(ZeroPointOf(graph, *FindOnly(graph, "QuantizeLinear")).values<uint8_t>()[0], 28);
  std::vector<int> zeros;
  for (const Node& node : graph.nodes) {
    if (node.op == "DequantizeLinear") zeros.push_back(ZeroPointOf(graph, node).values<uint8_t>()[0]);
  }
  EXPECT_EQ(zeros, (std::vector<int>{28, 255, 128}));
  ExpectSameOutputs(before, graph, kExact);
  // And again: nothing is left.
  EXPECT_EQ(Apply(MakeActivationsUnsigned, graph), 0);
}

TEST(UnsignedActivations, ScalesPerSlice) {
  TestGraph g;
  const ValueId x = g.Input("x", {2, 3}), scales = g.Constant({3}, {0.01f, 0.02f, 0.03f});
  const ValueId zeros = Int8(g, {-128, 0, 127}, false);
  const ValueId q = g.Op("QuantizeLinear", {x, scales, zeros}, {{"axis", int64_t{-1}}});
  Graph graph = g.Finish({g.Op("Neg", {g.Op("DequantizeLinear", {q, scales, zeros}, {{"axis", int64_t{-1}}})})});
  const Graph before = graph;
  EXPECT_EQ(Apply(MakeActivationsUnsigned, graph), 1);
  const Tensor shifted = ZeroPointOf(graph, *FindOnly(graph, "QuantizeLinear"));
  EXPECT_EQ(shifted.dims(), Dims{3});
  EXPECT_EQ(shifted.values<uint8_t>()[0], 0);
  EXPECT_EQ(shifted.values<uint8_t>()[1], 128);
  EXPECT_EQ(shifted.values<uint8_t>()[2], 255);
  ExpectSameOutputs(before, graph, kExact);
}

TEST(UnsignedActivations, OutputTypeByAttribute) {
  TestGraph g(21);
  const ValueId x = g.Input("x", {2, 3});
  const ValueId q = g.Op("QuantizeLinear", {x, g.Scalar(0.02f)}, {{"output_dtype", int64_t{3}}});
  Graph graph = g.Finish({g.Op("Neg", {g.Op("DequantizeLinear", {q, g.Scalar(0.02f)})})});
  const Graph before = graph;
  EXPECT_EQ(Apply(MakeActivationsUnsigned, graph), 1);
  const Node* quantize = FindOnly(graph, "QuantizeLinear");
  EXPECT_EQ(quantize->attributes.count("output_dtype"), 0u);
  EXPECT_EQ(ZeroPointOf(graph, *quantize).values<uint8_t>()[0], 128);
  ExpectSameOutputs(before, graph, kExact);
}

TEST(UnsignedActivations, LeavesIntegersThatOthersSee) {
  const auto quantized = [](TestGraph& g) {
    return g.Op("QuantizeLinear", {g.Input("x", {2, 3}), g.Scalar(0.02f), Int8(g, {0})});
  };
  {
    TestGraph g;  // an output of the graph
    const ValueId q = quantized(g);
    Graph graph = g.Finish({q, g.Op("DequantizeLinear", {q, g.Scalar(0.02f)})});
    EXPECT_EQ(Apply(MakeActivationsUnsigned, graph), 0);
  }
  {
    TestGraph g;  // an op that computes on them
    const ValueId q = quantized(g);
    Graph graph = g.Finish({g.Op("Abs", {q}), g.Op("DequantizeLinear", {q, g.Scalar(0.02f)})});
    EXPECT_EQ(Apply(MakeActivationsUnsigned, graph), 0);
  }
  {
    TestGraph g;  // a reader whose scale is computed
    const ValueId q = quantized(g), y = g.Input("y", {});
    Graph graph = g.Finish({g.Op("DequantizeLinear", {q, y})});
    EXPECT_EQ(Apply(MakeActivationsUnsigned, graph), 0);
  }
}

TEST(UnsignedActivations, LeavesOtherTypes) {
  TestGraph g;
  const ValueId x = g.Input("x", {2, 3}), scale = g.Scalar(0.02f);
  const ValueId bytes = g.graph().AddConstant("z", Tensor::Scalar<uint8_t>(128));
  const ValueId words = g.graph().AddConstant("z", Tensor::Scalar<int16_t>(0));
  const ValueId a = g.Op("DequantizeLinear", {g.Op("QuantizeLinear", {x, scale, bytes}), scale, bytes});
  const ValueId b = g.Op("DequantizeLinear", {g.Op("QuantizeLinear", {x, scale, words}), scale, words});
  Graph graph = g.Finish({g.Op("Neg", {a}), g.Op("Neg", {b})});
  EXPECT_EQ(Apply(MakeActivationsUnsigned, graph), 0);
}

}  // namespace
}  // namespace octavo
