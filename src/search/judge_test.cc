#include "octavo/judge.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <numeric>
#include <random>

#include "octavo/exact_bounds.h"
#include "passes/pass_test_graph.h"

namespace octavo {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using Scores = std::vector<std::vector<double>>;

TEST(StudentT95, Quantiles) {
  // Tables round to three decimals; the expansion is good to 1e-3.
  constexpr double kTolerance = 1.5e-3;
  const std::map<size_t, double> table = {{1, 6.314},  {2, 2.920},   {3, 2.353},   {4, 2.132},  {5, 2.015},
                                          {6, 1.943},  {7, 1.895},   {8, 1.860},   {10, 1.812}, {15, 1.753},
                                          {30, 1.697}, {120, 1.658}, {1000, 1.646}};
  for (const auto& [degrees, quantile] : table) EXPECT_NEAR(StudentT95(degrees), quantile, kTolerance) << degrees;
  for (size_t degrees = 1; degrees < 200; ++degrees) EXPECT_GT(StudentT95(degrees), StudentT95(degrees + 1)) << degrees;
  EXPECT_NEAR(StudentT95(1u << 30), 1.644854, 1e-6);
  EXPECT_EQ(StudentT95(0), std::numeric_limits<double>::infinity());
}

TEST(LowerBoundOfMean, ByHand) {
  // Mean 0.9; squares 0.01 + 0.01 + 0; error sqrt(3 / 2 * 0.02) / 3 = 0.0577350; t(2) = 2.9200. Both have five digits.
  EXPECT_NEAR(LowerBoundOfMean({{0.9}, {0.8}, {1.0}}), 0.9 - 2.92 * 0.0577350, 1e-5);
  // Two questions about one sample, one about the other: mean 0.8, residuals 2 * 0.2 and -0.4, squares 0.32; error
  // sqrt(2 / 1 * 0.32) / 3 = 0.2666667; t(1) = 6.3138.
  EXPECT_NEAR(LowerBoundOfMean({{1, 1}, {0.4}}), 0.8 - 6.3138 * 0.2666667, 1e-5);
  // Within a sample scores may differ: only its sum counts.
  EXPECT_NEAR(LowerBoundOfMean({{1, 0}, {0.5, 0.5}, {0, 1}}), 0.5, 1e-12);
}

TEST(LowerBoundOfMean, LittleData) {
  EXPECT_EQ(LowerBoundOfMean({}), 0);
  EXPECT_EQ(LowerBoundOfMean({{1, 1, 1}}), 0);
  EXPECT_EQ(LowerBoundOfMean({{1, 1}, {}}), 0);
  EXPECT_EQ(LowerBoundOfMean({{0.9}, {}, {0.8}, {1.0}, {}}), LowerBoundOfMean({{0.9}, {0.8}, {1.0}}));
  EXPECT_EQ(LowerBoundOfMean({{1}, {1, 1}, {1}}), 1);
}

// What share of `trials` the bound holds for samples that `draw` makes, around `mean`.
template <typename Draw>
double Coverage(int trials, size_t samples, double mean, Draw draw) {
  int held = 0;
  for (int trial = 0; trial < trials; ++trial) {
    Scores scores;
    for (size_t i = 0; i < samples; ++i) scores.push_back(draw());
    held += LowerBoundOfMean(scores) <= mean;
  }
  return static_cast<double>(held) / trials;
}

// The bound lies below the true mean 19 times of 20. Of 4000 trials the share that does so scatters by
// sqrt(0.95 * 0.05 / 4000) = 0.0034: 4 of these each way.
constexpr double kScatter = 4 * 0.0034;

TEST(LowerBoundOfMean, HoldsForNewSamples) {
  std::mt19937_64 random(17);
  std::normal_distribution<double> normal;
  const double one = Coverage(4000, 8, 0.9, [&] { return std::vector<double>{0.9 + 0.02 * normal(random)}; });
  EXPECT_NEAR(one, 0.95, kScatter);
  // Questions of a sample lean the same way, 3 to 5 of them: taken for independent ones they would promise too much.
  const double several = Coverage(4000, 16, 0.9, [&] {
    std::vector<double> scores(3 + random() % 3);
    const double lean = 0.02 * normal(random);
    for (double& score : scores) score = 0.9 + lean + 0.01 * normal(random);
    return scores;
  });
  // A ratio's error is known to first order in 1 / samples only: counts vary by 20 %, so about 0.2^2 / 16 of it.
  EXPECT_NEAR(several, 0.95, kScatter + 0.005);
}

TEST(LowerBoundOfP5, LiesBelowAndMovesWithTheScores) {
  std::mt19937_64 random(3);
  Scores low, high;
  std::vector<double> all;
  for (int i = 0; i < 20; ++i) {
    low.emplace_back();
    high.emplace_back();
    for (uint64_t k = 0; k <= random() % 3; ++k) {
      const double score = 0.8 + 0.2 * static_cast<double>(random() % 1000) / 1000;
      all.push_back(score);
      low.back().push_back(score);
      high.back().push_back(score + 0.001 * static_cast<double>(i));
    }
  }
  const double bound = LowerBoundOfP5(low);
  EXPECT_LE(bound, Summarize(all)->p5);
  EXPECT_GE(bound, *std::min_element(all.begin(), all.end()));
  EXPECT_GE(LowerBoundOfP5(high), bound);
  EXPECT_EQ(LowerBoundOfP5(low), bound);  // a fixed seed
  low[3].push_back(0);
  EXPECT_LT(LowerBoundOfP5(low), bound);
}

TEST(LowerBoundOfP5, LittleData) {
  EXPECT_EQ(LowerBoundOfP5({}), 0);
  EXPECT_EQ(LowerBoundOfP5({{1, 1}}), 0);
  EXPECT_EQ(LowerBoundOfP5(Scores(10, {0.5})), 0.5);
  // Nothing was asked about some samples: they say nothing.
  Scores sparse(2, {0.5});
  sparse.resize(40);
  EXPECT_EQ(LowerBoundOfP5(sparse), 0.5);
}

// y = factor * x and z = x, x of 4 values.
Graph Scaled(float factor) {
  TestGraph builder;
  const ValueId x = builder.Input("x", {1, 4});
  const ValueId y = builder.Op("Mul", {x, builder.Scalar(factor)});
  return builder.Finish({y});
}

Dataset Samples(const std::vector<std::vector<float>>& values) {
  std::vector<std::string> names;
  std::vector<std::map<std::string, Tensor>> samples;
  for (const auto& sample : values) {
    names.push_back(std::to_string(names.size()));
    samples.push_back({{"x", Tensor::FromVector<float>({1, static_cast<int64_t>(sample.size())}, sample)}});
  }
  return Dataset::FromSamples(std::move(names), std::move(samples)).value();
}

Judge Open(std::unique_ptr<Task> task, int64_t cache = 1 << 20) {
  JudgeOptions options;
  options.threads = 1;
  options.input_cache_bytes = cache;
  return Judge::Create(Scaled(1), Samples({{1, 2, 3, 4}, {0, -1, 0, 2}, {8, 0, 0, 0}}), std::move(task), options)
      .value();
}

TEST(Judge, TensorsByHand) {
  const Judge judge = Open(MakeTensorTask());
  EXPECT_EQ(judge.size(), 3u);
  const auto same = judge.Score(Scaled(1));
  ASSERT_TRUE(same.ok()) << same.status().message();
  EXPECT_EQ(same->score.mean, 1);
  EXPECT_EQ(same->mean_bound, 1);
  EXPECT_EQ(same->p5_bound, 1);
  EXPECT_EQ(same->sqnr_db, kIdenticalDb);
  EXPECT_FALSE(same->reference_truth);
  // The error is half of each value, exactly: its energy a quarter, 10 log10(4) dB; logarithms round below 1e-12.
  const auto noisy = judge.Score(Scaled(1.5f));
  EXPECT_NEAR(noisy->score.mean, 1 / 1.25, 1e-12);
  EXPECT_NEAR(noisy->noise, 0.25, 1e-12);
  EXPECT_NEAR(noisy->sqnr_db, 10 * std::log10(4), 1e-12);
  EXPECT_EQ(noisy->scores.size(), 3u);
}

TEST(Judge, WhatIsNotFiniteScoresZero) {
  const Judge judge = Open(MakeTensorTask());
  for (const float factor : {std::nanf(""), std::numeric_limits<float>::infinity()}) {
    const auto broken = judge.Score(Scaled(factor));
    ASSERT_TRUE(broken.ok()) << broken.status().message();
    EXPECT_EQ(broken->score.mean, 0);
    EXPECT_EQ(broken->sqnr_db, kWorstDb);
  }
}

TEST(Judge, LoadsWhatItDoesNotCacheAnew) {
  const Judge cached = Open(MakeTensorTask()), one = Open(MakeTensorTask(), 16), none = Open(MakeTensorTask(), 0);
  for (const Judge* judge : {&cached, &one, &none}) {
    EXPECT_THAT(judge->Inputs(2)->at("x").values<float>(), ElementsAre(8, 0, 0, 0));
    EXPECT_EQ(judge->Score(Scaled(0.75f))->scores, cached.Score(Scaled(0.75f))->scores);
  }
}

TEST(Judge, NoiseOfTheFirstSamples) {
  const Judge judge = Open(MakeTensorTask());
  const auto only_last = [&](size_t sample) -> Result<std::vector<Tensor>> {
    return std::vector<Tensor>{sample == 2 ? *Tensor::Zeros(DType::kFloat32, {1, 4}) : judge.reference(sample)[0]};
  };
  EXPECT_LT(judge.Noise(only_last, 2).value(), 1e-90);  // 999 dB
  // 64 of 64 + 5 + 30 energy is lost.
  EXPECT_NEAR(judge.Noise(only_last, 100).value(), 64.0 / 99, 1e-12);
}

TEST(Judge, CandidatesThatDoNotFit) {
  const Judge judge = Open(MakeTensorTask());
  const auto none = judge.Score([](size_t) -> Result<std::vector<Tensor>> { return std::vector<Tensor>(); });
  EXPECT_THAT(none.status().message(), HasSubstr("other outputs"));
  const auto longer = judge.Score([](size_t) -> Result<std::vector<Tensor>> {
    return std::vector<Tensor>{*Tensor::Zeros(DType::kFloat32, {1, 5})};
  });
  EXPECT_FALSE(longer.ok());
  TestGraph other;
  const ValueId y = other.Op("Relu", {other.Input("other", {1, 4})});
  EXPECT_FALSE(judge.Score(other.Finish({y})).ok());
}

// One more question about each sample than about the one before; people drew what is right for the last.
class CountingTask : public Task {
 public:
  std::string_view name() const override { return "counting"; }
  std::string_view score_name() const override { return "score"; }
  Status Learn(size_t sample, std::span<const Tensor>) override {
    learnt_.push_back(sample);
    return sample == 5 ? InvalidArgument("five") : Status();
  }
  Result<Agreement> Judge(size_t sample, std::span<const Tensor> outputs) override {
    const double score = outputs[0].values<float>()[0] / 10;
    Agreement agreement{std::vector<double>(sample + 1, score), {}, {}};
    if (sample == 2) agreement.reference_truth = {0.5, 0.7}, agreement.candidate_truth = {0.25, 0.25};
    return agreement;
  }

