// What calibration does with one tensor of one sample.
#pragma once

#include <cstdint>
#include <mutex>
#include <vector>

#include "octavo/session.h"
#include "octavo/stats.h"

namespace octavo {

// Statistics that several threads add to.
struct SharedTensorStats {
  std::mutex mutex;
  TensorStats stats;
};

// How a block of values enters the statistics; chosen for the CPU. `squares` and the sums grow in double.
struct CollectKernels {
  struct Block {
    float low, high;  // of the block, and possibly of earlier values of the same channels
    double squares;   // NaN or infinite when a value is
  };
  // `rows` rows of `channels` neighbouring values each, `step` elements apart; one minimum, maximum and sum a channel.
  Block (*add_rows)(const float* x, int64_t rows, int64_t step, int64_t channels, float* low, float* high, double* sum);
  // `count` neighbours of one channel.
  Block (*add_run)(const float* x, int64_t count, float* low, float* high, double* sum);
  // Adds one to counts[4 * (floor(x * scale) + Histogram::kHalfBins) + j], where j may be any of 0 to 3: neighbours
  // that are equal do not wait for each other. All of x lie within the bins.
  void (*count_bins)(const float* x, int64_t count, float scale, uint32_t* counts);
};
CollectKernels ChooseCollectKernels();

// Scratch memory of one thread. Denormals count as zero, as they do while a plan runs.
class Collector {
 public:
  Collector();

  // Adds the values of `view`, whose dims are those of the statistics, in an order that its strides fix.
  // Errors: kInvalidArgument for NaN and infinity ("holds NaN") and other dims; kUnsupported for types that are no
  // floats. Nothing has been added then.
  Status Observe(const TensorView& view, SharedTensorStats& into);

 private:
  struct Walk;

  void Begin(SharedTensorStats& into, int64_t channels);
  Status Visit(const TensorView& view, const Walk& walk);
  Status AddLine(const TensorView& view, int64_t at, int64_t count, int64_t step, int64_t channel);
  Status AddRows(const float* x, int64_t rows, int64_t step, int64_t channels);
  Status AddRun(const float* x, int64_t count, int64_t channel);
  Status Finish(const CollectKernels::Block& block, const float* x, int64_t rows, int64_t step, int64_t count);
  void Flush();
  void MergeInto(TensorStats& stats);

  CollectKernels kernels_;
  std::vector<uint32_t> lane_counts_;  // four to a bin
  Histogram histogram_;                // of this sample
  uint64_t unflushed_ = 0;             // values in lane_counts_
  uint64_t count_ = 0;
  double squares_ = 0;
  std::vector<float> low_, high_;
  std::vector<double> sum_;
  std::vector<float> copied_;  // of values without neighbours, or of another type
};

}  // namespace octavo
