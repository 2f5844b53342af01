// Rules about single Q and DQ nodes, their pairs and axes.
#include <cmath>
#include <limits>

#include "lint/lint_testing.h"

namespace octavo {
namespace {

using G = LintTestGraph;

// x -> Q -> DQ -> Conv -> Q -> DQ -> out, with this scale and type on the left.
std::function<void(G&)> WithScale(float scale) {
  return [=](G& g) { g.Done({g.Pair(g.Conv(g.Pair(g.Image(), scale)))}); };
}
std::function<void(G&)> WithType(DType dtype, int zero_point) {
  return [=](G& g) { g.Done({g.Pair(g.Conv(g.Pair(g.Image(), 0.5f, zero_point, dtype)))}); };
}

TEST(LintNodeRules, BrokenScales) {
  const float infinity = std::numeric_limits<float>::infinity();
  for (const std::string target : {"tensorrt", "onnxruntime", "openvino"}) {
    for (const float scale : {0.0f, -0.5f, infinity, -infinity, std::nanf("")}) {
      ExpectCase({.rule = "broken-scale", .bad = WithScale(scale), .near = WithScale(0x1p-60f), .target = target});
    }
    ExpectCase({.rule = "denormal-scale", .bad = WithScale(1e-42f), .near = WithScale(0x1p-126f), .target = target});
  }
}

TEST(LintNodeRules, OneBrokenScaleAmongMany) {
  const auto model = [](float scale) {
    return [=](G& g) {
      std::vector<float> scales(16, 0.01f);
      scales[3] = scale;
      const ValueId w =
          g.Op("DequantizeLinear", {g.Integers(DType::kInt8, {16, 16, 1, 1}, 1), g.Constant({16}, scales)},
               {{"axis", int64_t{0}}});
      g.Done({g.Pair(g.Op("Conv", {g.Pair(g.Image()), w}))});
    };
  };
  G g;
  model(0)(g);
  const auto findings = Lint(g.graph(), {});
  ASSERT_TRUE(findings.ok());
  ASSERT_FALSE(findings->empty());
  EXPECT_EQ((*findings)[0].rule, "broken-scale");
  EXPECT_NE((*findings)[0].why.find("slice 3"), std::string::npos) << (*findings)[0].why;
}

TEST(LintNodeRules, ComputedScales) {
  for (const std::string target : {"tensorrt", "openvino"}) {
    ExpectCase({.rule = "computed-scale",
                .bad =
                    [](G& g) {
                      const ValueId s = g.Op("Abs", {g.Input("s", {})}), z = g.Integers(DType::kInt8, {}, 0);
                      const ValueId q = g.Op("QuantizeLinear", {g.Image(), s, z});
                      g.Done({g.Pair(g.Conv(g.Op("DequantizeLinear", {q, s, z})))});
                    },
                .near = WithScale(0.25f),
                .target = target,
                .findings = 2});
  }
}

TEST(LintNodeRules, ZeroPointsAndTypes) {
  ExpectCase({.rule = "zero-point", .bad = WithType(DType::kInt8, 5), .near = WithType(DType::kInt8, 0)});
  ExpectCase({.rule = "uint8", .bad = WithType(DType::kUInt8, 0), .near = WithType(DType::kInt8, 0)});
  ExpectCase({.rule = "uint8", .bad = WithType(DType::kUInt8, 128), .near = WithType(DType::kInt8, 0)});
  // By ONNX a Q without a zero point makes uint8.
  ExpectCase({.rule = "uint8",
              .bad =
                  [](G& g) {
                    const ValueId s = g.Scalar(0.5f);
                    const ValueId q = g.Op("QuantizeLinear", {g.Image(), s});
                    g.Done({g.Pair(g.Conv(g.Op("DequantizeLinear", {q, s})))});
                  },
              .near = WithType(DType::kInt8, 0),
              .findings = 2});
  for (const std::string target : {"tensorrt", "onnxruntime", "openvino"}) {
    ExpectCase({.rule = "integer-type",
                .bad = [](G& g) { g.Done({g.Pair(g.Image(), 0.5f, 0, DType::kInt16)}); },
                .near = [](G& g) { g.Done({g.Pair(g.Image())}); },
                .target = target,
                .opset = 21});
  }
  for (const std::string target : {"onnxruntime", "openvino"}) {
    G g;
    WithType(DType::kUInt8, 7)(g);
    LintOptions options;
    options.target = target;
    EXPECT_EQ(RulesOf(g.graph(), options), std::vector<std::string>());
  }
}

// x -> Q/DQ with a scale per channel -> a convolution of `group` groups.
std::function<void(G&)> PerChannelActivation(int64_t group, float step = 0.01f) {
  return [=](G& g) {
    std::vector<float> scales;
    for (int i = 0; i < 16; ++i) scales.push_back(0.5f + step * static_cast<float>(i));
    const ValueId s = g.Constant({16}, scales), z = g.Integers(DType::kInt8, {16}, 0);
    const ValueId q = g.Op("QuantizeLinear", {g.Image(), s, z}, {{"axis", int64_t{1}}});
    const ValueId x = g.Op("DequantizeLinear", {q, s, z}, {{"axis", int64_t{1}}});
    g.Done({g.Pair(g.Op("Conv", {x, g.Weights({16, 16 / group, 1, 1})}, {{"group", group}}))});
  };
}

TEST(LintNodeRules, PerChannelActivations) {
  for (const std::string target : {"tensorrt", "onnxruntime", "openvino"}) {
    ExpectCase(
        {.rule = "per-channel-activation", .bad = PerChannelActivation(1), .near = WithScale(1), .target = target});
  }
  ExpectCase({.rule = "per-channel-activation",
              .bad = PerChannelActivation(1),
              .near = PerChannelActivation(1, 0),
              .target = "openvino"});
  // OpenVINO runs depthwise convolutions with them.
  ExpectCase({.rule = "per-channel-activation",
              .bad = PerChannelActivation(1),
              .near = PerChannelActivation(16),
              .target = "openvino"});
}

std::function<void(G&)> ConvWeights(int64_t axis) {
  return [=](G& g) { g.Done({g.Pair(g.Op("Conv", {g.Pair(g.Image()), g.Weights({16, 16, 1, 1}, axis)}))}); };
}
std::function<void(G&)> Product(const std::string& op, Dims dims, int64_t axis, int64_t trans_b = 0,
                                bool transposed = false) {
  return [=](G& g) {
    ValueId w = g.Weights(dims, axis);
    if (transposed) w = g.Op("Transpose", {w});
    TestGraph::Attributes attributes;
    if (trans_b != 0) attributes["transB"] = trans_b;
    g.Done({g.Pair(g.Op(op, {g.Pair(g.Input("x", {4, 16})), w}, attributes))});
  };
}

TEST(LintNodeRules, WeightAxes) {
  for (const std::string target : {"tensorrt", "onnxruntime", "openvino"}) {
    const auto expect = [&](std::function<void(G&)> bad, std::function<void(G&)> near) {
      ExpectCase({.rule = "weight-axis", .bad = std::move(bad), .near = std::move(near), .target = target});
    };
    expect(ConvWeights(1), ConvWeights(0));
    expect(Product("MatMul", {16, 32}, 0), Product("MatMul", {16, 32}, 1));
    expect(Product("Gemm", {16, 32}, 0), Product("Gemm", {16, 32}, 1));
    expect(Product("Gemm", {32, 16}, 1, 1), Product("Gemm", {32, 16}, 0, 1));
    expect(Product("MatMul", {32, 16}, 1, 0, true), Product("MatMul", {32, 16}, 0, 0, true));
    const auto deconvolution = [](int64_t axis) {
      return [=](G& g) { g.Done({g.Op("ConvTranspose", {g.Pair(g.Image()), g.Weights({16, 32, 2, 2}, axis)})}); };
    };
    if (target != "onnxruntime") expect(deconvolution(0), deconvolution(1));
  }
}

TEST(LintNodeRules, AxesThatAreNotWritten) {
  const auto model = [](TestGraph::Attributes attributes) {
    return [=](G& g) {
      g.Done({g.Pair(g.Op("MatMul", {g.Pair(g.Input("x", {4, 16})), g.Weights({16, 32}, 1, 32, attributes)}))});
    };
  };
  ExpectCase({.rule = "unwritten-axis", .bad = model({{"none", int64_t{0}}}), .near = model({{"axis", int64_t{1}}})});
}

TEST(LintNodeRules, PerChannelBeforeOpset13) {
  for (const std::string target : {"tensorrt", "onnxruntime", "openvino"}) {
    ExpectCase({.rule = "per-channel-opset",
                .bad = WithScale(1),
                .near = WithScale(1),
                .target = target,
                .opset = 12,
                .near_opset = 13});
  }
}

// ---- pairs ----

TEST(LintNodeRules, TwoPairsInARow) {
  const auto two = [](float scale, bool view) {
    return [=](G& g) {
      ValueId x = g.Pair(g.Image());
      if (view) x = g.Op("Transpose", {x}, {{"perm", std::vector<int64_t>{0, 1, 3, 2}}});
      g.Done({g.Pair(g.Conv(g.Pair(x, scale)))});
    };
  };
  for (const std::string target : {"tensorrt", "onnxruntime", "openvino"}) {
    ExpectCase({.rule = "redundant-pair", .bad = two(0.5f, false), .near = WithScale(0.5f), .target = target});
    ExpectCase({.rule = "double-quantization", .bad = two(0.25f, false), .near = WithScale(0.5f), .target = target});
    ExpectCase({.rule = "double-quantization", .bad = two(0.25f, true), .near = two(0.5f, true), .target = target});
  }
}

TEST(LintNodeRules, HalvesOfPairs) {
  for (const std::string target : {"tensorrt", "onnxruntime", "openvino"}) {
    ExpectCase({.rule = "q-without-dq",
                .bad = [](G& g) { g.Done({g.Quantize(g.Conv(g.Pair(g.Image())))}); },
                .near = WithScale(0.5f),
                .target = target});
    ExpectCase({.rule = "q-without-dq",
                .bad =
                    [](G& g) {
                      g.Done({g.Op("Cast", {g.Quantize(g.Image())}, {{"to", int64_t{1}}})});
                    },
                .near =
                    [](G& g) {
                      const ValueId q = g.Quantize(g.Image());
                      g.Done({g.Dequantize(g.Op("Transpose", {q}, {{"perm", std::vector<int64_t>{0, 2, 3, 1}}}))});
                    },
                .target = target});
    ExpectCase({.rule = "dq-without-q",
                .bad =
                    [](G& g) {
                      g.Done({g.Pair(g.Conv(g.Dequantize(g.Input("q", {1, 16, 8, 8}, DType::kInt8))))});
                    },
                .near = WithScale(0.5f),
                .target = target});
    const auto with_dead = [](bool dead) {
      return [=](G& g) {
        const ValueId x = g.Image();
        if (dead) g.Pair(x, 0.125f);
        g.Done({g.Pair(g.Conv(g.Pair(x)))});
      };
    };
    ExpectCase({.rule = "dead-qdq", .bad = with_dead(true), .near = with_dead(false), .target = target});
  }
}

}  // namespace
}  // namespace octavo
