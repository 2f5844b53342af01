// quantize --keep: mixed precision for a stated quality, from the command line.
#pragma once

#include <CLI/CLI.hpp>
#include <optional>
#include <string>
#include <vector>

#include "console.h"
#include "octavo/judge.h"
#include "octavo/mixed_precision.h"
#include "octavo/quantize.h"

namespace octavo::cli {

struct KeepFlags {
  std::optional<double> mean, p5;
  std::vector<std::string> budget;    // "latency=60%", "int8-macs=90%"
  std::vector<std::string> raise_to;  // names of precisions
  std::string costs;

  void AddTo(CLI::App& command);
  bool wanted() const { return mean.has_value(); }
  // Only when wanted().
  KeepGoal Goal() const { return {*mean, p5}; }
  // Errors: flags without --keep, a budget that is none.
  Status Check() const;
};

struct KeepResult {
  KeepOutcome outcome;
  KeepGoal goal;
  LayerCosts costs;
};

// Measures costs (or reads --costs), then searches. `stats` as KeepQuality wants them.
Result<KeepResult> RunKeep(const KeepFlags& flags, const Graph& prepared, const Recipe& recipe, const Stats& stats,
                           const Judge& judge, const std::string& target);

void PrintKeep(const Report& report, const KeepResult& result, std::string_view score_name);

}  // namespace octavo::cli
