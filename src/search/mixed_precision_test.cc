#include "octavo/mixed_precision.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/json_object.h"
#include "search/search_testing.h"

namespace octavo {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

// What the search raised.
std::vector<std::string> Raised(const KeepOutcome& outcome) {
  std::vector<std::string> nodes;
  for (const FloatRecipe& node : outcome.recipe.float_nodes) nodes.push_back(node.node);
  return nodes;
}

class KeepTest : public testing::Test {
 protected:
  void Use(PlantedModel model) {
    model_.emplace(std::move(model));
    judge_.emplace(model_->OpenJudge());
    options_.costs = {};
    options_.costs.fingerprint = ModelFingerprint(model_->prepared);
    // INT8 is twice as fast in every layer.
    for (const std::string& node : model_->nodes) {
      options_.costs.layers[node] = {{DType::kInt8, 1}, {DType::kBFloat16, 1.5}, {DType::kFloat32, 2}};
    }
    options_.budget.int8_macs = 0.5;
  }
  Result<KeepOutcome> Keep() const {
    return KeepQuality(model_->prepared, model_->recipe, model_->stats, *judge_, options_);
  }
  KeepOutcome Kept() const {
    auto outcome = Keep();
    EXPECT_TRUE(outcome.ok()) << outcome.status().message();
    return outcome.ok() ? std::move(outcome).value() : KeepOutcome();
  }
  double AllInt8() const { return *judge_->Score(ApplyRecipe(model_->prepared, model_->recipe).value())->mean_bound; }
  // What the outcome says of its recipe holds for the model that the recipe makes.
  void ExpectHonest(const KeepOutcome& outcome) const {
    const auto verdict = judge_->Score(ApplyRecipe(model_->prepared, outcome.recipe).value());
    ASSERT_TRUE(verdict.ok()) << verdict.status().message();
    EXPECT_EQ(verdict->scores, outcome.verdict.scores);
    EXPECT_EQ(verdict->mean_bound, outcome.verdict.mean_bound);
    EXPECT_EQ(outcome.met, options_.goal.IsMetBy(*verdict));
  }

