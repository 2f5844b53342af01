#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "calibration/stats_testing.h"
#include "octavo/stats.h"

namespace octavo {
namespace {

using testing::HasSubstr;

Range RangeOf(const TensorStats& stats, Estimator estimator, bool symmetric, double percentile = 99.99) {
  EstimatorOptions options;
  options.estimator = estimator;
  options.symmetric = symmetric;
  options.percentile = percentile;
  const auto range = EstimateRange(stats, options);
  EXPECT_TRUE(range.ok()) << range.status().message();
  return range.ok() ? *range : Range();
}

std::vector<float> Normal(size_t count, float mean, float deviation, uint32_t seed = 1) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(mean, deviation);
  std::vector<float> values(count);
  for (float& value : values) value = normal(random);
  return values;
}

// The sum of squared errors of quantizing the values themselves.
double Int8Error(const std::vector<float>& values, double a) {
  const double scale = a / 127;
  double sum = 0;
  for (const float value : values) {
    const double error = value - scale * std::clamp(std::nearbyint(value / scale), -127.0, 127.0);
    sum += error * error;
  }
  return sum;
}

double Uint8Error(const std::vector<float>& values, const Range& range) {
  const double scale = (static_cast<double>(range.high) - static_cast<double>(range.low)) / 255;
  const double zero_point = std::nearbyint(-static_cast<double>(range.low) / scale);
  double sum = 0;
  for (const float value : values) {
    const double q = std::clamp(std::nearbyint(value / scale) + zero_point, 0.0, 255.0);
    const double error = value - scale * (q - zero_point);
    sum += error * error;
  }
  return sum;
}

constexpr Estimator kAll[] = {Estimator::kMinMax, Estimator::kPercentile, Estimator::kMse, Estimator::kEntropy};

TEST(EstimateRangeTest, MinMaxIsWhatWasSeenAndZero) {
  const TensorStats stats = StatsOf({-3, 0.5f, 2});
  EXPECT_EQ(RangeOf(stats, Estimator::kMinMax, false).low, -3);
  EXPECT_EQ(RangeOf(stats, Estimator::kMinMax, false).high, 2);
  EXPECT_EQ(RangeOf(stats, Estimator::kMinMax, true).high, 3);
  const TensorStats positive = StatsOf({1, 5});
  EXPECT_EQ(RangeOf(positive, Estimator::kMinMax, false).low, 0);
  const TensorStats negative = StatsOf({-1, -5});
  EXPECT_EQ(RangeOf(negative, Estimator::kMinMax, false).high, 0);
}

TEST(EstimateRangeTest, RangesHoldZeroAndStayWithinWhatWasSeen) {
  for (const auto& values : {Normal(2000, 0, 1),
                             Normal(2000, 5, 1),
                             Normal(2000, -300, 90),
                             {0, 0, 1e-30f},
                             std::vector<float>{-7},
                             {1e-38f, 2e-38f},
                             {-3e38f, 3e38f}}) {
    const TensorStats stats = StatsOf(values);
    for (const Estimator estimator : kAll) {
      const Range asymmetric = RangeOf(stats, estimator, false), symmetric = RangeOf(stats, estimator, true);
      EXPECT_LE(asymmetric.low, 0);
      EXPECT_GE(asymmetric.high, 0);
      EXPECT_GT(asymmetric.high - asymmetric.low, 0) << NameOf(estimator) << stats.min;
      EXPECT_GE(asymmetric.low, std::min(0.0f, stats.min));
      EXPECT_LE(asymmetric.high, std::max(0.0f, stats.max));
      EXPECT_EQ(symmetric.low, -symmetric.high);
      EXPECT_LE(symmetric.high, std::max(-stats.min, stats.max));
      EXPECT_GT(symmetric.high, 0);
    }
  }
}

TEST(EstimateRangeTest, ZeroTensorsHaveTheRangeZero) {
  const TensorStats zeros = StatsOf({0, 0, 0});
  for (const Estimator estimator : kAll) {
    for (const bool symmetric : {false, true}) {
      const Range range = RangeOf(zeros, estimator, symmetric);
      EXPECT_EQ(range.low, 0);
      EXPECT_EQ(range.high, 0);
    }
  }
}

TEST(EstimateRangeTest, SaysWhatItCannotDo) {
  const auto unseen = EstimateRange(MakeTensorStats({1, 3}, 1), {});
  EXPECT_EQ(unseen.status().code(), ErrorCode::kInvalidArgument);
  EstimatorOptions options;
  options.estimator = Estimator::kPercentile;
  for (const double percentile : {0.0, -1.0, 100.5, static_cast<double>(NAN)}) {
    options.percentile = percentile;
    EXPECT_THAT(EstimateRange(StatsOf({1, 2}), options).status().message(), HasSubstr("percentile"));
  }
  EXPECT_THAT(ParseEstimator("kl").status().message(), HasSubstr("minmax, percentile, mse or entropy"));
  for (const Estimator estimator : kAll) EXPECT_EQ(*ParseEstimator(NameOf(estimator)), estimator);
}

TEST(EstimateRangeTest, PercentileCutsTheShare) {
  std::vector<float> values;
  values.reserve(10000);
  for (int i = 0; i < 10000; ++i) values.push_back(static_cast<float>(i) * 0.01f - 50);  // -50 .. 49.99
  const TensorStats stats = StatsOf(values);
  // Bins are 1/32 wide: 2048 of them reach 64. Half a bin at either side, and one step between values.
  const double tolerance = 1.0 / 32 + 0.01;
  const Range symmetric = RangeOf(stats, Estimator::kPercentile, true, 90);
  EXPECT_NEAR(symmetric.high, 45, tolerance);
  const Range asymmetric = RangeOf(stats, Estimator::kPercentile, false, 90);
  EXPECT_NEAR(asymmetric.low, -45, tolerance);
  EXPECT_NEAR(asymmetric.high, 45, tolerance);
  EXPECT_NEAR(RangeOf(stats, Estimator::kPercentile, false, 100).low, -50, tolerance);
  EXPECT_NEAR(RangeOf(stats, Estimator::kPercentile, false, 100).high, 49.99, tolerance);
}

TEST(EstimateRangeTest, MseIsAsGoodAsAFineSearchOverTheValues) {
  for (const float outlier : {4.0f, 40.0f, 900.0f}) {
    std::vector<float> values = Normal(20000, 0, 1);
    values.push_back(outlier);
    const TensorStats stats = StatsOf(values);
    double least = Int8Error(values, outlier);
    double a = outlier;
    while (a > 0.01) least = std::min(least, Int8Error(values, a *= 0.995));
    const double found = Int8Error(values, RangeOf(stats, Estimator::kMse, true).high);
    // A bin's middle stands for its values. The widest bin here is 1 (900 in [512, 1024) has exponent -1, 1/2), far
    // below what the best scale leaves; 3 % is what the grid of candidates (1/64 octave, 1 %) and this cost together.
    EXPECT_LE(found, least * 1.03) << outlier;
    EXPECT_LE(found, Int8Error(values, outlier));
  }
}

TEST(EstimateRangeTest, MseFitsBothEndsOfAsymmetricRanges) {
  std::vector<float> values = Normal(20000, 1.5f, 1);
  values.push_back(-60);
  values.push_back(25);
  const TensorStats stats = StatsOf(values);
  const Range range = RangeOf(stats, Estimator::kMse, false);
  const double found = Uint8Error(values, range);
  double least = Uint8Error(values, {-60, 25});
  for (int i = 0; i < 210; ++i) {
    for (int j = 0; j < 130; ++j) {
      const float low = -60 * std::pow(0.97f, static_cast<float>(i)),
                  high = 25 * std::pow(0.97f, static_cast<float>(j));
      least = std::min(least, Uint8Error(values, {low, high}));
    }
  }
  // One end after the other may stop beside the best pair, and bins are 1/32 wide against steps of 1/25: 10 %.
  EXPECT_LE(found, least * 1.1) << range.low << " " << range.high;
}

TEST(EstimateRangeTest, EntropyClipsWhatIsRare) {
  // A bulk within 5 and a thin tail from there to 100.
  std::vector<float> values = Normal(100000, 0, 1);
  for (int i = 0; i < 200; ++i) values.push_back(5 + 95 * std::pow(static_cast<float>(i) / 199, 3.0f));
  const Range range = RangeOf(StatsOf(values), Estimator::kEntropy, true);
  EXPECT_GT(range.high, 4);
  EXPECT_LT(range.high, 50);
  // Values spread evenly: nothing is to be gained by clipping.
  std::vector<float> even;
  for (int i = 0; i <= 20480; ++i) even.push_back(static_cast<float>(i) / 20481 * 2047);
  EXPECT_GT(RangeOf(StatsOf(even), Estimator::kEntropy, true).high, 2000);
}

}  // namespace
}  // namespace octavo
