// From a cache and layers' precisions to Q/DQ, and back.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "octavo/tensorrt.h"
#include "quantize/quantize_testing.h"

namespace octavo {
namespace {

using testing::Contains;
using testing::HasSubstr;

class TensorRtExportTest : public testing::Test {
 protected:
  TensorRtExportTest() : prepared_(PrepareForQuantization(residual_.graph).value()) {
    policy_.target = "tensorrt";
    policy_.float_without_scale = true;
    const std::vector<std::string> tensors = QuantizableTensors(prepared_).value();
    float scale = 0.01f;
    for (const std::string& name : tensors) cache_.scales[name] = scale += 0.01f;
    conv_ = residual_.NodeName("Conv", 0);
  }

  LayerPlan Plan(const std::string& precisions, const std::string& version = "8.6.1") {
    LayerConstraints constraints;
    constraints.precisions = precisions;
    constraints.version = version;
    const auto plan = PlanLayers(residual_.graph, prepared_, constraints, policy_);
    EXPECT_TRUE(plan.ok()) << plan.status().message();
    return plan.ok() ? *plan : LayerPlan();
  }
  Recipe Decided() { return DecideFromCache(prepared_, cache_, policy_).value(); }
  Graph Exported() { return ApplyRecipe(prepared_, Decided()).value(); }

