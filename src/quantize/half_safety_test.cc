#include "octavo/half_safety.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <optional>
#include <random>

#include "base/test_files.h"
#include "octavo/calibrate.h"
#include "octavo/npy.h"
#include "octavo/session.h"
#include "passes/pass_test_graph.h"

namespace octavo {
namespace {

using testing::Contains;
using testing::HasSubstr;
using testing::IsEmpty;

class HalfSafetyTest : public testing::Test {
 protected:
  // x (1, 12, 8, 8) -> 1x1 convolution to q, k, v of 4 channels -> linear attention -> 1x1 convolution.
  void BuildAttention(float query, float key, float value, float epsilon, float query_bias = 0) {
    const ValueId x = builder_.Input("x", {1, 12, 8, 8});
    std::vector<float> weights, bias(12, 0.0f);
    std::uniform_real_distribution<float> uniform(-1, 1);
    for (int row = 0; row < 12; ++row) {
      const float scale = row < 4 ? query : row < 8 ? key : value;
      for (int column = 0; column < 12; ++column) weights.push_back(scale * uniform(random_));
      if (row < 4) bias[static_cast<size_t>(row)] = query_bias;
    }
    const ValueId qkv =
        builder_.Op("Conv", {x, builder_.Constant({12, 12, 1, 1}, weights), builder_.Constant({12}, bias)});
    const ValueId tokens = builder_.Op("Reshape", {qkv, builder_.Ints({1, 1, 12, 64})});
    const auto parts = builder_.Ops("Split", {tokens, builder_.Ints({4, 4, 4})}, 3, {{"axis", int64_t{2}}});
    const ValueId keys =
        builder_.Op("Transpose", {builder_.Op("Relu", {parts[1]})}, {{"perm", std::vector<int64_t>{0, 1, 3, 2}}});
    const ValueId padded = builder_.Op("Pad", {parts[2], builder_.Ints({0, 0, 0, 0, 0, 0, 1, 0}), builder_.Scalar(1)});
    const ValueId product =
        builder_.Op("MatMul", {builder_.Op("MatMul", {padded, keys}), builder_.Op("Relu", {parts[0]})});
    const auto rows = builder_.Ops("Split", {product, builder_.Ints({4, 1})}, 2, {{"axis", int64_t{2}}});
    const ValueId divisor = builder_.Op("Add", {rows[1], builder_.Scalar(epsilon)});
    const ValueId square =
        builder_.Op("Reshape", {builder_.Op("Div", {rows[0], divisor}), builder_.Ints({1, 4, 8, 8})});
    Finish(builder_.Op("Conv", {square, builder_.Random({6, 4, 1, 1})}), {1, 12, 8, 8});
  }

  void Finish(ValueId output, const Dims& dims) {
    prepared_ = PrepareForQuantization(builder_.Finish({output})).value();
    std::uniform_real_distribution<float> uniform(-1, 1);
    for (int i = 0; i < 3; ++i) {
      std::vector<float> values(static_cast<size_t>(ElementCount(dims)));
      for (float& value : values) value = uniform(random_);
      sample_ = Tensor::FromVector<float>(dims, values);
      ASSERT_TRUE(SaveNpz(folder_ / (std::to_string(i) + ".npz"), {{"x", sample_}}).ok());
    }
    const auto data = Dataset::Open(folder_.path(), {prepared_.value(prepared_.inputs[0])}, {});
    ASSERT_TRUE(data.ok()) << data.status().message();
    CalibrateOptions options;
    options.threads = 1;
    options.tensors = HalfTensors(prepared_).value();
    const auto report = Calibrate(prepared_, *data, options);
    ASSERT_TRUE(report.ok()) << report.status().message();
    stats_ = report->stats;
  }

  void Analyze() {
    auto safety = AnalyzeHalfSafety(prepared_, stats_);
    ASSERT_TRUE(safety.ok()) << safety.status().message();
    safety_ = *std::move(safety);
    auto rewritten = RewriteByRecipe(prepared_, safety_.recipe);
    ASSERT_TRUE(rewritten.ok()) << rewritten.status().message();
    rewritten_ = *std::move(rewritten);
  }

