#include <gtest/gtest.h>

#include <algorithm>
#include <limits>

#include "octavo/task.h"

namespace octavo {
namespace {

Tensor Map(const std::vector<float>& values) {
  return Tensor::FromVector<float>({static_cast<int64_t>(values.size())}, values);
}

TEST(TaskScores, TensorScoreIsTheShareOfEnergyThatIsNotError) {
  const Tensor reference[] = {Map({3, 0}), Map({4})}, candidate[] = {Map({3, 5}), Map({4})};
  const auto found = AgreeOnTensors(reference, candidate).value();
  // Energy 25 and error 25 are exact: only log10 and pow round, far below 1e-12.
  EXPECT_NEAR(found.sqnr_db, 0, 1e-12);
  EXPECT_NEAR(found.score, 0.5, 1e-12);
  EXPECT_EQ(AgreeOnTensors(reference, reference).value().score, 1);
  const Tensor broken[] = {Map({3, std::numeric_limits<float>::quiet_NaN()}), Map({4})};
  EXPECT_EQ(AgreeOnTensors(reference, broken).value().score, 0);
}

TEST(TaskScores, TensorsOfOtherShapesAreRefused) {
  const Tensor one[] = {Map({1, 2})}, two[] = {Map({1}), Map({2})}, other[] = {Map({1, 2, 3})};
  EXPECT_FALSE(AgreeOnTensors(one, two).ok());
  EXPECT_FALSE(AgreeOnTensors(one, other).ok());
  EXPECT_FALSE(AgreeOnTensors({}, {}).ok());
}

TEST(TaskScores, HeatmapCutsBothMapsAtTheReferencesMiddle) {
  // Threshold 0.5: {0, 1, 2} against {1, 2, 3}: two in common of four.
  const auto found = AgreeOnHeatmap(Map({1, 1, 1, 0, 0, 0}), Map({0, 1, 1, 1, 0, 0})).value();
  EXPECT_EQ(found.iou, 0.5);
  // Means 1/2; covariance 2 * 1/4 over variance 6 * 1/4: 1/3, to double rounding.
  EXPECT_NEAR(found.correlation, 1.0 / 3, 1e-12);
  EXPECT_NEAR(found.score, 1.0 / 6, 1e-12);
  // A map that only moved down correlates fully, yet nothing of it reaches the threshold.
  EXPECT_EQ(AgreeOnHeatmap(Map({0, 1}), Map({-2, -1})).value().iou, 0);
}

TEST(TaskScores, HeatmapExtremes) {
  EXPECT_EQ(AgreeOnHeatmap(Map({2, 2}), Map({2, 2})).value().score, 1);
  EXPECT_EQ(AgreeOnHeatmap(Map({0, 1}), Map({1, 0})).value().score, 0);
  const float nan = std::numeric_limits<float>::quiet_NaN();
  EXPECT_EQ(AgreeOnHeatmap(Map({0, 1}), Map({0, nan})).value().score, 0);
  EXPECT_FALSE(AgreeOnHeatmap(Map({0, nan}), Map({0, 1})).ok());
  EXPECT_FALSE(AgreeOnHeatmap(Map({}), Map({})).ok());
}

TEST(TaskScores, SummaryInterpolatesThePercentile) {
  std::vector<double> scores;
  for (int i = 10; i >= 0; --i) scores.push_back(i);
  const auto found = Summarize(scores).value();
  EXPECT_EQ(found.mean, 5);
  EXPECT_EQ(found.p5, 0.5);  // 0.05 * 10 lies half way between 0 and 1
  EXPECT_EQ(Summarize({0.25}).value().p5, 0.25);
  EXPECT_FALSE(Summarize({}).ok());
}

TEST(TaskScores, SplitIsDisjointWholeAndRepeatable) {
  const auto split = SplitSamples(32, 0.25).value();
  EXPECT_EQ(split.judging.size(), 8u);
  std::vector<size_t> all = split.calibration;
  all.insert(all.end(), split.judging.begin(), split.judging.end());
  std::sort(all.begin(), all.end());
  ASSERT_EQ(all.size(), 32u);
  for (size_t i = 0; i < all.size(); ++i) EXPECT_EQ(all[i], i);
  EXPECT_EQ(SplitSamples(32, 0.25).value().judging, split.judging);
  EXPECT_NE(SplitSamples(32, 0.25, kSplitSeed + 1).value().judging, split.judging);
  EXPECT_EQ(SplitSamples(2, 0.01).value().judging.size(), 1u);
  EXPECT_EQ(SplitSamples(2, 0.99).value().calibration.size(), 1u);
  EXPECT_FALSE(SplitSamples(1, 0.5).ok());
  EXPECT_FALSE(SplitSamples(8, 1).ok());
}

}  // namespace
}  // namespace octavo