 private:
  std::vector<size_t> learnt_;
};

TEST(Judge, EveryQuestionCounts) {
  const Judge judge = Open(std::make_unique<CountingTask>());
  const auto verdict = judge.Score(Scaled(1));
  ASSERT_TRUE(verdict.ok()) << verdict.status().message();
  EXPECT_EQ(verdict->score.count, 6u);
  // 0.1, 0, 0, 0.8, 0.8, 0.8: from float32, 2^-24 relative.
  EXPECT_NEAR(verdict->score.mean, 2.5 / 6, 1e-7);
  EXPECT_EQ(verdict->mean_bound, LowerBoundOfMean(verdict->scores));
  EXPECT_NEAR(*verdict->reference_truth, 0.6, 1e-12);
  EXPECT_EQ(*verdict->candidate_truth, 0.25);
}

// The first value of each output is the score, or of all samples together the mean of these.
class JointTask : public Task {
 public:
  explicit JointTask(bool whole, bool right_or_wrong = false) : whole_(whole), right_or_wrong_(right_or_wrong) {}
  std::string_view name() const override { return "joint"; }
  std::string_view score_name() const override { return "score"; }
  bool right_or_wrong() const override { return right_or_wrong_; }
  std::vector<FigureName> figures() const override { return {{"sum", "sum"}, {"none", "none"}}; }
  Status Learn(size_t, std::span<const Tensor>) override { return {}; }
  Status Begin() override {
    seen_.clear();
    return {};
  }
  Result<Agreement> Judge(size_t sample, std::span<const Tensor> outputs) override {
    seen_.push_back(outputs[0].values<float>()[0] / 8);
    return Agreement{{}, {}, {}, {{static_cast<double>(sample)}, {}}};
  }
  Result<JointAgreement> Finish() override {
    if (!whole_) return JointAgreement{seen_, {}};
    return JointAgreement{{}, std::accumulate(seen_.begin(), seen_.end(), 0.0) / static_cast<double>(seen_.size())};
  }

