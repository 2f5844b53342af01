// Rules about contractions, sums, Concat, normalizations and attention.
#include "lint/lint_testing.h"

namespace octavo {
namespace {

using G = LintTestGraph;

TEST(LintLayerRules, FloatOperands) {
  const auto model = [](bool activation, bool weights) {
    return [=](G& g) {
      const ValueId x = g.Image();
      const ValueId w = weights ? g.Weights({16, 16, 1, 1}) : g.Random({16, 16, 1, 1});
      g.Done({g.Op("Sigmoid", {g.Op("Conv", {activation ? g.Pair(x) : x, w})})});
    };
  };
  for (const std::string target : {"tensorrt", "openvino"}) {
    ExpectCase({.rule = "float-operand", .bad = model(true, false), .near = model(true, true), .target = target});
    ExpectCase({.rule = "float-operand", .bad = model(false, true), .near = model(false, false), .target = target});
  }
  // ONNX Runtime multiplies floats with 8-bit weights in MatMul.
  const auto product = [](bool activation) {
    return [=](G& g) {
      const ValueId x = g.Input("x", {4, 16});
      g.Done({g.Op("MatMul", {activation ? g.Pair(x) : x, activation ? g.Random({16, 32}) : g.Weights({16, 32}, 1)})});
    };
  };
  ExpectCase({.rule = "float-operand", .bad = product(true), .near = product(false), .target = "onnxruntime"});
}

TEST(LintLayerRules, IntegerBiases) {
  const auto model = [](bool integer) {
    return [=](G& g) {
      const ValueId bias = integer
                               ? g.Op("DequantizeLinear", {g.Integers(DType::kInt32, {16}, 7), g.Filled({16}, 0.01f)},
                                      {{"axis", int64_t{0}}})
                               : g.Filled({16}, 0.07f);
      g.Done({g.Pair(g.Op("Conv", {g.Pair(g.Image()), g.Weights({16, 16, 1, 1}), bias}))});
    };
  };
  ExpectCase({.rule = "int32-bias", .bad = model(true), .near = model(false)});
}

TEST(LintLayerRules, OpsOnIntegers) {
  const auto near = [](G& g) { g.Done({g.Pair(g.Conv(g.Pair(g.Image())))}); };
  ExpectCase({.rule = "integer-op",
              .bad =
                  [](G& g) {
                    g.Done({g.Op("MatMulInteger",
                                 {g.Quantize(g.Input("x", {4, 16})), g.Integers(DType::kInt8, {16, 16}, 1)})});
                  },
              .near = near});
  ExpectCase({.rule = "integer-op",
              .bad =
                  [](G& g) {
                    g.Done({g.Op("ConvInteger", {g.Quantize(g.Image()), g.Integers(DType::kInt8, {16, 16, 1, 1}, 1)})});
                  },
              .near = near});
  ExpectCase({.rule = "integer-op",
              .bad =
                  [](G& g) {
                    const ValueId s = g.Scalar(0.5f), z = g.Integers(DType::kInt8, {}, 0);
                    const ValueId w = g.Integers(DType::kInt8, {16, 16, 1, 1}, 1);
                    g.Done({g.Dequantize(g.Op("QLinearConv", {g.Quantize(g.Image()), s, z, w, s, z, s, z}))});
                  },
              .near = near});
  ExpectCase(
      {.rule = "integer-op",
       .bad =
           [](G& g) {
             const ValueId s = g.Scalar(0.5f), z = g.Integers(DType::kInt8, {}, 0);
             const ValueId w = g.Integers(DType::kInt8, {16, 16}, 1);
             g.Done({g.Dequantize(g.Op("QLinearMatMul", {g.Quantize(g.Input("x", {4, 16})), s, z, w, s, z, s, z}))});
           },
       .near = near});
}

// x -> Q/DQ -> Conv -> `ops` -> Q/DQ in uint8 with this zero point.
std::function<void(G&)> ConvThen(std::vector<std::string> ops, int zero_point, bool quantized = true) {
  return [=](G& g) {
    ValueId y = g.Conv(g.Pair(g.Image()));
    for (const std::string& op : ops) y = g.Op(op, {y});
    g.Done({quantized ? g.Pair(y, 0.5f, zero_point, DType::kUInt8) : y});
  };
}

TEST(LintLayerRules, FloatResultsInOnnxRuntime) {
  ExpectCase(
      {.rule = "float-result", .bad = ConvThen({}, 0, false), .near = ConvThen({}, 128), .target = "onnxruntime"});
  ExpectCase({.rule = "float-result",
              .bad = ConvThen({"Sigmoid"}, 0),
              .near = ConvThen({"Relu"}, 0),
              .target = "onnxruntime"});
  // The Q's range begins below zero: the Relu is no part of it.
  ExpectCase(
      {.rule = "float-result", .bad = ConvThen({"Relu"}, 3), .near = ConvThen({"Relu"}, 0), .target = "onnxruntime"});
  // The Q moves back through what only moves elements.
  ExpectCase({.rule = "float-result",
              .bad = ConvThen({"Relu", "Flatten"}, 0),
              .near = ConvThen({"Relu", "Transpose", "Transpose"}, 0),
              .target = "onnxruntime"});
  const auto clipped = [](float low) {
    return [=](G& g) {
      const ValueId y = g.Op("Clip", {g.Conv(g.Pair(g.Image())), g.Scalar(low), g.Scalar(1000)});
      g.Done({g.Pair(y, 0.5f, 128, DType::kUInt8)});
    };
  };
  ExpectCase({.rule = "float-result", .bad = clipped(-1), .near = clipped(-64), .target = "onnxruntime"});
}

// What ONNX Runtime 1.32 was seen to fuse.
TEST(LintLayerRules, FloatResultsOfProductsInOnnxRuntime) {
  enum class Bias { kNone, kFloat, kInteger };
  const auto gemm = [](Bias bias, bool quantized, float beta = 1) {
    return [=](G& g) {
      std::vector<ValueId> inputs = {g.Pair(g.Input("x", {4, 16})), g.Weights({16, 16}, 1)};
      if (bias == Bias::kFloat) inputs.push_back(g.Random({16}));
      if (bias == Bias::kInteger) {
        inputs.push_back(g.Op("DequantizeLinear", {g.Integers(DType::kInt32, {16}, 7), g.Scalar(0.005f)}));
      }
      const ValueId y = g.Op("Gemm", inputs, {{"beta", beta}});
      g.Done({quantized ? g.Pair(y) : y});
    };
  };
  for (const auto& near : {gemm(Bias::kFloat, true), gemm(Bias::kNone, false), gemm(Bias::kInteger, false)}) {
    ExpectCase({.rule = "float-result", .bad = gemm(Bias::kFloat, false), .near = near, .target = "onnxruntime"});
  }
  ExpectCase({.rule = "float-result",
              .bad = gemm(Bias::kInteger, false, 0.5f),
              .near = gemm(Bias::kInteger, true),
              .target = "onnxruntime"});
  const auto matmul = [](Dims x, Dims bias, bool quantized = false) {
    return [=](G& g) {
      const ValueId y = g.Op("MatMul", {g.Pair(g.Input("x", x)), g.Weights({16, 16}, 1)});
      const ValueId sum = g.Op("Add", {g.Random(bias), y});
      g.Done({quantized ? g.Pair(sum) : sum});
    };
  };
  const auto expect = [&](const std::function<void(G&)>& bad, const std::function<void(G&)>& near) {
    ExpectCase({.rule = "float-result", .bad = bad, .near = near, .target = "onnxruntime"});
  };
  expect(matmul({4, 16}, {16}), matmul({4, 16}, {16}, true));
  expect(matmul({4, 16}, {1, 16}), matmul({4, 16}, {1}));
  expect(matmul({2, 4, 16}, {16}), matmul({2, 4, 16}, {1, 16}));
  expect(matmul({2, 4, 16}, {16}), matmul({-1, 4, 16}, {16}));
  const auto rectified = [](Dims x) {
    return [=](G& g) {
      const ValueId y = g.Op("MatMul", {g.Pair(g.Input("x", x)), g.Weights({16, 16}, 1)});
      g.Done({g.Pair(g.Op("Relu", {g.Op("Add", {y, g.Random({16})})}), 0.5f, 0, DType::kUInt8)});
    };
  };
  expect(rectified({2, 4, 16}), rectified({4, 16}));
}

TEST(LintLayerRules, SharedInt8InOnnxRuntime) {
  const auto model = [](DType dtype, bool input, bool result) {
    return [=](G& g) {
      const int zero_point = dtype == DType::kUInt8 ? 128 : 0;
      const ValueId x = g.Pair(g.Image(), 0.5f, zero_point, dtype);
      const ValueId y = g.Pair(g.Conv(x), 0.5f, zero_point, dtype);
      g.Done({g.Op("Tanh", {y})});
      if (input) g.graph().outputs.push_back(g.Op("Sigmoid", {x}));
      if (result) g.graph().outputs.push_back(g.Op("Sigmoid", {y}));
    };
  };
  for (const bool input : {false, true}) {
    ExpectCase({.rule = "shared-int8",
                .bad = model(DType::kInt8, input, !input),
                .near = model(DType::kUInt8, input, !input),
                .target = "onnxruntime"});
  }
  ExpectCase({.rule = "shared-int8",
              .bad = model(DType::kInt8, true, true),
              .near = model(DType::kInt8, false, false),
              .target = "onnxruntime"});
}

TEST(LintLayerRules, OpsWithoutInt8FormInOnnxRuntime) {
  const auto model = [](bool quantized) {
    return [=](G& g) {
      const ValueId x = g.Image();
      g.Done({g.Op("ConvTranspose",
                   {quantized ? g.Pair(x) : x, quantized ? g.Weights({16, 16, 2, 2}, 1) : g.Random({16, 16, 2, 2})})});
    };
  };
  ExpectCase({.rule = "no-int8-form", .bad = model(true), .near = model(false), .target = "onnxruntime"});
}

TEST(LintLayerRules, SizesOfProducts) {
  const auto product = [](int64_t k, int64_t n) {
    return [=](G& g) { g.Done({g.Op("MatMul", {g.Pair(g.Input("x", {4, k})), g.Weights({k, n}, 1)})}); };
  };
  ExpectCase({.rule = "small-gemm", .bad = product(8, 32), .near = product(16, 32)});
  ExpectCase({.rule = "small-gemm", .bad = product(32, 1), .near = product(32, 16)});
  ExpectCase({.rule = "unaligned-gemm", .bad = product(32, 24), .near = product(32, 48)});
  const auto pointwise = [](int64_t channels, int64_t side) {
    return [=](G& g) { g.Done({g.Op("Conv", {g.Pair(g.Image()), g.Weights({channels, 16, side, side})})}); };
  };
  // A 3x3 convolution is no plain product.
  ExpectCase({.rule = "small-gemm", .bad = pointwise(2, 1), .near = pointwise(2, 3)});
  ExpectCase({.rule = "unaligned-gemm", .bad = pointwise(20, 1), .near = pointwise(20, 3)});
}

TEST(LintLayerRules, SumsThatSaturate) {
  const auto model = [](DType activation, int weight) {
    return [=](G& g) {
      const ValueId x = g.Pair(g.Image(), 0.5f, activation == DType::kUInt8 ? 128 : 0, activation);
      const ValueId w = g.Op("DequantizeLinear", {g.Integers(DType::kInt8, {16, 16, 1, 1}, weight), g.Scalar(0.01f)});
      g.Done({g.Pair(g.Op("Conv", {x, w}))});
    };
  };
  ExpectCase({.rule = "saturating-sums",
              .bad = model(DType::kUInt8, 65),
              .near = model(DType::kUInt8, 64),
              .target = "onnxruntime"});
  ExpectCase({.rule = "saturating-sums",
              .bad = model(DType::kUInt8, -65),
              .near = model(DType::kInt8, -65),
              .target = "onnxruntime"});
}

TEST(LintLayerRules, SplitFusions) {
  const auto model = [](const std::string& op, bool pair_before) {
    return [=](G& g) {
      ValueId y = g.Conv(g.Pair(g.Image()));
      if (pair_before) y = g.Pair(y);
      std::vector<ValueId> inputs = {y};
      if (op == "BatchNormalization") {
        for (int i = 0; i < 4; ++i) inputs.push_back(g.Filled({16}, 1));
      }
      y = g.Op(op, inputs);
      g.Done({pair_before ? y : g.Pair(y)});
    };
  };
  for (const std::string op : {"Relu", "BatchNormalization", "LeakyRelu"}) {
    ExpectCase({.rule = "split-fusion", .bad = model(op, true), .near = model(op, false)});
  }
  ExpectCase({.rule = "split-fusion", .bad = model("Relu", true), .near = model("Sigmoid", true)});
}

TEST(LintLayerRules, QuantizedNormalizations) {
  const auto whole = [](bool quantized) {
    return [=](G& g) {
      const ValueId x = g.Input("x", {4, 16});
      g.Done({g.Op("LayerNormalization", {quantized ? g.Pair(x) : x, g.Filled({16}, 1), g.Filled({16}, 0)})});
    };
  };
  ExpectCase({.rule = "quantized-norm", .bad = whole(true), .near = whole(false)});
  const auto parts = [](bool subtracts) {
    return [=](G& g) {
      const ValueId x = g.Pair(g.Input("x", {4, 16}));
      const ValueId mean = g.Op("ReduceMean", {x}, {{"axes", std::vector<int64_t>{-1}}});
      g.Done({subtracts ? g.Op("Sub", {x, mean}) : mean});
    };
  };
  ExpectCase({.rule = "quantized-norm", .bad = parts(true), .near = parts(false)});
}

TEST(LintLayerRules, Residuals) {
  // Conv(x) + y, where either may have a pair.
  const auto sum = [](bool pair_on_conv, bool pair_on_skip) {
    return [=](G& g) {
      const ValueId made = g.Conv(g.Pair(g.Image())), skip = g.Image("y");
      g.Done({g.Op("Add", {pair_on_conv ? g.Pair(made) : made, pair_on_skip ? g.Pair(skip, 0.25f) : skip})});
    };
  };
  ExpectCase({.rule = "residual-float", .bad = sum(false, false), .near = sum(false, true)});
  ExpectCase({.rule = "residual-float", .bad = sum(true, false), .near = sum(false, true)});
  ExpectCase({.rule = "residual-split", .bad = sum(true, true), .near = sum(false, true)});
  // Of two contractions the later one takes the Add in.
  const auto two = [](bool pair_on_first) {
    return [=](G& g) {
      const ValueId x = g.Pair(g.Image());
      const ValueId first = g.Conv(x), second = g.Conv(x);
      g.Done({g.Op("Add", {pair_on_first ? g.Pair(first, 0.25f) : first, second})});
    };
  };
  ExpectCase({.rule = "residual-float", .bad = two(false), .near = [](G& g) {
                const ValueId x = g.Pair(g.Image());
                g.Done({g.Op("Add", {g.Pair(g.Op("Sigmoid", {g.Conv(x)}), 0.25f), g.Conv(x)})});
              }});
  // x + c x^3 of GELU is no skip connection.
  ExpectCase({.rule = "residual-float", .bad = sum(false, false), .near = [](G& g) {
                const ValueId x = g.Conv(g.Pair(g.Image()));
                g.Done({g.Op("Add", {x, g.Op("Mul", {x, g.Op("Mul", {x, x})})})});
              }});
}

TEST(LintLayerRules, ConcatScales) {
  const auto model = [](float first, float second, float result) {
    return [=](G& g) {
      const ValueId c =
          g.Op("Concat", {g.Pair(g.Image("x"), first), g.Pair(g.Image("y"), second)}, {{"axis", int64_t{1}}});
      g.Done({result > 0 ? g.Pair(c, result) : c});
    };
  };
  ExpectCase({.rule = "concat-scales", .bad = model(0.5f, 0.25f, 0.5f), .near = model(0.5f, 0.5f, 0.5f)});
  ExpectCase({.rule = "concat-scales", .bad = model(0.5f, 0.5f, 0.25f), .near = model(0.5f, 0.25f, 0)});
}

struct Heads {
  int64_t tokens = 64, channels = 32;
  bool on_scores = false, on_first = true, on_probabilities = true, on_result = true, on_second = true;
};

std::function<void(G&)> Attention(Heads heads) {
  return [=](G& g) {
    const auto pair = [&](bool wanted, ValueId x, float scale) { return wanted ? g.Pair(x, scale) : x; };
    const Dims dims = {1, 2, heads.tokens, heads.channels};
    const ValueId q = g.Input("q", dims), k = g.Input("k", {1, 2, heads.channels, heads.tokens}),
                  v = g.Input("v", dims);
    ValueId scores = g.Op("MatMul", {pair(heads.on_first, q, 0.5f), pair(heads.on_first, k, 0.5f)});
    scores = g.Op("Mul", {scores, g.Scalar(0.125f)});
    const ValueId softmax = g.Op("Softmax", {pair(heads.on_scores, scores, 0.25f)}, {{"axis", int64_t{-1}}});
    const ValueId result =
        g.Op("MatMul", {pair(heads.on_probabilities, softmax, 1 / 128.0f), pair(heads.on_second, v, 0.5f)});
    const ValueId tokens = g.Op("Transpose", {result}, {{"perm", std::vector<int64_t>{0, 2, 1, 3}}});
    g.Done({pair(heads.on_result, tokens, 0.5f)});
  };
}

TEST(LintLayerRules, Attention) {
  ExpectCase({.rule = "softmax-input", .bad = Attention({.on_scores = true}), .near = Attention({})});
  for (const Heads& heads : {Heads{.on_first = false}, Heads{.on_result = false}}) {
    ExpectCase({.rule = "attention-pairs", .bad = Attention(heads), .near = Attention({})});
  }
  ExpectCase({.rule = "attention-pairs",
              .bad = Attention({.on_probabilities = false, .on_second = false}),
              .near = Attention({.on_first = false, .on_probabilities = false, .on_second = false})});
  ExpectCase({.rule = "attention-limits", .bad = Attention({.tokens = 1024}), .near = Attention({.tokens = 512})});
  ExpectCase({.rule = "attention-limits", .bad = Attention({.channels = 48}), .near = Attention({.channels = 64})});
  // In float it has no such limits.
  ExpectCase({.rule = "attention-limits",
              .bad = Attention({.tokens = 4096}),
              .near = Attention({.tokens = 4096, .on_first = false, .on_probabilities = false, .on_second = false})});
}

}  // namespace
}  // namespace octavo
