// Bounds of a share, for scores that are 0 or 1. Exact for any number of samples, where Student's t is not: scores that
// are all 1 have no spread, and t would promise 1 after two of them.
#pragma once

#include <cstddef>
#include <optional>
#include <vector>

namespace octavo {

// One-sided 95 % lower bound of the share of right answers of which `right` of `all` were found (right <= all):
// Clopper and Pearson's, Biometrika 26 (1934), the p of which P(at least `right` of `all` | p) = 0.05. 0.05^(1/all)
// where all are right, 0 where none is or there is none.
double LowerBoundOfShare(size_t right, size_t all);

// The fewest samples that can show a share of `goal`, all of them right: 299 for 0.99. Nothing for a goal of 1 or more,
// which no number of samples shows; 1 for one that is not above 0.
std::optional<size_t> LeastSamplesToShow(double goal);

// The bound for scores of 0 and 1 by sample: a sample counts as right when all of its scores are 1, which can only
// lower the bound. Where samples have different numbers of scores, it is no more than LowerBoundOfMean (judge.h),
// either. Empty samples are passed over.
double ExactLowerBoundOfMean(const std::vector<std::vector<double>>& scores);
// The 5th percentile of such scores is 1 where more than 95 % of them are: 1 where that bound says so, else 0.
double ExactLowerBoundOfP5(const std::vector<std::vector<double>>& scores);

}  // namespace octavo
