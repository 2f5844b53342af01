// Which samples calibrate and which judge: --data, --check and their numbers.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <string>

#include "octavo/graph.h"
#include "task_flags.h"

namespace octavo::cli {

struct SplitSets {
  Dataset calibration, judging;  // as TaskFlags::OpenPictures gives them
};

struct SplitFlags {
  std::string data, check;
  int64_t count = 0;                // of --data
  int64_t calibration_samples = 0;  // at most; 0: all
  int64_t judging_samples = 0;

  void AddTo(CLI::App& command);
  // Samples of --data; those of --check judge, else a share of --data (fixed seed) that then does not calibrate.
  // Without need of judging, fewer than four samples all calibrate. Errors: too few samples to split.
  Result<SplitSets> Open(const TaskFlags& task, const Graph& model, double judging_share, bool judging_needed) const;
};

}  // namespace octavo::cli
