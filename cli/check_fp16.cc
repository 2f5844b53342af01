#include <algorithm>
#include <memory>
#include <optional>

#include "calibration_run.h"
#include "command.h"
#include "console.h"
#include "data_flags.h"
#include "engine_flags.h"
#include "model_files.h"
#include "octavo/compare.h"
#include "octavo/half_safety.h"
#include "octavo/onnx.h"
#include "octavo/session.h"
#include "octavo/task.h"
#include "progress.h"

namespace octavo::cli {
namespace {

// Of --data, this share judges what the others calibrated; of less than four samples, each does both.
constexpr double kJudgingShare = 0.25;
constexpr size_t kLeastToSplit = 4;

struct CheckFlags {
  std::string model;
  std::string data, eval_data;
  std::string preprocess;
  int64_t count = 0;
  std::string memory;
  std::vector<std::string> input_shapes;
  int threads = 0;
  HalfSafetyOptions safety;
  std::string output;
  Report report;
};

struct Sources {
  Graph prepared;
  Dataset data, eval;
};

Result<Sources> OpenSources(const CheckFlags& flags) {
  OCTAVO_ASSIGN(Graph model, LoadOnnx(flags.model));
  const std::vector<Value> inputs = InputValues(model);
  Sources sources;
  OCTAVO_ASSIGN(sources.data, OpenDataset(flags.data, flags.preprocess, inputs));
  TruncateTo(sources.data, flags.count, flags.data);
  OCTAVO_ASSIGN(auto dims, ParseInputShapes(flags.input_shapes, inputs));
  if (dims.empty()) {
    OCTAVO_ASSIGN(dims, FindInputDims(sources.data));
  }
  if (!flags.eval_data.empty()) {
    OCTAVO_ASSIGN(sources.eval, OpenDataset(flags.eval_data, flags.preprocess, inputs));
  } else if (sources.data.size() < kLeastToSplit) {
    sources.eval = sources.data;
  } else {
    OCTAVO_ASSIGN(const SampleSplit split, SplitSamples(sources.data.size(), kJudgingShare));
    sources.eval = sources.data.Select(split.judging);
    sources.data = sources.data.Select(split.calibration);
  }
  auto prepared = PrepareForQuantization(std::move(model), dims);
  if (!prepared.ok()) return InModel(prepared.status(), flags.model);
  sources.prepared = *std::move(prepared);
  return sources;
}

Result<Stats> CalibrateHalves(const CheckFlags& flags, const Sources& sources) {
  OCTAVO_ASSIGN(const std::vector<std::string> tensors, HalfTensors(sources.prepared));
  return CalibrateWithProgress(sources.prepared, sources.data, flags.threads, flags.memory, tensors);
}

struct OutputScore {
  std::string name;
  TensorDifference plain;                    // FP16 as the model is
  std::optional<TensorDifference> remedied;  // FP16 with the remedies; where there are any
};

Result<Session> OpenHalf(Graph graph, int threads, const Recipe& recipe) {
  SessionOptions options;
  options.threads = threads;
  options.precision = Precision::kFloat16;
  for (const FloatRecipe& node : recipe.float_nodes) options.float32_nodes.push_back(node.node);
  return Session::Create(std::move(graph), options);
}

// Both against float32, which the samples run through once.
Result<std::vector<OutputScore>> Measure(const CheckFlags& flags, const Sources& sources, const Graph& rewritten,
                                         const HalfSafety& safety) {
  SessionOptions options;
  options.threads = flags.threads;
  OCTAVO_ASSIGN(Session reference, Session::Create(sources.prepared, options));
  OCTAVO_ASSIGN(Session plain, OpenHalf(sources.prepared, flags.threads, {}));
  OCTAVO_ASSIGN(Session remedied, OpenHalf(rewritten, flags.threads, safety.recipe));
  const std::vector<std::string>& names = reference.output_names();
  std::vector<TensorComparison> of_plain(names.size()), of_remedied(names.size());
  Progress progress("measuring", static_cast<int64_t>(sources.eval.size()), "samples");
  for (size_t i = 0; i < sources.eval.size(); ++i) {
    OCTAVO_ASSIGN(const auto inputs, sources.eval.Load(i));
    OCTAVO_ASSIGN(const auto expected, reference.Run(inputs));
    OCTAVO_ASSIGN(const auto found, plain.Run(inputs));
    for (size_t k = 0; k < names.size(); ++k) OCTAVO_RETURN_IF_ERROR(of_plain[k].Add(expected[k], found[k]));
    if (!safety.findings.empty()) {
      OCTAVO_ASSIGN(const auto better, remedied.Run(inputs));
      for (size_t k = 0; k < names.size(); ++k) OCTAVO_RETURN_IF_ERROR(of_remedied[k].Add(expected[k], better[k]));
    }
    progress.Step();
  }
  std::vector<OutputScore> scores;
  for (size_t k = 0; k < names.size(); ++k) {
    scores.push_back({names[k], of_plain[k].difference(), std::nullopt});
    if (!safety.findings.empty()) scores.back().remedied = of_remedied[k].difference();
  }
  return scores;
}

std::string RemedyText(const HalfFinding& finding) {
  if (finding.remedy == HalfRemedy::kRescale) return fmt::format("rescale by 2^{}", finding.octaves);
  constexpr size_t kNamed = 3;
  const std::vector<std::string>& nodes = finding.float32_nodes;
  const auto named_end = nodes.begin() + static_cast<std::ptrdiff_t>(std::min(nodes.size(), kNamed));
  return fmt::format("keep float32: {}{}", fmt::join(nodes.begin(), named_end, ", "),
                     nodes.size() > kNamed ? fmt::format(" and {} more", nodes.size() - kNamed) : "");
}

// "no match" hides how much of it is wrong.
std::string ScoreText(const TensorDifference& difference) {
  if (difference.nonfinite_output > difference.nonfinite_reference) {
    return fmt::format("{} of {} are NaN or infinite", Grouped(difference.nonfinite_output),
                       Grouped(difference.values));
  }
  if (difference.sqnr_db >= kIdenticalDb) return "identical";
  return difference.sqnr_db <= kWorstDb ? "no match" : fmt::format("{:.1f}", difference.sqnr_db);
}

void PrintFindings(const CheckFlags& flags, const HalfSafety& safety) {
  if (safety.findings.empty()) {
    flags.report.Print("no value comes near the ends of half's range\n");
    return;
  }
  Table table("lllrrl", {"risk", "tensor", "part of", "magnitude", "headroom", "remedy"});
  constexpr size_t kMostListed = 40;
  for (size_t i = 0; i < std::min(safety.findings.size(), kMostListed); ++i) {
    const HalfFinding& finding = safety.findings[i];
    table.AddRow({std::string(NameOf(finding.risk)), finding.tensor, finding.pattern,
                  fmt::format("{:.3g}", finding.magnitude), fmt::format("{:.2g}x", finding.headroom),
                  RemedyText(finding)});
  }
  table.Print(flags.report.stream());
  if (safety.findings.size() > kMostListed) {
    flags.report.Print("and {} risks more; --json lists all\n", safety.findings.size() - kMostListed);
  }
}

void PrintScores(const CheckFlags& flags, const std::vector<OutputScore>& scores, size_t samples) {
  Table table("lrr", {"output", "FP16 SQNR dB", "with remedies"});
  for (const OutputScore& score : scores) {
    table.AddRow({score.name, ScoreText(score.plain), score.remedied ? ScoreText(*score.remedied) : "-"});
  }
  table.Print(flags.report.stream());
  flags.report.Print("against float32, over {} samples\n", samples);
}

Json ToJson(const HalfFinding& finding) {
  const bool rescale = finding.remedy == HalfRemedy::kRescale;
  return {{"risk", std::string(NameOf(finding.risk))},
          {"tensor", finding.tensor},
          {"node", finding.node},
          {"pattern", finding.pattern},
          {"magnitude", Finite(finding.magnitude)},
          {"headroom", Finite(finding.headroom)},
          {"remedy", rescale ? "rescale" : "keep float32"},
          {"octaves", finding.octaves},
          {"float32_nodes", finding.float32_nodes}};
}

Json ToJson(const TensorDifference& difference) {
  return {{"sqnr_db", Finite(difference.sqnr_db)},
          {"nonfinite", difference.nonfinite_output},
          {"values", difference.values},
          {"cosine", Finite(difference.cosine)}};
}

Json ToJson(const CheckFlags& flags, const HalfSafety& safety, const std::vector<OutputScore>& scores, size_t samples) {
  Json findings = Json::array(), outputs = Json::array(), kept = Json::array();
  for (const HalfFinding& finding : safety.findings) findings.push_back(ToJson(finding));
  for (const FloatRecipe& node : safety.recipe.float_nodes) {
    kept.push_back({{"node", node.node}, {"reason", node.reason}});
  }
  for (const OutputScore& score : scores) {
    outputs.push_back({{"name", score.name},
                       {"fp16", ToJson(score.plain)},
                       {"remedied", score.remedied ? ToJson(*score.remedied) : Json()}});
  }
  return {{"model", flags.model},
          {"output", flags.output.empty() ? Json() : Json(flags.output)},
          {"margin", flags.safety.overflow_share},
          {"findings", findings},
          {"float32_nodes", kept},
          {"samples", samples},
          {"outputs", outputs}};
}

Result<ExitCode> RunCheck(const CheckFlags& flags) {
  OCTAVO_ASSIGN(const Sources sources, OpenSources(flags));
  OCTAVO_ASSIGN(const Stats stats, CalibrateHalves(flags, sources));
  OCTAVO_ASSIGN(const HalfSafety safety, AnalyzeHalfSafety(sources.prepared, stats, flags.safety));
  OCTAVO_ASSIGN(const Graph rewritten, RewriteByRecipe(sources.prepared, safety.recipe));
  OCTAVO_ASSIGN(const auto scores, Measure(flags, sources, rewritten, safety));
  if (!flags.output.empty()) OCTAVO_RETURN_IF_ERROR(SaveOnnx(rewritten, flags.output));
  PrintFindings(flags, safety);
  PrintScores(flags, scores, sources.eval.size());
  if (!flags.output.empty()) {
    flags.report.Print("{}: {} tensors rescaled; {} nodes are to stay float32\n", flags.output,
                       safety.recipe.migrations.size(), safety.recipe.float_nodes.size());
  }
  OCTAVO_RETURN_IF_ERROR(flags.report.WriteJson(ToJson(flags, safety, scores, sources.eval.size())));
  return safety.findings.empty() ? kDone : kFindings;
}

}  // namespace

void AddCheckFp16Command(CLI::App& app, Action& action) {
  CLI::App* command = AddSubcommand(
      app, "check-fp16",
      "Find what would overflow or vanish in FP16, and measure FP16 with and without remedies; exit code 1: risks "
      "found",
      {"octavo check-fp16 encoder.onnx --data photos --preprocess sam",
       "octavo check-fp16 encoder.onnx --data photos --preprocess sam -o encoder.fp16safe.onnx --json report.json",
       "octavo check-fp16 unet.onnx --data npz_samples --margin 0.5 --count 32"});
  auto flags = std::make_shared<CheckFlags>();
  command->add_option("MODEL", flags->model, "ONNX file, not quantized")->required();
  AddDataFlag(*command, flags->data);
  AddPreprocessFlag(*command, flags->preprocess);
  command
      ->add_option("--check,--eval-data", flags->eval_data,
                   "Folder of samples to measure on (default: of four or more, every fourth is held out)")
      ->type_name("DIR");
  command->add_option("--count", flags->count, "Use only the first N samples of --data; 0: all")
      ->type_name("N")
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 40));
  command
      ->add_option("--margin", flags->safety.overflow_share,
                   "Share of 65504 beyond which a calibrated magnitude is a risk (default: 0.25)")
      ->type_name("SHARE")
      ->check(CLI::Range(1e-6, 1.0));
  command->add_option("--memory", flags->memory, "What calibration may take; see 'octavo calibrate --help'")
      ->type_name("SIZE");
  command->add_option("--threads", flags->threads, "Threads to compute with; 0: every core")
      ->type_name("N")
      ->check(CLI::Range(0, 1024));
  AddRepeatable(*command, "--input-shape", flags->input_shapes,
                "Sizes of an input that is dynamic (default: those of the samples); repeatable")
      ->type_name("NAME=1x3x512x512");
  command->add_option("-o,--output", flags->output, "File for the model with its sums rescaled; it computes the same")
      ->type_name("OUT.onnx");
  flags->report.AddFlag(*command);
  command->callback([=, &action] { action = [=] { return RunCheck(*flags); }; });
}

}  // namespace octavo::cli
