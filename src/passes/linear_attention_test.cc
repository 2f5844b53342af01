#include <gtest/gtest.h>

#include "passes/pass_test_graph.h"
#include "passes/rewrites.h"

namespace octavo {
namespace {

// Sums of 7 and of 4 products in another order: (7 + 4) * 2^-24 of the numerator's magnitudes; relu'd sums of signless
// terms do not cancel in the denominator. v's signs may cancel by up to 10.
constexpr double kTolerance = 1e-5;

struct Form {
  float ones = 1.0f;
  float epsilon = 1e-5f;
  std::vector<int64_t> pads{0, 0, 0, 0, 0, 0, 1, 0};
  std::vector<int64_t> numerator{0, -1}, denominator{-1, INT64_MAX};
  bool relu_key = true;
  bool quantized = false;  // Relu(q), Relu(k) and v
  bool shows_product = false;
};

Graph Build(const Form& form) {
  TestGraph g;
  const ValueId q = g.Input("q", {1, 2, 4, 7}), k = g.Input("k", {1, 2, 4, 7}), v = g.Input("v", {1, 2, 3, 7});
  const auto quantize = [&](ValueId x, float zero_point) {
    if (!form.quantized) return x;
    const ValueId scale = g.Scalar(0.01f);
    const ValueId zero = g.graph().AddConstant("z", Tensor::Scalar<uint8_t>(static_cast<uint8_t>(zero_point)));
    return g.Op("DequantizeLinear", {g.Op("QuantizeLinear", {x, scale, zero}), scale, zero});
  };
  const ValueId padded =
      g.Op("Pad", {quantize(v, 128), g.Ints(form.pads), g.Scalar(form.ones)}, {{"mode", std::string("constant")}});
  const ValueId key = quantize(form.relu_key ? g.Op("Relu", {k}) : g.Op("Abs", {k}), 0);
  const ValueId kt = g.Op("Transpose", {key}, {{"perm", std::vector<int64_t>{0, 1, 3, 2}}});
  const ValueId product = g.Op("MatMul", {g.Op("MatMul", {padded, kt}), quantize(g.Op("Relu", {q}), 0)});
  const auto slice = [&](const std::vector<int64_t>& range) {
    return g.Op("Slice", {product, g.Ints({range[0]}), g.Ints({range[1]}), g.Ints({2}), g.Ints({1})});
  };
  const ValueId numerator = slice(form.numerator);
  const ValueId denominator = g.Op("Add", {slice(form.denominator), g.Scalar(form.epsilon)});
  std::vector<ValueId> outputs{g.Op("Div", {numerator, denominator})};
  if (form.shows_product) outputs.push_back(product);
  return g.Finish(outputs);
}

TEST(LinearAttention, FusesTheExportedForm) {
  Graph graph = Build({});
  const Graph before = graph;
  EXPECT_EQ(Apply(RewriteLinearAttention, graph), 1);
  ASSERT_EQ(graph.nodes.size(), 1u);
  EXPECT_TRUE(graph.nodes[0].Is("LinearAttention", kOctavoDomain));
  EXPECT_FLOAT_EQ(graph.nodes[0].Float("epsilon", 0.0f), 1e-5f);
  EXPECT_EQ(graph.value(graph.nodes[0].input(2)).dims, (Dims{1, 2, 3, 7}));
  ExpectSameOutputs(before, graph, kTolerance);
}

TEST(LinearAttention, TakesQuantizedOperands) {
  Form form;
  form.quantized = true;
  Graph graph = Build(form);
  const Graph before = graph;
  EXPECT_EQ(Apply(RewriteLinearAttention, graph), 1);
  const Node* fused = FindOnly(graph, "LinearAttention", kOctavoDomain);
  ASSERT_NE(fused, nullptr);
  for (const ValueId input : fused->inputs) EXPECT_EQ(graph.node(graph.value(input).producer).op, "DequantizeLinear");
  ExpectSameOutputs(before, graph, kTolerance);
}

TEST(LinearAttention, LeavesNearMisses) {
  Form two;
  two.ones = 2.0f;
  Form above;
  above.pads = {0, 0, 1, 0, 0, 0, 0, 0};
  Form short_numerator;
  short_numerator.numerator = {1, -1};
  Form other_key;
  other_key.relu_key = false;
  Form quantized_key = other_key;
  quantized_key.quantized = true;
  Form shown;
  shown.shows_product = true;
  for (const Form& form : {two, above, short_numerator, other_key, quantized_key, shown}) {
    Graph graph = Build(form);
    const size_t nodes = graph.nodes.size();
    EXPECT_EQ(Apply(RewriteLinearAttention, graph), 0);
    EXPECT_EQ(graph.nodes.size(), nodes);
  }
}

}  // namespace
}  // namespace octavo
