#include "calibration_run.h"

#include <fmt/format.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <optional>

#include "byte_size.h"
#include "console.h"

namespace octavo::cli {

void SweepProgress::operator()(size_t done, size_t total) {
  if (bar_ == nullptr || done <= done_) {
    bar_ = std::make_unique<Progress>(what_, static_cast<int64_t>(total), unit_, static_cast<int64_t>(done) - 1);
  }
  done_ = done;
  bar_->Step();
}

void WarnOfSkipped(const std::vector<SkippedSample>& skipped) {
  constexpr size_t kMostListed = 20;
  for (size_t i = 0; i < std::min(skipped.size(), kMostListed); ++i) PrintWarning("skipped: " + skipped[i].reason);
  if (skipped.size() > kMostListed) {
    PrintWarning(fmt::format("skipped: {} samples more", skipped.size() - kMostListed));
  }
}

std::string DescribePreprocess(const std::string& preprocess) {
  std::ifstream file(preprocess, std::ios::binary);
  const std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  return "preprocess " + (text.empty() ? preprocess : text);
}

Result<Stats> CalibrateWithProgress(const Graph& prepared, const Dataset& data, int threads, const std::string& memory,
                                    const std::vector<std::string>& tensors) {
  CalibrateOptions options;
  options.threads = threads;
  options.tensors = tensors;
  if (!memory.empty()) {
    OCTAVO_ASSIGN(options.memory_bytes, ParseByteSize(memory));
  }
  std::optional<SweepProgress> progress(std::in_place, "calibrating", "samples");
  options.progress = [&](size_t done, size_t total) { (*progress)(done, total); };
  OCTAVO_ASSIGN(CalibrateReport report, Calibrate(prepared, data, options));
  progress.reset();
  WarnOfSkipped(report.skipped);
  return std::move(report.stats);
}

}  // namespace octavo::cli
