#include "engine/canonical.h"

#include <gtest/gtest.h>

#include <cmath>

#include "engine/quantized_graph_testing.h"
#include "graph/rounding.h"
#include "octavo/reference.h"
#include "passes/pass_test_graph.h"

namespace octavo {
namespace {

float ToHalf(float x) { return RoundTo(DType::kFloat16, x); }

std::vector<Tensor> RunEngine(const Graph& graph, const std::vector<Tensor>& inputs, Precision precision) {
  SessionOptions options;
  options.threads = 1;
  options.precision = precision;
  auto session = Session::Create(graph, options);
  EXPECT_TRUE(session.ok()) << session.status().message();
  auto outputs = session->Run(inputs);
  EXPECT_TRUE(outputs.ok()) << outputs.status().message();
  return outputs.ok() ? *std::move(outputs) : std::vector<Tensor>();
}

std::vector<Tensor> RunPlainly(const Graph& graph, const std::vector<Tensor>& inputs) {
  std::map<std::string, Tensor> by_name;
  for (size_t i = 0; i < inputs.size(); ++i) by_name[graph.value(graph.inputs[i]).name] = inputs[i];
  auto outputs = RunReference(graph, by_name, Precision::kFloat16);
  EXPECT_TRUE(outputs.ok()) << outputs.status().message();
  return outputs.ok() ? *std::move(outputs) : std::vector<Tensor>();
}

Graph Rounded(Graph graph) {
  EXPECT_TRUE(MakeCanonical(graph, {}, Precision::kFloat16).ok());
  return graph;
}

// ReLU linear attention as EfficientViT exports it, on 16 tokens.
ValueId LinearAttention(TestGraph& g, ValueId q, ValueId k, ValueId v) {
  const ValueId keys = g.Op("Transpose", {g.Op("Relu", {k})}, {{"perm", std::vector<int64_t>{0, 1, 3, 2}}});
  const ValueId padded = g.Op("Pad", {v, g.Ints({0, 0, 0, 0, 0, 0, 1, 0}), g.Scalar(1)});
  const ValueId product = g.Op("MatMul", {g.Op("MatMul", {padded, keys}), g.Op("Relu", {q})});
  const ValueId numerator = g.Op("Slice", {product, g.Ints({0}), g.Ints({-1}), g.Ints({2})});
  const ValueId divisor = g.Op("Slice", {product, g.Ints({-1}), g.Ints({100}), g.Ints({2})});
  return g.Op("Div", {numerator, g.Op("Add", {divisor, g.Scalar(1e-6f)})});
}

Graph Block() {
  TestGraph g;
  const ValueId x = g.Input("x", {1, 8, 6, 6});
  const ValueId conv =
      g.Op("Conv", {x, g.Random({8, 8, 3, 3}), g.Random({8})}, {{"pads", std::vector<int64_t>{1, 1, 1, 1}}});
  const ValueId wide = g.Op("Relu", {conv});
  const ValueId tokens = g.Op("Reshape", {wide, g.Ints({1, 2, 4, 36})});
  const ValueId attention = LinearAttention(g, tokens, tokens, tokens);
  const ValueId square = g.Op("Reshape", {attention, g.Ints({1, 8, 36})});
  const ValueId rows = g.Op("Transpose", {square}, {{"perm", std::vector<int64_t>{0, 2, 1}}});
  const ValueId product = g.Op("Add", {g.Op("MatMul", {rows, g.Random({8, 4})}), g.Random({4})});
  return g.Finish({g.Op("Softmax", {product}, {{"axis", int64_t{-1}}}), product});
}

TEST(HalfPrecisionTest, TheEngineComputesWhatTheReferenceDoes) {
  const Graph graph = Block();
  const std::vector<Tensor> inputs = RandomInputs(graph);
  const auto found = RunEngine(graph, inputs, Precision::kFloat16), expected = RunPlainly(graph, inputs);
  ASSERT_EQ(found.size(), expected.size());
  for (size_t i = 0; i < found.size(); ++i) {
    for (size_t k = 0; k < static_cast<size_t>(found[i].size()); ++k) {
      const float value = found[i].values<float>()[k];
      EXPECT_EQ(value, ToHalf(value));
      // Sums in another order may round to the next half in each of some ten roundings in a row: 2^-11 each.
      EXPECT_NEAR(value, expected[i].values<float>()[k], 10 * 0x1p-11f * std::max(1.0f, std::abs(value)));
    }
  }
}

TEST(HalfPrecisionTest, RoundsOncePerValueAndBehindRelu) {
  TestGraph g;
  const ValueId x = g.Input("x", {1, 4, 6, 6});
  const ValueId conv = g.Op("Conv", {x, g.Random({4, 4, 1, 1})});
  const ValueId relu = g.Op("Relu", {conv});
  const ValueId flat = g.Op("Reshape", {relu, g.Ints({1, 4, 36})});
  const ValueId biased = g.Op("Add", {g.Op("MatMul", {flat, g.Random({36, 5})}), g.Random({5})});
  const Graph rounded = Rounded(g.Finish({biased}));
  EXPECT_EQ(CountOps(rounded, "RoundTo", "octavo"), 3);  // x, behind Relu, behind the bias
  const Node* relu_node = FindOnly(rounded, "Relu");
  ASSERT_NE(relu_node, nullptr);
  EXPECT_TRUE(rounded.node(rounded.value(relu_node->input(0)).producer).Is("Conv"));
  for (const Value& value : rounded.values) {
    if (!value.is_constant() || value.dtype != DType::kFloat32) continue;
    for (const float w : value.constant.values<float>()) EXPECT_EQ(w, ToHalf(w));
  }
}

TEST(HalfPrecisionTest, ConstantsThatAreNoOperandsStay) {
  TestGraph g;
  const ValueId x = g.Input("x", {1, 1, 3, 3});
  const ValueId scales = g.Constant({4}, {1, 1, 2.33337f, 2.33337f});
  const Graph graph = g.Finish({g.Op("Resize", {x, kNoValue, scales}, {{"mode", std::string("linear")}})});
  const Graph rounded = Rounded(graph);
  const Node* resize = FindOnly(rounded, "Resize");
  ASSERT_NE(resize, nullptr);
  EXPECT_EQ(rounded.value(resize->input(2)).constant.values<float>()[3], 2.33337f);
}

TEST(HalfPrecisionTest, SumsInsideOfLinearAttentionOverflow) {
  TestGraph g;
  const ValueId q = g.Input("q", {1, 1, 4, 64}), k = g.Input("k", {1, 1, 4, 64}), v = g.Input("v", {1, 1, 4, 64});
  const Graph graph = g.Finish({LinearAttention(g, q, k, v)});
  // 64 keys of 100 times values of 100: sums of 640,000.
  const auto filled = [](float value) {
    return Tensor::FromVector<float>({1, 1, 4, 64}, std::vector<float>(256, value));
  };
  const std::vector<Tensor> inputs = {filled(1), filled(100), filled(100)};
  EXPECT_NEAR(RunEngine(graph, inputs, Precision::kFloat32)[0].values<float>()[0], 100, 0.01);
  EXPECT_FALSE(std::isfinite(RunEngine(graph, inputs, Precision::kFloat16)[0].values<float>()[0]));
  EXPECT_FALSE(std::isfinite(RunPlainly(graph, inputs)[0].values<float>()[0]));
}

TEST(HalfPrecisionTest, IntegersBetweenQuantizersStayExact) {
  QuantizedGraph b({1, 16, 9, 9});
  const ValueId first = b.Op("Relu", {b.Op("Conv", {b.Fake(b.x), b.Weights({24, 16, 3, 3}, 0)})});
  const ValueId second = b.Op("Conv", {b.Fake(first, 0.05f), b.Weights({16, 24, 1, 1}, 0)});
  b.graph.outputs = {b.Fake(second, 0.25f), second};
  ASSERT_TRUE(BindShapes(b.graph, {}).ok());
  const std::vector<Tensor> inputs = {b.Normal({1, 16, 9, 9})};
  const auto half = RunEngine(b.graph, inputs, Precision::kFloat16);
  const auto whole = RunEngine(b.graph, inputs, Precision::kFloat32);
  for (size_t i = 0; i < 2; ++i) {
    for (size_t k = 0; k < static_cast<size_t>(whole[i].size()); ++k) {
      ASSERT_EQ(half[i].values<float>()[k], ToHalf(whole[i].values<float>()[k])) << i << " " << k;
    }
  }
}

TEST(HalfPrecisionTest, NodesThatAreKeptHandEachOtherFloat32) {
  TestGraph g;
  const ValueId x = g.Input("x", {1, 1, 2, 2});
  const ValueId large = g.Op("Mul", {x, g.Scalar(1e6f)});
  const ValueId turned = g.Op("Transpose", {large}, {{"perm", std::vector<int64_t>{0, 1, 3, 2}}});
  const Graph graph = g.Finish({g.Op("Mul", {turned, g.Scalar(1e-6f)}), g.Op("Tanh", {turned})});
  const Tensor input = Tensor::FromVector<float>({1, 1, 2, 2}, {0.5f, 0.25f, -2, 1});
  SessionOptions options;
  options.precision = Precision::kFloat16;
  options.float32_nodes = {"no such node"};
  EXPECT_EQ(Session::Create(graph, options).status().code(), ErrorCode::kNotFound);
  options.float32_nodes.clear();
  for (const Node& node : graph.nodes) {
    if (!node.Is("Tanh")) options.float32_nodes.push_back(node.name);
  }
  const auto outputs = Session::Create(graph, options)->Run(std::vector<Tensor>{input});
  ASSERT_TRUE(outputs.ok()) << outputs.status().message();
  // Two constants and two products, each rounded to float32.
  EXPECT_NEAR((*outputs)[0].values<float>()[1], -2, 2 * 4 * 0x1p-24f);
  // Tanh reads an infinity.
  EXPECT_EQ((*outputs)[1].values<float>()[1], -1);
}

TEST(HalfPrecisionTest, ObservedValuesAreRoundedToo) {
  const Graph graph = Block();
  SessionOptions options;
  options.precision = Precision::kFloat16;
  for (const Node& node : graph.nodes) options.observed.push_back(graph.value(node.output(0)).name);
  auto session = Session::Create(graph, options);
  ASSERT_TRUE(session.ok()) << session.status().message();
  const auto outputs = session->Run(RandomInputs(graph));
  ASSERT_TRUE(outputs.ok()) << outputs.status().message();
  for (const Tensor& tensor : *outputs) {
    for (const float value : tensor.values<float>()) ASSERT_EQ(value, ToHalf(value));
  }
}

}  // namespace
}  // namespace octavo
