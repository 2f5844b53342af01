// Calibrating from the command line, with what is shown meanwhile.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "octavo/calibrate.h"
#include "progress.h"

namespace octavo::cli {

// A bar for each sweep of several.
class SweepProgress {
 public:
  SweepProgress(std::string what, std::string unit) : what_(std::move(what)), unit_(std::move(unit)) {}
  // `done` of `total` are done; a sweep begins when it does not grow.
  void operator()(size_t done, size_t total);

 private:
  std::string what_, unit_;
  std::unique_ptr<Progress> bar_;
  size_t done_ = 0;
};

void WarnOfSkipped(const std::vector<SkippedSample>& skipped);

// What --preprocess means, for settings that tell two runs apart: its name, or the contents of its file.
std::string DescribePreprocess(const std::string& preprocess);

// `memory` as the flag --memory; "": no limit. `tensors` as in CalibrateOptions.
Result<Stats> CalibrateWithProgress(const Graph& prepared, const Dataset& data, int threads, const std::string& memory,
                                    const std::vector<std::string>& tensors = {});

}  // namespace octavo::cli
