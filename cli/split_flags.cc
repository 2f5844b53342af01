#include "split_flags.h"

#include <fmt/format.h>

#include "console.h"
#include "data_flags.h"

namespace octavo::cli {
namespace {

constexpr size_t kLeastToSplit = 4;

CLI::Option* AddCount(CLI::App& command, const std::string& name, int64_t& count, const std::string& about) {
  return command.add_option(name, count, about)->type_name("N")->check(CLI::Range(int64_t{0}, int64_t{1} << 40));
}

void Limit(Dataset& data, int64_t count) {
  if (count > 0) data.Truncate(static_cast<size_t>(count));
}

}  // namespace

void SplitFlags::AddTo(CLI::App& command) {
  command
      .add_option("--data", data,
                  "Folder of pictures, or of .npz files with an array for each input; a part of them, by a fixed "
                  "seed, judges what the others calibrated, unless --check names a folder for that")
      ->type_name("DIR");
  command.add_option("--check,--eval-data", check, "Folder of samples to judge on; none of them calibrates")
      ->type_name("DIR");
  AddCount(command, "--count", count, "Use only the first N samples of --data; 0: all");
  AddCount(command, "--calibration-samples", calibration_samples, "Calibrate on N of them at most; 0: all");
  AddCount(command, "--judging-samples", judging_samples, "Judge on N samples at most; 0: all");
}

Result<SplitSets> SplitFlags::Open(const TaskFlags& task, const Graph& model, double judging_share,
                                   bool judging_needed) const {
  SplitSets sets;
  OCTAVO_ASSIGN(Dataset all, task.OpenPictures(data, model));
  TruncateTo(all, count, data);
  if (!check.empty()) {
    OCTAVO_ASSIGN(sets.judging, task.OpenPictures(check, model));
    sets.calibration = std::move(all);
  } else if (!judging_needed && all.size() < kLeastToSplit) {
    sets.calibration = std::move(all);
  } else {
    const auto split = SplitSamples(all.size(), judging_share);
    if (!split.ok()) return split.status().WithPrefix(fmt::format("'{}': ", data));
    sets.judging = all.Select(split->judging);
    sets.calibration = all.Select(split->calibration);
  }
  Limit(sets.calibration, calibration_samples);
  Limit(sets.judging, judging_samples);
  return sets;
}

}  // namespace octavo::cli
