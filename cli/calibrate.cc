#include "octavo/calibrate.h"

#include <filesystem>
#include <memory>
#include <optional>

#include "byte_size.h"
#include "calibration_run.h"
#include "command.h"
#include "console.h"
#include "data_flags.h"
#include "engine_flags.h"
#include "model_files.h"
#include "octavo/bench.h"
#include "octavo/onnx.h"
#include "octavo/quantize.h"
#include "stop_on_signals.h"

namespace octavo::cli {
namespace {

namespace fs = std::filesystem;

struct CalibrateFlags {
  std::string model;
  std::string data;
  std::string preprocess;
  std::vector<std::string> input_shapes;
  int64_t count = 0;
  int threads = 0;
  std::string memory;
  std::string shard;
  std::vector<std::string> disabled_passes;
  bool strict = false;
  bool resume = false;
  std::string output;
  double checkpoint_seconds = 60;
  Report report;

  std::string checkpoint() const { return output + ".checkpoint"; }
};

// "2/8": the second of eight.
Status ParseShard(const std::string& text, CalibrateOptions& options) {
  if (text.empty()) return {};
  size_t index = 0, count = 0;
  char slash = 0, more = 0;
  std::istringstream in(text);
  if (!(in >> index >> slash >> count) || slash != '/' || in >> more || index < 1 || index > count) {
    return InvalidArgument(fmt::format("'{}' is no shard: write 1/4 for the first of four", text));
  }
  options.shard_index = index - 1;
  options.shard_count = count;
  return {};
}

Result<Dataset> OpenData(const CalibrateFlags& flags, const std::vector<Value>& inputs) {
  OCTAVO_ASSIGN(Dataset data, OpenDataset(flags.data, flags.preprocess, inputs));
  TruncateTo(data, flags.count, flags.data);
  return data;
}

Result<CalibrateOptions> ToOptions(const CalibrateFlags& flags) {
  CalibrateOptions options;
  options.threads = flags.threads;
  if (!flags.memory.empty()) {
    OCTAVO_ASSIGN(options.memory_bytes, ParseByteSize(flags.memory));
  }
  OCTAVO_RETURN_IF_ERROR(ParseShard(flags.shard, options));
  options.strict = flags.strict;
  options.disabled_passes = flags.disabled_passes;
  options.checkpoint = flags.checkpoint();
  options.checkpoint_seconds = flags.checkpoint_seconds;
  options.resume = flags.resume;
  options.settings =
      fmt::format("{}; shard {} of {}", DescribePreprocess(flags.preprocess), options.shard_index, options.shard_count);
  options.stop = &StopOnSignals::requested;
  return options;
}

// Shapes as given, else those of the samples: a model of dynamic shape is calibrated at those.
Result<Graph> Prepare(const CalibrateFlags& flags, Graph model, const Dataset& data) {
  OCTAVO_ASSIGN(auto dims, ParseInputShapes(flags.input_shapes, InputValues(model)));
  if (dims.empty()) {
    OCTAVO_ASSIGN(dims, FindInputDims(data));
  }
  auto prepared = PrepareForQuantization(std::move(model), dims);
  if (!prepared.ok()) return InModel(prepared.status(), flags.model);
  return prepared;
}

Status CheckOutput(const CalibrateFlags& flags) {
  std::error_code error;
  if (fs::is_directory(flags.output, error)) {
    return InvalidArgument(fmt::format("'{}' is a folder: -o wants the statistics' file", flags.output));
  }
  const fs::path folder = fs::path(flags.output).parent_path();
  if (folder.empty() || fs::is_directory(folder, error)) return {};
  return NotFound(fmt::format("the folder of '{}' is not there", flags.output));
}

void NoteEarlierCheckpoint(const CalibrateFlags& flags) {
  std::error_code error;
  const bool there = fs::exists(flags.checkpoint(), error);
  if (there && !flags.resume) {
    PrintWarning(
        fmt::format("'{}' of an earlier run is overwritten; --resume would go on from it", flags.checkpoint()));
  }
  if (!there && flags.resume) PrintWarning(fmt::format("'{}' is not there: starting anew", flags.checkpoint()));
}

Json ToJson(const CalibrateFlags& flags, const CalibrateReport& report) {
  Json skipped = Json::array();
  for (const SkippedSample& sample : report.skipped) {
    skipped.push_back({{"file", sample.path}, {"reason", sample.reason}});
  }
  return {{"model", flags.model},
          {"output", flags.output},
          {"stopped", report.stopped},
          {"fingerprint", report.stats.fingerprint},
          {"samples", report.stats.samples},
          {"skipped", skipped},
          {"tensors", report.stats.tensors.size()},
          {"threads", report.threads},
          {"sweeps", report.sweeps},
          {"resumed", report.resumed},
          {"seconds", report.seconds},
          {"peak_memory_mb", static_cast<double>(PeakResidentBytes()) / (1 << 20)}};
}

Result<ExitCode> Stop(const CalibrateFlags& flags, const CalibrateReport& report, size_t total) {
  PrintNote(fmt::format("stopped after {} of {} samples; the same command with --resume goes on from '{}'", report.done,
                        total, flags.checkpoint()));
  OCTAVO_RETURN_IF_ERROR(flags.report.WriteJson(ToJson(flags, report)));
  return kInterrupted;
}

Result<ExitCode> RunCalibrate(const CalibrateFlags& flags) {
  OCTAVO_RETURN_IF_ERROR(CheckOutput(flags));
  OCTAVO_ASSIGN(CalibrateOptions options, ToOptions(flags));
  OCTAVO_ASSIGN(Graph model, LoadOnnx(flags.model));
  OCTAVO_ASSIGN(const Dataset data, OpenData(flags, InputValues(model)));
  OCTAVO_ASSIGN(const Graph prepared, Prepare(flags, std::move(model), data));
  NoteEarlierCheckpoint(flags);
  const StopOnSignals signals;
  std::optional<SweepProgress> progress(std::in_place, "calibrating", "samples");
  options.progress = [&](size_t done, size_t total) { (*progress)(done, total); };
  const auto report = Calibrate(prepared, data, options);
  progress.reset();
  if (!report.ok()) return report.status();
  WarnOfSkipped(report->skipped);
  if (report->stopped) return Stop(flags, *report, data.size());
  OCTAVO_RETURN_IF_ERROR(SaveStats(flags.output, report->stats));
  std::error_code ignored;
  fs::remove(flags.checkpoint(), ignored);
  flags.report.Print("{} samples{}, {} tensors, {:.1f} s{}: {}\n", report->stats.samples,
                     report->skipped.empty() ? "" : fmt::format(" ({} skipped)", report->skipped.size()),
                     report->stats.tensors.size(), report->seconds,
                     report->sweeps > 1 ? fmt::format(" in {} sweeps", report->sweeps) : "", flags.output);
  OCTAVO_RETURN_IF_ERROR(flags.report.WriteJson(ToJson(flags, *report)));
  return kDone;
}

}  // namespace

void AddCalibrateCommand(CLI::App& app, Action& action) {
  CLI::App* command =
      AddSubcommand(app, "calibrate", "Collect statistics of a model's activations over samples",
                    {"octavo calibrate model.onnx --data photos --preprocess imagenet --count 128 -o model.stats",
                     "octavo calibrate encoder.onnx --data photos --preprocess sam --memory 1.5G -o encoder.stats",
                     "octavo calibrate encoder.onnx --data photos --preprocess sam -o encoder.stats --resume",
                     "octavo calibrate unet.onnx --data npz_samples --shard 1/4 -o part1.stats"});
  auto flags = std::make_shared<CalibrateFlags>();
  command->add_option("MODEL", flags->model, "ONNX file, not quantized")->required();
  AddDataFlag(*command, flags->data);
  AddPreprocessFlag(*command, flags->preprocess);
  command->add_option("--count", flags->count, "Use only the first N samples, by name; 0: all")
      ->type_name("N")
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 40));
  command->add_option("--threads", flags->threads, "Samples at a time, each on one thread; 0: one for every core")
      ->type_name("N")
      ->check(CLI::Range(0, 1024));
  command
      ->add_option("--memory", flags->memory,
                   "What the process may take; kept by fewer samples at a time and by several sweeps over the data "
                   "(the result is the same)")
      ->type_name("SIZE");
  command->add_flag("--strict", flags->strict, "Stop at a sample that cannot be used instead of skipping it");
  command->add_flag("--resume", flags->resume, "Go on from STATS.checkpoint, which an interrupted run left");
  command->add_option("--shard", flags->shard, "Use only every Nth sample, from the Kth; see 'octavo stats merge'")
      ->type_name("K/N");
  AddRepeatable(*command, "--input-shape", flags->input_shapes,
                "Sizes of an input that is dynamic (default: those of the samples); repeatable")
      ->type_name("NAME=1x3x512x512");
  command->add_option("-o,--output", flags->output, "File for the statistics")->type_name("STATS")->required();
  command->add_option("--checkpoint-seconds", flags->checkpoint_seconds)->group("")->check(CLI::PositiveNumber);
  AddDisablePassFlag(*command, flags->disabled_passes);
  flags->report.AddFlag(*command);
  command->callback([=, &action] { action = [=] { return RunCalibrate(*flags); }; });
}

}  // namespace octavo::cli
