#include "calibration/collect.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cfloat>

#include "calibration/stats_testing.h"
#include "kernels/kernel_testing.h"

namespace octavo {
namespace {

using testing::HasSubstr;

TensorView ViewOf(TestOperand& tensor) {
  return {tensor.operand.dtype, tensor.operand.dims, tensor.operand.strides, tensor.data()};
}

// Row-major values, channel by channel.
std::vector<std::vector<float>> ByChannel(const std::vector<float>& values, const Dims& dims, int axis) {
  if (dims.empty()) return {values};
  const int64_t size = dims[static_cast<size_t>(axis)];
  const int64_t step = ContiguousStrides(dims)[static_cast<size_t>(axis)];
  std::vector<std::vector<float>> channels(static_cast<size_t>(size));
  for (size_t i = 0; i < values.size(); ++i) {
    channels[static_cast<size_t>(static_cast<int64_t>(i) / step % size)].push_back(values[i]);
  }
  return channels;
}

void ExpectStats(const TensorStats& stats, const std::vector<float>& values, uint64_t times, const std::string& what) {
  const TensorStats expected = StatsOf(values);
  EXPECT_EQ(stats.count, times * values.size()) << what;
  EXPECT_EQ(stats.min, expected.min) << what;
  EXPECT_EQ(stats.max, expected.max) << what;
  EXPECT_EQ(stats.histogram.exponent, expected.histogram.exponent) << what;
  for (size_t k = 0; k < expected.histogram.counts.size(); ++k) {
    ASSERT_EQ(stats.histogram.counts[k], times * expected.histogram.counts[k]) << what << ", bin " << k;
  }
  double squares = 0;
  for (const float value : values) squares += static_cast<double>(value) * static_cast<double>(value);
  // n additions in double, n below 1e5, each off by at most 2^-53 of the sum, on both sides: 2e-11.
  EXPECT_NEAR(stats.square_sum.value(), static_cast<double>(times) * squares,
              2e-11 * static_cast<double>(times) * squares)
      << what;
  const auto channels = ByChannel(values, stats.dims, stats.channel_axis);
  ASSERT_EQ(stats.channel_min.size(), channels.size()) << what;
  for (size_t at = 0; at < channels.size(); ++at) {
    const std::vector<float>& channel = channels[at];
    EXPECT_EQ(stats.channel_min[at], *std::min_element(channel.begin(), channel.end())) << what;
    EXPECT_EQ(stats.channel_max[at], *std::max_element(channel.begin(), channel.end())) << what;
    double sum = 0, magnitude = 0;
    for (const float value : channel) {
      sum += value;
      magnitude += std::abs(value);
    }
    EXPECT_NEAR(stats.channel_sum[at].value(), static_cast<double>(times) * sum,
                2e-11 * static_cast<double>(times) * magnitude)
        << what;
  }
}

struct Case {
  Dims dims;
  int axis;
};

TEST(CollectorTest, CountsWhatIsThereInAnyLayout) {
  const std::vector<Case> cases = {{{}, 0},
                                   {{1}, 0},
                                   {{37}, 0},
                                   {{2, 19, 5, 7}, 1},
                                   {{1, 64, 9, 9}, 1},
                                   {{2, 33, 48}, 2},
                                   {{2, 9000, 1}, 1},
                                   {{1, 3, 130, 130}, 1},
                                   {{3, 1, 11, 13}, 1},
                                   {{1, 9000, 2}, 2},
                                   {{1, 2, 9001}, 2},
                                   {{4, 5, 1, 1}, 1}};
  ForEachIsa([&] {
    for (const Case& c : cases) {
      for (const Layout layout : kAllLayouts) {
        for (const DType dtype : {DType::kFloat32, DType::kBFloat16}) {
          TestOperand tensor = RandomTensor(dtype, c.dims, layout, 3, -2.5f, 7.25f);
          SharedTensorStats shared;
          shared.stats = MakeTensorStats(c.dims, c.axis);
          Collector collector;
          for (int i = 0; i < 2; ++i) {
            const Status status = collector.Observe(ViewOf(tensor), shared);
            ASSERT_TRUE(status.ok()) << status.message();
          }
          ExpectStats(shared.stats, tensor.Get(), 2,
                      ToString(c.dims) + " layout " + std::to_string(static_cast<int>(layout)));
        }
      }
    }
  });
}

// Small values first: the bins grow many times within the tensor, and once more with the next.
TEST(CollectorTest, GrowsAsIfItHadKnown) {
  ForEachIsa([] {
    const Dims dims = {1, 2, 300, 100};
    std::vector<float> values = RandomValues(dims, 1);
    for (size_t i = 0; i < values.size(); ++i) values[i] *= std::ldexp(1.0f, static_cast<int>(i / 1000) - 30);
    TestOperand tensor(DType::kFloat32, dims);
    tensor.Set(values);
    SharedTensorStats shared;
    shared.stats = MakeTensorStats(dims, 1);
    Collector collector;
    ASSERT_TRUE(collector.Observe(ViewOf(tensor), shared).ok());
    ExpectStats(shared.stats, values, 1, "first");
    for (float& value : values) value *= 1 << 20;
    TestOperand larger(DType::kFloat32, dims);
    larger.Set(values);
    SharedTensorStats alone;
    alone.stats = MakeTensorStats(dims, 1);
    ASSERT_TRUE(collector.Observe(ViewOf(larger), alone).ok());
    ASSERT_TRUE(collector.Observe(ViewOf(larger), shared).ok());
    ExpectStats(alone.stats, values, 1, "larger alone");
    Histogram expected = StatsOf(tensor.Get()).histogram;
    Merge(expected, alone.stats.histogram);
    EXPECT_EQ(shared.stats.histogram.counts, expected.counts);
  });
}

// A negative value whose product with the scale is no normal number still lies below zero.
TEST(CollectorTest, TinyNegativeValuesStayBelowZero) {
  ForEachIsa([] {
    const std::vector<float> values = {-2 * FLT_MIN, 2 * FLT_MIN, -1e-30f, 3e30f, 0, -0.0f, FLT_MIN, -FLT_MIN};
    TestOperand tensor(DType::kFloat32, {8});
    tensor.Set(values);
    SharedTensorStats shared;
    shared.stats = MakeTensorStats({8}, 0);
    Collector collector;
    ASSERT_TRUE(collector.Observe(ViewOf(tensor), shared).ok());
    EXPECT_EQ(shared.stats.histogram.counts[Histogram::kHalfBins - 1], 3u);
    EXPECT_EQ(shared.stats.histogram.counts[Histogram::kHalfBins], 4u);
  });
}

TEST(CollectorTest, DenormalsAndNegativeZeroCountAsZero) {
  TestOperand tensor(DType::kFloat32, {4});
  tensor.Set({-1e-40f, 1e-40f, -0.0f, 0.0f});
  SharedTensorStats shared;
  shared.stats = MakeTensorStats({4}, 0);
  Collector collector;
  ASSERT_TRUE(collector.Observe(ViewOf(tensor), shared).ok());
  EXPECT_EQ(shared.stats.min, 0);
  EXPECT_FALSE(std::signbit(shared.stats.min));
  EXPECT_EQ(shared.stats.max, 0);
  EXPECT_EQ(shared.stats.histogram.counts[Histogram::kHalfBins], 4u);
  EXPECT_EQ(shared.stats.histogram.exponent, Histogram::kMinExponent);
}

TEST(CollectorTest, RefusesNanAndInfinityAndGoesOnAfterwards) {
  const Dims dims = {1, 40, 17, 17};
  ForEachIsa([&] {
    for (const Layout layout : kAllLayouts) {
      Collector collector;
      SharedTensorStats shared;
      shared.stats = MakeTensorStats(dims, 1);
      for (const float bad : {NAN, INFINITY, -INFINITY}) {
        for (const size_t at : {size_t{0}, size_t{5000}, size_t{40 * 17 * 17 - 1}}) {
          std::vector<float> values = RandomValues(dims, 9);
          values[at] = bad;
          TestOperand tensor(DType::kFloat32, dims, layout);
          tensor.Set(values);
          const Status status = collector.Observe(ViewOf(tensor), shared);
          EXPECT_THAT(status.message(), HasSubstr(std::isnan(bad) ? "holds NaN" : "holds infinity"));
          EXPECT_EQ(shared.stats.count, 0u);
        }
      }
      TestOperand tensor = RandomTensor(DType::kFloat32, dims, layout, 9);
      ASSERT_TRUE(collector.Observe(ViewOf(tensor), shared).ok());
      ExpectStats(shared.stats, tensor.Get(), 1, "afterwards");
    }
  });
}

TEST(CollectorTest, RefusesOtherShapesAndTypes) {
  Collector collector;
  SharedTensorStats shared;
  shared.stats = MakeTensorStats({2, 3}, 1);
  TestOperand wrong = RandomTensor(DType::kFloat32, {3, 2}, Layout::kContiguous, 1);
  EXPECT_THAT(collector.Observe(ViewOf(wrong), shared).message(), HasSubstr("is 3x2 where 2x3 was expected"));
  TestOperand integers(DType::kInt64, {2, 3});
  EXPECT_EQ(collector.Observe(ViewOf(integers), shared).code(), ErrorCode::kUnsupported);
}

}  // namespace
}  // namespace octavo