  Tensor Run(const Graph& graph, Precision precision, bool kept = false) {
    SessionOptions options;
    options.threads = 1;
    options.precision = precision;
    if (kept) {
      for (const FloatRecipe& node : safety_.recipe.float_nodes) options.float32_nodes.push_back(node.node);
    }
    auto session = Session::Create(graph, options);
    EXPECT_TRUE(session.ok()) << session.status().message();
    auto outputs = session->Run(std::vector<Tensor>{sample_});
    EXPECT_TRUE(outputs.ok()) << outputs.status().message();
    return outputs->front();
  }

  static int CountNonfinite(const Tensor& tensor) {
    int count = 0;
    for (const float value : tensor.values<float>()) count += std::isfinite(value) ? 0 : 1;
    return count;
  }
  static double Sqnr(const Tensor& reference, const Tensor& tensor) {
    double signal = 0, noise = 0;
    for (size_t i = 0; i < static_cast<size_t>(tensor.size()); ++i) {
      const double r = reference.values<float>()[i], d = r - tensor.values<float>()[i];
      signal += r * r;
      noise += d * d;
    }
    return 10 * std::log10(signal / noise);
  }

  std::mt19937 random_{5};
  TestGraph builder_;
  TemporaryFolder folder_;
  Graph prepared_, rewritten_;
  Tensor sample_;
  Stats stats_;
  HalfSafety safety_;
};

TEST_F(HalfSafetyTest, SumsOfLinearAttentionAreFoundAndRescaled) {
  BuildAttention(20, 400, 30, 1e-3f);
  EXPECT_GT(CountNonfinite(Run(prepared_, Precision::kFloat16)), 0);
  Analyze();
  ASSERT_EQ(safety_.findings.size(), 3u);
  for (const HalfFinding& finding : safety_.findings) {
    EXPECT_EQ(finding.risk, HalfRisk::kOverflow);
    EXPECT_THAT(finding.pattern, HasSubstr("linear attention: "));
    EXPECT_EQ(finding.remedy, HalfRemedy::kRescale);
    EXPECT_NEAR(finding.headroom, kLargestFloat16 / finding.magnitude, 1e-9);
    // What it becomes lies in the upper half of what the margin allows, or lower where another tensor asked for more.
    EXPECT_LE(finding.magnitude * std::exp2(finding.octaves), kLargestFloat16 / 4);
  }
  EXPECT_EQ(safety_.findings[0].node,
            prepared_.node(prepared_.value(prepared_.Find(safety_.findings[0].tensor)).producer).name);
  EXPECT_THAT(safety_.recipe.float_nodes, IsEmpty());
  // Powers of two: the same bits.
  const Tensor before = Run(prepared_, Precision::kFloat32), after = Run(rewritten_, Precision::kFloat32);
  EXPECT_EQ(std::memcmp(before.data(), after.data(), before.bytes()), 0);
  const Tensor half = Run(rewritten_, Precision::kFloat16);
  EXPECT_EQ(CountNonfinite(half), 0);
  // A rounding of 2^-12 on average in each of some ten values in a row.
  EXPECT_GT(Sqnr(before, half), 50);
}

TEST_F(HalfSafetyTest, ARescaledModelHasNothingLeftToFind) {
  BuildAttention(20, 400, 30, 1e-3f);
  Analyze();
  prepared_ = rewritten_;
  const auto data = Dataset::Open(folder_.path(), {prepared_.value(prepared_.inputs[0])}, {});
  CalibrateOptions options;
  options.threads = 1;
  options.tensors = HalfTensors(prepared_).value();
  stats_ = Calibrate(prepared_, *data, options)->stats;
  Analyze();
  EXPECT_THAT(safety_.findings, IsEmpty());
}

TEST_F(HalfSafetyTest, AModelWithoutRiskHasNoFindings) {
  BuildAttention(1, 1, 1, 1e-3f, 1);
  Analyze();
  EXPECT_THAT(safety_.findings, IsEmpty());
  EXPECT_THAT(safety_.recipe.migrations, IsEmpty());
  EXPECT_EQ(CountNonfinite(Run(prepared_, Precision::kFloat16)), 0);
}

TEST_F(HalfSafetyTest, AnEpsilonThatHalfCannotHoldKeepsItsDivisionInFloat32) {
  // Queries that no token has: the divisor is the epsilon.
  BuildAttention(1, 1, 1, 1e-15f, -100);
  EXPECT_GT(CountNonfinite(Run(prepared_, Precision::kFloat16)), 0);
  Analyze();
  ASSERT_EQ(safety_.findings.size(), 1u);
  EXPECT_EQ(safety_.findings[0].risk, HalfRisk::kSmallDivisor);
  EXPECT_EQ(safety_.findings[0].pattern, "linear attention: divisor");
  EXPECT_EQ(safety_.findings[0].float32_nodes.size(), 2u);
  EXPECT_EQ(CountNonfinite(Run(rewritten_, Precision::kFloat16, true)), 0);
}

TEST_F(HalfSafetyTest, OtherOverflowsKeepTheirNodesInFloat32) {
  const ValueId x = builder_.Input("x", {1, 4, 6});
  const ValueId large = builder_.Op("Mul", {x, builder_.Scalar(6e4f)});
  const ValueId twice = builder_.Op("Add", {large, large});
  const ValueId turned = builder_.Op("Transpose", {twice}, {{"perm", std::vector<int64_t>{0, 2, 1}}});
  Finish(builder_.Op("Tanh", {builder_.Op("Mul", {turned, builder_.Scalar(1e-5f)})}), {1, 4, 6});
  EXPECT_LT(Sqnr(Run(prepared_, Precision::kFloat32), Run(prepared_, Precision::kFloat16)), 30);
  Analyze();
  ASSERT_EQ(safety_.findings.size(), 2u);
  EXPECT_EQ(safety_.findings[0].pattern, "Mul");
  EXPECT_EQ(safety_.findings[1].pattern, "sum of two activations");
  // The Transpose holds the same numbers, and what reads it meets them.
  EXPECT_EQ(safety_.findings[1].float32_nodes.size(), 3u);
  EXPECT_GT(Sqnr(Run(prepared_, Precision::kFloat32), Run(prepared_, Precision::kFloat16, true)), 60);
}

TEST_F(HalfSafetyTest, WeightsBeyondHalfAreNamed) {
  const ValueId x = builder_.Input("x", {1, 4, 6});
  const ValueId tiny = builder_.Op("Mul", {x, builder_.Constant({1, 4, 1}, {1e-3f, 1e-3f, 1e-3f, 1e-3f})});
  Finish(builder_.Op("Mul", {tiny, builder_.Constant({1, 1, 6}, {1, 1, 1, 1, 1, 1e5f})}), {1, 4, 6});
  Analyze();
  ASSERT_FALSE(safety_.findings.empty());
  EXPECT_EQ(safety_.findings[0].risk, HalfRisk::kWeightOverflow);
  EXPECT_FLOAT_EQ(static_cast<float>(safety_.findings[0].magnitude), 1e5f);
  EXPECT_EQ(CountNonfinite(Run(prepared_, Precision::kFloat16, true)), 0);
}

TEST_F(HalfSafetyTest, TensorsThatVanishAreFound) {
  const ValueId x = builder_.Input("x", {1, 4, 6});
  const ValueId tiny = builder_.Op("Mul", {x, builder_.Op("Mul", {x, builder_.Scalar(1e-3f)})});
  const ValueId tinier = builder_.Op("Mul", {tiny, tiny});
  Finish(builder_.Op("Mul", {tinier, builder_.Scalar(1e4f)}), {1, 4, 6});
  Analyze();
  ASSERT_EQ(safety_.findings.size(), 1u);
  EXPECT_EQ(safety_.findings[0].risk, HalfRisk::kUnderflow);
  const Tensor whole = Run(prepared_, Precision::kFloat32);
  EXPECT_GT(Sqnr(whole, Run(prepared_, Precision::kFloat16, true)),
            20 + Sqnr(whole, Run(prepared_, Precision::kFloat16)));
}

TEST_F(HalfSafetyTest, ObservesTheInsidesOfAttention) {
  BuildAttention(1, 1, 1, 1e-3f);
  const std::vector<std::string> tensors = HalfTensors(prepared_).value();
  for (const Node& node : prepared_.nodes) {
    const bool inside = node.Is("MatMul") || node.Is("Div") || node.Is("Add");
    if (inside) {
      EXPECT_THAT(tensors, Contains(prepared_.value(node.output(0)).name));
    }
  }
  stats_.tensors.erase(tensors.back());
  EXPECT_EQ(AnalyzeHalfSafety(prepared_, stats_).status().code(), ErrorCode::kNotFound);
}

}  // namespace
}  // namespace octavo