 private:
  const bool whole_, right_or_wrong_;
  std::vector<double> seen_;
};

TEST(Judge, TasksThatLookAtAllSamplesTogether) {
  const auto by_sample = Open(std::make_unique<JointTask>(false)).Score(Scaled(1));
  ASSERT_TRUE(by_sample.ok()) << by_sample.status().message();
  EXPECT_EQ(by_sample->scores, (Scores{{0.125}, {0}, {1}}));
  EXPECT_EQ(by_sample->mean_bound, LowerBoundOfMean(by_sample->scores));
  const Judge judge = Open(std::make_unique<JointTask>(true));
  for (int again = 0; again < 2; ++again) {
    const auto whole = judge.Score(Scaled(1));
    ASSERT_TRUE(whole.ok()) << whole.status().message();
    EXPECT_EQ(whole->score.mean, 0.375);
    EXPECT_EQ(whole->score.count, 1u);
    EXPECT_EQ(whole->mean_bound, std::nullopt);
    EXPECT_EQ(whole->p5_bound, std::nullopt);
    EXPECT_EQ(whole->scores.size(), 3u);
  }
}

TEST(Judge, FiguresAreMeansOverWhatHasThem) {
  const auto verdict = Open(std::make_unique<JointTask>(false)).Score(Scaled(1));
  ASSERT_EQ(verdict->figures.size(), 2u);
  EXPECT_EQ(verdict->figures[0].name.key, "sum");
  EXPECT_EQ(verdict->figures[0].mean, 1);
  EXPECT_EQ(verdict->figures[0].count, 3u);
  EXPECT_EQ(verdict->figures[1].count, 0u);
}

TEST(Judge, RightOrWrongHasExactBounds) {
  const Judge judge = Open(std::make_unique<JointTask>(false, true));
  const auto verdict = judge.Score([&](size_t) -> Result<std::vector<Tensor>> {
    return std::vector<Tensor>{Tensor::FromVector<float>({1, 4}, {8, 0, 0, 0})};
  });
  EXPECT_EQ(verdict->score.mean, 1);
  EXPECT_EQ(verdict->mean_bound, LowerBoundOfShare(3, 3));
  EXPECT_EQ(verdict->p5_bound, 0);
}

}  // namespace
}  // namespace octavo
