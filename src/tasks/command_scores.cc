#include "tasks/command_scores.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <map>
#include <optional>

#include "base/quote.h"
#include "base/text_lines.h"

namespace octavo {
namespace {

constexpr double kRounding = 1e-6;

Result<double> ParseScore(std::string_view text) {
  double score = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), score);
  if (error != std::errc() || end != text.data() + text.size()) return BadFile(Quote(text) + " is no number");
  if (score >= -kRounding && score <= 1 + kRounding) return std::clamp(score, 0.0, 1.0);
  return BadFile(Quote(text) + " is no score: those lie between 0 and 1");
}

}  // namespace

Result<JointAgreement> ParseCommandScores(std::string_view output, const std::vector<std::string>& names) {
  std::map<std::string_view, size_t> samples;
  for (size_t i = 0; i < names.size(); ++i) samples.emplace(names[i], i);
  std::vector<std::optional<double>> scores(names.size());
  std::string_view last;
  bool any = false;
  for (const std::string_view line : SplitLines(output)) {
    if (!Trim(line).empty()) last = Trim(line);
    const size_t tab = line.rfind('\t');
    if (tab == std::string_view::npos) continue;
    const auto sample = samples.find(line.substr(0, tab));
    if (sample == samples.end()) continue;
    const auto score = ParseScore(Trim(line.substr(tab + 1)));
    if (!score.ok()) return score.status().WithPrefix("it printed of " + Quote(sample->first) + ": ");
    if (scores[sample->second]) return BadFile("it printed two scores of " + Quote(sample->first));
    scores[sample->second] = *score;
    any = true;
  }
  JointAgreement result;
  if (any) {
    for (size_t i = 0; i < scores.size(); ++i) {
      if (!scores[i]) return BadFile("it printed no score of " + Quote(names[i]));
      result.scores.push_back(*scores[i]);
    }
    return result;
  }
  if (last.empty()) return BadFile("it printed no score");
  auto whole = ParseScore(last);
  if (!whole.ok()) return whole.status().WithPrefix("its last line: ");
  result.whole = *whole;
  return result;
}

}  // namespace octavo
