#include "octavo/quantize.h"

#include <algorithm>
#include <filesystem>
#include <memory>
#include <optional>

#include "calibration_run.h"
#include "command.h"
#include "console.h"
#include "engine_flags.h"
#include "keep_run.h"
#include "model_files.h"
#include "octavo/calibrate.h"
#include "octavo/compare.h"
#include "octavo/judge.h"
#include "octavo/onnx.h"
#include "octavo/remedies.h"
#include "octavo/session.h"
#include "octavo/targets.h"
#include "octavo/task.h"
#include "octavo/text_file.h"
#include "progress.h"
#include "quantize_page.h"
#include "quantize_report.h"
#include "report_document.h"
#include "scale_sources.h"
#include "split_flags.h"
#include "stopwatch.h"
#include "task_flags.h"
#include "verdict_text.h"

namespace octavo::cli {
namespace {

namespace fs = std::filesystem;

// Of --data, this share judges what the others calibrated; more where a search decides by it.
constexpr double kJudgingShare = 0.25, kKeepShare = 0.5;

struct QuantizeFlags {
  std::string model;
  SplitFlags split;
  ScaleSources scales;  // one of them, or --data, says where scales come from
  TaskFlags task;
  KeepFlags keep;
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
  ReportFlags page;

  int sources() const { return static_cast<int>(!split.data.empty()) + scales.count(); }
  bool NeedsJudge() const { return task.named() || keep.wanted(); }
  std::string PageFolder() const { return page.folder.empty() ? output + ".report" : page.folder; }
  std::string RecipePath() const { return recipe_out.empty() ? output + ".recipe.json" : recipe_out; }
};

// What is read before anything is computed.
struct Sources {
  Graph model, prepared;
  std::optional<Dataset> data;     // the model's samples
  std::optional<Dataset> judging;  // pictures, or samples where the task asks about none; see TaskFlags
  Scales scales;
};

bool Contains(const std::vector<std::string>& names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

// Why no remedy is tried; "" where some are.
std::string WhyNoRemedies(const QuantizeFlags& flags) {
  if (Contains(flags.no_remedies, "all")) return "--no-remedy all";
  if (flags.split.data.empty()) return "remedies are judged on samples: they need --data";
  if (!flags.cache_out.empty()) return "a calibration cache holds scales of the model as it is, not of a rewritten one";
  return WhyNoRemedies(flags.policy);
}

Status CheckFlags(const QuantizeFlags& flags) {
  OCTAVO_RETURN_IF_ERROR(flags.task.Check());
  OCTAVO_RETURN_IF_ERROR(flags.keep.Check());
  OCTAVO_RETURN_IF_ERROR(flags.page.Check());
  if (flags.keep.wanted() && flags.split.data.empty()) {
    return InvalidArgument("--keep needs --data: samples to calibrate on and others to judge by");
  }
  if (flags.NeedsJudge() && flags.split.data.empty() && flags.split.check.empty()) {
    return InvalidArgument("--task needs samples to judge on: give --check");
  }
  if (flags.sources() != 1) {
    return InvalidArgument("say where scales come from: one of --data, --stats, --recipe, --from-calibration-cache");
  }
  const bool from_ranges = !flags.split.data.empty() || !flags.scales.stats.empty();
  if (!from_ranges && (!flags.estimator.empty() || flags.percentile)) {
    return InvalidArgument("--estimator and --percentile need --data or --stats to estimate from");
  }
  if (!from_ranges && !flags.cache_out.empty()) {
    return InvalidArgument("--calibration-cache needs --data or --stats to take scales from");
  }
  const bool decides = flags.scales.recipe.empty();
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
  if (sources.scales.stats) return sources.scales.stats->input_dims;
  if (sources.data) return FindInputDims(*sources.data);
  if (sources.judging && !flags.task.MakesSamples()) return FindInputDims(*sources.judging);
  return dims;
}

double JudgingShare(const QuantizeFlags& flags) { return flags.keep.wanted() ? kKeepShare : kJudgingShare; }

Status OpenData(const QuantizeFlags& flags, const Graph& model, Sources& sources) {
  if (flags.split.data.empty()) {
    if (flags.split.check.empty()) return {};
    OCTAVO_ASSIGN(sources.judging, flags.task.OpenPictures(flags.split.check, model));
    return {};
  }
  OCTAVO_ASSIGN(SplitSets sets, flags.split.Open(flags.task, model, JudgingShare(flags), flags.NeedsJudge()));
  OCTAVO_ASSIGN(sources.data, flags.task.ToSamples(sets.calibration, model, flags.threads));
  if (sets.judging.size() > 0) sources.judging = std::move(sets.judging);
  return {};
}

Result<Sources> OpenSources(const QuantizeFlags& flags) {
  Sources sources;
  OCTAVO_ASSIGN(Graph model, LoadOnnx(flags.model));
  const std::vector<Value> inputs = InputValues(model);
  OCTAVO_RETURN_IF_ERROR(OpenData(flags, model, sources));
  OCTAVO_ASSIGN(sources.scales, flags.scales.Load());
  OCTAVO_ASSIGN(const auto dims, ChooseDims(flags, inputs, sources));
  sources.model = model;
  auto prepared = PrepareForQuantization(std::move(model), dims);
  if (!prepared.ok()) return InModel(prepared.status(), flags.model);
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
                DecideWithRemedies(sources.prepared, *sources.scales.stats, *sources.data, flags.policy, options));
  return std::move(outcome.recipe);
}

Result<Recipe> DecideFrom(const QuantizeFlags& flags, Sources& sources) {
  if (sources.scales.recipe || sources.scales.cache) {
    return flags.scales.Decide(sources.prepared, sources.scales, flags.policy);
  }
  // What cannot be decided is found before hours of calibration, not after them.
  OCTAVO_RETURN_IF_ERROR(CheckPolicy(sources.prepared, flags.policy));
  if (sources.data) {
    OCTAVO_ASSIGN(sources.scales.stats,
                  CalibrateWithProgress(sources.prepared, *sources.data, flags.threads, flags.memory));
  }
  if (WhyNoRemedies(flags).empty()) return DecideRemedied(flags, sources);
  return flags.scales.Decide(sources.prepared, sources.scales, flags.policy);
}

// Who judges by what the model is for; null where nobody asked or nothing is there to judge on.
Result<std::unique_ptr<Judge>> OpenJudge(const QuantizeFlags& flags, const Sources& sources) {
  if (!flags.NeedsJudge()) return std::unique_ptr<Judge>();
  OCTAVO_ASSIGN(JudgedSamples judged, flags.task.ToJudged(*sources.judging, sources.model, flags.threads));
  OCTAVO_ASSIGN(Judge judge, OpenJudge(sources.prepared, std::move(judged), flags.threads));
  if (flags.keep.wanted()) {  // before calibration, not after it
    const Status enough = CheckSamples(flags.keep.Goal(), judge);
    if (!enough.ok()) {
      return InvalidArgument(fmt::format("--keep: {} (half of --data judges, or all of --check)", enough.message()));
    }
  }
  return std::make_unique<Judge>(std::move(judge));
}

// The search, on top of what was decided; its statistics are of the rewritten model, whose scales the recipe has.
Result<KeepResult> Search(const QuantizeFlags& flags, const Sources& sources, const Recipe& recipe, const Judge& judge,
                          Stats& stats) {
  OCTAVO_ASSIGN(const Graph rewritten, RewriteWithoutBiases(sources.prepared, recipe));
  OCTAVO_ASSIGN(stats, CalibrateWithProgress(rewritten, *sources.data, flags.threads, flags.memory));
  return RunKeep(flags.keep, sources.prepared, recipe, stats, judge, flags.policy.target);
}

Result<Session> Open(Graph graph, int threads) {
  SessionOptions options;
  options.threads = threads;
  return Session::Create(std::move(graph), options);
}

// The quantized model's outputs against the float one's, each run by Octavo's engine.
Status Measure(const Graph& prepared, Session& quantized, const Dataset& samples, int threads,
               QuantizeOutcome& outcome) {
  OCTAVO_ASSIGN(Session reference, Open(prepared, threads));
  const std::vector<std::string>& names = reference.output_names();
  std::vector<TensorComparison> comparisons(names.size());
  Progress progress("measuring", static_cast<int64_t>(samples.size()), "samples");
  for (size_t i = 0; i < samples.size(); ++i) {
    OCTAVO_ASSIGN(const auto inputs, samples.Load(i));
    OCTAVO_ASSIGN(const auto expected, reference.Run(inputs));
    OCTAVO_ASSIGN(const auto found, quantized.Run(inputs));
    double worst = kIdenticalDb;
    for (size_t k = 0; k < names.size(); ++k) {
      OCTAVO_RETURN_IF_ERROR(comparisons[k].Add(expected[k], found[k]));
      OCTAVO_ASSIGN(const TensorDifference alone, Compare(expected[k], found[k]));
      worst = std::min(worst, alone.sqnr_db);
    }
    outcome.sample_names.push_back(samples.name(i));
    outcome.sample_sqnr_db.push_back(worst);
    progress.Step();
  }
  for (size_t k = 0; k < names.size(); ++k) outcome.scores.push_back({names[k], comparisons[k].difference()});
  return {};
}

Status MeasureOutcome(const QuantizeFlags& flags, const Sources& sources, const Judge* judge, Graph quantized,
                      QuantizeOutcome& outcome) {
  OCTAVO_ASSIGN(Session session, Open(std::move(quantized), flags.threads));
  std::vector<Dims> dims;
  for (const Value& input : session.inputs()) dims.push_back(input.dims);
  OCTAVO_RETURN_IF_ERROR(session.Prepare(dims));
  outcome.int8_macs_share = session.plan().int8_macs_share();
  if (!sources.judging) return {};
  if (judge == nullptr) {
    OCTAVO_ASSIGN(const Dataset samples, flags.task.ToSamples(*sources.judging, sources.model, flags.threads));
    outcome.samples = samples.size();
    return Measure(sources.prepared, session, samples, flags.threads, outcome);
  }
  OCTAVO_ASSIGN(outcome.verdict, judge->Score(session));
  outcome.score_name = judge->task().score_name();
  outcome.truth_name = judge->task().truth_name();
  outcome.note = judge->task().note();
  outcome.samples = judge->size();
  for (size_t k = 0; k < outcome.verdict->outputs.size(); ++k) {
    outcome.scores.push_back({session.output_names()[k], outcome.verdict->outputs[k]});
  }
  return {};
}

Status WriteFiles(const QuantizeFlags& flags, const Sources& sources, const Recipe& recipe, const Graph& quantized,
                  const std::optional<KeepResult>& kept) {
  if (!flags.cache_out.empty()) {
    OCTAVO_ASSIGN(const CalibrationCache cache,
                  MakeCalibrationCache(sources.prepared, *sources.scales.stats, flags.policy.estimator));
    OCTAVO_RETURN_IF_ERROR(SaveCalibrationCache(cache, flags.cache_out));
  }
  OCTAVO_RETURN_IF_ERROR(SaveRecipe(recipe, flags.RecipePath()));
  if (kept) {
    OCTAVO_RETURN_IF_ERROR(SaveCosts(kept->costs, flags.output + ".costs.json"));
    OCTAVO_RETURN_IF_ERROR(SaveText(flags.output + ".keep.json", FormatKeepOutcome(kept->outcome, kept->goal)));
  }
  return SaveOnnx(quantized, flags.output);
}

Result<ExitCode> RunQuantize(QuantizeFlags flags) {
  const Stopwatch stopwatch;
  OCTAVO_RETURN_IF_ERROR(CheckFlags(flags));
  OCTAVO_RETURN_IF_ERROR(ChooseEstimator(flags));
  OCTAVO_ASSIGN(Sources sources, OpenSources(flags));
  OCTAVO_ASSIGN(const auto judge, OpenJudge(flags, sources));
  OCTAVO_ASSIGN(Recipe recipe, DecideFrom(flags, sources));
  for (const std::string& note : recipe.notes) PrintWarning(note);
  QuantizeOutcome outcome;
  std::optional<Stats> rewritten_stats;
  if (flags.keep.wanted()) {
    OCTAVO_ASSIGN(outcome.kept, Search(flags, sources, recipe, *judge, rewritten_stats.emplace()));
    recipe = outcome.kept->outcome.recipe;
  }
  OCTAVO_ASSIGN(Graph quantized, ApplyRecipe(sources.prepared, recipe));
  OCTAVO_RETURN_IF_ERROR(WriteFiles(flags, sources, recipe, quantized, outcome.kept));
  const Status measured = MeasureOutcome(flags, sources, judge.get(), quantized, outcome);
  if (!measured.ok()) {
    return measured.WithPrefix(fmt::format("'{}' is written, but cannot be measured: ", flags.output));
  }
  const QuantizeNames names{flags.model, flags.output, flags.RecipePath(), flags.task.Name()};
  PrintQuantizeSummary(flags.report, names, recipe, outcome);
  OCTAVO_RETURN_IF_ERROR(
      flags.report.WriteJson(QuantizeToJson(names, recipe, outcome, stopwatch.Milliseconds() / 1000)));
  if (!flags.page.none) {
    const QuantizePage page{.prepared = sources.prepared,
                            .quantized = quantized,
                            .recipe = recipe,
                            .names = names,
                            .outcome = outcome,
                            .policy = flags.policy,
                            .stats = sources.scales.stats ? &*sources.scales.stats : nullptr,
                            .rewritten_stats = rewritten_stats ? &*rewritten_stats : nullptr,
                            .data = sources.data ? &*sources.data : nullptr,
                            .judging = sources.judging && !flags.task.MakesSamples() ? &*sources.judging : nullptr,
                            .judge = judge.get(),
                            .live = flags.task.Live(flags.model, flags.output),
                            .threads = flags.threads,
                            .seconds = stopwatch.Milliseconds() / 1000};
    OCTAVO_RETURN_IF_ERROR(WriteQuantizePage(page, flags.PageFolder()));
    flags.report.Print("report: {}/report.html\n", flags.PageFolder());
  }
  return outcome.kept && !outcome.kept->outcome.met ? kGoalMissed : kDone;
}

void AddSourceFlags(CLI::App& command, QuantizeFlags& flags) {
  flags.split.AddTo(command);
  flags.task.AddTo(command, true);
  flags.scales.AddTo(command);
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
  CLI::App* command = AddSubcommand(
      app, "quantize", "Write a model with INT8 weights and activations as Q/DQ",
      {"octavo quantize vit.onnx --data photos --preprocess imagenet -o vit.int8.onnx",
       "octavo quantize encoder.onnx --stats encoder.stats --target tensorrt -o encoder.qdq.onnx",
       "octavo quantize encoder.onnx --stats encoder.stats --keep-float '/neck/*' --keep-float depthwise "
       "--check photos --preprocess sam -o mixed.onnx",
       "octavo quantize encoder.onnx --data photos --preprocess sam --task segment --decoder decoder.onnx --keep 0.99 "
       "--budget int8-macs=90% -o kept.onnx",
       "octavo quantize rec.onnx --data lines --preprocess rec.json --task text --characters keys.txt --keep 0.99 -o "
       "rec.kept.onnx",
       "octavo quantize depth.onnx --data photos --preprocess imagenet --score-command 'python3 score.py' --keep 0.98 "
       "-o depth.kept.onnx",
       "octavo quantize encoder.onnx --recipe encoder.qdq.onnx.recipe.json -o again.onnx"});
  auto flags = std::make_shared<QuantizeFlags>();
  command->add_option("MODEL", flags->model, "ONNX file, not quantized")->required();
  AddSourceFlags(*command, *flags);
  AddPolicyFlags(*command, *flags);
  flags->keep.AddTo(*command);
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
  flags->page.AddTo(*command, "OUT.onnx.report");
  flags->report.AddFlag(*command);
  command->callback([=, &action] { action = [=] { return RunQuantize(*flags); }; });
}

}  // namespace octavo::cli
