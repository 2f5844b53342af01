#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>

#include "octavo/onnx.h"
#include "octavo/quantize.h"
#include "passes/pass_test_graph.h"

namespace octavo {
namespace {

bool Holds(const std::vector<std::string>& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

// x -> Conv -> BatchNorm -> x * sigmoid(x) -> out.
struct SiluGraph {
  TestGraph builder{13};
  ValueId x, conv, normed, gate, out;
  Graph graph;
  SiluGraph() {
    x = builder.Input("x", {1, 2, 4, 4});
    conv = builder.Op("Conv", {x, builder.Random({3, 2, 1, 1})});
    normed = builder.Op("BatchNormalization", {conv, builder.Random({3}), builder.Random({3}), builder.Random({3}),
                                               builder.Random({3}, 0.5f, 1.0f)});
    gate = builder.Op("Sigmoid", {normed});
    out = builder.Op("Mul", {normed, gate});
    graph = builder.Finish({out});
  }
};

TEST(PrepareForQuantization, FoldsBatchNormAndKeepsStandardOps) {
  SiluGraph silu;
  const auto prepared = PrepareForQuantization(silu.graph);
  ASSERT_TRUE(prepared.ok()) << prepared.status().message();
  EXPECT_EQ(CountOps(*prepared, "BatchNormalization"), 0);
  EXPECT_EQ(CountOps(*prepared, "Conv"), 1);
  EXPECT_EQ(CountOps(*prepared, "Sigmoid"), 1);
  for (const Node& node : prepared->nodes) EXPECT_EQ(node.domain, "") << node.name;
  // One rounding of each product in the fold: 2 * 2^-24 relative to the largest value.
  ExpectSameOutputs(silu.graph, *prepared, 1e-6);
}

TEST(PrepareForQuantization, RefusesAQuantizedModel) {
  Graph graph;
  graph.source = "m.onnx";
  graph.opsets[""] = 13;
  const ValueId x = graph.AddValue("x", DType::kInt8, {4});
  graph.inputs = {x};
  const ValueId scale = graph.AddConstant("s", Tensor::Scalar<float>(1.0f));
  graph.outputs = {graph.AddValue("y")};
  graph.AddNode("dq", "", "DequantizeLinear", {x, scale}, graph.outputs);
  const auto prepared = PrepareForQuantization(graph);
  ASSERT_FALSE(prepared.ok());
  EXPECT_NE(prepared.status().message().find("quantized already"), std::string::npos) << prepared.status().message();
  EXPECT_NE(prepared.status().message().find("'dq'"), std::string::npos);
}

TEST(QuantizableTensors, LeavesOutTheInsidesOfWholePatterns) {
  SiluGraph silu;
  const Graph prepared = PrepareForQuantization(silu.graph).value();
  const auto names = QuantizableTensors(prepared);
  ASSERT_TRUE(names.ok());
  // x, what Conv makes (under BatchNorm's name or its own), out; not the gate.
  EXPECT_EQ(names->size(), 3u);
  EXPECT_TRUE(Holds(*names, "x"));
  EXPECT_TRUE(Holds(*names, silu.graph.value(silu.out).name));
  EXPECT_FALSE(Holds(*names, silu.graph.value(silu.gate).name));
}

TEST(ModelFingerprint, TellsWeightsShapesAndNamesApart) {
  const Graph a = PrepareForQuantization(SiluGraph().graph).value();
  const std::string print = ModelFingerprint(a);
  EXPECT_EQ(print.size(), 32u);
  EXPECT_EQ(ModelFingerprint(PrepareForQuantization(SiluGraph().graph).value()), print);
  Graph renamed = a;
  renamed.nodes.front().name += "_";
  EXPECT_NE(ModelFingerprint(renamed), print);
  Graph reweighted = a;
  for (Value& value : reweighted.values) {
    if (!value.is_constant() || value.constant.dtype() != DType::kFloat32) continue;
    value.constant = value.constant.Clone().value();
    value.constant.mutable_values<float>()[0] += 1.0f;
    break;
  }
  EXPECT_NE(ModelFingerprint(reweighted), print);
}

TEST(PrepareForQuantization, PreparesTheDemoEncoder) {
  const std::string path = std::string(OCTAVO_SOURCE_DIR) + "/models/efficientvit-sam-nano-encoder.onnx";
  if (!std::filesystem::exists(path)) GTEST_SKIP() << path << " is not there";
  const Graph prepared = PrepareForQuantization(LoadOnnx(path).value()).value();
  EXPECT_EQ(CountOps(prepared, "Conv"), 45);
  EXPECT_EQ(CountOps(prepared, "MatMul"), 4);
  EXPECT_EQ(CountOps(prepared, "Shape"), 0);
  const auto names = QuantizableTensors(prepared).value();
  // Not the nine steps of tanh-GELU, nor LayerNorm's.
  for (const Node& node : prepared.nodes) {
    if (node.op != "Tanh" && node.op != "Sqrt") continue;
    EXPECT_FALSE(Holds(names, prepared.value(node.output(0)).name)) << node.name;
  }
  for (const Node& node : prepared.nodes) {
    if (node.op == "Conv" || node.op == "MatMul") {
      EXPECT_TRUE(Holds(names, prepared.value(node.input(0)).name)) << node.name;
      EXPECT_TRUE(Holds(names, prepared.value(node.output(0)).name)) << node.name;
    }
  }
}

}  // namespace
}  // namespace octavo
