// Verdicts, printed and as JSON.
#pragma once

#include <optional>
#include <string>

#include "console.h"
#include "octavo/judge.h"

namespace octavo::cli {

// "0.9912"; "-" for what there is not.
std::string ScoreText(std::optional<double> score);
// The 5th percentile; none where one number stands for all samples.
std::optional<double> P5Of(const ScoreSummary& score, const std::optional<double>& p5_bound);
// "at least 0.9912 with 95 % confidence", or why no bound is given.
std::string BoundText(const std::optional<double>& mean_bound);

// Figures beside the score, one line for all; nothing where there are none.
std::string FiguresText(const Verdict& verdict);

Json NumberOrNull(std::optional<double> number);
// Means by key; null where no question had one.
Json FiguresToJson(const Verdict& verdict);

}  // namespace octavo::cli
