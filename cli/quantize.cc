#include "octavo/quantize.h"

#include <algorithm>
#include <filesystem>
#include <memory>
#include <optional>

#include "calibration_run.h"
#include "command.h"
#include "console.h"
#include "data_flags.h"
#include "engine_flags.h"
#include "model_files.h"
#include "octavo/calibrate.h"
#include "octavo/compare.h"
#include "octavo/onnx.h"
#include "octavo/remedies.h"
#include "octavo/session.h"
#include "octavo/targets.h"
#include "octavo/task.h"
#include "progress.h"
#include "stopwatch.h"

namespace octavo::cli {
namespace {

namespace fs = std::filesystem;

// Of --data, a quarter judges what the others calibrated.
constexpr size_t kLeastToSplit = 4;
constexpr double kJudgingShare = 0.25;

struct QuantizeFlags {
  std::string model;
  std::string data, stats, recipe, cache;  // one of them says where scales come from
  std::string eval_data;
  std::string preprocess;
  int64_t count = 0;
  std::string memory;
  std::vector<std::string> input_shapes;
  std::string estimator;
  std::optional<double> percentile;
  Policy policy;
  std::vector<std::string> slow_remedies;          // to be tried like the others
  std::vector<std::string> remedies, no_remedies;  // names; "all" in no_remedies: none is tried
  int threads = 0;
  std::string output, recipe_out, cache_out;
  Report report;

