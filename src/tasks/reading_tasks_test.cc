// Classes and texts: what each sample scores.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "octavo/task.h"

namespace octavo {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

Dataset Samples(const std::vector<std::string>& names) {
  std::vector<std::map<std::string, Tensor>> samples(names.size(), {{"x", *Tensor::Zeros(DType::kFloat32, {1})}});
  return *Dataset::FromSamples(names, std::move(samples));
}

std::vector<Tensor> Out(Dims dims, const std::vector<float>& values) {
  return {Tensor::FromVector<float>(std::move(dims), values)};
}

TEST(AgreeOnClasses, ByHand) {
  // Probabilities: differences 0.2, 0.2, 0; 0.7 ln(0.7 / 0.5) + 0.2 ln(0.2 / 0.4).
  const float p[] = {0.7f, 0.2f, 0.1f}, q[] = {0.5f, 0.4f, 0.1f};
  const auto found = AgreeOnClasses(p, q).value();
  EXPECT_TRUE(found.same);
  EXPECT_EQ(found.top5_overlap, 1);
  // float32 holds each probability within 6e-8.
  EXPECT_NEAR(found.probability_difference, 0.2, 2e-7);
  EXPECT_NEAR(found.kl_divergence, 0.7 * std::log(1.4) + 0.2 * std::log(0.5), 1e-6);
  // Logits: adding a number to all changes nothing.
  const float a[] = {1, 3, 2, -4}, b[] = {11, 13, 12, 6};
  const auto moved = AgreeOnClasses(a, b).value();
  EXPECT_NEAR(moved.kl_divergence, 0, 1e-12);
  EXPECT_NEAR(moved.probability_difference, 0, 1e-12);
}

TEST(AgreeOnClasses, FirstFive) {
  const float a[] = {9, 8, 7, 6, 5, 4, 3}, b[] = {8, 9, 7, 1, 2, 6, 5};
  const auto found = AgreeOnClasses(a, b).value();
  EXPECT_FALSE(found.same);
  EXPECT_NEAR(found.top5_overlap, 3.0 / 5, 1e-15);  // 1, 0, 2, 5, 6: three of the first five
  const float tie[] = {1, 1, 0}, first[] = {2, 1, 0};
  EXPECT_TRUE(AgreeOnClasses(tie, first)->same);
}

TEST(AgreeOnClasses, WhatCannotBeCompared) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float good[] = {0, 1}, bad[] = {0, nan}, one[] = {1}, three[] = {1, 2, 3};
  const auto found = AgreeOnClasses(good, bad).value();
  EXPECT_FALSE(found.finite);
  EXPECT_FALSE(found.same);
  EXPECT_FALSE(AgreeOnClasses(bad, good).ok());
  EXPECT_FALSE(AgreeOnClasses(one, one).ok());
  EXPECT_FALSE(AgreeOnClasses(good, three).ok());
  // Where the candidate has no probability left the divergence is large, not infinite.
  const float sure[] = {1, 0}, other[] = {0, 1};
  EXPECT_NEAR(AgreeOnClasses(sure, other)->kl_divergence, std::log(1e7), 1e-5);
}

TEST(ClassifyTask, ScoresFiguresAndLabels) {
  const Dataset samples = Samples({"a.jpg", "b.jpg", "c.jpg"});
  const auto task = MakeClassifyTask(samples, {1, {{"a.jpg", "2"}, {"b.jpg", "0"}, {"z.jpg", "1"}}}).value();
  EXPECT_TRUE(task->right_or_wrong());
  const auto outputs = [](const std::vector<float>& logits) {
    return std::vector<Tensor>{*Tensor::Zeros(DType::kFloat32, {1}), Out({1, 3, 1, 1}, logits)[0]};
  };
  for (size_t i = 0; i < 3; ++i) ASSERT_TRUE(task->Learn(i, outputs({0, 1, 2})).ok());
  const auto right = task->Judge(0, outputs({-1, 1, 3})).value();
  EXPECT_THAT(right.scores, ElementsAre(1));
  EXPECT_THAT(right.reference_truth, ElementsAre(1));
  EXPECT_THAT(right.candidate_truth, ElementsAre(1));
  EXPECT_EQ(right.figures.size(), task->figures().size());
  EXPECT_THAT(right.figures[0], ElementsAre(1));
  const auto wrong = task->Judge(1, outputs({5, 1, 3})).value();
  EXPECT_THAT(wrong.scores, ElementsAre(0));
  EXPECT_THAT(wrong.reference_truth, ElementsAre(0));
  EXPECT_THAT(wrong.candidate_truth, ElementsAre(1));
  EXPECT_THAT(task->Judge(2, outputs({0, 1, 2}))->reference_truth, IsEmpty());
  const auto broken = task->Judge(0, outputs({0, 1, std::numeric_limits<float>::infinity()})).value();
  EXPECT_THAT(broken.scores, ElementsAre(0));
  EXPECT_THAT(broken.candidate_truth, ElementsAre(0));
  EXPECT_THAT(broken.figures[1], IsEmpty());
}

