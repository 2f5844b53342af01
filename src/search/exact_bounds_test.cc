#include "octavo/exact_bounds.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "octavo/judge.h"

namespace octavo {
namespace {

using Scores = std::vector<std::vector<double>>;

TEST(LowerBoundOfShare, ClopperAndPearsonsTable) {
  // Quantiles of the beta distribution, beta(0.05; right, all - right + 1), to six decimals.
  struct Entry {
    size_t right, all;
    double bound;
  };
  constexpr Entry kTable[] = {{9, 10, 0.605837},  {8, 10, 0.493099},    {5, 10, 0.222441},   {1, 10, 0.005116},
                              {18, 20, 0.717381}, {19, 20, 0.783894},   {95, 100, 0.897747}, {99, 100, 0.953440},
                              {29, 30, 0.851404}, {298, 299, 0.984233}, {290, 300, 0.944115}};
  for (const Entry& entry : kTable) {
    EXPECT_NEAR(LowerBoundOfShare(entry.right, entry.all), entry.bound, 6e-7) << entry.right << " of " << entry.all;
  }
}

TEST(LowerBoundOfShare, Ends) {
  EXPECT_EQ(LowerBoundOfShare(0, 0), 0);
  EXPECT_EQ(LowerBoundOfShare(0, 100), 0);
  EXPECT_NEAR(LowerBoundOfShare(1, 1), 0.05, 1e-15);
  EXPECT_NEAR(LowerBoundOfShare(299, 299), std::pow(0.05, 1.0 / 299), 1e-15);
  // By hand: of one right in n, 1 - (1 - p)^n = 0.05.
  EXPECT_NEAR(LowerBoundOfShare(1, 7), 1 - std::pow(0.95, 1.0 / 7), 1e-14);
  for (size_t right = 0; right < 50; ++right) EXPECT_LT(LowerBoundOfShare(right, 50), LowerBoundOfShare(right + 1, 50));
  // Terms underflow unless they are logarithms.
  EXPECT_GT(LowerBoundOfShare(50000, 100000), 0.497);
  EXPECT_LT(LowerBoundOfShare(50000, 100000), 0.498);
}

TEST(LowerBoundOfShare, HoldsForNewSamples) {
  std::mt19937_64 random(5);
  constexpr int kTrials = 4000;
  for (const double share : {0.7, 0.9, 0.98}) {
    int held = 0;
    std::bernoulli_distribution draw(share);
    for (int trial = 0; trial < kTrials; ++trial) {
      size_t right = 0;
      for (int i = 0; i < 60; ++i) right += draw(random);
      held += LowerBoundOfShare(right, 60) <= share;
    }
    // At least 95 %, less four times the scatter sqrt(0.95 * 0.05 / 4000) of that share.
    EXPECT_GE(held, kTrials * (0.95 - 4 * 0.0034)) << share;
  }
}

TEST(LeastSamplesToShow, Goals) {
  EXPECT_EQ(LeastSamplesToShow(0.99), 299u);
  EXPECT_EQ(LeastSamplesToShow(0.95), 59u);
  EXPECT_EQ(LeastSamplesToShow(0.9), 29u);
  EXPECT_EQ(LeastSamplesToShow(0.999), 2995u);
  EXPECT_EQ(LeastSamplesToShow(0.05), 1u);
  EXPECT_EQ(LeastSamplesToShow(0), 1u);
  EXPECT_EQ(LeastSamplesToShow(1), std::nullopt);
  EXPECT_EQ(LeastSamplesToShow(std::nan("")), std::nullopt);
  for (const double goal : {0.2, 0.5, 0.8, 0.97, 0.9999}) {
    const size_t samples = *LeastSamplesToShow(goal);
    EXPECT_GE(LowerBoundOfShare(samples, samples), goal);
    EXPECT_LT(LowerBoundOfShare(samples - 1, samples - 1), goal);
  }
  EXPECT_TRUE(LeastSamplesToShow(std::nextafter(1.0, 0.0)));
}

TEST(ExactLowerBoundOfMean, OneScorePerSample) {
  EXPECT_EQ(ExactLowerBoundOfMean({}), 0);
  EXPECT_EQ(ExactLowerBoundOfMean(Scores(20, {1})), LowerBoundOfShare(20, 20));
  EXPECT_EQ(LowerBoundOfMean(Scores(20, {1})), 1);  // what Student's t would promise
  Scores some(20, {1});
  some[3] = some[7] = {0};
  some.resize(30);  // nothing was asked about ten
  EXPECT_EQ(ExactLowerBoundOfMean(some), LowerBoundOfShare(18, 20));
}

TEST(ExactLowerBoundOfMean, SeveralScoresPerSample) {
  EXPECT_EQ(ExactLowerBoundOfMean({{1, 1}, {1, 0}, {1, 1}}), LowerBoundOfShare(2, 3));
  // One large sample, all wrong: right samples are two of three, right questions two of twelve.
  const Scores uneven = {{1}, {1}, std::vector<double>(10, 0)};
  EXPECT_LE(ExactLowerBoundOfMean(uneven), LowerBoundOfMean(uneven));
}

TEST(ExactLowerBoundOfP5, IsOneWhereNineteenOfTwentyAreShown) {
  EXPECT_EQ(ExactLowerBoundOfP5(Scores(58, {1})), 0);
  EXPECT_EQ(ExactLowerBoundOfP5(Scores(59, {1})), 1);
  Scores one_wrong(92, {1});
  one_wrong[0] = {0};
  EXPECT_EQ(ExactLowerBoundOfP5(one_wrong), 0);  // 93 are needed with one wrong
  one_wrong.push_back({1});
  EXPECT_EQ(ExactLowerBoundOfP5(one_wrong), 1);
}

}  // namespace
}  // namespace octavo
