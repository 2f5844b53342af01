#include "octavo/exact_bounds.h"

#include <algorithm>
#include <cmath>

#include "octavo/judge.h"

namespace octavo {
namespace {

constexpr double kError = 1 - kConfidence;
constexpr double kPercentile = 0.05;

// P(at most `wrong` of `all` fail), each of which fails with probability 1 - p, 0 < p < 1. Terms are summed as
// logarithms: p^all underflows where many fail.
double ChanceOfAtMost(size_t wrong, size_t all, double p) {
  const double odds = std::log1p(-p) - std::log(p);
  double term = static_cast<double>(all) * std::log(p);
  double chance = 0;
  for (size_t i = 0; i <= wrong; ++i) {
    chance += std::exp(term);
    term += std::log(static_cast<double>(all - i)) - std::log(static_cast<double>(i + 1)) + odds;
  }
  return chance;
}

}  // namespace

double LowerBoundOfShare(size_t right, size_t all) {
  if (right == 0 || right > all) return 0;
  if (right == all) return std::pow(kError, 1 / static_cast<double>(all));
  // Bisection to the last bit: the chance grows with p.
  double low = 0, high = 1;
  for (double middle = 0.5; low < middle && middle < high; middle = (low + high) / 2) {
    (ChanceOfAtMost(all - right, all, middle) < kError ? low : high) = middle;
  }
  return low;
}

std::optional<size_t> LeastSamplesToShow(double goal) {
  if (!(goal < 1)) return std::nullopt;
  if (goal <= 0) return 1;
  auto samples = static_cast<size_t>(std::ceil(std::log(kError) / std::log(goal)));
  // The quotient of logarithms rounds across a whole number at most: the bound itself decides.
  if (samples > 1 && LowerBoundOfShare(samples - 1, samples - 1) >= goal) --samples;
  if (LowerBoundOfShare(samples, samples) < goal) ++samples;
  return samples;
}

double ExactLowerBoundOfMean(const std::vector<std::vector<double>>& scores) {
  size_t right = 0, all = 0, size = 0;
  bool equal_sizes = true;
  for (const std::vector<double>& sample : scores) {
    if (sample.empty()) continue;
    ++all;
    right += std::all_of(sample.begin(), sample.end(), [](double score) { return score == 1; });
    equal_sizes = equal_sizes && (size == 0 || size == sample.size());
    size = sample.size();
  }
  const double bound = LowerBoundOfShare(right, all);
  return equal_sizes ? bound : std::min(bound, LowerBoundOfMean(scores));
}

double ExactLowerBoundOfP5(const std::vector<std::vector<double>>& scores) {
  return ExactLowerBoundOfMean(scores) > 1 - kPercentile ? 1 : 0;
}

}  // namespace octavo
