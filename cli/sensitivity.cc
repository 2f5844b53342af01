#include "octavo/sensitivity.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <memory>

#include "byte_size.h"
#include "calibration_run.h"
#include "command.h"
#include "console.h"
#include "engine_flags.h"
#include "model_files.h"
#include "octavo/calibrate.h"
#include "octavo/compare.h"
#include "octavo/onnx.h"
#include "octavo/text_file.h"
#include "report_document.h"
#include "report_subject.h"
#include "split_flags.h"
#include "stop_on_signals.h"
#include "stopwatch.h"
#include "task_flags.h"
#include "verdict_text.h"

namespace octavo::cli {
namespace {

namespace fs = std::filesystem;

constexpr double kJudgingShare = 0.5;
constexpr int64_t kCalibrationSamples = 32, kJudgingSamples = 16;

struct SensitivityFlags {
  std::string model;
  SplitFlags split;
  TaskFlags task;
  Policy policy;
  std::string estimator = "mse";
  std::string recipe;
  std::vector<std::string> precisions;
  bool no_without = false, no_times = false;
  std::string memory = "2G";
  std::string output, csv;
  int top = 30;
  bool resume = false;
  int threads = 0;
  Report report;
  ReportFlags page;

  std::string Checkpoint() const {
    return (output.empty() ? fs::path(model).filename().string() + ".sensitivity" : output) + ".checkpoint";
  }
};

// What the measurement needs.
struct Setup {
  Graph prepared;
  Dataset calibration;
  std::unique_ptr<Judge> judge;
  Recipe recipe;
  Stats stats;
};

Status PrepareModel(const SensitivityFlags& flags, Setup& setup) {
  OCTAVO_ASSIGN(Graph model, LoadOnnx(flags.model));
  OCTAVO_ASSIGN(const SplitSets sets, flags.split.Open(flags.task, model, kJudgingShare, true));
  OCTAVO_ASSIGN(setup.calibration, flags.task.ToSamples(sets.calibration, model, flags.threads));
  OCTAVO_ASSIGN(const auto dims, FindInputDims(setup.calibration));
  OCTAVO_ASSIGN(JudgedSamples judged, flags.task.ToJudged(sets.judging, model, flags.threads));
  auto prepared = PrepareForQuantization(std::move(model), dims);
  if (!prepared.ok()) return InModel(prepared.status(), flags.model);
  setup.prepared = *std::move(prepared);
  OCTAVO_RETURN_IF_ERROR(CheckPolicy(setup.prepared, flags.policy));
  OCTAVO_ASSIGN(Judge judge, OpenJudge(setup.prepared, std::move(judged), flags.threads));
  setup.judge = std::make_unique<Judge>(std::move(judge));
  return {};
}

// Scales of a recipe are those of its rewritten model, and so are the statistics that explain them.
Status CalibrateRecipe(const SensitivityFlags& flags, Setup& setup) {
  if (flags.recipe.empty()) {
    OCTAVO_ASSIGN(setup.stats, CalibrateWithProgress(setup.prepared, setup.calibration, flags.threads, ""));
    OCTAVO_ASSIGN(setup.recipe, Decide(setup.prepared, setup.stats, flags.policy));
    return {};
  }
  OCTAVO_ASSIGN(setup.recipe, LoadRecipe(flags.recipe));
  auto rewritten = RewriteWithoutBiases(setup.prepared, setup.recipe);
  if (!rewritten.ok()) return rewritten.status().WithPrefix(flags.recipe + ": ");
  OCTAVO_ASSIGN(setup.stats, CalibrateWithProgress(*rewritten, setup.calibration, flags.threads, ""));
  return {};
}

Result<SensitivityReport> Measure(const SensitivityFlags& flags, const Setup& setup) {
  SensitivityOptions options;
  if (!flags.precisions.empty()) options.precisions.clear();
  for (const std::string& name : flags.precisions) {
    OCTAVO_ASSIGN(const DType precision, ParseLayerPrecision(name));
    options.precisions.push_back(precision);
  }
  options.without = !flags.no_without;
  OCTAVO_ASSIGN(options.memory_bytes, ParseByteSize(flags.memory));
  options.checkpoint = flags.Checkpoint();
  options.resume = flags.resume;
  options.settings =
      fmt::format("{} {}", flags.task.Describe(), flags.split.check.empty() ? flags.split.data : flags.split.check);
  options.stop = &StopOnSignals::requested;
  LayerCosts costs;
  if (!flags.no_times) {
    OCTAVO_ASSIGN(const auto sample, setup.judge->Inputs(0));
    MeasureCostsOptions times;
    times.threads = flags.threads;
    OCTAVO_ASSIGN(costs, MeasureCosts(setup.prepared, setup.recipe, sample, times));
    options.costs = &costs;
  }
  SweepProgress progress("measuring", "layers");
  options.progress = [&](size_t done, size_t total) { progress(done, total); };
  return MeasureSensitivity(setup.prepared, setup.recipe, setup.stats, *setup.judge, options);
}

std::string Decibels(double decibels) {
  return decibels >= kIdenticalDb ? "-" : decibels <= kWorstDb ? "none" : fmt::format("{:.1f}", decibels);
}

void PrintLayers(const SensitivityFlags& flags, const Setup& setup, const SensitivityReport& report) {
  if (report.layers.empty()) return;
  std::vector<std::string> header = {"layer", "op", "MMACs"};
  std::string alignment = "llr";
  for (const PrecisionEffect& effect : report.layers.front().alone) {
    const std::string name(LayerPrecisionName(effect.precision));
    header.insert(header.end(), {name + " local dB", name + " score", name + " dB"});
    alignment += "rrr";
  }
  if (!flags.no_without) header.insert(header.end(), {"without", "without dB"}), alignment += "rr";
  if (!flags.no_times) header.emplace_back("ms saved"), alignment += "r";
  header.emplace_back("why");
  Table table(alignment + "l", header);
  size_t listed = 0;
  for (const LayerSensitivity& layer : report.layers) {
    if (flags.top > 0 && ++listed > static_cast<size_t>(flags.top)) break;
    std::vector<std::string> row = {layer.node, layer.op, fmt::format("{:.1f}", static_cast<double>(layer.macs) / 1e6)};
    for (const PrecisionEffect& effect : layer.alone) {
      row.insert(row.end(),
                 {Decibels(effect.local_sqnr_db), fmt::format("{:.5f}", effect.score), Decibels(effect.sqnr_db)});
    }
    if (!flags.no_without)
      row.insert(row.end(), {fmt::format("{:.5f}", layer.without_score), Decibels(layer.without_sqnr_db)});
    if (!flags.no_times) row.push_back(fmt::format("{:.2f}", layer.milliseconds_saved));
    row.push_back(layer.reason);
    table.AddRow(std::move(row));
  }
  table.Print(flags.report.stream());
  if (flags.top > 0 && report.layers.size() > static_cast<size_t>(flags.top)) {
    flags.report.Print("... {} layers more; --top 0 lists them all\n",
                       report.layers.size() - static_cast<size_t>(flags.top));
  }
  const Verdict& all = report.all_quantized;
  flags.report.Print("all in int8: {} {:.5f}, p5 {}, {:.1f} dB; judged on {} samples\n",
                     setup.judge->task().score_name(), all.score.mean, ScoreText(P5Of(all.score, all.p5_bound)),
                     all.sqnr_db, all.scores.size());
  const std::string figures = FiguresText(all);
  if (!figures.empty()) flags.report.Print("{}\n", figures);
  const std::string note = setup.judge->task().note();
  if (!note.empty()) flags.report.Print("{}\n", note);
}

// Hard layers are those that cost the score; where none does, those that cost the outputs most.
LayerSensitivities ForPage(const SensitivityReport& report, std::string_view score_name) {
  LayerSensitivities page;
  const auto lost = [](const LayerSensitivity& layer) { return 1 - layer.alone.front().score; };
  const bool by_score = std::any_of(report.layers.begin(), report.layers.end(),
                                    [&](const auto& layer) { return !layer.alone.empty() && lost(layer) > 0; });
  for (const LayerSensitivity& layer : report.layers) {
    if (layer.alone.empty()) continue;
    if (page.what.empty()) {
      const std::string_view precision = LayerPrecisionName(layer.alone.front().precision);
      page.what = by_score
                      ? fmt::format("{} lost with this layer alone in {}", score_name, precision)
                      : fmt::format("noise of the outputs with this layer alone in {}, over their energy", precision);
    }
    page.of[layer.node] = by_score ? std::max(0.0, lost(layer)) : std::pow(10.0, -layer.alone.front().sqnr_db / 10);
    page.reasons[layer.node] = layer.reason;
    Json& figures = page.figures[layer.node];
    for (const PrecisionEffect& effect : layer.alone) {
      const std::string name(LayerPrecisionName(effect.precision));
      figures[fmt::format("score with this layer alone in {}", name)] = Finite(effect.score);
      figures[fmt::format("dB at the outputs with this layer alone in {}", name)] = Finite(effect.sqnr_db);
    }
    if (layer.without_sqnr_db != 0) {
      figures["score with everything else in int8"] = Finite(layer.without_score);
      figures["dB with everything else in int8"] = Finite(layer.without_sqnr_db);
    }
    if (layer.milliseconds_saved != 0) figures["ms saved by int8"] = Finite(layer.milliseconds_saved);
  }
  return page;
}

Status WritePage(const SensitivityFlags& flags, const Setup& setup, const SensitivityReport& found, double seconds) {
  Json report = StartReport("sensitivity", flags.threads, seconds);
  ReportForm fp32(kFp32Form, flags.model), int8("everything in INT8");
  OCTAVO_ASSIGN(const auto fp32_session, OpenForm(setup.prepared, flags.threads));
  OCTAVO_ASSIGN(Graph quantized, ApplyRecipe(setup.prepared, setup.recipe));
  OCTAVO_ASSIGN(const auto int8_session, OpenForm(std::move(quantized), flags.threads));
  OCTAVO_ASSIGN(const auto inputs, setup.judge->Inputs(0));
  OCTAVO_RETURN_IF_ERROR(TimeForms({{&fp32, fp32_session.get()}, {&int8, int8_session.get()}}, inputs));
  int8.Take(found.all_quantized);
  const std::string score_name(setup.judge->task().score_name());
  const Verdict& v = found.all_quantized;
  ReportSummary summary;
  summary.before = &fp32;
  summary.after = &int8;
  summary.kept = v.score.mean >= kKeptScore;
  summary.quality = fmt::format(
      "{} {:.4f}{} with everything in INT8, over {} questions; {:g} counts as kept", score_name, v.score.mean,
      v.mean_bound ? fmt::format(" ({})", BoundText(v.mean_bound)) : "", v.score.count, kKeptScore);
  if (!found.layers.empty()) summary.quality += fmt::format("; the hardest layer is {}", found.layers.front().node);
  Json subject = {{"name", Stem(flags.model)}, {"summary", SummaryJson(summary)}};
  subject["score"] = {
      {"name", score_name}, {"unit", ""}, {"task", flags.task.Name()}, {"note", setup.judge->task().note()}};
  subject["samples"] = Json::array();
  for (size_t i = 0; setup.judge->units() == setup.judge->size() && i < setup.judge->size(); ++i) {
    subject["samples"].push_back(setup.judge->samples().name(i));
  }
  subject["forms"] = {FormJson(fp32), FormJson(int8)};
  const LayerSensitivities sensitivities = ForPage(found, score_name);
  OCTAVO_RETURN_IF_ERROR(
      PutLayers({setup.prepared, setup.recipe, &setup.stats, &fp32, &int8, &sensitivities}, subject));
  PutRecipe(setup.recipe, flags.recipe, subject);
  OCTAVO_RETURN_IF_ERROR(PutWorstPictures(*setup.judge, v.scores, {{&int8, int8_session.get()}}, report, subject));
  report["subjects"].push_back(std::move(subject));
  return WriteReport(report, flags.page.folder);
}

Result<ExitCode> RunSensitivity(SensitivityFlags flags) {
  const Stopwatch stopwatch;
  OCTAVO_RETURN_IF_ERROR(flags.task.Check());
  OCTAVO_RETURN_IF_ERROR(flags.page.Check());
  if (flags.split.data.empty())
    return InvalidArgument("--data is missing: a folder of samples to calibrate and judge on");
  OCTAVO_ASSIGN(flags.policy.estimator.estimator, ParseEstimator(flags.estimator));
  OCTAVO_RETURN_IF_ERROR(ParseByteSize(flags.memory).status());  // before a long calibration, not after it
  if (flags.split.calibration_samples == 0) flags.split.calibration_samples = kCalibrationSamples;
  if (flags.split.judging_samples == 0) flags.split.judging_samples = kJudgingSamples;
  Setup setup;
  OCTAVO_RETURN_IF_ERROR(PrepareModel(flags, setup));
  OCTAVO_RETURN_IF_ERROR(CalibrateRecipe(flags, setup));
  const StopOnSignals signals;
  OCTAVO_ASSIGN(const SensitivityReport report, Measure(flags, setup));
  if (report.stopped) {
    PrintNote(fmt::format("stopped after {} layers; the same command with --resume goes on from '{}'",
                          report.layers.size(), flags.Checkpoint()));
    return kInterrupted;
  }
  PrintLayers(flags, setup, report);
  const std::string json = FormatSensitivity(report);
  if (!flags.output.empty()) OCTAVO_RETURN_IF_ERROR(SaveText(flags.output, json));
  if (!flags.csv.empty()) OCTAVO_RETURN_IF_ERROR(SaveText(flags.csv, FormatSensitivityCsv(report)));
  if (!flags.page.folder.empty()) {
    OCTAVO_RETURN_IF_ERROR(WritePage(flags, setup, report, stopwatch.Milliseconds() / 1000));
    flags.report.Print("report: {}/report.html\n", flags.page.folder);
  }
  Json document = Json::parse(json);
  document["model"] = flags.model;
  document["task"] = flags.task.Name();
  document["note"] = setup.judge->task().note();
  document["samples"] = setup.judge->size();
  document["seconds"] = stopwatch.Milliseconds() / 1000;
  OCTAVO_RETURN_IF_ERROR(flags.report.WriteJson(document));
  std::error_code ignored;
  fs::remove(flags.Checkpoint(), ignored);
  return kDone;
}

}  // namespace

void AddSensitivityCommand(CLI::App& app, Action& action) {
  CLI::App* command = AddSubcommand(
      app, "sensitivity", "Find the layers that INT8 costs the picture: each alone, and all but each",
      {"octavo sensitivity encoder.onnx --data photos --preprocess sam --task segment --decoder decoder.onnx",
       "octavo sensitivity vit.onnx --data photos --preprocess imagenet --task heatmap --csv layers.csv --json -",
       "octavo sensitivity vit.onnx --data photos --preprocess imagenet --task classify --judging-samples 100",
       "octavo sensitivity encoder.onnx --data photos --preprocess sam --recipe encoder.int8.onnx.recipe.json "
       "--precisions int8 -o layers.json --resume"});
  auto flags = std::make_shared<SensitivityFlags>();
  command->add_option("MODEL", flags->model, "ONNX file, not quantized")->required();
  flags->split.AddTo(*command);
  flags->task.AddTo(*command, false);
  command->add_option("--recipe", flags->recipe, "Decisions to look into (default: plain INT8, without remedies)")
      ->type_name("FILE");
  command->add_option("--target", flags->policy.target, "Whose rules Q/DQ follow (default: octavo)")->type_name("NAME");
  command->add_option("--preset", flags->policy.preset, "Decide as another tool would")
      ->type_name("tensorrt8-implicit");
  command->add_option("--estimator", flags->estimator, "How ranges are read off the statistics (default: mse)")
      ->type_name("minmax|percentile|mse|entropy");
  command->add_flag("--quantize-attention", flags->policy.quantize_attention,
                    "Quantize products of two activations, too");
  AddRepeatable(*command, "--precisions", flags->precisions,
                "What a layer alone is run in (default: int8, bf16 and fp16); repeatable")
      ->delimiter(',')
      ->check(CLI::IsMember({"int8", "bf16", "fp16"}));
  command->add_flag("--no-without", flags->no_without, "Leave out the model in INT8 with one layer in FP32");
  command->add_flag("--no-times", flags->no_times, "Leave out what each layer's INT8 saves on this machine");
  command->add_option("--memory", flags->memory, "What cached activations may take (default: 2G)")->type_name("SIZE");
  command->add_option("--top", flags->top, "Rows to print; 0: all (default: 30)")
      ->type_name("N")
      ->check(CLI::Range(0, 1 << 30));
  command->add_option("-o,--output", flags->output, "File for the result as JSON")->type_name("FILE.json");
  command->add_option("--csv", flags->csv, "File for the result as CSV")->type_name("FILE.csv");
  command->add_flag("--resume", flags->resume,
                    "Go on from the checkpoint that an interrupted run left (FILE.json.checkpoint)");
  command->add_option("--threads", flags->threads, "Threads to compute with; 0: every core")
      ->type_name("N")
      ->check(CLI::Range(0, 1024));
  flags->page.AddTo(*command, "");
  flags->report.AddFlag(*command);
  command->callback([=, &action] { action = [=] { return RunSensitivity(*flags); }; });
}

}  // namespace octavo::cli
