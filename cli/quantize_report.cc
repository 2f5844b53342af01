#include "quantize_report.h"

#include <algorithm>

#include "model_files.h"
#include "verdict_text.h"

namespace octavo::cli {
namespace {

double Worst(const std::vector<OutputScore>& scores) {
  double worst = kIdenticalDb;
  for (const OutputScore& score : scores) worst = std::min(worst, score.difference.sqnr_db);
  return worst;
}

void PrintRemedies(const Report& report, const Recipe& recipe) {
  if (recipe.remedies.empty()) return;
  Table table("lrrl", {"remedy", "SQNR dB", "gain dB", ""});
  for (const RemedyRecipe& remedy : recipe.remedies) {
    table.AddRow({remedy.name, fmt::format("{:.1f}", remedy.sqnr_db), fmt::format("{:+.1f}", remedy.gain_db),
                  (remedy.kept ? "kept: " : "dropped: ") + remedy.reason});
  }
  table.Print(report.stream());
  report.Print("on the samples that calibrated\n");
}

}  // namespace

void PrintQuantizeSummary(const Report& report, const QuantizeNames& names, const Recipe& recipe,
                          const QuantizeOutcome& outcome) {
  const int64_t before = FileBytes(names.model), after = FileBytes(names.output);
  report.Print(
      "{}: {} weights and {} activations in int8, {} contractions in float; {:.1f} MB of {:.1f} MB ({:.0f} %)\n",
      names.output, recipe.weights.size(), recipe.activations.size(), recipe.float_nodes.size(),
      static_cast<double>(after) / 1e6, static_cast<double>(before) / 1e6,
      before > 0 ? 100.0 * static_cast<double>(after) / static_cast<double>(before) : 0.0);
  report.Print("{:.1f} % of multiply-accumulates run in INT8\n", 100 * outcome.int8_macs_share);
  report.Print("decisions: {}\n", names.recipe);
  PrintRemedies(report, recipe);
  if (outcome.kept) PrintKeep(report, *outcome.kept, outcome.score_name);
  if (outcome.verdict) {
    const Verdict& v = *outcome.verdict;
    report.Print("{} {:.4f} (p5 {}) over {} questions about {} samples; {}{}\n", outcome.score_name, v.score.mean,
                 ScoreText(P5Of(v.score, v.p5_bound)), v.score.count, v.scores.size(), v.mean_bound ? "mean " : "",
                 BoundText(v.mean_bound));
    if (!v.figures.empty()) report.Print("{}\n", FiguresText(v));
    if (v.candidate_truth) {
      report.Print("{}: {:.4f}, FP32 has {:.4f}\n", outcome.truth_name, *v.candidate_truth, *v.reference_truth);
    }
    if (v.mean_bound && !outcome.note.empty()) report.Print("{}\n", outcome.note);
  }
  if (outcome.scores.empty()) {
    report.Print("not measured: give --check\n");
    return;
  }
  Table table("lrrr", {"output", "SQNR dB", "worst dB", "cosine"});
  for (const OutputScore& score : outcome.scores) {
    const TensorDifference& d = score.difference;
    table.AddRow({score.name, fmt::format("{:.1f}", d.sqnr_db), fmt::format("{:.1f}", d.min_sqnr_db),
                  fmt::format("{:.5f}", d.cosine)});
  }
  table.Print(report.stream());
  report.Print("against float, over {} samples\n", outcome.samples);
}

Json QuantizeToJson(const QuantizeNames& names, const Recipe& recipe, const QuantizeOutcome& outcome, double seconds) {
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
  Json verdict, keep;
  if (outcome.verdict) {
    const Verdict& v = *outcome.verdict;
    verdict = {{"task", names.task},
               {"score", v.score.mean},
               {"p5", NumberOrNull(P5Of(v.score, v.p5_bound))},
               {"mean_bound", NumberOrNull(v.mean_bound)},
               {"p5_bound", NumberOrNull(v.p5_bound)},
               {"questions", v.score.count},
               {"human_score", NumberOrNull(v.candidate_truth)},
               {"fp32_human_score", NumberOrNull(v.reference_truth)},
               {"figures", FiguresToJson(v)},
               {"note", outcome.note}};
  }
  if (outcome.kept) keep = Json::parse(FormatKeepOutcome(outcome.kept->outcome, outcome.kept->goal));
  return {{"model", names.model},
          {"output", names.output},
          {"verdict", verdict},
          {"keep", keep},
          {"recipe", names.recipe},
          {"target", recipe.target},
          {"preset", recipe.preset},
          {"estimator", recipe.estimator},
          {"weights", recipe.weights.size()},
          {"activations", recipe.activations.size()},
          {"remedies", remedies},
          {"float_nodes", floats},
          {"bytes_before", FileBytes(names.model)},
          {"bytes", FileBytes(names.output)},
          {"int8_macs_share", outcome.int8_macs_share},
          {"score", outcome.scores.empty() ? Json() : Finite(Worst(outcome.scores))},
          {"samples", outcome.samples},
          {"outputs", outputs},
          {"seconds", seconds}};
}

}  // namespace octavo::cli