  int sources() const { return static_cast<int>(!data.empty()) + !stats.empty() + !recipe.empty() + !cache.empty(); }
  std::string RecipePath() const { return recipe_out.empty() ? output + ".recipe.json" : recipe_out; }
};

// What is read before anything is computed.
struct Sources {
  Graph prepared;
  std::optional<Dataset> data, eval;
  std::optional<Stats> stats;
  std::optional<CalibrationCache> cache;
  std::optional<Recipe> recipe;
};

bool Contains(const std::vector<std::string>& names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

// Why no remedy is tried; "" where some are.
std::string WhyNoRemedies(const QuantizeFlags& flags) {
  if (Contains(flags.no_remedies, "all")) return "--no-remedy all";
  if (flags.data.empty()) return "remedies are judged on samples: they need --data";
  if (!flags.cache_out.empty()) return "a calibration cache holds scales of the model as it is, not of a rewritten one";
  return WhyNoRemedies(flags.policy);
}

Status CheckFlags(const QuantizeFlags& flags) {
  if (flags.sources() != 1) {
    return InvalidArgument("say where scales come from: one of --data, --stats, --recipe, --from-calibration-cache");
  }
  const bool from_ranges = !flags.data.empty() || !flags.stats.empty();
  if (!from_ranges && (!flags.estimator.empty() || flags.percentile)) {
    return InvalidArgument("--estimator and --percentile need --data or --stats to estimate from");
  }
  if (!from_ranges && !flags.cache_out.empty()) {
    return InvalidArgument("--calibration-cache needs --data or --stats to take scales from");
  }
  const bool decides = flags.recipe.empty();
  if (!decides && (!flags.policy.keep_float.empty() || !flags.policy.bfloat16.empty() ||
                   !flags.policy.float16.empty() || !flags.policy.preset.empty() || flags.policy.quantize_attention)) {
    return InvalidArgument(
        "--recipe holds every decision: --keep-float, --bf16, --fp16, --preset and --quantize-attention do not go with "
        "it");
  }
  if (const std::string why_not = WhyNoRemedies(flags); !why_not.empty()) {
    if (!flags.remedies.empty()) {
      return InvalidArgument("--remedy " + flags.remedies.front() + " is not possible: " + why_not);
    }
    if (!flags.slow_remedies.empty()) {
      return InvalidArgument("--try-remedy " + flags.slow_remedies.front() + " is not possible: " + why_not);
    }
  }
  for (const std::string& name : flags.remedies) {
    const std::string why_not = WhyNotOnTarget(name, flags.policy);
    if (!why_not.empty()) return InvalidArgument("--remedy " + name + " is not possible: " + why_not);
  }
  std::error_code error;
  if (fs::is_directory(flags.output, error)) {
    return InvalidArgument(fmt::format("'{}' is a folder: -o wants the model's file", flags.output));
  }
  return {};
}

Status ChooseEstimator(QuantizeFlags& flags) {
  EstimatorOptions& options = flags.policy.estimator;
  const std::string fallback = flags.policy.preset.empty() ? "mse" : "entropy";
  OCTAVO_ASSIGN(options.estimator, ParseEstimator(flags.estimator.empty() ? fallback : flags.estimator));
  if (!flags.percentile) return {};
  if (options.estimator != Estimator::kPercentile && !flags.estimator.empty()) {
    return InvalidArgument("--percentile goes with --estimator percentile");
  }
  options.estimator = Estimator::kPercentile;
  options.percentile = *flags.percentile;
  return {};
}

// Sizes of dynamic inputs: as given, else as calibrated, else the samples'.
Result<std::map<std::string, Dims>> ChooseDims(const QuantizeFlags& flags, const std::vector<Value>& inputs,
                                               const Sources& sources) {
  OCTAVO_ASSIGN(auto dims, ParseInputShapes(flags.input_shapes, inputs));
  if (!dims.empty()) return dims;
  if (sources.stats) return sources.stats->input_dims;
  if (sources.data) return FindInputDims(*sources.data);
  if (sources.eval) return FindInputDims(*sources.eval);
  return dims;
}

Status OpenData(const QuantizeFlags& flags, const std::vector<Value>& inputs, Sources& sources) {
  if (!flags.eval_data.empty()) {
    OCTAVO_ASSIGN(sources.eval, OpenDataset(flags.eval_data, flags.preprocess, inputs));
  }
  if (flags.data.empty()) return {};
  OCTAVO_ASSIGN(sources.data, OpenDataset(flags.data, flags.preprocess, inputs));
  TruncateTo(*sources.data, flags.count, flags.data);
  if (sources.eval || sources.data->size() < kLeastToSplit) return {};
  OCTAVO_ASSIGN(const SampleSplit split, SplitSamples(sources.data->size(), kJudgingShare));
  sources.eval = sources.data->Select(split.judging);
  sources.data = sources.data->Select(split.calibration);
  return {};
}

Result<Sources> OpenSources(const QuantizeFlags& flags) {
  Sources sources;
  OCTAVO_ASSIGN(Graph model, LoadOnnx(flags.model));
  const std::vector<Value> inputs = InputValues(model);
  OCTAVO_RETURN_IF_ERROR(OpenData(flags, inputs, sources));
  if (!flags.stats.empty()) {
    OCTAVO_ASSIGN(sources.stats, LoadStats(flags.stats));
  }
  if (!flags.cache.empty()) {
    OCTAVO_ASSIGN(sources.cache, LoadCalibrationCache(flags.cache));
  }
  if (!flags.recipe.empty()) {
    OCTAVO_ASSIGN(sources.recipe, LoadRecipe(flags.recipe));
  }
  OCTAVO_ASSIGN(const auto dims, ChooseDims(flags, inputs, sources));
  auto prepared = PrepareForQuantization(std::move(model), dims);
  if (!prepared.ok()) return prepared.status().WithPrefix(flags.model + ": ");
  sources.prepared = *std::move(prepared);
  return sources;
}

Result<Recipe> DecideRemedied(const QuantizeFlags& flags, const Sources& sources) {
  RemedyOptions options;
  size_t rounded = 0;
  options.always = flags.remedies;
  options.never = flags.no_remedies;
  options.slow = flags.slow_remedies;
  options.threads = flags.threads;
  std::unique_ptr<Progress> bar, rounding;
  options.rounding_progress = [&](size_t done, size_t total) {
    if (rounding == nullptr) rounding = std::make_unique<Progress>("rounding", static_cast<int64_t>(total), "layers");
    for (; rounded < done; ++rounded) rounding->Step();
    if (done == total) rounding.reset();
  };
  options.progress = [&](size_t done, size_t total, std::string_view) {
    if (bar == nullptr) bar = std::make_unique<Progress>("remedies", static_cast<int64_t>(total), "tried");
    if (done > 0) bar->Step();
  };
  OCTAVO_ASSIGN(RemedyOutcome outcome,
                DecideWithRemedies(sources.prepared, *sources.stats, *sources.data, flags.policy, options));
  return std::move(outcome.recipe);
}

Result<Recipe> DecideFrom(const QuantizeFlags& flags, Sources& sources) {
  if (sources.recipe) return *sources.recipe;
  if (sources.cache) {
    auto recipe = DecideFromCache(sources.prepared, *sources.cache, flags.policy);
    return recipe.ok() ? recipe : recipe.status().WithPrefix(flags.cache + ": ");
  }
  // What cannot be decided is found before hours of calibration, not after them.
  OCTAVO_RETURN_IF_ERROR(CheckPolicy(sources.prepared, flags.policy));
  if (sources.data) {
    OCTAVO_ASSIGN(sources.stats,
                  CalibrateWithProgress(sources.prepared, *sources.data, flags.threads, flags.memory));
  }
  if (WhyNoRemedies(flags).empty()) return DecideRemedied(flags, sources);
  auto recipe = Decide(sources.prepared, *sources.stats, flags.policy);
  return recipe.ok() || flags.stats.empty() ? recipe : recipe.status().WithPrefix(flags.stats + ": ");
}

struct OutputScore {
  std::string name;
  TensorDifference difference;
};

// What the written model turned out to be.
struct Outcome {
  double int8_macs_share = 0;
  std::vector<OutputScore> scores;  // empty: there were no samples to measure on
  size_t samples = 0;
};

Result<Session> Open(Graph graph, int threads) {
  SessionOptions options;
  options.threads = threads;
  return Session::Create(std::move(graph), options);
}

// The quantized model's outputs against the float one's, each run by Octavo's engine.
Result<std::vector<OutputScore>> Measure(const Graph& prepared, Session& quantized, const Dataset& samples,
                                         int threads) {
  OCTAVO_ASSIGN(Session reference, Open(prepared, threads));
  const std::vector<std::string>& names = reference.output_names();
  std::vector<TensorComparison> comparisons(names.size());
  Progress progress("measuring", static_cast<int64_t>(samples.size()), "samples");
  for (size_t i = 0; i < samples.size(); ++i) {
    OCTAVO_ASSIGN(const auto inputs, samples.Load(i));
    OCTAVO_ASSIGN(const auto expected, reference.Run(inputs));
    OCTAVO_ASSIGN(const auto found, quantized.Run(inputs));
    for (size_t k = 0; k < names.size(); ++k) OCTAVO_RETURN_IF_ERROR(comparisons[k].Add(expected[k], found[k]));
    progress.Step();
  }
  std::vector<OutputScore> scores;
  for (size_t k = 0; k < names.size(); ++k) scores.push_back({names[k], comparisons[k].difference()});
  return scores;
}

Result<Outcome> Judge(const QuantizeFlags& flags, const Sources& sources, Graph quantized) {
  Outcome outcome;
  OCTAVO_ASSIGN(Session session, Open(std::move(quantized), flags.threads));
  std::vector<Dims> dims;
  for (const Value& input : session.inputs()) dims.push_back(input.dims);
  OCTAVO_RETURN_IF_ERROR(session.Prepare(dims));
  outcome.int8_macs_share = session.plan().int8_macs_share();
  if (!sources.eval) return outcome;
  outcome.samples = sources.eval->size();
  OCTAVO_ASSIGN(outcome.scores, Measure(sources.prepared, session, *sources.eval, flags.threads));
  return outcome;
}

double Worst(const std::vector<OutputScore>& scores) {
  double worst = kIdenticalDb;
  for (const OutputScore& score : scores) worst = std::min(worst, score.difference.sqnr_db);
  return worst;
}

Status WriteFiles(const QuantizeFlags& flags, const Sources& sources, const Recipe& recipe, const Graph& quantized) {
  if (!flags.cache_out.empty()) {
    OCTAVO_ASSIGN(const CalibrationCache cache,
                  MakeCalibrationCache(sources.prepared, *sources.stats, flags.policy.estimator));
    OCTAVO_RETURN_IF_ERROR(SaveCalibrationCache(cache, flags.cache_out));
  }
  OCTAVO_RETURN_IF_ERROR(SaveRecipe(recipe, flags.RecipePath()));
  return SaveOnnx(quantized, flags.output);
}

void PrintRemedies(const QuantizeFlags& flags, const Recipe& recipe) {
  if (recipe.remedies.empty()) return;
  Table table("lrrl", {"remedy", "SQNR dB", "gain dB", ""});
  for (const RemedyRecipe& remedy : recipe.remedies) {
    table.AddRow({remedy.name, fmt::format("{:.1f}", remedy.sqnr_db), fmt::format("{:+.1f}", remedy.gain_db),
                  (remedy.kept ? "kept: " : "dropped: ") + remedy.reason});
  }
  table.Print(flags.report.stream());
  flags.report.Print("on the samples that calibrated\n");
}

void PrintSummary(const QuantizeFlags& flags, const Recipe& recipe, const Outcome& outcome) {
  const int64_t before = FileBytes(flags.model), after = FileBytes(flags.output);
  flags.report.Print(
      "{}: {} weights and {} activations in int8, {} contractions in float; {:.1f} MB of {:.1f} MB ({:.0f} %)\n",
      flags.output, recipe.weights.size(), recipe.activations.size(), recipe.float_nodes.size(),
      static_cast<double>(after) / 1e6, static_cast<double>(before) / 1e6,
      before > 0 ? 100.0 * static_cast<double>(after) / static_cast<double>(before) : 0.0);
  flags.report.Print("{:.1f} % of multiply-accumulates run in INT8\n", 100 * outcome.int8_macs_share);
  flags.report.Print("decisions: {}\n", flags.RecipePath());
  PrintRemedies(flags, recipe);
  if (outcome.scores.empty()) {
    flags.report.Print("not measured: give --eval-data\n");
    return;
  }
  Table table("lrrr", {"output", "SQNR dB", "worst dB", "cosine"});
  for (const OutputScore& score : outcome.scores) {
    const TensorDifference& d = score.difference;
    table.AddRow({score.name, fmt::format("{:.1f}", d.sqnr_db), fmt::format("{:.1f}", d.min_sqnr_db),
                  fmt::format("{:.5f}", d.cosine)});
  }
  table.Print(flags.report.stream());
  flags.report.Print("against float, over {} samples\n", outcome.samples);
}

Json ToJson(const QuantizeFlags& flags, const Recipe& recipe, const Outcome& outcome, double seconds) {
  Json outputs = Json::array();
  for (const OutputScore& score : outcome.scores) {
    const TensorDifference& d = score.difference;
    outputs.push_back(
        {{"name", score.name}, {"sqnr_db", d.sqnr_db}, {"min_sqnr_db", d.min_sqnr_db}, {"cosine", d.cosine}});
  }
  Json floats = Json::array();
  for (const FloatRecipe& node : recipe.float_nodes) {
    floats.push_back({{"node", node.node}, {"precision", FloatPrecisionName(node.precision)}, {"reason", node.reason}});
  }
  Json remedies = Json::array();
  for (const RemedyRecipe& remedy : recipe.remedies) {
    remedies.push_back({{"name", remedy.name},
                        {"kept", remedy.kept},
                        {"sqnr_db", Finite(remedy.sqnr_db)},
                        {"gain_db", Finite(remedy.gain_db)},
                        {"reason", remedy.reason}});
  }
  return {{"model", flags.model},
          {"output", flags.output},
          {"recipe", flags.RecipePath()},
          {"target", recipe.target},
          {"preset", recipe.preset},
          {"estimator", recipe.estimator},
          {"weights", recipe.weights.size()},
          {"activations", recipe.activations.size()},
          {"remedies", remedies},
          {"float_nodes", floats},
          {"bytes_before", FileBytes(flags.model)},
          {"bytes", FileBytes(flags.output)},
          {"int8_macs_share", outcome.int8_macs_share},
          {"score", outcome.scores.empty() ? Json() : Finite(Worst(outcome.scores))},
          {"samples", outcome.samples},
          {"outputs", outputs},
          {"seconds", seconds}};
}

Result<ExitCode> RunQuantize(QuantizeFlags flags) {
  const Stopwatch stopwatch;
  OCTAVO_RETURN_IF_ERROR(CheckFlags(flags));
  OCTAVO_RETURN_IF_ERROR(ChooseEstimator(flags));
  OCTAVO_ASSIGN(Sources sources, OpenSources(flags));
  OCTAVO_ASSIGN(const Recipe recipe, DecideFrom(flags, sources));
  for (const std::string& note : recipe.notes) PrintWarning(note);
  OCTAVO_ASSIGN(Graph quantized, ApplyRecipe(sources.prepared, recipe));
  OCTAVO_RETURN_IF_ERROR(WriteFiles(flags, sources, recipe, quantized));
  const auto outcome = Judge(flags, sources, std::move(quantized));
  if (!outcome.ok()) {
    return outcome.status().WithPrefix(fmt::format("'{}' is written, but cannot be measured: ", flags.output));
  }
  PrintSummary(flags, recipe, *outcome);
  OCTAVO_RETURN_IF_ERROR(flags.report.WriteJson(ToJson(flags, recipe, *outcome, stopwatch.Milliseconds() / 1000)));
  return kDone;
}

std::string JoinNames(const std::vector<std::string_view>& names, std::string_view separator) {
  std::string joined;
  for (const std::string_view name : names)
    joined += (joined.empty() ? "" : std::string(separator)) + std::string(name);
  return joined;
}

std::string TargetNames() {
  std::vector<std::string_view> names;
  for (const Target* target : AllTargets()) names.push_back(target->name);
  return JoinNames(names, "|");
}

void AddSourceFlags(CLI::App& command, QuantizeFlags& flags) {
  command
      .add_option("--data", flags.data,
                  "Folder of samples to calibrate on; of four or more, a quarter (fixed seed) is held out to measure the result")
      ->type_name("DIR");
  command.add_option("--stats", flags.stats, "Statistics that 'octavo calibrate' wrote")->type_name("FILE");
  command.add_option("--recipe", flags.recipe, "Decisions of an earlier run, perhaps edited")->type_name("FILE");
  command.add_option("--from-calibration-cache", flags.cache, "TensorRT's calibration cache: int8 scales by tensor")
      ->type_name("FILE");
  command.add_option("--check,--eval-data", flags.eval_data, "Folder of samples to measure the result on")->type_name("DIR");
  AddPreprocessFlag(command, flags.preprocess);
  command.add_option("--count", flags.count, "Use only the first N samples of --data; 0: all")
      ->type_name("N")
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 40));
  command.add_option("--memory", flags.memory, "What calibration may take; see 'octavo calibrate --help'")
      ->type_name("SIZE");
  AddRepeatable(command, "--input-shape", flags.input_shapes,
                "Sizes of an input that is dynamic (default: those of the samples); repeatable")
      ->type_name("NAME=1x3x512x512");
}

void AddPolicyFlags(CLI::App& command, QuantizeFlags& flags) {
  command.add_option("--target", flags.policy.target, "Whose rules Q/DQ follow (default: octavo)")
      ->type_name(TargetNames());
  command.add_option("--preset", flags.policy.preset, "Decide as another tool would, for comparison")
      ->type_name(JoinNames(PresetNames(), "|"));
  command
      .add_option("--estimator", flags.estimator,
                  "How ranges are read off the statistics (default: mse; entropy with --preset)")
      ->type_name("minmax|percentile|mse|entropy");
  command.add_option("--percentile", flags.percentile, "Share of values kept, in percent (default: 99.99)")
      ->type_name("P");
  AddRepeatable(command, "--keep-float", flags.policy.keep_float,
                "Leave these in float: a node, a pattern over node names (*, ?), an op type, or one of " +
                    JoinNames(KeepFloatPatterns(), ", ") + "; repeatable")
      ->type_name("NODE|PATTERN|OP");
  AddRepeatable(command, "--bf16", flags.policy.bfloat16,
                "Leave these in float, too, with multiplicands rounded to bfloat16; repeatable")
      ->type_name("NODE|PATTERN|OP");
  AddRepeatable(command, "--fp16", flags.policy.float16, "The same with float16; repeatable")
      ->type_name("NODE|PATTERN|OP");
  std::string about;
  for (const RemedyInfo& remedy : AllRemedies()) {
    about += fmt::format("\n  {}: {}{}", remedy.name, remedy.about, remedy.slow ? "; slow" : "");
  }
  AddRepeatable(command, "--remedy", flags.remedies,
                "Apply this remedy without judging it (with --data, each is tried and kept where it gains):" + about)
      ->type_name("NAME");
  AddRepeatable(command, "--try-remedy", flags.slow_remedies,
                "Try a slow remedy, too, and keep it where it gains; repeatable")
      ->type_name("NAME");
  AddRepeatable(command, "--no-remedy", flags.no_remedies, "Leave this remedy out; 'all': try none; repeatable")
      ->type_name("NAME");
  command.add_flag("--quantize-attention", flags.policy.quantize_attention,
                   "Quantize products of two activations, too");
}

}  // namespace

