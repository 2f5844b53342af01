// What calibration learns of a model's activations, and the ranges that estimators read from it afterwards.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "octavo/status.h"
#include "octavo/tensor.h"

namespace octavo {

// Counts on an absolute grid: bin k, for k in [-kHalfBins, kHalfBins), holds the values v with
// floor(v / 2^exponent) == k. The exponent is the smallest that takes every value seen, so the result does not depend
// on the order of samples, and halving the resolution merges pairs of bins exactly.
struct Histogram {
  static constexpr int kHalfBins = 2048;
  int exponent = 0;
  std::vector<uint64_t> counts;  // 2 * kHalfBins, bin k at k + kHalfBins; empty before the first value
};

// Of one tensor, over all samples.
struct TensorStats {
  Dims dims;             // of the tensor in the model that was calibrated
  int channel_axis = 1;  // the axis of channel_min and channel_max
  uint64_t count = 0;    // elements seen
  float min = 0, max = 0;
  std::vector<float> channel_min, channel_max;
  double mean = 0, mean_square = 0;  // from sums that are exact over samples
  std::vector<double> channel_mean;
  Histogram histogram;
};

// Thread safety: const access may run concurrently.
struct Stats {
  std::string fingerprint;  // of the model that was calibrated; see ModelFingerprint
  uint64_t samples = 0;
  std::map<std::string, TensorStats> tensors;  // by value name
};

enum class Estimator : uint8_t { kMinMax, kPercentile, kMse, kEntropy };

struct EstimatorOptions {
  Estimator estimator = Estimator::kMinMax;
  double percentile = 99.99;  // kPercentile: the share of values kept, in percent
  bool symmetric = false;     // the range will be used as [-a, a] in int8; else as [low, high] in uint8
};

// low <= 0 <= high, both finite; symmetric ranges have low == -high. A tensor that was always zero gives {0, 0}.
struct Range {
  float low = 0, high = 0;
};

// "minmax", "percentile", "mse", "entropy". Error: kInvalidArgument, listing the names.
Result<Estimator> ParseEstimator(const std::string& name);
std::string NameOf(Estimator estimator);

// Reads the range off the statistics; never runs the model. Error: kInvalidArgument where nothing was counted.
Result<Range> EstimateRange(const TensorStats& stats, const EstimatorOptions& options);

// Errors: kNotFound, kBadFile (truncated, of a later version, inconsistent), naming the file.
Result<Stats> LoadStats(const std::string& path);

}  // namespace octavo
