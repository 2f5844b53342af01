// Bytes as what a score command printed about samples a, b and one with a TAB in its name: an error, or scores in
// [0, 1], of each sample or of all together.
#include <cstdlib>

#include "tasks/command_scores.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::vector<std::string> names = {"a", "b", "c\td"};
  const auto found = octavo::ParseCommandScores({reinterpret_cast<const char*>(data), size}, names);
  if (!found.ok()) return 0;
  if (found->whole.has_value() != found->scores.empty()) std::abort();
  if (!found->scores.empty() && found->scores.size() != names.size()) std::abort();
  const auto is_score = [](double score) { return score >= 0 && score <= 1; };
  if (found->whole && !is_score(*found->whole)) std::abort();
  for (const double score : found->scores) {
    if (!is_score(score)) std::abort();
  }
  return 0;
}
