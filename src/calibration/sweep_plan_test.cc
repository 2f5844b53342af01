#include "calibration/sweep_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace octavo {
namespace {

using testing::HasSubstr;

constexpr int64_t kMb = int64_t{1} << 20;

SweepCosts Costs(int64_t limit_mb) { return {limit_mb * kMb, 100 * kMb, 50 * kMb, std::vector<int64_t>(12, 6 * kMb)}; }

TEST(PlanSweepTest, OneSweepOnEveryThreadWhereThereIsRoom) {
  // 100 + 4 * 50 + 12 * 6 = 372.
  const auto plan = PlanSweep(Costs(372), 4);
  ASSERT_TRUE(plan.ok());
  EXPECT_EQ(plan->threads, 4);
  EXPECT_EQ(plan->sweeps, 1);
  EXPECT_EQ(plan->tensors, 12u);
}

TEST(PlanSweepTest, ChoosesTheFewestSweepsPerThread) {
  // Three threads and one sweep beat four threads and two.
  const auto plan = PlanSweep(Costs(340), 4);
  ASSERT_TRUE(plan.ok());
  EXPECT_EQ(plan->threads, 3);
  EXPECT_EQ(plan->sweeps, 1);
}

TEST(PlanSweepTest, SplitsTheTensorsAndKeepsWhatIsDone) {
  // One thread leaves 50 MB: eight tensors; a third of their 48 MB stays, and 34 MB take the other four.
  const auto plan = PlanSweep(Costs(200), 1);
  ASSERT_TRUE(plan.ok());
  EXPECT_EQ(plan->threads, 1);
  EXPECT_EQ(plan->tensors, 8u);
  EXPECT_EQ(plan->sweeps, 2);
}

TEST(PlanSweepTest, SaysWhatIsNeeded) {
  const auto plan = PlanSweep(Costs(155), 4);
  // 150, eleven thirds of 6 and the last one's 6.
  EXPECT_THAT(plan.status().message(), HasSubstr("155 MB of memory are not enough"));
  EXPECT_THAT(plan.status().message(), HasSubstr("need 178 MB"));
  EXPECT_TRUE(PlanSweep(Costs(178), 4).ok());
}

}  // namespace
}  // namespace octavo