  ResidualGraph residual_;
  Graph prepared_;
  Policy policy_;
  CalibrationCache cache_;
  std::string conv_;
};

TEST_F(TensorRtExportTest, WhatHasNoScaleStaysFloat) {
  cache_.scales.erase(residual_.relu);
  const Recipe recipe = Decided();
  EXPECT_EQ(FindActivation(recipe, residual_.relu), nullptr);
  ASSERT_FALSE(recipe.float_nodes.empty());
  EXPECT_THAT(recipe.float_nodes[0].reason, HasSubstr("no scale of"));
  // Without its contraction the Add has nothing to join.
  EXPECT_EQ(FindActivation(recipe, "x", residual_.NodeName("Add", 0)), nullptr);
  policy_.float_without_scale = false;
  EXPECT_FALSE(DecideFromCache(prepared_, cache_, policy_).ok());
}

TEST_F(TensorRtExportTest, NamesThatMatchNothingAreReported) {
  EXPECT_THAT(Plan("gone:fp16").notes, Contains(HasSubstr("'gone' matches no node")));
  EXPECT_THAT(Plan("/neck/*:fp16").notes, Contains(HasSubstr("takes '*' alone")));
  EXPECT_THAT(Plan("a + b:fp16").notes, Contains(HasSubstr("fused layers")));
  EXPECT_THAT(Plan("Co*:fp16,*:fp32", "10.3").notes, Contains(HasSubstr("ask for different types")));
}

TEST_F(TensorRtExportTest, AHalfNodeIsAnIsland) {
  Plan(conv_ + ":fp16," + residual_.NodeName("Relu", 0) + ":fp16");
  const Graph graph = Exported();
  int halves = 0;
  for (const Node& node : graph.nodes) {
    if (node.op != "Conv" && node.op != "Relu") continue;
    if (graph.value(node.output(0)).dtype == DType::kFloat16) ++halves;
    for (const ValueId id : node.inputs) EXPECT_EQ(graph.value(id).dtype, graph.value(node.output(0)).dtype);
  }
  EXPECT_EQ(halves, 2);
  EXPECT_EQ(CountOps(graph, "Cast"), 2);  // x -> float16, Relu's result -> float32
}

TEST_F(TensorRtExportTest, TheRestIsHalfWhereAsked) {
  LayerConstraints constraints;
  constraints.half_rest = true;
  cache_.scales.erase(residual_.relu);
  const LayerPlan plan = PlanLayers(residual_.graph, prepared_, constraints, policy_).value();
  Recipe recipe = Decided();
  NarrowTheRest(plan, recipe);
  ASSERT_EQ(recipe.float_nodes.size(), 1u);
  EXPECT_EQ(recipe.float_nodes[0].precision, DType::kFloat16);
  EXPECT_TRUE(ApplyRecipe(prepared_, recipe).ok());
}

TEST_F(TensorRtExportTest, ImplicitAndBackIsTheSame) {
  Plan(conv_ + ":fp16");
  const Recipe recipe = Decided();
  const auto made = MakeImplicit(ApplyRecipe(prepared_, recipe).value(), "8.6.1");
  ASSERT_TRUE(made.ok()) << made.status().message();
  EXPECT_EQ(made->cache.header, "TRT-8601-EntropyCalibration2");
  EXPECT_THAT(made->line.layer_precisions, HasSubstr(conv_ + ":fp16"));
  EXPECT_TRUE(made->line.fp16);
  EXPECT_EQ(made->int8_layers, 2u);
  EXPECT_EQ(CountOps(made->model, "QuantizeLinear") + CountOps(made->model, "DequantizeLinear"), 0);
  EXPECT_EQ(CountOps(made->model, "Cast"), 0);
  for (const ActivationRecipe& entry : recipe.activations) {
    if (entry.consumers.front() == residual_.NodeName("Concat", 0)) continue;
    EXPECT_EQ(made->cache.scales.at(entry.tensor), entry.scale) << entry.tensor;
  }
  const Graph again = PrepareForQuantization(made->model).value();
  Policy policy;
  policy.target = "tensorrt";
  policy.float_without_scale = true;
  LayerConstraints constraints;
  constraints.precisions = made->line.layer_precisions;
  ASSERT_TRUE(PlanLayers(made->model, again, constraints, policy).ok());
  const Recipe second = DecideFromCache(again, made->cache, policy).value();
  EXPECT_EQ(second.weights.size(), recipe.weights.size());
  EXPECT_EQ(second.activations.size(), recipe.activations.size());
}

TEST_F(TensorRtExportTest, OutputTypesAreWritten) {
  const std::string relu = residual_.NodeName("Relu", 0), concat = residual_.NodeName("Concat", 0),
                    last = residual_.NodeName("Conv", 2);
  LayerConstraints constraints;
  constraints.output_types = concat + ":int8," + last + ":int8," + relu + ":fp16," + conv_ + ":fp32";
  ASSERT_TRUE(PlanLayers(residual_.graph, prepared_, constraints, policy_).ok());
  const Recipe recipe = Decided();
  size_t results = 0;
  for (const ActivationRecipe& entry : recipe.activations) {
    if (entry.result_of.empty()) continue;
    ++results;
    EXPECT_EQ(entry.result_of, concat);
    EXPECT_EQ(entry.scale, cache_.scales.at(residual_.concat));
    EXPECT_EQ(entry.dtype, DType::kInt8);
  }
  EXPECT_EQ(results, 1u);
  EXPECT_THAT(recipe.notes, Contains(HasSubstr("nobody but the caller reads it")));  // the model's output
  const auto graph = ApplyRecipe(prepared_, recipe);
  ASSERT_TRUE(graph.ok()) << graph.status().message();
  for (const Node& node : graph->nodes) {
    if (node.name == relu) {
      EXPECT_EQ(graph->value(node.output(0)).dtype, DType::kFloat16);
    }
    if (node.name == conv_) {
      EXPECT_EQ(graph->value(node.output(0)).dtype, DType::kFloat32);
    }
  }
  // Of a contraction in INT8 float16 is not written, and said so.
  constraints.output_types = conv_ + ":fp16";
  EXPECT_THAT(PlanLayers(residual_.graph, prepared_, constraints, policy_)->notes,
              Contains(HasSubstr("1 layer output types are not written")));
}

TEST_F(TensorRtExportTest, SaysWhatIsLost) {
  Recipe recipe = Decided();
  recipe.activations[0].dtype = DType::kUInt8;
  recipe.activations[0].zero_point = 100;
  recipe.weights[0].scales[0] *= 2;
  const auto made = MakeImplicit(ApplyRecipe(prepared_, recipe).value(), "10.3");
  ASSERT_TRUE(made.ok()) << made.status().message();
  EXPECT_THAT(made->lost, Contains(HasSubstr("zero point 100")));
  EXPECT_THAT(made->lost, Contains(HasSubstr("1 of 4 scales")));
  EXPECT_EQ(made->cache.header, "TRT-100300-EntropyCalibration2");
  // 155 scales above zero, as 127 new ones.
  EXPECT_EQ(made->cache.scales.at(recipe.activations[0].tensor), recipe.activations[0].scale * 155 / 127);
}

TEST_F(TensorRtExportTest, RenamesWhatNoListCanHold) {
  for (Node& node : prepared_.nodes) {
    if (node.name == conv_) node.name = "it's, *a*";
  }
  const Recipe recipe = DecideFromCache(prepared_, cache_, policy_).value();
  const auto made = MakeImplicit(ApplyRecipe(prepared_, recipe).value(), "10.3");
  ASSERT_TRUE(made.ok()) << made.status().message();
  EXPECT_THAT(made->line.layer_precisions, HasSubstr("it_s_ _a_:int8"));
  EXPECT_THAT(made->lost, Contains(HasSubstr("is now 'it_s_ _a_'")));
}

TEST_F(TensorRtExportTest, RefusesWhatIsNotQuantized) {
  EXPECT_FALSE(MakeImplicit(prepared_, "8.6.1").ok());
  EXPECT_FALSE(MakeImplicit(Exported(), "11.0").ok());
  EXPECT_FALSE(MakeImplicit(Exported(), "8").ok());
  EXPECT_FALSE(MakeImplicit(Exported(), "x").ok());
}

TEST_F(TensorRtExportTest, SaysWhichPrecisionIsExpected) {
  const auto layers = ExpectTensorRt(Exported());
  ASSERT_TRUE(layers.ok()) << layers.status().message();
  const auto of = [&](const std::string& op, int n) {
    for (const TensorRtLayer& layer : *layers) {
      if (layer.op == op && n-- == 0) return layer.precision;
    }
    return std::string("none");
  };
  EXPECT_EQ(of("Conv", 0), "INT8");
  EXPECT_EQ(of("Relu", 0), "INT8");
  EXPECT_EQ(of("Add", 0), "INT8");
  EXPECT_EQ(of("Concat", 0), "INT8");
  const auto plain = ExpectTensorRt(prepared_);
  for (const TensorRtLayer& layer : *plain) EXPECT_EQ(layer.precision, "FP32") << layer.node;
}

// Softmax(q . k) . v over `tokens`, with heads of size `head`.
size_t QuantizedProducts(int64_t tokens, int64_t head) {
  TestGraph g;
  const ValueId q = g.Input("q", {1, tokens, head}), k = g.Input("k", {1, head, tokens}),
                v = g.Input("v", {1, tokens, head});
  const ValueId p = g.Op("Softmax", {g.Op("Mul", {g.Op("MatMul", {q, k}), g.Scalar(0.1f)})}, {{"axis", int64_t{-1}}});
  const Graph prepared = PrepareForQuantization(g.Finish({g.Op("MatMul", {p, v})})).value();
  Policy policy;
  policy.target = "tensorrt";
  policy.quantize_attention = true;
  const Recipe recipe = Decide(prepared, UniformStats(prepared, -1.0f, 1.0f), policy).value();
  return 2 - recipe.float_nodes.size();
}

TEST(TensorRtAttention, IsQuantizedWhereItIsFused) {
  EXPECT_EQ(QuantizedProducts(512, 32), 2u);
  EXPECT_EQ(QuantizedProducts(513, 32), 0u);
  EXPECT_EQ(QuantizedProducts(64, 64), 2u);
  EXPECT_EQ(QuantizedProducts(64, 48), 0u);
}

}  // namespace
}  // namespace octavo
