// Linear attention under quantize_attention: 8-bit queries, keys and values, and a divisor that is never quantized.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kernels/kernel.h"
#include "octavo/compare.h"
#include "octavo/session.h"
#include "quantize/quantize_testing.h"

namespace octavo {
namespace {

using testing::HasSubstr;

constexpr int64_t kDepth = 8, kTokens = 64;

// As EfficientViT exports it. With `sum` the divisor is a product of its own instead of a row of the numerator's.
Graph LinearAttentionGraph(bool sum = false) {
  TestGraph g;
  const ValueId q = g.Input("q", {1, 2, kDepth, kTokens}), k = g.Input("k", {1, 2, kDepth, kTokens}),
                v = g.Input("v", {1, 2, kDepth, kTokens});
  const ValueId key = g.Op("Relu", {k}), query = g.Op("Relu", {q});
  const ValueId kt = g.Op("Transpose", {key}, {{"perm", std::vector<int64_t>{0, 1, 3, 2}}});
  if (sum) {
    const ValueId numerator = g.Op("MatMul", {g.Op("MatMul", {v, kt}), query});
    const ValueId sums = g.Op("ReduceSum", {kt, g.Ints({2})}, {{"keepdims", int64_t{1}}});
    return g.Finish({g.Op("Div", {numerator, g.Op("Add", {g.Op("MatMul", {sums, query}), g.Scalar(1e-5f)})})});
  }
  const ValueId padded = g.Op("Pad", {v, g.Ints({0, 0, 0, 0, 0, 0, 1, 0}), g.Scalar(1.0f)});
  const ValueId product = g.Op("MatMul", {g.Op("MatMul", {padded, kt}), query});
  const auto rows = [&](int64_t begin, int64_t end) {
    return g.Op("Slice", {product, g.Ints({begin}), g.Ints({end}), g.Ints({2}), g.Ints({1})});
  };
  const ValueId divisor = g.Op("Add", {rows(-1, INT64_MAX), g.Scalar(1e-5f)});
  return g.Finish({g.Op("Div", {rows(0, -1), divisor})});
}

// Keys are a hundred times larger in channel 0 than elsewhere, and every other token asks for channel 0 alone: the
// divisor spans a factor of 100.
std::map<std::string, Tensor> WideDivisor() {
  std::mt19937 random(5);
  std::uniform_real_distribution<float> uniform(0.5f, 1.0f);
  std::map<std::string, Tensor> inputs;
  for (const char* name : {"q", "k", "v"}) {
    std::vector<float> values;
    for (int64_t i = 0; i < 2 * kDepth * kTokens; ++i) {
      const int64_t channel = i / kTokens % kDepth, token = i % kTokens;
      float x = uniform(random);
      if (*name == 'k' && channel != 0) x *= 0.05f;
      if (*name == 'q' && (channel == 0) != (token % 2 == 0)) x = -x;
      if (*name == 'v') x = 3 * x - 2;
      values.push_back(x);
    }
    inputs[name] = Tensor::FromVector<float>({1, 2, kDepth, kTokens}, values);
  }
  return inputs;
}

// Ranges of every quantizable tensor over one sample.
Stats StatsOf(const Graph& prepared, const std::map<std::string, Tensor>& inputs) {
  Stats stats = UniformStats(prepared, 0, 0);
  SessionOptions options;
  options.threads = 1;
  for (const auto& [name, tensor] : stats.tensors) options.watched.push_back(name);
  options.watch = [&](size_t i, const TensorView& view) {
    TensorStats& tensor = stats.tensors.at(options.watched[i]);
    const auto* data = static_cast<const float*>(view.data);
    int64_t extent = 1;
    for (size_t d = 0; d < view.dims.size(); ++d) extent += (view.dims[d] - 1) * view.strides[d];
    for (int64_t k = 0; k < extent; ++k) {
      tensor.min = std::min(tensor.min, data[k]);
      tensor.max = std::max(tensor.max, data[k]);
    }
  };
  EXPECT_TRUE(Session::Create(prepared, options).value().Run(inputs).ok());
  return stats;
}

double SqnrOf(const Graph& prepared, const Policy& policy) {
  const auto inputs = WideDivisor();
  const Recipe recipe = Decide(prepared, StatsOf(prepared, inputs), policy).value();
  SessionOptions options;
  options.threads = 1;
  const auto expected = Session::Create(prepared, options).value().Run(inputs).value();
  const auto found = Session::Create(ApplyRecipe(prepared, recipe).value(), options).value().Run(inputs).value();
  return Compare(expected[0], found[0]).value().sqnr_db;
}

TEST(QuantizedLinearAttention, QuantizesWhatIsMultipliedAndNothingBehindIt) {
  const Graph prepared = PrepareForQuantization(LinearAttentionGraph()).value();
  Policy policy;
  policy.quantize_attention = true;
  const Recipe recipe = Decide(prepared, UniformStats(prepared, -1, 1), policy).value();
  ASSERT_EQ(recipe.activations.size(), 3u);
  int relus = 0;
  for (const ActivationRecipe& entry : recipe.activations) {
    EXPECT_THAT(entry.reason, HasSubstr("linear attention"));
    EXPECT_EQ(entry.consumers.size(), 1u);
    relus += entry.tensor.find("Relu") != std::string::npos ? 1 : 0;
  }
  EXPECT_EQ(relus, 2);
  EXPECT_NE(FindActivation(recipe, "v"), nullptr);  // not what the row of ones is added to
  EXPECT_TRUE(recipe.float_nodes.empty());
}

TEST(QuantizedLinearAttention, StaysFloatAsAWhole) {
  const Graph prepared = PrepareForQuantization(LinearAttentionGraph()).value();
  Policy policy;
  const Stats stats = UniformStats(prepared, -1, 1);
  EXPECT_TRUE(Decide(prepared, stats, policy).value().activations.empty());
  policy.quantize_attention = true;
  for (const Node& node : prepared.nodes) {
    if (node.op != "MatMul") continue;
    policy.keep_float = {node.name};
    const Recipe recipe = Decide(prepared, stats, policy).value();
    EXPECT_TRUE(recipe.activations.empty());
    EXPECT_EQ(recipe.float_nodes.size(), 2u);
  }
}

TEST(QuantizedLinearAttention, ADivisorOfAnotherFormStaysFloat) {
  const Graph prepared = PrepareForQuantization(LinearAttentionGraph(true)).value();
  Policy policy;
  policy.quantize_attention = true;
  const Recipe recipe = Decide(prepared, UniformStats(prepared, -1, 1), policy).value();
  ASSERT_EQ(recipe.float_nodes.size(), 1u);
  EXPECT_EQ(recipe.float_nodes[0].reason, "its result is a divisor");
}

// q, k and v lose at most half a step each, of 255: k's small channels are 0.025..0.05 of the range, 6 to 13 steps,
// so that a single k is off by at most 8 %, -22 dB; 64 keys are averaged, another 18 dB less. A quantized divisor
// would be off by half a step of its own range, which is 20 % to 50 % where it is 1/100 of the largest.
TEST(QuantizedLinearAttention, KeepsAWideDivisor) {
  const Graph prepared = PrepareForQuantization(LinearAttentionGraph()).value();
  Policy policy;
  policy.quantize_attention = true;
  EXPECT_GT(SqnrOf(prepared, policy), 35.0);
  Policy naive;
  naive.preset = "tensorrt8-implicit";
  EXPECT_LT(SqnrOf(prepared, naive), 20.0);
}

// On integers the engine adds nothing to what quantizing q, k and v costs. The reference, node by node, rounds KV, the
// numerator and the quotient to float32: 3 * 2^-24 where v cancels to a tenth is 115 dB.
TEST(QuantizedLinearAttention, TheEngineKeepsAWideDivisor) {
  const Graph prepared = PrepareForQuantization(LinearAttentionGraph()).value();
  const auto inputs = WideDivisor();
  Policy policy;
  policy.quantize_attention = true;
  const Graph quantized = ApplyRecipe(prepared, Decide(prepared, StatsOf(prepared, inputs), policy).value()).value();
  auto session = Session::Create(quantized, {});
  ASSERT_TRUE(session.ok()) << session.status().message();
  const auto found = session->Run(inputs).value();
  std::vector<Tensor> ordered;
  for (const ValueId input : quantized.inputs) ordered.push_back(inputs.at(quantized.value(input).name));
  const auto expected = EvaluateGraph(quantized, ordered).value();
  EXPECT_GT(Compare(expected[0], found[0]).value().sqnr_db, 115.0);
  EXPECT_EQ(session->plan().int8_macs, 2 * kDepth * kDepth * kTokens);
}

}  // namespace
}  // namespace octavo
