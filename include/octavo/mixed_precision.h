// Mixed precision for a stated quality: everything in INT8, and the fewest layers raised that bring the picture back.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "octavo/costs.h"
#include "octavo/graph.h"
#include "octavo/judge.h"
#include "octavo/quantize.h"
#include "octavo/stats.h"
#include "octavo/status.h"

namespace octavo {

struct KeepGoal {
  double mean = 0;           // what Verdict::mean_bound must reach; without a bound, the mean itself
  std::optional<double> p5;  // what Verdict::p5_bound must reach; never met without one
  bool IsMetBy(const Verdict& verdict) const;
};

// Whether the judge's samples can show that a goal is met at all, whatever they say. Errors: kInvalidArgument for a
// goal outside (0, 1], fewer than kLeastJudgingSamples samples (units of Task), or, where scores are 0 or 1, fewer than
// LeastSamplesToShow; the message says how many are needed.
Status CheckSamples(const KeepGoal& goal, const Judge& judge);

// What must not be given up for the goal.
struct KeepBudget {
  std::optional<double> latency;  // of the FP32 model's by the costs: at most this share
  double int8_macs = 0.5;         // of all multiply-accumulates of contractions: at least this share stays INT8
};

struct KeepOptions {
  KeepGoal goal;
  KeepBudget budget;
  std::vector<DType> raise_to = {DType::kFloat32};  // what layers may be raised to, cheapest first
  LayerCosts costs;                                 // of kInt8, kFloat32 and what raise_to names
  int64_t memory_bytes = int64_t{2} << 30;          // of cached activations
  size_t remeasure_every = 5;                       // layers raised before gains are measured again: layers interact
  // A recipe step is done; `measuring` tells a sweep over layers (of `total`) from a layer that was raised.
  std::function<void(size_t done, size_t total, bool measuring)> progress;
};

// A mixture that was judged.
struct FrontPoint {
  size_t raised = 0;  // layers that are not INT8
  std::string last;   // the layer that was raised, or lowered again, to come here; "" for the start
  ScoreSummary score;
  std::optional<double> mean_bound, p5_bound;  // as in Verdict
  double sqnr_db = 0;
  double milliseconds = 0;     // by the costs
  double int8_macs_share = 0;  // as the engine computes it
  int64_t bytes = 0;           // of all constants
  bool on_front = false;       // no other point is at least as good in score, milliseconds and bytes, and better in one
};

// What a layer's INT8 costs, with everything else as it was at the start.
struct Blame {
  std::string node, op;
  double noise_share = 0;  // of the output's noise: what is gone with this layer in float; shares need not add up to 1
  double milliseconds_saved = 0;
  DType precision = DType::kInt8;  // what the search left it in
  std::string reason;              // WhyHard; "" for nothing in particular
};

struct KeepOutcome {
  bool met = false;
  Recipe recipe;  // the one that meets the goal, or the best that was found within the budget
  Verdict verdict;
  std::vector<FrontPoint> walked;                       // in the order in which they were judged
  std::vector<Blame> blame;                             // largest share first
  double fp32_milliseconds = 0, int8_milliseconds = 0;  // by the costs
};

// Greedy: the layer whose raising takes away most of the output's noise for what it costs goes first; its cost is
// the share of what the budget leaves to spend, of time and of multiply-accumulates, added up. Gains are measured on
// the judge's samples by the noise of the model's outputs, which adds up over layers and needs far fewer pictures than
// the task's score; whether the goal is met is decided by the score alone. Once it is met, layers that turned out not
// to be needed are lowered again. `stats`: of RewriteWithoutBiases(prepared, `recipe`), for the reasons.
// The result depends on the arguments alone (costs included), on one instruction set. Errors: those of CheckSamples;
// kInvalidArgument for costs of another model, or a goal for the 5th percentile where the task gives one number for all
// samples; those of ApplyRecipe, Session and the task.
Result<KeepOutcome> KeepQuality(const Graph& prepared, const Recipe& recipe, const Stats& stats, const Judge& judge,
                                const KeepOptions& options);

// The walk as JSON: goal, points, blame.
std::string FormatKeepOutcome(const KeepOutcome& outcome, const KeepGoal& goal);

}  // namespace octavo