TEST(ClassifyTask, EveryRowIsAQuestion) {
  const auto task = MakeClassifyTask(Samples({"a.npz"})).value();
  ASSERT_TRUE(task->Learn(0, Out({2, 2}, {0, 1, 1, 0})).ok());
  EXPECT_THAT(task->Judge(0, Out({2, 2}, {0, 1, 0, 1}))->scores, ElementsAre(1, 0));
  EXPECT_FALSE(task->Judge(0, Out({1, 2}, {0, 1})).ok());
}

TEST(ClassifyTask, WhatIsRefused) {
  const Dataset samples = Samples({"a.jpg"});
  EXPECT_THAT(MakeClassifyTask(samples, {0, {{"b.jpg", "1"}}}).status().message(),
              HasSubstr("name none of the samples"));
  for (const char* label : {"cat", "-1", "1.5", "99999999999999999999"}) {
    EXPECT_THAT(MakeClassifyTask(samples, {0, {{"a.jpg", label}}}).status().message(),
                HasSubstr("a class is an index"));
  }
  const auto learn = [&](std::vector<Tensor> outputs, ClassifyTaskOptions options = {}) {
    return (*MakeClassifyTask(samples, std::move(options)))->Learn(0, outputs).message();
  };
  EXPECT_THAT(learn(Out({1, 2, 3}, {0, 1, 2, 3, 4, 5})), HasSubstr("'a.jpg': classes are read from an output"));
  EXPECT_THAT(learn(Out({1, 1}, {0})), HasSubstr("not 1x1"));
  EXPECT_THAT(learn(Out({3}, {0, 1, 2}), {1, {}}), HasSubstr("gave no classes"));
  EXPECT_THAT(learn(Out({3}, {0, 1, 2}), {0, {{"a.jpg", "3"}}}),
              HasSubstr("its label is 3, and the model has 3 classes"));
  EXPECT_THAT(learn(Out({2, 2}, {0, 1, 1, 0}), {0, {{"a.jpg", "1"}}}), HasSubstr("several pictures"));
  EXPECT_THAT(learn(Out({2}, {0, std::numeric_limits<float>::quiet_NaN()})), HasSubstr("'a.jpg': the reference holds"));
  EXPECT_EQ(learn(Out({3}, {0, 1, 2})), "");
}

TEST(HeatmapTask, AnyOutput) {
  const std::vector<Tensor> reference = {Out({2}, {5, 5})[0], Out({2}, {0, 1})[0]};
  const std::vector<Tensor> candidate = {Out({2}, {5, 5})[0], Out({2}, {1, 0})[0]};
  for (const size_t output : {0u, 1u}) {
    const auto task = MakeHeatmapTask(output);
    ASSERT_TRUE(task->Learn(0, reference).ok());
    EXPECT_THAT(task->Judge(0, candidate)->scores, ElementsAre(output == 0 ? 1 : 0));
  }
  EXPECT_FALSE(MakeHeatmapTask(2)->Learn(0, reference).ok());
}

// (1, steps, 4), the best class of each step as given.
std::vector<Tensor> Steps(const std::vector<size_t>& best) {
  std::vector<float> values(best.size() * 4, 0);
  for (size_t t = 0; t < best.size(); ++t) values[t * 4 + best[t]] = 1;
  return Out({1, static_cast<int64_t>(best.size()), 4}, values);
}