  std::optional<PlantedModel> model_;
  std::optional<Judge> judge_;
  KeepOptions options_;
};

TEST_F(KeepTest, AGoodModelStaysAsItIs) {
  Use(PlantedModel({4, 8, 8, 8}, {}));
  options_.goal.mean = 0.9;
  const KeepOutcome outcome = Kept();
  EXPECT_TRUE(outcome.met);
  EXPECT_EQ(FormatRecipe(outcome.recipe), FormatRecipe(model_->recipe));
  ASSERT_EQ(outcome.walked.size(), 1u);
  EXPECT_TRUE(outcome.walked[0].on_front);
  EXPECT_EQ(outcome.walked[0].milliseconds, 4);
  EXPECT_EQ(outcome.walked[0].last, "");
  EXPECT_EQ(outcome.int8_milliseconds, 4);
  EXPECT_EQ(outcome.fp32_milliseconds, 8);
  EXPECT_EQ(outcome.blame.size(), 4u);
  ExpectHonest(outcome);
}

TEST_F(KeepTest, OnlyThePlantedLayerIsRaised) {
  Use(PlantedModel({4, 8, 8, 8, 8}, {2}));
  options_.goal.mean = 0.999;  // 30 dB
  ASSERT_LT(AllInt8(), options_.goal.mean);
  const KeepOutcome outcome = Kept();
  EXPECT_TRUE(outcome.met);
  EXPECT_THAT(Raised(outcome), ElementsAre(model_->nodes[2]));
  EXPECT_EQ(outcome.recipe.float_nodes[0].precision, DType::kFloat32);
  ExpectHonest(outcome);
  ASSERT_EQ(outcome.walked.size(), 2u);
  EXPECT_EQ(outcome.walked[1].last, model_->nodes[2]);
  EXPECT_EQ(outcome.walked[1].raised, 1u);
  EXPECT_EQ(outcome.walked[1].milliseconds, 6);
  EXPECT_TRUE(outcome.walked[0].on_front && outcome.walked[1].on_front);  // faster; better
  // Five convolutions of 32, 64, 64, 64 and 32 products per pixel: 64 of 256 are float now.
  EXPECT_EQ(outcome.walked[0].int8_macs_share, 1);
  EXPECT_EQ(outcome.walked[1].int8_macs_share, 0.75);
  ASSERT_EQ(outcome.blame.size(), 5u);
  EXPECT_EQ(outcome.blame[0].node, model_->nodes[2]);
  EXPECT_GT(outcome.blame[0].noise_share, 0.9);
  EXPECT_LE(outcome.blame[0].noise_share, 1);
  EXPECT_EQ(outcome.blame[0].precision, DType::kFloat32);
  EXPECT_EQ(outcome.blame[0].milliseconds_saved, 1);
  EXPECT_THAT(outcome.blame[0].reason, HasSubstr("channel 2 ranges"));
}

// Of what is good enough the cheapest comes first.
TEST_F(KeepTest, SixteenBitsWhereTheySuffice) {
  Use(PlantedModel({4, 8, 8, 8, 8}, {2}));
  options_.goal.mean = 0.999;
  options_.raise_to = {DType::kBFloat16, DType::kFloat32};
  const KeepOutcome outcome = Kept();
  EXPECT_TRUE(outcome.met);
  ASSERT_THAT(Raised(outcome), ElementsAre(model_->nodes[2]));
  EXPECT_EQ(outcome.recipe.float_nodes[0].precision, DType::kBFloat16);
  EXPECT_EQ(outcome.walked.back().milliseconds, 5.5);
  ExpectHonest(outcome);
}

TEST_F(KeepTest, SeveralLayersAndNoneTooMany) {
  Use(PlantedModel({4, 8, 8, 8, 8, 8, 8}, {1, 3, 5}));
  options_.goal.mean = 0.999;
  const KeepOutcome outcome = Kept();
  EXPECT_TRUE(outcome.met);
  EXPECT_THAT(Raised(outcome), testing::UnorderedElementsAre(model_->nodes[1], model_->nodes[3], model_->nodes[5]));
  ExpectHonest(outcome);
}

// The outlier lies in the layer that holds most products, which have to stay INT8.
TEST_F(KeepTest, WhatTheBudgetForbids) {
  Use(PlantedModel({4, 32, 32, 4}, {1}));  // 1024 of 1296 products per pixel
  options_.goal.mean = 0.9999;
  const KeepOutcome outcome = Kept();
  EXPECT_FALSE(outcome.met);
  EXPECT_THAT(Raised(outcome), testing::Not(testing::Contains(model_->nodes[1])));
  EXPECT_GE(outcome.walked.back().int8_macs_share, 0.5);
  EXPECT_GE(outcome.verdict.mean_bound, outcome.walked[0].mean_bound);
  EXPECT_EQ(outcome.blame[0].node, model_->nodes[1]);
  EXPECT_EQ(outcome.blame[0].precision, DType::kInt8);
  ExpectHonest(outcome);
  options_.budget.int8_macs = 0;
  EXPECT_THAT(Raised(Kept()), testing::Contains(model_->nodes[1]));
}

TEST_F(KeepTest, LatencyIsABudgetToo) {
  Use(PlantedModel({4, 8, 8, 8, 8}, {2}));
  options_.goal.mean = 0.999;
  options_.budget.latency = 0.6;  // of 10 ms; all INT8 takes 5, one layer in float 6
  EXPECT_TRUE(Kept().met);
  options_.budget.latency = 0.59;
  const KeepOutcome outcome = Kept();
  EXPECT_FALSE(outcome.met);
  EXPECT_THAT(Raised(outcome), testing::IsEmpty());
  EXPECT_EQ(outcome.walked.size(), 1u);
  ExpectHonest(outcome);
}

TEST_F(KeepTest, EqualArgumentsEqualOutcome) {
  Use(PlantedModel({4, 8, 8, 8, 8, 8}, {1, 3}));
  options_.goal.mean = 0.9995;
  const KeepOutcome first = Kept();
  options_.costs = ParseCosts(FormatCosts(options_.costs), "c").value();
  const KeepOutcome second = Kept();
  EXPECT_EQ(FormatRecipe(first.recipe), FormatRecipe(second.recipe));
  EXPECT_EQ(FormatKeepOutcome(first, options_.goal), FormatKeepOutcome(second, options_.goal));
  options_.memory_bytes = 0;  // values are made again
  EXPECT_EQ(FormatKeepOutcome(first, options_.goal), FormatKeepOutcome(Kept(), options_.goal));
}

// Gains that are measured again after each raise, or never, find the planted layers, too.
TEST_F(KeepTest, HoweverOftenGainsAreMeasured) {
  Use(PlantedModel({4, 8, 8, 8, 8, 8}, {1, 3}));
  options_.goal.mean = 0.999;
  for (const size_t every : {size_t{0}, size_t{1}, size_t{100}}) {
    options_.remeasure_every = every;
    EXPECT_THAT(Raised(Kept()), testing::UnorderedElementsAre(model_->nodes[1], model_->nodes[3])) << every;
  }
}

// No precision gives back what is lost: the search ends, and says so.
TEST_F(KeepTest, AGoalThatNothingReaches) {
  Use(PlantedModel({4, 8, 8, 8}, {2}));
  options_.goal.mean = 1;
  options_.budget.int8_macs = 0;
  options_.raise_to = {DType::kBFloat16};
  const KeepOutcome outcome = Kept();
  EXPECT_FALSE(outcome.met);
  EXPECT_GT(Raised(outcome).size(), 1u);
  ExpectHonest(outcome);
  options_.raise_to = {DType::kFloat32};  // all of it in float: the float model itself
  EXPECT_TRUE(Kept().met);
}

TEST_F(KeepTest, ThePercentileHasItsOwnGoal) {
  Use(PlantedModel({4, 8, 8, 8, 8}, {2}));
  options_.goal.mean = 0.5;
  EXPECT_EQ(Kept().walked.size(), 1u);
  options_.goal.p5 = 0.999;
  const KeepOutcome outcome = Kept();
  EXPECT_TRUE(outcome.met);
  EXPECT_GE(outcome.verdict.p5_bound, 0.999);
  EXPECT_LT(outcome.walked[0].p5_bound, 0.999);
  EXPECT_THAT(Raised(outcome), ElementsAre(model_->nodes[2]));
}

TEST_F(KeepTest, MetByBothBounds) {
  Verdict verdict;
  verdict.mean_bound = 0.9;
  verdict.p5_bound = 0.8;
  EXPECT_TRUE((KeepGoal{0.9, {}}).IsMetBy(verdict));
  EXPECT_TRUE((KeepGoal{0.9, 0.8}).IsMetBy(verdict));
  EXPECT_FALSE((KeepGoal{0.91, 0.8}).IsMetBy(verdict));
  EXPECT_FALSE((KeepGoal{0.9, 0.81}).IsMetBy(verdict));
}

TEST_F(KeepTest, WhatCannotBeKept) {
  Use(PlantedModel({4, 8, 8, 8}, {2}));
  for (const double goal : {0.0, -1.0, 1.01, std::nan("")}) {
    options_.goal.mean = goal;
    EXPECT_THAT(Keep().status().message(), HasSubstr("a score above 0")) << goal;
  }
  options_.goal.mean = 0.9;
  options_.goal.p5 = 0;
  EXPECT_THAT(Keep().status().message(), HasSubstr("a score above 0"));
  options_.goal.p5.reset();
  options_.raise_to.clear();
  EXPECT_THAT(Keep().status().message(), HasSubstr("raised to"));
  options_.raise_to = {DType::kFloat16};
  EXPECT_THAT(Keep().status().message(),
              HasSubstr("the costs lack fp16 of node '" + model_->nodes[0] + "': measure them anew"));
  options_.raise_to = {DType::kFloat32};
  options_.costs.layers.erase(model_->nodes[1]);
  EXPECT_THAT(Keep().status().message(), HasSubstr("of node '" + model_->nodes[1] + "'"));
  options_.costs.fingerprint = "0123";
  EXPECT_THAT(Keep().status().message(), HasSubstr("of another model"));
  options_.costs.fingerprint.clear();
  EXPECT_THAT(Keep().status().message(), HasSubstr("costs lack"));
}

TEST_F(KeepTest, AFewSamplesPromiseNothing) {
  Use(PlantedModel({4, 8, 8, 8}, {2}, 100, kLeastJudgingSamples - 1));
  options_.goal.mean = 0.9;
  EXPECT_THAT(Keep().status().message(), testing::AllOf(HasSubstr("7 samples"), HasSubstr("give more")));
}

// Always right, or one number for all samples.
class SureTask : public Task {
 public:
  explicit SureTask(std::optional<double> whole) : whole_(whole) {}
  std::string_view name() const override { return "sure"; }
  std::string_view score_name() const override { return "score"; }
  bool right_or_wrong() const override { return !whole_; }
  Status Learn(size_t, std::span<const Tensor>) override { return {}; }
  Result<Agreement> Judge(size_t, std::span<const Tensor>) override {
    return whole_ ? Agreement() : Agreement{{1}, {}, {}};
  }
  Result<JointAgreement> Finish() override { return JointAgreement{{}, whole_}; }

