// Remedies: what makes a model easier to quantize without changing its function, and what takes back some of the noise
// that INT8 adds. docs/remedies.md has their formulas.
#pragma once

#include <cstddef>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "octavo/dataset.h"
#include "octavo/quantize.h"
#include "octavo/status.h"

namespace octavo {

struct RemedyInfo {
  std::string_view name;   // as --remedy takes it
  std::string_view about;  // one line
  bool slow = false;       // tried only where it is asked for
};

// In the order in which they are tried.
std::span<const RemedyInfo> AllRemedies();

struct RemedyOptions {
  // Names from AllRemedies. Those of `always` are applied without being judged, those of `never` are left out, the
  // others stay where they gain. Slow ones are tried where `slow` or `always` names them.
  std::vector<std::string> always, never, slow;
  double least_gain_db = 0.1;  // what a remedy must gain to stay
  size_t samples = 16;         // the first of the data judge
  int threads = 0;             // 0: every core this process may run on
  bool whole_octaves = true;   // scales are powers of two: every weight keeps its mantissa
  // Remedies done, of how many; what is being tried.
  std::function<void(size_t done, size_t total, std::string_view name)> progress;
  // Layers that ada-round is done with, of how many.
  std::function<void(size_t done, size_t total)> rounding_progress;
};

// Why the policy can have no remedies; empty where it can.
std::string WhyNoRemedies(const Policy& policy);
// Why the policy's target cannot express that remedy, or can gain nothing by it; empty where it can.
std::string WhyNotOnTarget(std::string_view remedy, const Policy& policy);

struct RemedyOutcome {
  Recipe recipe;             // with `remedies` listing each that was tried, kept or not
  double plain_sqnr_db = 0;  // without remedies, of the worst output
  double sqnr_db = 0;        // with those that were kept; both on the samples that calibrated
};

// Decide(prepared, `stats`, policy), improved: remedy after remedy is applied on top of those kept so far, the
// rewritten model is calibrated again on `data`, quantized, and run by the engine beside the float model.
// `stats` are of `prepared` over `data`. Deterministic for equal arguments on one instruction set.
// Errors: those of Decide, Calibrate and Session; kInvalidArgument for an unknown name, and for `always` where
// WhyNoRemedies or WhyNotOnTarget has a reason.
Result<RemedyOutcome> DecideWithRemedies(const Graph& prepared, const Stats& stats, const Dataset& data,
                                         const Policy& policy, const RemedyOptions& options = {});

}  // namespace octavo