TEST(TextTask, TextsErrorRateAndLabels) {
  TextTaskOptions options;
  options.characters = {"a", "b"};
  options.labels = {{"1.png", "ab "}};
  const auto task = MakeTextTask(Samples({"1.png", "2.png"}), options).value();
  EXPECT_TRUE(task->right_or_wrong());
  ASSERT_TRUE(task->Learn(0, Steps({1, 1, 0, 2, 3})).ok());  // "ab "
  ASSERT_TRUE(task->Learn(1, Steps({0, 0, 0})).ok());        // ""
  EXPECT_EQ(task->note(), "");
  const auto same = task->Judge(0, Steps({0, 1, 2, 3, 3})).value();  // in other steps
  EXPECT_THAT(same.scores, ElementsAre(1));
  EXPECT_THAT(same.figures, ElementsAre(ElementsAre(0)));
  EXPECT_THAT(same.candidate_truth, ElementsAre(1));
  const auto other = task->Judge(0, Steps({2, 2, 3})).value();  // "b ": one of three is missing
  EXPECT_THAT(other.scores, ElementsAre(0));
  EXPECT_NEAR(other.figures[0][0], 1.0 / 3, 1e-15);
  EXPECT_THAT(other.reference_truth, ElementsAre(1));
  EXPECT_THAT(other.candidate_truth, ElementsAre(0));
  EXPECT_THAT(task->Judge(1, Steps({1, 0, 2}))->figures, ElementsAre(ElementsAre(2)));  // two of none
  auto broken = Steps({1, 2, 3});
  broken[0].mutable_values<float>()[5] = std::numeric_limits<float>::quiet_NaN();
  const auto nothing = task->Judge(0, broken).value();
  EXPECT_THAT(nothing.scores, ElementsAre(0));
  EXPECT_THAT(nothing.figures, ElementsAre(ElementsAre(1)));
}

TEST(TextTask, ANothingOfNanIsNoEmptyText) {
  const auto task = MakeTextTask(Samples({"1.png"})).value();
  ASSERT_TRUE(task->Learn(0, Steps({0, 0})).ok());
  const float nan = std::numeric_limits<float>::quiet_NaN();
  EXPECT_THAT(task->Judge(0, Out({1, 2, 4}, std::vector<float>(8, nan)))->scores, ElementsAre(0));
}

TEST(TextTask, WithoutCharactersIndicesAreCompared) {
  const auto task = MakeTextTask(Samples({"1.png"})).value();
  EXPECT_THAT(task->note(), HasSubstr("sequences of class indices"));
  ASSERT_TRUE(task->Learn(0, Steps({1, 2})).ok());
  EXPECT_THAT(task->Judge(0, Steps({1, 0, 2}))->scores, ElementsAre(1));
  EXPECT_THAT(task->Judge(0, Steps({2, 1}))->scores, ElementsAre(0));
  // Two classes of one character read the same.
  TextTaskOptions twice;
  twice.characters = {"a", "a", "b"};
  const auto named = MakeTextTask(Samples({"1.png"}), twice).value();
  ASSERT_TRUE(named->Learn(0, Steps({1})).ok());
  EXPECT_THAT(named->Judge(0, Steps({2}))->scores, ElementsAre(1));
}

TEST(TextTask, WhatIsRefused) {
  const Dataset samples = Samples({"1.png"});
  TextTaskOptions labels;
  labels.labels = {{"1.png", "a"}};
  EXPECT_THAT(MakeTextTask(samples, labels).status().message(), HasSubstr("characters of the model's classes"));
  TextTaskOptions few;
  few.characters = {"a"};
  EXPECT_THAT((*MakeTextTask(samples, few))->Learn(0, Steps({1})).message(),
              HasSubstr("'1.png': 1 characters do not fit 4 classes"));
  const auto task = MakeTextTask(samples).value();
  EXPECT_THAT(task->Learn(0, {}).message(), HasSubstr("no text"));
  ASSERT_TRUE(task->Learn(0, Steps({1})).ok());
  EXPECT_FALSE(task->Judge(0, Out({2, 1, 4}, {0, 1, 0, 0, 0, 1, 0, 0})).ok() &&
               task->Judge(0, Out({4}, {0, 1, 0, 0})).ok());
}

}  // namespace
}  // namespace octavo
