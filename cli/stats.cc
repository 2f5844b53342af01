#include "octavo/stats.h"

#include <algorithm>
#include <cmath>
#include <memory>

#include "command.h"
#include "console.h"

namespace octavo::cli {
namespace {

// A channel stands out when its largest magnitude is this many times the channels' median.
constexpr float kOutlierFactor = 6;

struct ShowFlags {
  std::string file;
  std::vector<std::string> tensors;
  Report report;
};

struct MergeFlags {
  std::vector<std::string> files;
  std::string output;
  Report report;
};

struct Outlier {
  int64_t channel;
  float magnitude;
};

// The channels that stand out, the largest first.
std::vector<Outlier> Outliers(const TensorStats& tensor) {
  std::vector<float> magnitudes;
  for (size_t c = 0; c < tensor.channel_min.size(); ++c) {
    magnitudes.push_back(std::max(-tensor.channel_min[c], tensor.channel_max[c]));
  }
  if (magnitudes.empty()) return {};
  std::vector<float> sorted = magnitudes;
  const auto middle = sorted.begin() + static_cast<ptrdiff_t>(sorted.size() / 2);
  std::nth_element(sorted.begin(), middle, sorted.end());
  std::vector<Outlier> outliers;
  for (size_t c = 0; c < magnitudes.size(); ++c) {
    if (magnitudes[c] > kOutlierFactor * *middle) outliers.push_back({static_cast<int64_t>(c), magnitudes[c]});
  }
  std::stable_sort(outliers.begin(), outliers.end(),
                   [](const Outlier& a, const Outlier& b) { return a.magnitude > b.magnitude; });
  return outliers;
}

std::string OutlierText(const TensorStats& tensor) {
  constexpr size_t kMostListed = 3;
  const auto outliers = Outliers(tensor);
  if (outliers.empty()) return "";
  std::string text = fmt::format("{} of {}:", outliers.size(), tensor.channels());
  for (size_t i = 0; i < std::min(outliers.size(), kMostListed); ++i) {
    text += fmt::format(" {} ({:.3g})", outliers[i].channel, outliers[i].magnitude);
  }
  return outliers.size() > kMostListed ? text + " ..." : text;
}

// Counts in `columns` equal parts of [min, max]; a bin counts where its middle lies.
std::vector<uint64_t> Columns(const TensorStats& tensor, size_t columns) {
  std::vector<uint64_t> sums(columns);
  const double low = tensor.min, span = static_cast<double>(tensor.max) - low;
  const double width = std::ldexp(1.0, tensor.histogram.exponent);
  for (size_t i = 0; i < tensor.histogram.counts.size(); ++i) {
    const double middle = (static_cast<double>(i) - Histogram::kHalfBins + 0.5) * width;
    const double at = span > 0 ? (middle - low) / span * static_cast<double>(columns) : 0;
    const auto column = static_cast<size_t>(std::clamp(at, 0.0, static_cast<double>(columns - 1)));
    sums[column] += tensor.histogram.counts[i];
  }
  return sums;
}

// One letter a column, on a scale of logarithms: tails are what quantization is about.
std::string HistogramText(const TensorStats& tensor) {
  constexpr size_t kColumns = 40;
  constexpr std::string_view kLevels = ".:-=+*#%@";
  const auto sums = Columns(tensor, kColumns);
  const uint64_t most = *std::max_element(sums.begin(), sums.end());
  std::string text;
  for (const uint64_t sum : sums) {
    const double share = std::log1p(static_cast<double>(sum)) / std::log1p(static_cast<double>(most));
    const auto level = static_cast<size_t>(std::lround(share * static_cast<double>(kLevels.size() - 1)));
    text += sum == 0 ? ' ' : kLevels[level];
  }
  return "|" + text + "|";
}

double Deviation(const TensorStats& tensor) {
  return std::sqrt(std::max(0.0, tensor.mean_square - tensor.mean * tensor.mean));
}

Json TensorJson(const std::string& name, const TensorStats& tensor) {
  Json outliers = Json::array();
  for (const Outlier& outlier : Outliers(tensor)) {
    outliers.push_back({{"channel", outlier.channel}, {"magnitude", outlier.magnitude}});
  }
  const auto& counts = tensor.histogram.counts;
  const auto used = [](uint64_t count) { return count > 0; };
  const auto first = std::find_if(counts.begin(), counts.end(), used);
  const auto end = std::find_if(counts.rbegin(), counts.rend(), used).base();
  const int64_t first_bin = first == counts.end() ? 0 : first - counts.begin() - Histogram::kHalfBins;
  return {{"name", name},
          {"dims", tensor.dims},
          {"count", tensor.count},
          {"min", tensor.min},
          {"max", tensor.max},
          {"mean", tensor.mean},
          {"std", Deviation(tensor)},
          {"channel_axis", tensor.channel_axis},
          {"channel_min", tensor.channel_min},
          {"channel_max", tensor.channel_max},
          {"channel_mean", tensor.channel_mean},
          {"outliers", outliers},
          {"histogram",
           {{"exponent", tensor.histogram.exponent},
            {"first_bin", first_bin},
            {"counts", first < end ? std::vector<uint64_t>(first, end) : std::vector<uint64_t>()}}}};
}

// Every estimator's range, symmetric and not; null where nothing was counted.
Json RangesJson(const TensorStats& tensor) {
  Json ranges = Json::object();
  for (const Estimator estimator : {Estimator::kMinMax, Estimator::kPercentile, Estimator::kMse, Estimator::kEntropy}) {
    for (const bool symmetric : {false, true}) {
      EstimatorOptions options;
      options.estimator = estimator;
      options.symmetric = symmetric;
      const auto range = EstimateRange(tensor, options);
      ranges[NameOf(estimator)][symmetric ? "symmetric" : "asymmetric"] =
          range.ok() ? Json({range->low, range->high}) : Json(nullptr);
    }
  }
  return ranges;
}

// The tensors asked for, or all. Error: a name that the file does not have.
Result<std::vector<std::string>> ChooseTensors(const ShowFlags& flags, const Stats& stats) {
  std::vector<std::string> names;
  for (const std::string& name : flags.tensors) {
    if (stats.tensors.find(name) == stats.tensors.end()) {
      return NotFound(fmt::format("'{}' has no tensor '{}'", flags.file, name));
    }
    names.push_back(name);
  }
  if (!names.empty()) return names;
  for (const auto& [name, tensor] : stats.tensors) names.push_back(name);
  return names;
}

Result<ExitCode> Show(const ShowFlags& flags) {
  OCTAVO_ASSIGN(const Stats stats, LoadStats(flags.file));
  OCTAVO_ASSIGN(const auto names, ChooseTensors(flags, stats));
  Table table("llrrrrll",
              {"tensor", "shape", "min", "max", "mean", "std", "histogram (logarithmic)", "outlier channels"});
  Json tensors = Json::array();
  for (const std::string& name : names) {
    const TensorStats& tensor = stats.tensors.at(name);
    table.AddRow({name, ToString(tensor.dims), fmt::format("{:.4g}", tensor.min), fmt::format("{:.4g}", tensor.max),
                  fmt::format("{:.3g}", tensor.mean), fmt::format("{:.3g}", Deviation(tensor)), HistogramText(tensor),
                  OutlierText(tensor)});
    if (!flags.report.wants_json()) continue;
    tensors.push_back(TensorJson(name, tensor));
    tensors.back()["ranges"] = RangesJson(tensor);
  }
  Json inputs = Json::object();
  for (const auto& [name, dims] : stats.input_dims) inputs[name] = dims;
  flags.report.Print("{} samples of the model {}\n", stats.samples, stats.fingerprint);
  table.Print(flags.report.stream());
  OCTAVO_RETURN_IF_ERROR(flags.report.WriteJson(
      {{"fingerprint", stats.fingerprint}, {"samples", stats.samples}, {"inputs", inputs}, {"tensors", tensors}}));
  return kDone;
}

Result<ExitCode> Merge(const MergeFlags& flags) {
  OCTAVO_ASSIGN(Stats stats, LoadStats(flags.files.front()));
  for (size_t i = 1; i < flags.files.size(); ++i) {
    OCTAVO_ASSIGN(const Stats more, LoadStats(flags.files[i]));
    OCTAVO_RETURN_IF_ERROR(
        MergeStats(stats, more).WithPrefix(fmt::format("'{}' and '{}': ", flags.files.front(), flags.files[i])));
  }
  OCTAVO_RETURN_IF_ERROR(SaveStats(flags.output, stats));
  flags.report.Print("{} samples, {} tensors: {}\n", stats.samples, stats.tensors.size(), flags.output);
  OCTAVO_RETURN_IF_ERROR(flags.report.WriteJson(
      {{"output", flags.output}, {"samples", stats.samples}, {"tensors", stats.tensors.size()}}));
  return kDone;
}

}  // namespace

void AddStatsCommand(CLI::App& app, Action& action) {
  CLI::App* command =
      AddSubcommand(app, "stats", "Show and merge statistics that 'octavo calibrate' has collected",
                    {"octavo stats show model.stats", "octavo stats show model.stats --tensor /blocks.0/add --json -",
                     "octavo stats merge part1.stats part2.stats -o model.stats"});
  command->require_subcommand(1);
  auto show = std::make_shared<ShowFlags>();
  CLI::App* show_command = AddSubcommand(*command, "show", "Ranges, outlier channels and a histogram per tensor",
                                         {"octavo stats show model.stats"});
  show_command->add_option("FILE", show->file, "Statistics")->required();
  show_command->add_option("--tensor", show->tensors, "Only this tensor; repeatable")
      ->allow_extra_args(false)
      ->type_name("NAME");
  show->report.AddFlag(*show_command);
  show_command->callback([=, &action] { action = [=] { return Show(*show); }; });

  auto merge = std::make_shared<MergeFlags>();
  CLI::App* merge_command =
      AddSubcommand(*command, "merge", "Statistics over all samples of several runs, as if they had been one",
                    {"octavo stats merge part1.stats part2.stats -o model.stats"});
  merge_command->add_option("FILE", merge->files, "Statistics of one model over different samples")->required();
  merge_command->add_option("-o,--output", merge->output, "File for the result")->type_name("STATS")->required();
  merge->report.AddFlag(*merge_command);
  merge_command->callback([=, &action] { action = [=] { return Merge(*merge); }; });
}

}  // namespace octavo::cli
