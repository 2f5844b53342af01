// What `quantize` says about the model that it wrote.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "console.h"
#include "keep_run.h"
#include "octavo/compare.h"
#include "octavo/judge.h"
#include "octavo/quantize.h"

namespace octavo::cli {

struct OutputScore {
  std::string name;
  TensorDifference difference;
};

// What the written model turned out to be.
struct QuantizeOutcome {
  double int8_macs_share = 0;
  std::vector<OutputScore> scores;  // empty: there were no samples to measure on
  size_t samples = 0;
  std::vector<std::string> sample_names;  // where no task judged; and the worst output of each
  std::vector<double> sample_sqnr_db;
  std::optional<Verdict> verdict;
  std::optional<KeepResult> kept;
  std::string score_name, truth_name, note;
};

// Files and names that the summary tells.
struct QuantizeNames {
  std::string model, output, recipe, task;
};

void PrintQuantizeSummary(const Report& report, const QuantizeNames& names, const Recipe& recipe,
                          const QuantizeOutcome& outcome);
Json QuantizeToJson(const QuantizeNames& names, const Recipe& recipe, const QuantizeOutcome& outcome, double seconds);

}  // namespace octavo::cli
