// Ranges read off histograms. docs/calibration.md has the definitions in words.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <vector>

#include "octavo/stats.h"

namespace octavo {
namespace {

constexpr int kHalfBins = Histogram::kHalfBins;
constexpr int kBins = 2 * kHalfBins;
// TensorRT quantizes |x| to this many levels.
constexpr size_t kEntropyLevels = 128;
// Divergences are of the order of 1e-6 and more where there is anything to choose; what rounding leaves of equal ones
// is below 1e-14.
constexpr double kEntropyTie = 1e-12;

constexpr std::array<std::string_view, 4> kNames = {"minmax", "percentile", "mse", "entropy"};

double BinWidth(const Histogram& histogram) { return std::ldexp(1.0, histogram.exponent); }

float LargestMagnitude(const TensorStats& stats) { return std::max(-stats.min, stats.max); }

Range MinMax(const TensorStats& stats) { return {std::min(stats.min, 0.0f), std::max(stats.max, 0.0f)}; }

// Within what was seen, as floats.
Range Within(const TensorStats& stats, double low, double high) {
  const Range seen = MinMax(stats);
  return {std::clamp(static_cast<float>(low), seen.low, 0.0f), std::clamp(static_cast<float>(high), 0.0f, seen.high)};
}

Range Symmetric(const TensorStats& stats, double threshold) {
  const float a = std::clamp(static_cast<float>(threshold), 0.0f, LargestMagnitude(stats));
  return {-a, a};
}

// Counts of |x|: bin i holds [i, i + 1) bin widths, of both signs.
std::vector<uint64_t> Fold(const Histogram& histogram) {
  std::vector<uint64_t> folded(kHalfBins);
  for (size_t i = 0; i < kHalfBins; ++i) {
    folded[i] = histogram.counts[kHalfBins + i] + histogram.counts[kHalfBins - 1 - i];
  }
  return folded;
}

// ---- percentile

// The position, in bins from the front, below which `share` of all counts lie; linear within a bin.
double PositionOfShare(const std::vector<uint64_t>& counts, double total, double share) {
  const double wanted = share * total;
  double below = 0;
  for (size_t i = 0; i < counts.size(); ++i) {
    const auto count = static_cast<double>(counts[i]);
    if (count > 0 && below + count >= wanted) return static_cast<double>(i) + std::max(0.0, wanted - below) / count;
    below += count;
  }
  return static_cast<double>(counts.size());
}

Range Percentile(const TensorStats& stats, double percentile, bool symmetric) {
  const Histogram& histogram = stats.histogram;
  const double width = BinWidth(histogram), total = static_cast<double>(stats.count), kept = percentile / 100;
  if (symmetric) return Symmetric(stats, width * PositionOfShare(Fold(histogram), total, kept));
  const double cut = (1 - kept) / 2;
  const double low = PositionOfShare(histogram.counts, total, cut) - kHalfBins;
  const double high = PositionOfShare(histogram.counts, total, 1 - cut) - kHalfBins;
  return Within(stats, width * low, width * high);
}

// ---- mse

struct Point {
  double value;  // the middle of a bin
  double count;
};

std::vector<Point> Points(const Histogram& histogram) {
  std::vector<Point> points;
  const double width = BinWidth(histogram);
  for (int i = 0; i < kBins; ++i) {
    const auto count = static_cast<double>(histogram.counts[static_cast<size_t>(i)]);
    if (count > 0) points.push_back({(i - kHalfBins + 0.5) * width, count});
  }
  return points;
}

// Half to even, for magnitudes below 2^51: 1.5 * 2^52 leaves no bit for fractions. A call of nearbyint takes longer
// than all the rest of the loop it is used in.
double RoundSmall(double x) {
  constexpr double kShift = 0x1.8p52;
  return (x + kShift) - kShift;
}

// The sum of squared errors of q = clamp(round(x / scale) + zero_point, low, high).
double SquaredError(const std::vector<Point>& points, double scale, double zero_point, double low, double high) {
  const double inverse = 1 / scale;
  double sum = 0;
  for (const Point& point : points) {
    // The bounds are integers: clamping first changes nothing.
    const double q = RoundSmall(std::clamp(point.value * inverse, low - zero_point, high - zero_point));
    const double error = point.value - q * scale;
    sum += point.count * error * error;
  }
  return sum;
}

double SymmetricError(const std::vector<Point>& points, double a) {
  return SquaredError(points, a / 127, 0, -127, 127);
}

double AsymmetricError(const std::vector<Point>& points, double low, double high) {
  const double scale = (high - low) / 255;
  return SquaredError(points, scale, std::nearbyint(-low / scale), 0, 255);
}

// The factor f in (0, 1] with the least error(f): sixteen to the octave over eight octaves, then ever finer around the
// best. `error` need not have one minimum only; the grid is what is promised.
template <class Error>
double BestFactor(const Error& error) {
  constexpr int kPerOctave = 16, kOctaves = 8;
  double best = 1, least = error(1.0);
  const auto consider = [&](double factor) {
    if (factor > 1) return;
    const double e = error(factor);
    if (e < least) {
      least = e;
      best = factor;
    }
  };
  for (int i = 1; i <= kPerOctave * kOctaves; ++i) consider(std::exp2(-static_cast<double>(i) / kPerOctave));
  double step = 1.0 / (4 * kPerOctave);
  for (int pass = 0; pass < 3; ++pass, step /= 4) {
    const double center = best;
    for (int i = -3; i <= 3; ++i) consider(center * std::exp2(i * step));
  }
  return best;
}

Range LeastSquares(const TensorStats& stats, bool symmetric) {
  const std::vector<Point> points = Points(stats.histogram);
  if (symmetric) {
    const double a = LargestMagnitude(stats);
    return Symmetric(stats, a * BestFactor([&](double f) { return SymmetricError(points, a * f); }));
  }
  // One end after the other, until neither moves; three rounds were enough for every tensor of the embedded models.
  const Range seen = MinMax(stats);
  double low = seen.low, high = seen.high;
  for (int round = 0; round < 3; ++round) {
    const double low_before = low, high_before = high;
    if (high > 0) {
      high = seen.high *
             BestFactor([&](double f) { return AsymmetricError(points, low, static_cast<double>(seen.high) * f); });
    }
    if (low < 0) {
      low = seen.low *
            BestFactor([&](double f) { return AsymmetricError(points, static_cast<double>(seen.low) * f, high); });
    }
    if (low == low_before && high == high_before) break;
  }
  return Within(stats, low, high);
}

// ---- entropy

struct EntropyBins {
  std::vector<double> counts, logs;  // logs of counts; 0 for empty bins
};

EntropyBins MakeEntropyBins(const std::vector<uint64_t>& folded) {
  EntropyBins bins;
  for (const uint64_t count : folded) {
    bins.counts.push_back(static_cast<double>(count));
    bins.logs.push_back(count > 0 ? std::log(static_cast<double>(count)) : 0);
  }
  return bins;
}

// KL(P || Q) of the first `size` bins: P with the `beyond` counts that lie beyond them added to the last, Q those bins
// without it merged to kEntropyLevels levels and spread evenly over the bins where P is not empty. Infinite where Q has
// nothing and P has. `total_q` is the sum of the bins.
//
//   sum p log(p / q) = 1 / total_p * sum_i c_i (log c_i - log(sum_level / used_level)) + log(total_q / total_p)
double Divergence(const EntropyBins& bins, size_t size, double total_q, double beyond) {
  const double total_p = total_q + beyond;
  double divergence = 0;
  for (size_t level = 0; level < kEntropyLevels; ++level) {
    // Bin i belongs to level i * kEntropyLevels / size, rounded down.
    const size_t begin = (level * size + kEntropyLevels - 1) / kEntropyLevels;
    const size_t end = ((level + 1) * size + kEntropyLevels - 1) / kEntropyLevels;
    double sum = 0, used = 0, entropy = 0;
    for (size_t i = begin; i < end; ++i) {
      sum += bins.counts[i];
      used += bins.counts[i] > 0 ? 1 : 0;
      entropy += bins.counts[i] * bins.logs[i];
    }
    double with_tail = sum;
    if (end == size && beyond > 0) {
      const double last = bins.counts[size - 1];
      used += last > 0 ? 0 : 1;
      entropy += (last + beyond) * std::log(last + beyond) - last * bins.logs[size - 1];
      with_tail += beyond;
    }
    if (with_tail == 0) continue;
    if (sum == 0) return std::numeric_limits<double>::infinity();
    divergence += entropy - with_tail * std::log(sum / used);
  }
  return divergence / total_p + std::log(total_q / total_p);
}

double EntropyThreshold(const TensorStats& stats) {
  const EntropyBins bins = MakeEntropyBins(Fold(stats.histogram));
  size_t used = bins.counts.size();
  while (used > 0 && bins.counts[used - 1] == 0) --used;
  double inside = static_cast<double>(stats.count), beyond = 0, least = std::numeric_limits<double>::infinity();
  size_t best = used;
  // From the widest to the narrowest, so that of equals the widest stays. Counts are sums of integers: exact to 2^53.
  for (size_t i = used; i >= kEntropyLevels; --i) {
    if (i < used) {
      inside -= bins.counts[i];
      beyond += bins.counts[i];
    }
    if (inside == 0) break;
    const double divergence = Divergence(bins, i, inside, beyond);
    if (divergence < least - kEntropyTie) {
      least = divergence;
      best = i;
    }
  }
  return (static_cast<double>(best) + 0.5) * BinWidth(stats.histogram);
}

Range Entropy(const TensorStats& stats, bool symmetric) {
  const double threshold = EntropyThreshold(stats);
  return symmetric ? Symmetric(stats, threshold) : Within(stats, -threshold, threshold);
}

}  // namespace

Result<Estimator> ParseEstimator(const std::string& name) {
  const auto found = std::find(kNames.begin(), kNames.end(), name);
  if (found != kNames.end()) return static_cast<Estimator>(found - kNames.begin());
  return InvalidArgument(fmt::format("'{}' is no estimator: minmax, percentile, mse or entropy", name));
}

std::string NameOf(Estimator estimator) { return std::string(kNames[static_cast<size_t>(estimator)]); }

Result<Range> EstimateRange(const TensorStats& stats, const EstimatorOptions& options) {
  if (stats.count == 0) return InvalidArgument("no value was counted");
  if (stats.min == 0 && stats.max == 0) return Range{};
  if (options.estimator == Estimator::kMinMax) {
    return options.symmetric ? Symmetric(stats, LargestMagnitude(stats)) : MinMax(stats);
  }
  if (stats.histogram.counts.size() != kBins) return InvalidArgument("the histogram is missing");
  switch (options.estimator) {
    case Estimator::kPercentile:
      if (!(options.percentile > 0 && options.percentile <= 100)) {
        return InvalidArgument(fmt::format("percentile is {}; it must be above 0 and at most 100", options.percentile));
      }
      return Percentile(stats, options.percentile, options.symmetric);
    case Estimator::kMse:
      return LeastSquares(stats, options.symmetric);
    default:
      return Entropy(stats, options.symmetric);
  }
}

}  // namespace octavo
