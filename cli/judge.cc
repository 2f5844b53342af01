#include "octavo/judge.h"

#include <memory>

#include "command.h"
#include "console.h"
#include "data_flags.h"
#include "engine_flags.h"
#include "model_files.h"
#include "octavo/calibrate.h"
#include "octavo/compare.h"
#include "octavo/onnx.h"
#include "progress.h"
#include "task_flags.h"
#include "verdict_text.h"

namespace octavo::cli {
namespace {

struct JudgeFlags {
  std::string reference;
  std::vector<std::string> candidates;
  std::string data;
  int64_t count = 0;
  TaskFlags task;
  std::optional<double> least;
  EngineFlags engine;
  Report report;
};

// One judged model and what was found.
struct Judged {
  std::string file;
  Verdict verdict;
  double int8_macs_share = 0;
};

Result<Judge> OpenJudge(const JudgeFlags& flags) {
  OCTAVO_RETURN_IF_ERROR(flags.task.Check());
  OCTAVO_ASSIGN(const Graph reference, LoadOnnx(flags.reference));
  OCTAVO_ASSIGN(Dataset pictures, flags.task.OpenPictures(flags.data, reference));
  TruncateTo(pictures, flags.count, flags.data);
  OCTAVO_ASSIGN(JudgedSamples judged, flags.task.ToJudged(pictures, reference, flags.engine.threads));
  auto judge = OpenJudge(reference, std::move(judged), flags.engine.threads, "running " + flags.reference);
  return judge.ok() ? std::move(judge) : Result<Judge>(judge.status().WithPrefix(flags.reference + ": "));
}

Result<Judged> JudgeOne(const JudgeFlags& flags, const Judge& judge, const std::string& file) {
  OCTAVO_ASSIGN(Graph graph, LoadOnnx(file));
  OCTAVO_ASSIGN(Session session, Session::Create(std::move(graph), flags.engine.ToOptions()));
  Progress progress("judging " + file, static_cast<int64_t>(judge.size()), "samples");
  auto verdict = judge.Score([&](size_t sample) -> Result<std::vector<Tensor>> {
    OCTAVO_ASSIGN(const auto inputs, judge.Inputs(sample));
    auto outputs = session.Run(inputs);
    progress.Step();
    return outputs;
  });
  if (!verdict.ok()) return verdict.status().WithPrefix(file + ": ");
  return Judged{file, *std::move(verdict), session.plan().int8_macs_share()};
}

void PrintVerdicts(const JudgeFlags& flags, const Judge& judge, const std::vector<Judged>& models) {
  const std::string score(judge.task().score_name());
  bool truth = false;
  for (const Judged& model : models) truth |= model.verdict.candidate_truth.has_value();
  Table table(truth ? "lrrrrrrr" : "lrrrrrr",
              truth ? std::vector<std::string>{"model", score, "p5", "at least", "SQNR dB", "INT8 MACs", "MB", "human"}
                    : std::vector<std::string>{"model", score, "p5", "at least", "SQNR dB", "INT8 MACs", "MB"});
  for (const Judged& model : models) {
    const Verdict& v = model.verdict;
    std::vector<std::string> row = {
        model.file,
        fmt::format("{:.4f}", v.score.mean),
        ScoreText(P5Of(v.score, v.p5_bound)),
        ScoreText(v.mean_bound),
        v.sqnr_db >= kIdenticalDb ? "identical" : fmt::format("{:.1f}", v.sqnr_db),
        fmt::format("{:.1f} %", 100 * model.int8_macs_share),
        fmt::format("{:.1f}", static_cast<double>(FileBytes(model.file)) / 1e6),
    };
    if (truth) row.push_back(ScoreText(v.candidate_truth));
    table.AddRow(std::move(row));
  }
  table.Print(flags.report.stream());
  for (const Judged& model : models) {
    const std::string figures = FiguresText(model.verdict);
    if (!figures.empty()) flags.report.Print("{}: {}\n", model.file, figures);
  }
  const Verdict& first = models.front().verdict;
  flags.report.Print("against {}, {} questions about {} samples; {}\n", flags.reference, first.score.count,
                     first.scores.size(),
                     first.mean_bound ? "'at least': the mean's one-sided 95 % bound" : BoundText(first.mean_bound));
  if (first.reference_truth) {
    flags.report.Print("human: {}; FP32 has {:.4f}\n", judge.task().truth_name(), *first.reference_truth);
  }
  if (first.mean_bound && !judge.task().note().empty()) flags.report.Print("{}\n", judge.task().note());
}

Json ToJson(const JudgeFlags& flags, const Judge& judge, const std::vector<Judged>& models) {
  Json list = Json::array();
  for (const Judged& model : models) {
    const Verdict& v = model.verdict;
    list.push_back({{"file", model.file},
                    {"score", v.score.mean},
                    {"p5", NumberOrNull(P5Of(v.score, v.p5_bound))},
                    {"mean_bound", NumberOrNull(v.mean_bound)},
                    {"p5_bound", NumberOrNull(v.p5_bound)},
                    {"sqnr_db", Finite(v.sqnr_db)},
                    {"int8_macs_share", model.int8_macs_share},
                    {"bytes", FileBytes(model.file)},
                    {"human_score", NumberOrNull(v.candidate_truth)},
                    {"figures", FiguresToJson(v)},
                    {"scores", v.scores}});
  }
  const Verdict& first = models.front().verdict;
  return {{"reference", flags.reference},       {"task", judge.task().name()},
          {"score", judge.task().score_name()}, {"samples", first.scores.size()},
          {"questions", first.score.count},     {"human_score", NumberOrNull(first.reference_truth)},
          {"note", judge.task().note()},        {"models", list}};
}

Result<ExitCode> JudgeCommand(const JudgeFlags& flags) {
  OCTAVO_ASSIGN(const Judge judge, OpenJudge(flags));
  std::vector<Judged> models;
  for (const std::string& file : flags.candidates) {
    OCTAVO_ASSIGN(Judged judged, JudgeOne(flags, judge, file));
    models.push_back(std::move(judged));
  }
  PrintVerdicts(flags, judge, models);
  OCTAVO_RETURN_IF_ERROR(flags.report.WriteJson(ToJson(flags, judge, models)));
  bool met = true;
  for (const Judged& model : models) met &= !flags.least || model.verdict.score.mean >= *flags.least;
  return met ? kDone : kFindings;
}

}  // namespace

void AddJudgeCommand(CLI::App& app, Action& action) {
  CLI::App* command = AddSubcommand(
      app, "judge", "Score models against their FP32 form by what they are for, over many samples",
      // NOLINTNEXTLINE(bugprone-suspicious-missing-comma): one example on two lines
      {"octavo judge encoder.onnx encoder.int8.onnx --task segment --decoder decoder.onnx --data photos "
       "--preprocess sam --prompts prompts.json",
       "octavo judge encoder.onnx a.int8.onnx b.int8.onnx --task segment --data photos --preprocess sam --json -",
       "octavo judge saliency.onnx saliency.int8.onnx --task heatmap --data photos --preprocess imagenet",
       "octavo judge decoder.onnx decoder.int8.onnx --task segment --encoder encoder.onnx --data photos",
       "octavo judge vit.onnx vit.int8.onnx --task classify --data photos --preprocess imagenet --labels truth.csv",
       "octavo judge rec.onnx rec.int8.onnx --task text --data lines --preprocess rec.json",
       "octavo judge depth.onnx depth.int8.onnx --score-command 'python3 score.py' --data photos --preprocess "
       "imagenet"});
  auto flags = std::make_shared<JudgeFlags>();
  command->add_option("FP32.onnx", flags->reference, "What the others are judged by")->required();
  command->add_option("MODEL.onnx", flags->candidates, "What is judged; one or more")->required();
  AddDataFlag(*command, flags->data);
  flags->task.AddTo(*command, true);
  command->add_option("--count", flags->count, "Use only the first N samples, by name; 0: all")
      ->type_name("N")
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 40));
  command->add_option("--least", flags->least, "Exit code 1 when a model's mean score is below this")
      ->type_name("SCORE")
      ->check(CLI::Range(0.0, 1.0));
  flags->engine.AddTo(*command);
  flags->report.AddFlag(*command);
  command->callback([=, &action] { action = [=] { return JudgeCommand(*flags); }; });
}

}  // namespace octavo::cli
