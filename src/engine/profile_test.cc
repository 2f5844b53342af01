#include "octavo/profile.h"

#include <gtest/gtest.h>

namespace octavo {
namespace {

StepInfo Step(const char* op, const char* kernel, const char* precision, int64_t macs, int64_t read, int64_t written) {
  StepInfo step;
  step.op = op;
  step.kernel = kernel;
  step.precision = precision;
  step.macs = macs;
  step.bytes_read = read;
  step.bytes_written = written;
  return step;
}

RunProfile ProfileOf(std::vector<StepSpan> spans, int64_t total_ns) {
  RunProfile run;
  run.steps = std::move(spans);
  run.total_ns = total_ns;
  return run;
}

TEST(Profile, SaysWhichLimitBindsAStepAndWhereTheRestOfARunGoes) {
  PlanInfo plan;
  plan.steps = {Step("Conv", "onednn brgconv", "int8", 1'000'000'000, 1'000'000, 1'000'000),
                Step("Gelu", "Gelu avx3", "fp32", 0, 4'000'000, 4'000'000),
                Step("Reorder", "copy avx3", "uint8", 0, 1'000'000, 1'000'000),
                Step("QuantizeLinear", "QuantizeLinear avx3", "uint8", 0, 4'000'000, 1'000'000),
                Step("MatMul", "onednn gemm", "fp32", 100'000'000, 0, 0)};
  MachineLimits limits;
  limits.int8 = 1000;
  limits.bfloat16 = 400;
  limits.float32 = 200;
  limits.copies = {{1 << 20, 40}, {4 << 20, 20}};
  // Milliseconds 2, 1, 1, 1, 1 and half a one between; the second run is slower in its first step alone.
  const std::vector<StepSpan> first = {
      {0, 2'000'000}, {2'500'000, 3'500'000}, {3'500'000, 4'500'000}, {4'500'000, 5'500'000}, {5'500'000, 6'500'000}};
  std::vector<StepSpan> second = first;
  second[0].end_ns = 4'000'000;
  for (size_t i = 1; i < second.size(); ++i) {
    second[i].begin_ns += 2'000'000;
    second[i].end_ns += 2'000'000;
  }
  const std::vector<RunProfile> runs = {ProfileOf(first, 6'500'000), ProfileOf(second, 8'500'000), ProfileOf({}, 1)};
  const ModelProfile profile = SummarizeProfile(plan, runs, limits);

  ASSERT_EQ(profile.steps.size(), 5u);
  EXPECT_DOUBLE_EQ(profile.steps[0].milliseconds, 3);
  EXPECT_DOUBLE_EQ(profile.steps[0].limit_milliseconds, 1);  // 10^9 products at 10^12 a second
  EXPECT_FALSE(profile.steps[0].memory_bound);
  EXPECT_DOUBLE_EQ(profile.steps[0].share(), 1.0 / 3);
  EXPECT_DOUBLE_EQ(profile.steps[1].limit_milliseconds, 0.4);  // 8 MB at 20 GB/s
  EXPECT_TRUE(profile.steps[1].memory_bound);
  EXPECT_DOUBLE_EQ(profile.steps[2].limit_milliseconds, 0.05);  // 2 MB at 40 GB/s
  EXPECT_DOUBLE_EQ(profile.steps[4].limit_milliseconds, 0.5);
  EXPECT_DOUBLE_EQ(profile.milliseconds, 7.5);
  EXPECT_DOUBLE_EQ(profile.scheduling_milliseconds, 0.5);
  EXPECT_EQ(profile.by_kind, (std::array<double, kStepKinds>{3, 1, 1, 1, 1, 0}));
  EXPECT_EQ(profile.float_islands, 2);
  EXPECT_DOUBLE_EQ(profile.float_island_milliseconds, 2);
  EXPECT_EQ(profile.int8_macs, 1'000'000'000);
  EXPECT_DOUBLE_EQ(profile.int8_share, 1.0 / 3);
  EXPECT_DOUBLE_EQ(profile.int8_share_of_run, 1 / 7.5);
}

TEST(Profile, AFloatModelHasNoIslands) {
  PlanInfo plan;
  plan.steps = {Step("Gelu", "Gelu avx3", "fp32", 0, 4, 4)};
  const ModelProfile profile =
      SummarizeProfile(plan, std::vector<RunProfile>{ProfileOf({{0, 1'000'000}}, 1'000'000)}, {});
  EXPECT_EQ(profile.float_islands, 0);
  EXPECT_EQ(profile.int8_share, 0);
  EXPECT_EQ(profile.steps[0].limit_milliseconds, 0);  // nothing was measured
}

TEST(MachineLimits, EachPrecisionAndSizeHasItsOwn) {
  const auto limits = MeasureMachineLimits(1);
  ASSERT_TRUE(limits.ok()) << limits.status().message();
  EXPECT_GT(limits->float32, 0);
  EXPECT_GT(limits->int8, 0);
  if (IsaInUse() == "avx512_core_bf16" || IsaInUse() == "avx512_core_amx") {
    EXPECT_GT(limits->bfloat16, 0);
  }
  ASSERT_GE(limits->copies.size(), 2u);
  EXPECT_EQ(limits->BytesPerSecond(0), 1e9 * limits->copies.front().rate);
  EXPECT_EQ(limits->BytesPerSecond(int64_t{1} << 40), 1e9 * limits->copies.back().rate);
  for (const auto& copy : limits->copies) EXPECT_GT(copy.rate, 0);
}

}  // namespace
}  // namespace octavo
