#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <limits>

#include "engine/bfloat16_attention.h"
#include "engine/bfloat16_gelu_product.h"
#include "kernels/attention/attention_rows.h"
#include "kernels/elementwise/gelu_rows.h"
#include "kernels/kernel_testing.h"

namespace octavo {
namespace {

double Gelu(double x, bool tanh) {
  constexpr double kSqrt2OverPi = 0.79788456080286535588;
  return 0.5 * x * (1 + (tanh ? std::tanh(kSqrt2OverPi * (x + 0.044715 * x * x * x)) : std::erf(x / std::sqrt(2.0))));
}

TEST(GeluRowTest, StaysWithinItsBound) {
  std::vector<float> x, bias;
  for (int i = -60000; i <= 60000; ++i) x.push_back(static_cast<float>(i) / 5000);
  for (const float large : {100.0f, -100.0f, 3e38f, -3e38f, std::numeric_limits<float>::infinity()}) x.push_back(large);
  for (size_t i = 0; i < x.size(); ++i) bias.push_back(static_cast<float>(i % 5) * 0.25f);
  ForEachIsa([&] {
    for (const bool with_bias : {false, true}) {
      const bool tanh = with_bias;
      // A row whose end is no whole vector.
      std::vector<uint16_t> y(x.size());
      ChooseGeluRow(tanh)(x.data(), with_bias ? bias.data() : nullptr, y.data(), x.size());
      for (size_t i = 0; i < x.size(); ++i) {
        const float sum = x[i] + (with_bias ? bias[i] : 0.0f);
        const double expected = Gelu(sum, tanh), found = BFloat16ToFloat(y[i]);
        if (std::isinf(expected)) {
          EXPECT_EQ(found, expected);
          continue;
        }
        // The header's bound, then half a step of bfloat16's 8 bits.
        const double bound = std::max(5e-5, 5e-6 * std::abs(static_cast<double>(sum)));
        EXPECT_LE(std::abs(found - expected), bound + (std::abs(expected) + bound) * 0x1p-8) << sum;
      }
    }
    const float nan = std::numeric_limits<float>::quiet_NaN();
    uint16_t y = 0;
    ChooseGeluRow(false)(&nan, nullptr, &y, 1);
    EXPECT_TRUE(std::isnan(BFloat16ToFloat(y)));
  });
}

// Rows of 33 keys padded to 64: the padding has no share, whatever the scores, the mask and the scale are.
TEST(AttentionRowsTest, SumsOverTheKeysAlone) {
  constexpr int64_t kKeys = 33, kPadded = 64;
  constexpr float kLowest = std::numeric_limits<float>::lowest();
  std::vector<float> mask(kKeys, kLowest), some = mask;
  some[7] = 0;
  struct Case {
    float score, scale;
    const std::vector<float>* mask;
    double sum;
  };
  for (const Case& c : {Case{1.5f, 0.25f, nullptr, kKeys},
                        {-1.5f, -0.25f, nullptr, kKeys},
                        {1.5f, 0.25f, &mask, kKeys},
                        {1.5f, 0.25f, &some, 1},
                        {1.5f, 0, nullptr, kKeys},
                        {1.5f, 1e-39f, nullptr, kKeys},
                        {kLowest, 1, nullptr, kKeys},
                        {-kLowest, 1, nullptr, kKeys}}) {
    SCOPED_TRACE(testing::Message() << c.score << " * " << c.scale << (c.mask ? " + mask" : ""));
    ForEachIsa([&] {
      std::vector<float> scores(kPadded, c.score);
      std::vector<uint16_t> shares(kPadded, 0xFFFF);
      const float sum = ChooseAttentionRows().exponentiate(scores.data(), kKeys, kPadded, c.scale,
                                                           c.mask ? c.mask->data() : nullptr, shares.data());
      // Each term is within 2^-13 of itself, and their sum in float within another 33 * 2^-24 = 2^-18.9.
      EXPECT_NEAR(sum, c.sum, c.sum * (0x1p-13 + 0x1p-18));
      // 2^-125 and next to it.
      for (size_t i = kKeys; i < kPadded; ++i) EXPECT_LT(BFloat16ToFloat(shares[i]), 1e-37f);
    });
  }
}

TEST(AttentionRowsTest, ANaNMakesTheSumNaN) {
  constexpr float kNaN = std::numeric_limits<float>::quiet_NaN(), kInfinity = std::numeric_limits<float>::infinity();
  ForEachIsa([&] {
    for (const float odd : {kNaN, -kNaN, kInfinity}) {
      for (const size_t at : {0u, 5u, 32u}) {
        for (const float scale : {0.125f, -0.125f}) {
          if (odd * scale < 0) continue;  // e^-infinity
          std::vector<float> scores(64, 1.0f);
          std::vector<uint16_t> shares(64);
          scores[at] = odd;
          const float sum = ChooseAttentionRows().exponentiate(scores.data(), 33, 64, scale, nullptr, shares.data());
          EXPECT_TRUE(std::isnan(sum)) << odd << " at " << at;
          EXPECT_TRUE(std::isnan(BFloat16ToFloat(shares[at]))) << odd << " at " << at;
        }
      }
    }
  });
}

class BFloat16KernelsTest : public testing::Test {
 protected:
  void SetUp() override {
    if (!OneDnnHasBFloat16()) GTEST_SKIP() << "no bfloat16 on this CPU";
  }
  PackedWeights cache_;
  OneDnnBuilder onednn_{cache_};
};

TEST_F(BFloat16KernelsTest, GeluProductMatchesDoubles) {
  struct Case {
    int64_t m, k, n;
    bool transposed, biased;
  };
  for (const Case& c : {Case{1, 3, 5, false, true},
                        {257, 96, 384, true, true},
                        {100, 64, 2048, false, false},
                        {16, 33, 130, true, false},
                        {1000, 32, 64, false, true}}) {
    for (const int threads : {1, 2, 3}) {
      const bool tanh = threads == 2;
      const Node gelu = NodeOf("Gelu", {{"approximate", std::string(tanh ? "tanh" : "none")}});
      SCOPED_TRACE(testing::Message() << c.m << 'x' << c.k << 'x' << c.n << ", " << threads << " threads");
      TestOperand x = RandomTensor(DType::kBFloat16, {c.m, c.k}, Layout::kContiguous, 1);
      TestOperand w =
          RandomTensor(DType::kBFloat16, c.transposed ? Dims{c.n, c.k} : Dims{c.k, c.n}, Layout::kContiguous, 2);
      const std::vector<float> bias = RandomValues({c.n}, 3, -1, 1), xs = x.Get(), ws = w.Get();
      LinearSpec spec;
      spec.m = c.m;
      spec.k = c.k;
      spec.n = c.n;
      spec.src_dtype = spec.dst_dtype = spec.weights_dtype = DType::kBFloat16;
      spec.weights = Tensor::FromVector<float>(w.operand.dims, ws);
      spec.weights_transposed = c.transposed;
      if (c.biased) spec.bias = Tensor::FromVector<float>({c.n}, bias);
      spec.post_ops.push_back({PostOpSpec::Kind::kUnary, &gelu});
      ASSERT_TRUE(IsBFloat16GeluProduct(spec));
      auto built = BindBFloat16GeluProduct(onednn_, spec, threads);
      ASSERT_TRUE(built.ok()) << built.status().message();
      TestOperand y = RandomTensor(DType::kBFloat16, {c.m, c.n}, Layout::kContiguous, 4);
      const auto bind = [&](const BindContext&) -> Result<BoundKernel> { return built->kernel; };
      ASSERT_TRUE(RunKernel(bind, gelu, 20, threads, {&x}, {&y}).ok());
      std::vector<float> expected;
      for (int64_t i = 0; i < c.m; ++i) {
        for (int64_t j = 0; j < c.n; ++j) {
          double sum = c.biased ? static_cast<double>(bias[static_cast<size_t>(j)]) : 0;
          for (int64_t p = 0; p < c.k; ++p) {
            sum += static_cast<double>(xs[static_cast<size_t>(i * c.k + p)]) *
                   static_cast<double>(ws[static_cast<size_t>(c.transposed ? j * c.k + p : p * c.n + j)]);
          }
          expected.push_back(static_cast<float>(Gelu(sum, tanh)));
        }
      }
      // GELU's own 5e-5 and float sums of up to 96 products below 4 (96 * 4 * 2^-24 = 2.3e-5, times GELU's slope of up
      // to 1.13).
      ExpectClose(y.Get(), expected, kBFloat16Rounding, 8e-5, "GELU");
    }
  }
}

TEST_F(BFloat16KernelsTest, AttentionMatchesTheGenericKernel) {
  struct Case {
    int64_t batch, heads, queries, keys, depth, width;
    bool heads_inside;  // tokens outside of heads
  };
  for (const Case& c : {Case{1, 2, 257, 257, 64, 64, true},
                        {2, 3, 130, 100, 96, 80, false},
                        {1, 1, 1100, 64, 32, 33, false},
                        {1, 1, 300, 2000, 16, 16, true}}) {
    for (const int threads : {1, 2, 3}) {
      SCOPED_TRACE(testing::Message() << c.queries << " queries, " << c.keys << " keys, " << threads << " threads");
      const auto heads = [&](int64_t tokens, int64_t channels, uint32_t seed) {
        TestOperand operand =
            RandomTensor(DType::kBFloat16, {c.batch, c.heads, tokens, channels}, Layout::kContiguous, seed);
        if (c.heads_inside) {
          operand.operand.strides = {c.heads * tokens * channels, channels, c.heads * channels, 1};
          operand.Set(RandomValues(operand.operand.dims, seed, -1.5f, 1.5f));
        }
        return operand;
      };
      TestOperand q = heads(c.queries, c.depth, 1), k = heads(c.keys, c.depth, 2), v = heads(c.keys, c.width, 3),
                  y = heads(c.queries, c.width, 4);
      TestOperand mask = RandomTensor(DType::kFloat32, {c.queries, c.keys}, Layout::kContiguous, 5);
      const auto bind = [&](const BindContext& context) { return BindBFloat16Attention(onednn_, context); };
      const double depth = static_cast<double>(c.depth);
      for (const float scale : {static_cast<float>(1 / std::sqrt(depth)), static_cast<float>(-1 / std::sqrt(depth))}) {
        const Node node = NodeOf("Attention", {{"scale", scale}}, "octavo");
        for (const auto& inputs : {std::vector{&q, &k, &v}, {&q, &k, &v, &mask}}) {
          const Status status = RunKernel(bind, node, 1, threads, inputs, {&y});
          ASSERT_TRUE(status.ok()) << status.message();
          // Each share is off by up to 2^-8 (rounded to 8 bits) and 2^-12 (2^t and its sum) of itself, the shares add
          // up to 1 and values reach 1.5.
          ExpectClose(y.Get(), RunGeneric(node, 1, inputs, y.operand.dims), kBFloat16Rounding, 1.5 * (0x1p-8 + 0x1p-12),
                      "attention");
        }
      }
    }
  }
}

TEST_F(BFloat16KernelsTest, AttentionLeavesSmallProductsToOthers) {
  TestOperand q = RandomTensor(DType::kBFloat16, {1, 1, 49, 32}, Layout::kContiguous, 1);
  const auto bind = [&](const BindContext& context) { return BindBFloat16Attention(onednn_, context); };
  EXPECT_EQ(RunKernel(bind, NodeOf("Attention", {}, "octavo"), 1, 1, {&q, &q, &q}, {&q}).code(),
            ErrorCode::kUnsupported);
}

TEST_F(BFloat16KernelsTest, LeavesEmptyProductsToOthers) {
  for (const auto& [m, k, n] : {std::array<int64_t, 3>{0, 8, 8}, {8, 0, 8}, {8, 8, 0}}) {
    EXPECT_EQ(onednn_.Product({DType::kBFloat16, m, k, n, n, 1, 1}).status().code(), ErrorCode::kUnsupported);
    const Node gelu = NodeOf("Gelu");
    LinearSpec spec;
    spec.m = m;
    spec.k = k;
    spec.n = n;
    spec.src_dtype = spec.dst_dtype = spec.weights_dtype = DType::kBFloat16;
    spec.weights = Tensor::FromVector<float>({k, n}, std::vector<float>(static_cast<size_t>(k * n)));
    spec.post_ops.push_back({PostOpSpec::Kind::kUnary, &gelu});
    EXPECT_EQ(BindBFloat16GeluProduct(onednn_, spec, 2).status().code(), ErrorCode::kUnsupported);
  }
  // Without channels every key has the same share.
  const Node node = NodeOf("Attention", {}, "octavo");
  const auto operand = [](int64_t rows, int64_t columns) {
    return Operand{true, DType::kBFloat16, {1, rows, columns}, {rows * columns, columns, 1}, nullptr};
  };
  const std::vector<Operand> inputs = {operand(1024, 0), operand(1024, 0), operand(1024, 64)};
  const std::vector<Operand> outputs = {operand(1024, 64)};
  const BindContext context{node, 1, inputs, outputs, 2};
  EXPECT_EQ(BindBFloat16Attention(onednn_, context).status().code(), ErrorCode::kUnsupported);
}

TEST_F(BFloat16KernelsTest, GuardedAttentionOfMaskedRowsIsZero) {
  const int64_t tokens = 256;
  TestOperand q = RandomTensor(DType::kBFloat16, {1, 1, tokens, 32}, Layout::kContiguous, 1), y = q;
  TestOperand mask = RandomTensor(DType::kFloat32, {tokens, tokens}, Layout::kContiguous, 2);
  std::vector<float> values(static_cast<size_t>(tokens * tokens), 0.0f);
  std::fill_n(values.begin(), tokens, -std::numeric_limits<float>::infinity());
  mask.Set(values);
  const auto bind = [&](const BindContext& context) { return BindBFloat16Attention(onednn_, context); };
  const Node node = NodeOf("Attention", {{"guarded", int64_t{1}}}, "octavo");
  ASSERT_TRUE(RunKernel(bind, node, 1, 2, {&q, &q, &q, &mask}, {&y}).ok());
  const std::vector<float> found = y.Get();
  for (size_t i = 0; i < 32; ++i) EXPECT_EQ(found[i], 0.0f);
  for (size_t i = 32; i < found.size(); ++i) EXPECT_TRUE(std::isfinite(found[i])) << i;
}

}  // namespace
}  // namespace octavo
