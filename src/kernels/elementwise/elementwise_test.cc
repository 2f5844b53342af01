#include "kernels/elementwise/elementwise.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <functional>
#include <limits>
#include <random>

#include "graph/rounding.h"
#include "kernels/kernel_testing.h"

namespace octavo {
namespace {

constexpr float kUlp = 1.1920929e-7f;

struct UnaryCase {
  const char* op;
  const char* domain;
  std::map<std::string, Attribute> attributes;
  double relative, absolute;
  float low, high;
};

std::vector<UnaryCase> UnaryCases() {
  return {
      // Exact, or one rounding on both sides.
      {"Relu", "", {}, 0, 0, -4, 4},
      {"LeakyRelu", "", {{"alpha", 0.125f}}, 0, 0, -4, 4},
      {"Neg", "", {}, 0, 0, -4, 4},
      {"Abs", "", {}, 0, 0, -4, 4},
      {"Sqrt", "", {}, kUlp, 0, 0, 1e6f},
      {"Reciprocal", "", {}, kUlp, 0, -9, 9},
      // x/6 as a product and a multiply-add: two roundings of a sum below 1, times |x| <= 8.
      {"HardSwish", "", {}, 0, 8 * 2 * kUlp, -8, 8},
      {"HardSigmoid", "", {{"alpha", 0.3f}, {"beta", 0.4f}}, 0, 2 * kUlp, -8, 8},
      // 2 ulp of ours and 1 of libm's.
      {"Exp", "", {}, 3 * kUlp, 1e-44, -100, 80},
      // e^-x to 2 ulp, a sum and a quotient, on either side.
      {"Sigmoid", "", {}, 6 * kUlp, 1e-44, -30, 30},
      {"Silu", "octavo", {}, 6 * kUlp, 1e-44, -30, 30},
      // The product's rounding, of an argument up to 17, is that of the exponent: 17 half ulps on either side.
      {"Silu", "octavo", {{"alpha", 1.702f}}, (6 + 17) * kUlp, 1e-44, -10, 10},
      // Highway states 4 ulp; near 1 the logarithm's error is one of the argument's last bit.
      {"Log", "", {}, 5 * kUlp, kUlp, 1e-3f, 1e4f},
      {"Tanh", "", {}, 6 * kUlp, 0, -10, 10},
      // The rational approximation's 4e-7.
      {"Erf", "", {}, 0, 4e-7, -6, 6},
      // |x| / 2 <= 4 times erf's error of 4e-7.
      {"Gelu", "", {}, 2 * kUlp, 1.6e-6, -8, 8},
      // The generic kernel's 1 + tanh u cancels for negative x: |x| / 2 ulps absolute.
      {"Gelu", "", {{"approximate", std::string("tanh")}}, 8 * kUlp, 4 * kUlp, -8, 8},
  };
}

TEST(ElementwiseTest, UnaryOpsMatchTheGenericKernels) {
  ForEachIsa([] {
    for (const UnaryCase& c : UnaryCases()) {
      const Node node = NodeOf(c.op, c.attributes, c.domain);
      for (const Dims& dims :
           {Dims{1}, Dims{7}, Dims{17}, Dims{257}, Dims{40000}, Dims{2, 3, 5, 7}, Dims{1, 33, 4, 9}}) {
        TestOperand x = RandomTensor(DType::kFloat32, dims, Layout::kContiguous, 1, c.low, c.high);
        TestOperand y(DType::kFloat32, dims);
        const Status status = RunKernel(FindFastKernel(c.domain, c.op), node, 20, 2, {&x}, {&y});
        ASSERT_TRUE(status.ok()) << status.message();
        ExpectClose(y.Get(), RunGeneric(node, 20, {&x}, dims), c.relative, c.absolute, c.op + ToString(dims));
      }
    }
  });
}

TEST(ElementwiseTest, UnaryOpsTakeAnyLayoutAndMixOfTypes) {
  ForEachIsa([] {
    const Node node = NodeOf("Relu");
    for (const Dims& dims : {Dims{2, 3, 5, 7}, Dims{1, 33, 17, 40}, Dims{600}}) {
      for (const Layout from : kAllLayouts) {
        for (const Layout to : kAllLayouts) {
          for (const DType in : {DType::kFloat32, DType::kBFloat16}) {
            for (const DType out : {DType::kFloat32, DType::kBFloat16}) {
              TestOperand x = RandomTensor(in, dims, from, 2), y(out, dims, to);
              ASSERT_TRUE(RunKernel(BindFastUnary, node, 20, 2, {&x}, {&y}).ok());
              TestOperand expected(out, dims);
              expected.Set(RunGeneric(node, 20, {&x}, dims));
              // Relu is exact; rounding to bfloat16 is ours and the test's alike.
              ExpectClose(y.Get(), expected.Get(), 0, 0, ToString(dims));
            }
          }
        }
      }
    }
  });
}

TEST(ElementwiseTest, RoughFunctionsStayWithinTheirError) {
  Graph graph;
  const auto silu = [](double x) { return x / (1 + std::exp(-x)); };
  const auto gelu = [](double x) { return x / 2 * (1 + std::erf(x / std::sqrt(2.0))); };
  const Node silu_node = NodeOf("Silu", {}, "octavo"), gelu_node = NodeOf("Gelu");
  const std::vector<std::pair<const Node*, std::function<double(double)>>> functions = {{&silu_node, silu},
                                                                                        {&gelu_node, gelu}};
  std::vector<float> x = {0, -0.0f, 3e38f, -3e38f, 1e-40f, 88, -88, 120, -120};
  for (int i = -40000; i <= 40000; ++i) x.push_back(static_cast<float>(i) / 1000);
  ForEachIsa([&] {
    for (const auto& [node, exact] : functions) {
      const Result<RowFunction> rough = FindRoughRowFunction(graph, *node);
      ASSERT_TRUE(rough.ok());
      EXPECT_NE(rough->kind, RowFunction::Kind::kOther);
      std::vector<float> y(x.size());
      (*rough)(x.data(), y.data(), static_cast<int64_t>(x.size()));
      for (size_t i = 0; i < x.size(); ++i) {
        const double bound = double{kRoughError} * std::max(1.0, std::abs(double{x[i]}) / 10);
        ASSERT_NEAR(y[i], exact(x[i]), bound) << node->op << '(' << x[i] << ')';
      }
      float nan = std::numeric_limits<float>::quiet_NaN();
      (*rough)(&nan, &nan, 1);
      EXPECT_TRUE(std::isnan(nan)) << node->op;
    }
  });
}

TEST(ElementwiseTest, SpecialValuesStaySpecial) {
  const float inf = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
  const std::vector<float> values = {0,    -0.0f, inf,    -inf,  nan,    1e-40f, 100,
                                     -100, 3e38f, -3e38f, 88.8f, -87.5f, -103.9f};
  const Dims dims = {static_cast<int64_t>(values.size())};
  ForEachIsa([&] {
    for (const char* op :
         {"Relu", "Exp", "Sigmoid", "Tanh", "Erf", "Sqrt", "Log", "Reciprocal", "Abs", "HardSigmoid"}) {
      const Node node = NodeOf(op);
      TestOperand x(DType::kFloat32, dims), y(DType::kFloat32, dims);
      x.Set(values);
      ASSERT_TRUE(RunKernel(BindFastUnary, node, 20, 1, {&x}, {&y}).ok());
      // A subnormal's last bit is worth 1.4e-45; erf's rational form scales it up by 1e2 before it divides.
      ExpectClose(y.Get(), RunGeneric(node, 20, {&x}, dims), 8 * kUlp, 1.4e-43, op);
    }
  });
}

// Both sides round to nearest even, so that equal bits are asked for: ties, the ends of the range, subnormals.
TEST(ElementwiseTest, RoundToHasTheBitsOfACastThereAndBack) {
  const float inf = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
  std::vector<float> values = {0,           -0.0f,      inf,          -inf,           nan,
                               65504.0f,    65519.0f,   65520.0f,     -65520.0f,      3.4e38f,
                               -3.4e38f,    0x1p-14f,   0x1.fffp-15f, 0x1p-24f,       0x1p-25f,
                               0x1.8p-24f,  0x1.8p-25f, -0x1p-26f,    1.00048828125f, 1.00146484375f,
                               1.00390625f, 1.01171875f};
  std::mt19937 random(5);
  while (values.size() < 20000) {
    values.push_back(std::bit_cast<float>(static_cast<uint32_t>(random())));
    values.push_back(std::ldexp(std::bit_cast<float>(0x3f800000u | (static_cast<uint32_t>(random()) >> 9)),
                                static_cast<int>(random() % 48) - 28));
  }
  std::erase_if(values, [](float value) { return std::fpclassify(value) == FP_SUBNORMAL; });  // a session flushes them
  const Dims dims = {static_cast<int64_t>(values.size())};
  ForEachIsa([&] {
    for (const int64_t to : {kOnnxBFloat16, kOnnxFloat16}) {
      const Node node = NodeOf("RoundTo", {{"to", to}}, "octavo");
      TestOperand x(DType::kFloat32, dims), y(DType::kFloat32, dims);
      x.Set(values);
      ASSERT_TRUE(RunKernel(BindFastUnary, node, 20, 1, {&x}, {&y}).ok());
      const std::vector<float> expected = RunGeneric(node, 20, {&x}, dims), found = y.Get();
      for (size_t i = 0; i < values.size(); ++i) {
        if (std::isnan(expected[i])) {
          ASSERT_TRUE(std::isnan(found[i])) << values[i];
        } else {
          ASSERT_EQ(std::bit_cast<uint32_t>(expected[i]), std::bit_cast<uint32_t>(found[i])) << values[i] << " " << to;
        }
      }
    }
  });
}

TEST(ElementwiseTest, BinaryOpsBroadcastAnyWay) {
  const std::vector<std::pair<Dims, Dims>> shapes = {
      {{2, 5, 4, 6}, {2, 5, 4, 6}}, {{2, 5, 4, 6}, {5, 1, 1}}, {{2, 5, 4, 6}, {}}, {{2, 1, 1, 1}, {2, 5, 4, 6}},
      {{2, 5, 4, 6}, {1, 5, 1, 6}}, {{5, 1, 1}, {4, 6}},       {{1}, {257}},       {{}, {}},
      {{40000}, {40000}},           {{1, 1}, {1, 1}},          {{3, 700}, {3, 1}}, {{2, 33, 17, 9}, {33, 1, 1}},
  };
  ForEachIsa([&] {
    for (const char* op : {"Add", "Sub", "Mul", "Div", "Min", "Max"}) {
      const Node node = NodeOf(op);
      for (const auto& [left, right] : shapes) {
        Dims dims(std::max(left.size(), right.size()), 1);
        for (size_t d = 0; d < left.size(); ++d) dims[dims.size() - left.size() + d] = left[d];
        for (size_t d = 0; d < right.size(); ++d) {
          dims[dims.size() - right.size() + d] = std::max(dims[dims.size() - right.size() + d], right[d]);
        }
        for (const Layout layout : kAllLayouts) {
          TestOperand a = RandomTensor(DType::kFloat32, left, layout, 3);
          TestOperand b = RandomTensor(DType::kFloat32, right, Layout::kContiguous, 4, 1, 5);
          TestOperand y(DType::kFloat32, dims, layout == Layout::kSliced ? Layout::kChannelsLast : layout);
          ASSERT_TRUE(RunKernel(BindFastBinary, node, 20, 2, {&a, &b}, {&y}).ok());
          // One IEEE operation.
          ExpectClose(y.Get(), RunGeneric(node, 20, {&a, &b}, dims), 0, 0, op + ToString(left) + ToString(right));
        }
      }
    }
  });
}

TEST(ElementwiseTest, BinaryOpsMixTypes) {
  ForEachIsa([] {
    const Dims dims = {2, 33, 5, 7};
    for (const DType in : {DType::kFloat32, DType::kBFloat16}) {
      for (const DType out : {DType::kFloat32, DType::kBFloat16}) {
        TestOperand a = RandomTensor(DType::kBFloat16, dims, Layout::kChannelsLast, 5);
        TestOperand b = RandomTensor(in, {33, 1, 1}, Layout::kContiguous, 6);
        TestOperand y(out, dims, Layout::kChannelsLast), expected(out, dims);
        ASSERT_TRUE(RunKernel(BindFastBinary, NodeOf("Mul"), 20, 2, {&a, &b}, {&y}).ok());
        expected.Set(RunGeneric(NodeOf("Mul"), 20, {&a, &b}, dims));
        // One IEEE product, then the same rounding.
        ExpectClose(y.Get(), expected.Get(), 0, 0, "Mul");
      }
    }
  });
}

TEST(ElementwiseTest, MinAndMaxKeepNan) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  ForEachIsa([&] {
    for (const char* op : {"Min", "Max"}) {
      TestOperand a(DType::kFloat32, {3}), b(DType::kFloat32, {3}), y(DType::kFloat32, {3});
      a.Set({nan, 1, nan});
      b.Set({2, nan, nan});
      ASSERT_TRUE(RunKernel(BindFastBinary, NodeOf(op), 20, 1, {&a, &b}, {&y}).ok());
      for (const float value : y.Get()) EXPECT_TRUE(std::isnan(value)) << op;
    }
  });
}

TEST(ElementwiseTest, ClipReadsItsBoundsOnEveryRun) {
  ForEachIsa([] {
    TestOperand x = RandomTensor(DType::kFloat32, {257}, Layout::kContiguous, 7), y(DType::kFloat32, {257});
    TestOperand low(DType::kFloat32, {}), high(DType::kFloat32, {});
    low.Set({-1});
    high.Set({2});
    for (const auto& inputs : {std::vector{&x, &low, &high}, {&x, nullptr, &high}, {&x, &low}, {&x}}) {
      ASSERT_TRUE(RunKernel(BindFastClip, NodeOf("Clip"), 13, 1, inputs, {&y}).ok());
      ExpectClose(y.Get(), RunGeneric(NodeOf("Clip"), 13, inputs, {257}), 0, 0, "Clip");
    }
    const Node attributes = NodeOf("Clip", {{"min", -0.5f}, {"max", 0.5f}});
    ASSERT_TRUE(RunKernel(BindFastClip, attributes, 6, 1, {&x}, {&y}).ok());
    ExpectClose(y.Get(), RunGeneric(attributes, 6, {&x}, {257}), 0, 0, "Clip of opset 6");
  });
}

TEST(ElementwiseTest, PowTakesTheExponentsItKnows) {
  for (const float exponent : {2.0f, 0.5f, -0.5f, 3.0f}) {
    const Tensor constant = Tensor::Scalar(exponent);
    TestOperand x = RandomTensor(DType::kFloat32, {2, 33}, Layout::kContiguous, 8, 0.1f, 9);
    TestOperand e(DType::kFloat32, {}), y(DType::kFloat32, {2, 33});
    e.Set({exponent});
    e.operand.constant = &constant;
    const Status status = RunKernel(BindFastPow, NodeOf("Pow"), 15, 1, {&x, &e}, {&y});
    if (exponent == 3.0f) {
      EXPECT_EQ(status.code(), ErrorCode::kUnsupported);
      continue;
    }
    ASSERT_TRUE(status.ok()) << status.message();
    // A root and a quotient, each rounded, against libm's pow within 1 ulp.
    ExpectClose(y.Get(), RunGeneric(NodeOf("Pow"), 15, {&x, &e}, {2, 33}), 3 * kUlp, 0, "Pow");
  }
}

TEST(ElementwiseTest, OtherTypesAreUnsupported) {
  TestOperand x = RandomTensor(DType::kInt64, {4}, Layout::kContiguous, 9), y(DType::kInt64, {4});
  EXPECT_EQ(RunKernel(BindFastBinary, NodeOf("Add"), 14, 1, {&x, &x}, {&y}).code(), ErrorCode::kUnsupported);
  EXPECT_EQ(RunKernel(BindFastUnary, NodeOf("Neg"), 14, 1, {&x}, {&y}).code(), ErrorCode::kUnsupported);
}

TEST(ElementwiseTest, AUnaryRowMayBeComputedInPlace) {
  ForEachIsa([] {
    TestOperand x = RandomTensor(DType::kFloat32, {257}, Layout::kContiguous, 10);
    const std::vector<float> expected = RunGeneric(NodeOf("Exp"), 13, {&x}, {257});
    std::vector<Operand> operand = {x.operand};
    const Node node = NodeOf("Exp");
    auto kernel = BindFastUnary({node, 13, operand, operand, 1});
    ASSERT_TRUE(kernel.ok());
    const void* in[] = {x.data()};
    void* out[] = {x.data()};
    ASSERT_TRUE(kernel->run({in, out, nullptr}).ok());
    // 2 ulp of ours and 1 of libm's.
    ExpectClose(x.Get(), expected, 3 * kUlp, 0, "Exp in place");
  });
}

}  // namespace
}  // namespace octavo
