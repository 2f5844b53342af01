#include "quantize/search_ranges.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "quantize/quantize_testing.h"

namespace octavo {
namespace {

using testing::HasSubstr;

class SearchRangesTest : public testing::Test {
 protected:
  SearchRangesTest()
      : prepared_(PrepareForQuantization(residual_.graph).value()),
        stats_(UniformStats(prepared_, 0, 255)),
        placement_(Place(prepared_, {}).value()) {}

  ResidualGraph residual_;
  Graph prepared_;
  Stats stats_;
  Placement placement_;
};

TEST_F(SearchRangesTest, ReadsAnewWhatHasAChoice) {
  Recipe recipe = Decide(prepared_, stats_, {}).value();
  for (auto& [name, tensor] : stats_.tensors) tensor.max = 510;
  RangeChoices choices;
  choices[{"Relu", false}].estimator = Estimator::kMinMax;
  ASSERT_TRUE(EstimateRangesAnew(prepared_, placement_, stats_, choices, recipe).ok());
  EXPECT_EQ(FindActivation(recipe, residual_.relu)->scale, 2.0f);
  EXPECT_THAT(FindActivation(recipe, residual_.relu)->reason, HasSubstr("range by minmax"));
  EXPECT_EQ(FindActivation(recipe, "x")->scale, 1.0f);
}

TEST_F(SearchRangesTest, FindsAnEstimatorForEachKind) {
  // Percentiles for all, but min-max behind Relu.
  const auto judge = [](const RangeChoices& choices) -> Result<double> {
    double db = 30;
    for (const auto& [kind, options] : choices) {
      const Estimator best = kind.first == "Relu" ? Estimator::kMinMax : Estimator::kPercentile;
      db += options.estimator == best ? 1 : -1;
    }
    return db;
  };
  double score = 30;
  const RangeChoices found = SearchRanges(prepared_, placement_, judge, score).value();
  EXPECT_EQ(score, 33);
  ASSERT_EQ(found.size(), 3u);  // x, behind Relu, behind Concat
  for (const auto& [kind, options] : found) {
    EXPECT_EQ(options.estimator, kind.first == "Relu" ? Estimator::kMinMax : Estimator::kPercentile);
  }
}

TEST_F(SearchRangesTest, LeavesWhatIsBest) {
  double score = 40;
  const auto judge = [](const RangeChoices&) -> Result<double> { return 40.0; };
  EXPECT_TRUE(SearchRanges(prepared_, placement_, judge, score).value().empty());
  EXPECT_EQ(score, 40);
}

}  // namespace
}  // namespace octavo
