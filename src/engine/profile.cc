#include "octavo/profile.h"

#include <algorithm>
#include <numeric>

namespace octavo {
namespace {

bool IsFloat(std::string_view precision) { return precision == "fp32" || precision == "bf16" || precision == "fp16"; }

double Milliseconds(int64_t nanoseconds) { return 1e-6 * static_cast<double>(nanoseconds); }

double Median(std::vector<double> values) { return SummarizeTimings(std::move(values)).median; }

}  // namespace

std::string_view NameOf(StepKind kind) {
  constexpr std::array<std::string_view, kStepKinds> kNames = {"int8",     "float products", "other float",
                                                               "quantize", "copies",         "other"};
  return kNames[static_cast<size_t>(kind)];
}

StepKind KindOf(const StepInfo& step) {
  if (step.kernel.starts_with("copy ")) return StepKind::kCopy;
  if (step.op == "QuantizeLinear" || step.op == "DequantizeLinear") return StepKind::kQuantize;
  if (step.precision == "int8") return StepKind::kInt8;
  if (!IsFloat(step.precision)) return StepKind::kOther;
  return step.macs > 0 ? StepKind::kFloatProduct : StepKind::kFloat;
}

ModelProfile SummarizeProfile(const PlanInfo& plan, std::span<const RunProfile> runs, const MachineLimits& limits) {
  ModelProfile profile;
  profile.steps.resize(plan.steps.size());
  std::vector<std::vector<double>> times(plan.steps.size());
  std::vector<double> totals, beyond;
  for (const RunProfile& run : runs) {
    if (run.steps.size() != plan.steps.size()) continue;
    int64_t sum = 0;
    for (size_t i = 0; i < run.steps.size(); ++i) {
      const int64_t taken = run.steps[i].end_ns - run.steps[i].begin_ns;
      sum += taken;
      times[i].push_back(Milliseconds(taken));
    }
    totals.push_back(Milliseconds(run.total_ns));
    beyond.push_back(Milliseconds(run.total_ns - sum));
  }
  profile.milliseconds = Median(std::move(totals));
  profile.scheduling_milliseconds = Median(std::move(beyond));

  for (size_t i = 0; i < plan.steps.size(); ++i) {
    const StepInfo& info = plan.steps[i];
    StepProfile& step = profile.steps[i];
    step.milliseconds = Median(std::move(times[i]));
    step.kind = KindOf(info);
    const int64_t bytes = info.bytes_read + info.bytes_written;
    const double peak = limits.MacsPerSecond(info.precision), bandwidth = limits.BytesPerSecond(bytes);
    const double computing = peak > 0 ? 1e3 * static_cast<double>(info.macs) / peak : 0;
    const double moving = bandwidth > 0 ? 1e3 * static_cast<double>(bytes) / bandwidth : 0;
    step.limit_milliseconds = std::max(computing, moving);
    step.memory_bound = moving > computing;
    profile.by_kind[static_cast<size_t>(step.kind)] += step.milliseconds;
    if (step.kind == StepKind::kInt8) profile.int8_macs += info.macs;
  }
  const double int8_milliseconds = profile.by_kind[static_cast<size_t>(StepKind::kInt8)];
  if (profile.int8_macs > 0) {
    for (const StepProfile& step : profile.steps) {
      if (step.kind != StepKind::kFloatProduct && step.kind != StepKind::kFloat) continue;
      ++profile.float_islands;
      profile.float_island_milliseconds += step.milliseconds;
    }
    const auto rate = [&](double milliseconds) {
      return milliseconds > 0 ? 1e-6 * static_cast<double>(profile.int8_macs) / milliseconds : 0;
    };
    profile.int8_gmacs_per_second = rate(int8_milliseconds);
    if (limits.int8 > 0) {
      profile.int8_share = profile.int8_gmacs_per_second / limits.int8;
      profile.int8_share_of_run = rate(profile.milliseconds) / limits.int8;
    }
  }
  return profile;
}

}  // namespace octavo