 private:
  const std::optional<double> whole_;
};

Judge OpenSure(const PlantedModel& model, size_t samples, std::optional<double> whole = {}) {
  return Judge::Create(model.prepared, PlantedModel::Samples(model.prepared, samples),
                       std::make_unique<SureTask>(whole))
      .value();
}

TEST(CheckSamples, RightOrWrongNeedsMany) {
  const PlantedModel model({4, 4}, {});
  const auto refused = [&](size_t samples, const KeepGoal& goal) {
    return CheckSamples(goal, OpenSure(model, samples)).message();
  };
  EXPECT_THAT(refused(7, {0.1, {}}), HasSubstr("7 samples judge, and a bound on what unseen ones will score needs 8"));
  EXPECT_EQ(refused(28, {0.9, {}}),
            "28 samples judge, each right or wrong: if all are right, at least 0.8985 is shown with 95 % confidence; "
            "0.9 needs 29 samples: give more, or ask for less");
  EXPECT_EQ(refused(29, {0.9, {}}), "");
  EXPECT_THAT(refused(29, {0.99, {}}), HasSubstr("0.99 needs 299 samples"));
  EXPECT_THAT(refused(29, {1, {}}), HasSubstr("no number of right ones"));
  EXPECT_THAT(refused(29, {0.9, 0.5}), HasSubstr("needs 59"));
  EXPECT_EQ(refused(59, {0.9, 1}), "");
}

TEST_F(KeepTest, OneNumberForAllSamplesIsComparedItself) {
  Use(PlantedModel({4, 8, 8, 8}, {}));
  judge_.emplace(OpenSure(*model_, 8, 0.97));
  options_.goal.mean = 0.97;
  const KeepOutcome outcome = Kept();
  EXPECT_TRUE(outcome.met);
  EXPECT_EQ(outcome.verdict.mean_bound, std::nullopt);
  const Json point = Json::parse(FormatKeepOutcome(outcome, options_.goal))["walked"][0];
  EXPECT_TRUE(point["mean_bound"].is_null());
  EXPECT_TRUE(point["p5"].is_null());
  options_.goal.mean = 0.98;
  EXPECT_FALSE(Kept().met);
  options_.goal = {0.5, 0.5};
  EXPECT_THAT(Keep().status().message(), HasSubstr("there is no 5th percentile"));
}

TEST_F(KeepTest, ARecipeThatQuantizesNothing) {
  Use(PlantedModel({4, 8, 8, 8}, {}));
  model_->recipe = Recipe();
  options_.goal.mean = 1;
  const KeepOutcome outcome = Kept();
  EXPECT_TRUE(outcome.met);
  EXPECT_THAT(outcome.blame, testing::IsEmpty());
}

TEST_F(KeepTest, Text) {
  Use(PlantedModel({4, 8, 8, 8, 8}, {2}));
  options_.goal = {0.999, 0.9};
  const KeepOutcome outcome = Kept();
  const Json document = Json::parse(FormatKeepOutcome(outcome, options_.goal));
  EXPECT_EQ(document["goal"]["mean"], 0.999);
  EXPECT_EQ(document["goal"]["p5"], 0.9);
  EXPECT_EQ(document["met"], true);
  ASSERT_EQ(document["walked"].size(), outcome.walked.size());
  EXPECT_EQ(document["walked"][1]["last"], model_->nodes[2]);
  EXPECT_EQ(document["blame"][0]["node"], model_->nodes[2]);
  EXPECT_EQ(document["blame"][0]["precision"], "fp32");
  EXPECT_TRUE(Json::parse(FormatKeepOutcome(outcome, {0.5, {}}))["goal"]["p5"].is_null());
}

}  // namespace
}  // namespace octavo
