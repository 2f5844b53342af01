#include "verdict_text.h"

#include <fmt/format.h>

namespace octavo::cli {

std::string ScoreText(std::optional<double> score) { return score ? fmt::format("{:.4f}", *score) : "-"; }

std::optional<double> P5Of(const ScoreSummary& score, const std::optional<double>& p5_bound) {
  return p5_bound ? std::optional(score.p5) : std::nullopt;
}

std::string BoundText(const std::optional<double>& mean_bound) {
  if (!mean_bound) return "one number for all samples: no bound can be given";
  return fmt::format("at least {:.4f} with 95 % confidence", *mean_bound);
}

std::string FiguresText(const Verdict& verdict) {
  std::string text;
  for (const Figure& figure : verdict.figures) {
    if (!text.empty()) text += ", ";
    text += fmt::format("{} {}", figure.name.title, figure.count == 0 ? "-" : fmt::format("{:.4g}", figure.mean));
  }
  return text;
}

Json NumberOrNull(std::optional<double> number) { return number ? Json(*number) : Json(); }

Json FiguresToJson(const Verdict& verdict) {
  Json figures = Json::object();
  for (const Figure& figure : verdict.figures) {
    figures[std::string(figure.name.key)] = figure.count == 0 ? Json() : Finite(figure.mean);
  }
  return figures;
}

}  // namespace octavo::cli
