// FixLint: what it mends is gone, and the model computes the same bits.
#include <gmock/gmock.h>

#include <cstring>

#include "lint/lint_testing.h"

namespace octavo {
namespace {

using G = LintTestGraph;

std::vector<Tensor> Outputs(Graph graph) {
  const Status bound = BindShapes(graph, {});
  EXPECT_TRUE(bound.ok()) << bound.message();
  auto outputs = EvaluateGraph(graph, RandomInputs(graph));
  EXPECT_TRUE(outputs.ok()) << outputs.status().message();
  return outputs.ok() ? *std::move(outputs) : std::vector<Tensor>();
}

// Mends `rule`, `count` times, and leaves every bit of the outputs.
Graph ExpectFixed(const std::function<void(G&)>& build, const std::string& rule, size_t count,
                  const std::string& target = "tensorrt", int64_t opset = 17) {
  SCOPED_TRACE(rule);
  G g(opset);
  build(g);
  LintOptions options;
  options.target = target;
  const Graph before = g.graph();
  Graph after = before;
  const auto fixed = FixLint(after, options);
  EXPECT_TRUE(fixed.ok()) << fixed.status().message();
  size_t found = 0;
  if (fixed.ok()) {
    for (const LintFinding& finding : *fixed) found += finding.rule == rule ? 1 : 0;
  }
  EXPECT_EQ(found, count);
  EXPECT_THAT(RulesOf(after, options), testing::Not(testing::Contains(rule)));
  const auto expected = Outputs(before), outputs = Outputs(after);
  EXPECT_EQ(expected.size(), outputs.size());
  for (size_t i = 0; i < std::min(expected.size(), outputs.size()); ++i) {
    EXPECT_EQ(expected[i].dims(), outputs[i].dims());
    EXPECT_EQ(std::memcmp(expected[i].data(), outputs[i].data(), expected[i].bytes()), 0);
    EXPECT_EQ(before.value(before.outputs[i]).name, after.value(after.outputs[i]).name);
  }
  if (count == 0) return after;
  // With the rule off nothing of it is touched.
  Graph untouched = before;
  options.disabled = {rule};
  EXPECT_TRUE(FixLint(untouched, options).ok());
  options.disabled.clear();
  EXPECT_THAT(RulesOf(untouched, options), testing::Contains(rule));
  return after;
}

TEST(FixLint, RemovesPairsThatRepeat) {
  const auto chain = [](G& g) {
    ValueId x = g.Image();
    for (int i = 0; i < 4; ++i) x = g.Pair(x);
    g.Done({g.Conv(x)});
  };
  const Graph after = ExpectFixed(chain, "redundant-pair", 3);
  EXPECT_EQ(CountOps(after, "QuantizeLinear"), 1);
  EXPECT_EQ(CountOps(after, "DequantizeLinear"), 2);  // and that of the weights
  // The pair in the middle has another reader, and the last one is an output.
  ExpectFixed(
      [](G& g) {
        const ValueId first = g.Pair(g.Image()), second = g.Pair(first);
        g.Done({g.Op("Sigmoid", {first}), second, g.Conv(second)});
      },
      "redundant-pair", 1, "onnxruntime");
}

TEST(FixLint, RemovesWhatNobodyReads) {
  const Graph after = ExpectFixed(
      [](G& g) {
        const ValueId x = g.Image();
        g.Pair(x, 0.125f);
        g.Quantize(x, 0.25f);
        g.Done({g.Conv(g.Pair(x))});
      },
      "dead-qdq", 2, "openvino");
  EXPECT_EQ(CountOps(after, "QuantizeLinear"), 1);
}

TEST(FixLint, MovesUnsignedTensors) {
  const Graph after = ExpectFixed(
      [](G& g) {
        const ValueId s = g.Scalar(0.05f), z = g.Integers(DType::kUInt8, {}, 128);
        const ValueId q = g.Op("QuantizeLinear", {g.Image(), s, z});
        const ValueId a = g.Op("DequantizeLinear", {q, s, z}), b = g.Op("DequantizeLinear", {q, s, z});
        g.Done({g.Conv(a), g.Op("Sigmoid", {b})});
      },
      "uint8", 1);
  for (const Value& value : after.values) EXPECT_NE(value.dtype, DType::kUInt8) << value.name;
  // 127 is no middle: the range would move. Nor where integers are read as they are.
  ExpectFixed([](G& g) { g.Done({g.Conv(g.Pair(g.Image(), 0.05f, 127, DType::kUInt8))}); }, "none", 0);
  ExpectFixed(
      [](G& g) {
        const ValueId q = g.Quantize(g.Image(), 0.05f, 128, DType::kUInt8);
        g.Done({g.Dequantize(q, 0.05f, 128, DType::kUInt8), q});
      },
      "none", 0);
}

std::function<void(G&)> Constants(DType dtype, int value, int zero_point) {
  return [=](G& g) {
    const ValueId w =
        g.Op("DequantizeLinear",
             {g.Integers(dtype, {16, 16, 1, 1}, value), g.Filled({16}, 0.01f), g.Integers(dtype, {16}, zero_point)},
             {{"axis", int64_t{0}}});
    g.Done({g.Op("Conv", {g.Pair(g.Image()), w})});
  };
}

TEST(FixLint, MovesConstantsThatFit) {
  ExpectFixed(Constants(DType::kUInt8, 200, 128), "uint8", 1);
  ExpectFixed(Constants(DType::kUInt8, 100, 0), "uint8", 1);
  ExpectFixed(Constants(DType::kInt8, 100, 3), "zero-point", 1);
  G g;
  Constants(DType::kUInt8, 200, 0)(g);
  Graph wide = g.graph();
  EXPECT_TRUE(FixLint(wide)->empty());
  EXPECT_THAT(RulesOf(wide, {}), testing::ElementsAre("uint8"));
}

TEST(FixLint, MakesBiasesFloat) {
  for (const bool per_channel : {false, true}) {
    const Graph after = ExpectFixed(
        [=](G& g) {
          const Dims dims = per_channel ? Dims{16} : Dims{};
          const ValueId bias =
              g.Op("DequantizeLinear", {g.Integers(DType::kInt32, {16}, 123456789), g.Filled(dims, 0.00371f)},
                   {{"axis", int64_t{0}}});
          g.Done({g.Op("Conv", {g.Pair(g.Image()), g.Weights({16, 16, 1, 1}), bias})});
        },
        "int32-bias", 1);
    EXPECT_EQ(CountOps(after, "DequantizeLinear"), 2);
  }
}

TEST(FixLint, WritesTheAxisThatOnnxTakes) {
  ExpectFixed(
      [](G& g) {
        g.Done({g.Op("MatMul", {g.Pair(g.Input("x", {4, 16})), g.Weights({16, 32}, 1, 32, {{"none", int64_t{0}}})})});
      },
      "unwritten-axis", 1);
}

TEST(FixLint, SetsAnAxisThatOnlyFitsElsewhere) {
  G g;
  g.Done({g.Op("Conv", {g.Pair(g.Image()), g.Weights({32, 16, 1, 1}, 1, 32)})});
  Graph graph = g.graph();
  const auto fixed = FixLint(graph);
  ASSERT_TRUE(fixed.ok()) << fixed.status().message();
  EXPECT_THAT(RulesOf(graph, {}), testing::IsEmpty());
  EXPECT_TRUE(BindShapes(graph, {}).ok());
  // As many slices along both: what is meant cannot be known.
  G square;
  square.Done({square.Op("Conv", {square.Pair(square.Image()), square.Weights({16, 16, 1, 1}, 1)})});
  Graph same = square.graph();
  EXPECT_TRUE(FixLint(same)->empty());
}

TEST(FixLint, RaisesTheOpset) {
  const Graph after = ExpectFixed(
      [](G& g) {
        g.Done({g.Op("Squeeze", {g.Conv(g.Pair(g.Image()))}, {{"axes", std::vector<int64_t>{0}}})});
      },
      "per-channel-opset", 1, "tensorrt", 12);
  EXPECT_EQ(after.opset(), 13);
}

}  // namespace
}  // namespace octavo
