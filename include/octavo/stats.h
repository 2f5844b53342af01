// What calibration learns of a model's activations, and the ranges that estimators read from it afterwards.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "octavo/exact_sum.h"
#include "octavo/status.h"
#include "octavo/tensor.h"

namespace octavo {

// Counts on an absolute grid: bin k, for k in [-kHalfBins, kHalfBins), holds the values v with
// floor(v / 2^exponent) == k. The exponent is the smallest that takes every value seen, so the result does not depend
// on the order of samples, and halving the resolution merges pairs of bins exactly.
struct Histogram {
  static constexpr int kHalfBins = 2048;
  // Nothing is resolved finer than this: 2^-exponent must be a float.
  static constexpr int kMinExponent = -126;
  static constexpr int kMaxExponent = 117;  // kHalfBins * 2^117 is beyond every float
  int exponent = 0;
  std::vector<uint64_t> counts;  // 2 * kHalfBins, bin k at k + kHalfBins; empty before the first value
  // Where bin k lies in `counts`.
  static size_t Index(int64_t k) { return static_cast<size_t>(k + kHalfBins); }
};

// The smallest exponent whose bins take `low` <= `high`, both finite.
int ExponentFor(float low, float high);
// Merges bins until the exponent is `exponent`; nothing when it is that large already.
void Coarsen(Histogram& histogram, int exponent);
// Adds `from`'s counts; the result has the larger exponent.
void Merge(Histogram& into, const Histogram& from);

// Of one tensor, over all samples.
struct TensorStats {
  Dims dims;               // of the tensor in the model that was calibrated
  int channel_axis = 1;    // the axis of channel_min and channel_max; 0 for a scalar, which has one channel
  uint64_t count = 0;      // elements seen
  float min = 0, max = 0;  // 0 before the first value, as are those of channels
  std::vector<float> channel_min, channel_max;
  double mean = 0, mean_square = 0;  // from sums that are exact over samples
  std::vector<double> channel_mean;
  Histogram histogram;

  // What the means are made from: each sample's sum is computed in double in an order that the plan fixes, and those
  // are added up without rounding, so that neither threads nor shards change a bit.
  std::vector<ValueSum> channel_sum;
  SquareSum square_sum;

  int64_t channels() const { return static_cast<int64_t>(channel_min.size()); }
};

// Thread safety: const access may run concurrently.
struct Stats {
  std::string fingerprint;  // of the model that was calibrated; see ModelFingerprint
  uint64_t samples = 0;
  std::map<std::string, Dims> input_dims;      // the shapes that the model was calibrated at, by input
  std::map<std::string, TensorStats> tensors;  // by value name
};

// A tensor that has not been seen yet, of these dims.
TensorStats MakeTensorStats(const Dims& dims, int channel_axis);
// Sets the means from the sums.
void UpdateMeans(TensorStats& stats);

enum class Estimator : uint8_t { kMinMax, kPercentile, kMse, kEntropy };

struct EstimatorOptions {
  Estimator estimator = Estimator::kMinMax;
  double percentile = 99.99;  // kPercentile: the share of values kept, in percent, in (0, 100]
  bool symmetric = false;     // the range will be used as [-a, a] in int8; else as [low, high] in uint8
};

// low <= 0 <= high, both finite; symmetric ranges have low == -high. A tensor that was always zero gives {0, 0}.
struct Range {
  float low = 0, high = 0;
};

// "minmax", "percentile", "mse", "entropy". Error: kInvalidArgument, listing the names.
Result<Estimator> ParseEstimator(const std::string& name);
std::string NameOf(Estimator estimator);

// Reads the range off the statistics; never runs the model. docs/calibration.md defines each estimator.
// Error: kInvalidArgument where nothing was counted, or for a percentile out of range.
Result<Range> EstimateRange(const TensorStats& stats, const EstimatorOptions& options);

// Errors: kNotFound, kBadFile (truncated, of a later version, inconsistent), naming the file.
Result<Stats> LoadStats(const std::string& path);
// The same from memory; `name` is for messages.
Result<Stats> ParseStats(std::span<const std::byte> bytes, const std::string& name);
// Whole or not at all. Equal statistics give equal bytes. Errors: kIo.
Status SaveStats(const std::string& path, const Stats& stats);
Result<std::vector<std::byte>> SerializeStats(const Stats& stats);

// Adds what was seen over other samples: the result equals one run over all of them, bit for bit.
// Errors: kInvalidArgument when the two are of different models, or of different tensors of it.
Status MergeStats(Stats& into, const Stats& from);

// Error: kInvalidArgument when the statistics are of another model than the one of this fingerprint.
Status CheckBelongsTo(const Stats& stats, const std::string& fingerprint);

}  // namespace octavo
