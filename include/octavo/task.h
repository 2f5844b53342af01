// What a model is for, as a number: how far a candidate's outputs agree with those of the FP32 model, in [0, 1].
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "octavo/status.h"
#include "octavo/tensor.h"

namespace octavo {

struct TensorAgreement {
  double score = 1;    // energy / (energy + error energy): 1 for equal tensors, 1/2 at 0 dB, 0 for what is not finite
  double sqnr_db = 0;  // see TensorDifference::sqnr_db
};
// One sample's outputs in equal order; the energies of all outputs count together. Errors: kInvalidArgument when there
// is none, when their numbers or their dims differ.
Result<TensorAgreement> AgreeOnTensors(std::span<const Tensor> reference, std::span<const Tensor> candidate);

struct HeatmapAgreement {
  double score = 1;        // iou * max(correlation, 0)
  double iou = 1;          // of the two maps cut at one threshold; 1 when both are empty
  double correlation = 1;  // Pearson's; where a map is constant: 1 for equal maps, else 0
};
// Both maps are cut where the reference reaches the middle of its own range, (min + max) / 2, so that a candidate whose
// level shifts is not forgiven. A candidate that is not finite scores 0. Errors: kInvalidArgument when dims differ, for
// an empty map, or for a reference that is not finite.
Result<HeatmapAgreement> AgreeOnHeatmap(const Tensor& reference, const Tensor& candidate);

// Mean and 5th percentile of scores; the percentile interpolates between neighbours in order, as numpy does.
struct ScoreSummary {
  double mean = 0, p5 = 0;
  size_t count = 0;
};
// Errors: kInvalidArgument for no score, or one that is not finite.
Result<ScoreSummary> Summarize(std::vector<double> scores);

// Indices below `samples`, each in exactly one part, ascending. Depends on the numbers alone, on every platform.
struct SampleSplit {
  std::vector<size_t> calibration, judging;
};
inline constexpr uint64_t kSplitSeed = 5;
// Judging gets samples * judging_share, rounded down, but both parts at least one. Errors: kInvalidArgument for fewer
// than two samples or a share outside (0, 1).
Result<SampleSplit> SplitSamples(size_t samples, double judging_share, uint64_t seed = kSplitSeed);

}  // namespace octavo
