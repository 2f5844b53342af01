// Which estimator reads the range of which kind of tensor, judged on samples that made no range. docs/remedies.md.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <utility>

#include "octavo/quantize.h"
#include "octavo/stats.h"
#include "octavo/status.h"
#include "quantize/placement.h"

namespace octavo {

// The op that makes a tensor ("" for inputs), and whether two activations are multiplied.
using TensorKind = std::pair<std::string, bool>;
using RangeChoices = std::map<TensorKind, EstimatorOptions>;

// Reads the ranges of the recipe's activations anew where `choices` has an estimator for their kind. `recipe` is what
// Decide made of the graph, placed by `placement`, and `stats`. Errors: those of EstimateRange.
Status EstimateRangesAnew(const Graph& graph, const Placement& placement, const Stats& stats,
                          const RangeChoices& choices, Recipe& recipe);

// The choices for which `judge`, in dB, is largest: first one estimator for all kinds, then each kind by itself. Empty
// where the ranges as they are do best. `score` becomes judge's value of what is returned.
Result<RangeChoices> SearchRanges(const Graph& graph, const Placement& placement,
                                  const std::function<Result<double>(const RangeChoices&)>& judge, double& score);

}  // namespace octavo
