#include <algorithm>
#include <cmath>
#include <numeric>

#include "octavo/compare.h"
#include "octavo/task.h"

namespace octavo {
namespace {

Result<Tensor> Flatten(std::span<const Tensor> tensors) {
  std::vector<float> all;
  for (const Tensor& tensor : tensors) {
    OCTAVO_ASSIGN(const std::vector<float> values, ToFloats(tensor));
    all.insert(all.end(), values.begin(), values.end());
  }
  return Tensor::FromVector<float>({static_cast<int64_t>(all.size())}, all);
}

bool AllFinite(const std::vector<float>& values) {
  return std::all_of(values.begin(), values.end(), [](float v) { return std::isfinite(v); });
}

double CutIou(const std::vector<float>& a, const std::vector<float>& b) {
  const auto [low, high] = std::minmax_element(a.begin(), a.end());
  const double threshold = (double{*low} + double{*high}) / 2;
  int64_t both = 0, either = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    both += a[i] >= threshold && b[i] >= threshold;
    either += a[i] >= threshold || b[i] >= threshold;
  }
  return either == 0 ? 1 : static_cast<double>(both) / static_cast<double>(either);
}

double Mean(const std::vector<float>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

double Correlation(const std::vector<float>& a, const std::vector<float>& b) {
  const double mean_a = Mean(a), mean_b = Mean(b);
  double aa = 0, bb = 0, ab = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    aa += (a[i] - mean_a) * (a[i] - mean_a);
    bb += (b[i] - mean_b) * (b[i] - mean_b);
    ab += (a[i] - mean_a) * (b[i] - mean_b);
  }
  if (aa == 0 || bb == 0) return a == b ? 1 : 0;
  return std::clamp(ab / (std::sqrt(aa) * std::sqrt(bb)), -1.0, 1.0);
}

// SplitMix64 (Steele, Lea and Flood, 2014): std::shuffle's order is the standard library's own.
uint64_t Next(uint64_t& state) {
  uint64_t z = state += 0x9E3779B97F4A7C15u;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}

}  // namespace

Result<TensorAgreement> AgreeOnTensors(std::span<const Tensor> reference, std::span<const Tensor> candidate) {
  if (reference.empty() || reference.size() != candidate.size()) {
    return InvalidArgument("cannot compare " + std::to_string(reference.size()) + " outputs with " +
                           std::to_string(candidate.size()));
  }
  for (size_t i = 0; i < reference.size(); ++i) {
    if (reference[i].dims() != candidate[i].dims()) {
      return InvalidArgument("output " + std::to_string(i) + " has different shapes: " + ToString(reference[i].dims()) +
                             " and " + ToString(candidate[i].dims()));
    }
  }
  OCTAVO_ASSIGN(const Tensor a, Flatten(reference));
  OCTAVO_ASSIGN(const Tensor b, Flatten(candidate));
  OCTAVO_ASSIGN(const TensorDifference difference, Compare(a, b));
  TensorAgreement result;
  result.sqnr_db = difference.sqnr_db;
  result.score = difference.sqnr_db <= kWorstDb ? 0 : 1 / (1 + std::pow(10, -difference.sqnr_db / 10));
  return result;
}

Result<HeatmapAgreement> AgreeOnHeatmap(const Tensor& reference, const Tensor& candidate) {
  if (reference.dims() != candidate.dims()) {
    return InvalidArgument("the maps have different shapes: " + ToString(reference.dims()) + " and " +
                           ToString(candidate.dims()));
  }
  OCTAVO_ASSIGN(const std::vector<float> a, ToFloats(reference));
  OCTAVO_ASSIGN(const std::vector<float> b, ToFloats(candidate));
  if (a.empty()) return InvalidArgument("the map is empty");
  if (!AllFinite(a)) return InvalidArgument("the reference's map holds values that are not finite");
  if (!AllFinite(b)) return HeatmapAgreement{0, 0, 0};
  HeatmapAgreement result;
  result.iou = CutIou(a, b);
  result.correlation = Correlation(a, b);
  result.score = result.iou * std::max(result.correlation, 0.0);
  return result;
}

Result<ScoreSummary> Summarize(std::vector<double> scores) {
  if (scores.empty()) return InvalidArgument("there is no score to summarize");
  for (const double score : scores) {
    if (!std::isfinite(score)) return InvalidArgument("a score is not finite");
  }
  std::sort(scores.begin(), scores.end());
  const double at = 0.05 * static_cast<double>(scores.size() - 1);
  const auto below = static_cast<size_t>(at);
  const size_t above = std::min(below + 1, scores.size() - 1);
  ScoreSummary result;
  result.count = scores.size();
  result.mean = std::accumulate(scores.begin(), scores.end(), 0.0) / static_cast<double>(scores.size());
  result.p5 = scores[below] + (at - static_cast<double>(below)) * (scores[above] - scores[below]);
  return result;
}

Result<SampleSplit> SplitSamples(size_t samples, double judging_share, uint64_t seed) {
  if (samples < 2) return InvalidArgument("two samples at least are needed to calibrate on one and judge by another");
  if (!(judging_share > 0 && judging_share < 1))
    return InvalidArgument("the share of judging must lie between 0 and 1");
  std::vector<size_t> order(samples);
  std::iota(order.begin(), order.end(), size_t{0});
  for (size_t i = samples - 1; i > 0; --i) std::swap(order[i], order[Next(seed) % (i + 1)]);
  const auto wanted = static_cast<size_t>(static_cast<double>(samples) * judging_share);
  const auto middle = order.begin() + static_cast<std::ptrdiff_t>(std::clamp<size_t>(wanted, 1, samples - 1));
  SampleSplit result;
  result.judging.assign(order.begin(), middle);
  result.calibration.assign(middle, order.end());
  std::sort(result.judging.begin(), result.judging.end());
  std::sort(result.calibration.begin(), result.calibration.end());
  return result;
}

}  // namespace octavo
