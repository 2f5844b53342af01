#include <algorithm>
#include <cmath>
#include <numeric>

#include "octavo/task.h"

namespace octavo {
namespace {

constexpr double kSumTolerance = 1e-3;  // float16's softmax over 1000 classes adds up to 1 within 5e-4
constexpr double kLeastProbability = 1e-7;

bool AllFinite(std::span<const float> values) {
  return std::all_of(values.begin(), values.end(), [](float v) { return std::isfinite(v); });
}

bool AreProbabilities(std::span<const float> values) {
  const bool in_range = std::all_of(values.begin(), values.end(), [](float v) { return v >= 0 && v <= 1; });
  return in_range && std::abs(std::accumulate(values.begin(), values.end(), 0.0) - 1) < kSumTolerance;
}

std::vector<double> Softmax(std::span<const float> logits) {
  const double highest = *std::max_element(logits.begin(), logits.end());
  std::vector<double> result;
  for (const float logit : logits) result.push_back(std::exp(logit - highest));
  const double sum = std::accumulate(result.begin(), result.end(), 0.0);
  for (double& p : result) p /= sum;
  return result;
}

// With nothing below `least`, so that its logarithm is bounded.
std::vector<double> Normalized(std::vector<double> values, double least) {
  for (double& p : values) p = std::clamp(p, least, 1.0);
  const double sum = std::accumulate(values.begin(), values.end(), 0.0);
  for (double& p : values) p /= sum;
  return values;
}

std::vector<size_t> FirstClasses(std::span<const float> values, size_t count) {
  std::vector<size_t> order(values.size());
  std::iota(order.begin(), order.end(), size_t{0});
  const auto end = order.begin() + static_cast<std::ptrdiff_t>(count);
  std::partial_sort(order.begin(), end, order.end(),
                    [&](size_t a, size_t b) { return values[a] != values[b] ? values[a] > values[b] : a < b; });
  order.resize(count);
  return order;
}

}  // namespace

Result<ClassAgreement> AgreeOnClasses(std::span<const float> reference, std::span<const float> candidate) {
  if (reference.size() < 2) return InvalidArgument("two classes at least are needed to choose from");
  if (reference.size() != candidate.size()) {
    return InvalidArgument(std::to_string(reference.size()) + " classes cannot be compared with " +
                           std::to_string(candidate.size()));
  }
  if (!AllFinite(reference)) return InvalidArgument("the reference holds values that are not finite");
  ClassAgreement result;
  result.finite = AllFinite(candidate);
  if (!result.finite) return result;
  const size_t count = std::min<size_t>(5, reference.size());
  const std::vector<size_t> first = FirstClasses(reference, count), found = FirstClasses(candidate, count);
  result.same = first[0] == found[0];
  const auto common = std::count_if(found.begin(), found.end(),
                                    [&](size_t c) { return std::find(first.begin(), first.end(), c) != first.end(); });
  result.top5_overlap = static_cast<double>(common) / static_cast<double>(count);
  std::vector<double> p, q;
  if (AreProbabilities(reference)) {
    p = Normalized({reference.begin(), reference.end()}, 0);
    q = {candidate.begin(), candidate.end()};
  } else {
    p = Softmax(reference);
    q = Softmax(candidate);
  }
  q = Normalized(std::move(q), kLeastProbability);
  for (size_t i = 0; i < p.size(); ++i) {
    if (p[i] > 0) result.kl_divergence += p[i] * std::log(p[i] / q[i]);
    result.probability_difference += std::abs(p[i] - q[i]) / 2;
  }
  // Cutting leaves equal distributions apart by less than a rounding of this size; below 0 it means nothing.
  result.kl_divergence = std::max(result.kl_divergence, 0.0);
  return result;
}

}  // namespace octavo
