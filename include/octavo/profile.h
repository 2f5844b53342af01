// Where a run's time goes, step by step, and how near each step comes to what this machine shows.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "octavo/bench.h"
#include "octavo/session.h"

namespace octavo {

// What a step does, for sums over a plan.
enum class StepKind : uint8_t {
  kInt8,          // contractions and attention on 8-bit integers
  kFloatProduct,  // the same in float32, bfloat16 or float16
  kFloat,         // what else computes in float: normalization, activations, additions that are not fused
  kQuantize,      // QuantizeLinear and DequantizeLinear that are steps of their own
  kCopy,          // values written anew in another order or type
  kOther,         // integers, booleans, shapes
};
inline constexpr size_t kStepKinds = 6;
// "int8", "float products", "other float", "quantize", "copies", "other".
std::string_view NameOf(StepKind kind);

StepKind KindOf(const StepInfo& step);

struct StepProfile {
  double milliseconds = 0;  // median over the runs
  StepKind kind = StepKind::kOther;
  // The least time that this machine could take: the longer of multiply-accumulates at the peak of the step's precision
  // and bytes at the rate at which as many are copied. Neither counts activations' arithmetic, so a step that is bound
  // by it shows a small share.
  double limit_milliseconds = 0;
  bool memory_bound = false;  // which of the two is the longer
  double share() const { return milliseconds > 0 ? limit_milliseconds / milliseconds : 0; }
};

struct ModelProfile {
  std::vector<StepProfile> steps;            // as PlanInfo::steps
  double milliseconds = 0;                   // of a run, median
  std::array<double, kStepKinds> by_kind{};  // sums of the steps' medians
  double scheduling_milliseconds = 0;        // median of what a run takes beyond its steps
  double float_island_milliseconds = 0;      // float steps of a plan that has INT8 steps
  int float_islands = 0;                     // how many
  int64_t int8_macs = 0;
  double int8_gmacs_per_second = 0;  // over the time of the INT8 steps
  double int8_share = 0;             // of limits.int8, over the time of the INT8 steps
  double int8_share_of_run = 0;      // over the time of the run
};

// `runs`: profiles of one plan; those of another length than `plan` are left out.
ModelProfile SummarizeProfile(const PlanInfo& plan, std::span<const RunProfile> runs, const MachineLimits& limits);

}  // namespace octavo