void AddQuantizeCommand(CLI::App& app, Action& action) {
  CLI::App* command =
      AddSubcommand(app, "quantize", "Write a model with INT8 weights and activations as Q/DQ",
                    {"octavo quantize vit.onnx --data photos --preprocess imagenet -o vit.int8.onnx",
                     "octavo quantize encoder.onnx --stats encoder.stats --target tensorrt -o encoder.qdq.onnx",
                     "octavo quantize encoder.onnx --stats encoder.stats --keep-float '/neck/*' --keep-float depthwise "
                     "--eval-data photos --preprocess sam -o mixed.onnx",
                     "octavo quantize encoder.onnx --recipe encoder.qdq.onnx.recipe.json -o again.onnx"});
  auto flags = std::make_shared<QuantizeFlags>();
  command->add_option("MODEL", flags->model, "ONNX file, not quantized")->required();
  AddSourceFlags(*command, *flags);
  AddPolicyFlags(*command, *flags);
  command->add_option("--threads", flags->threads, "Threads to compute with; 0: every core")
      ->type_name("N")
      ->check(CLI::Range(0, 1024));
  command->add_option("-o,--output", flags->output, "File for the quantized model")->type_name("OUT.onnx")->required();
  command->add_option("--recipe-out", flags->recipe_out, "File for the decisions (default: OUT.onnx.recipe.json)")
      ->type_name("FILE");
  command
      ->add_option("--calibration-cache", flags->cache_out,
                   "Write int8 scales of all tensors as TensorRT's calibration cache, too")
      ->type_name("FILE");
  flags->report.AddFlag(*command);
  command->callback([=, &action] { action = [=] { return RunQuantize(*flags); }; });
}

}  // namespace octavo::cli
