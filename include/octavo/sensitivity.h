// Which layers cost the picture: each one's noise and score alone, and what the model gains when it alone stays float.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "octavo/costs.h"
#include "octavo/graph.h"
#include "octavo/judge.h"
#include "octavo/quantize.h"
#include "octavo/stats.h"
#include "octavo/status.h"

namespace octavo {

// One layer in one precision, everything else in float32.
struct PrecisionEffect {
  DType precision = DType::kInt8;  // kInt8, kBFloat16 or kFloat16
  double local_sqnr_db = 0;        // of the layer's own output, fed with float values
  double score = 0, p5 = 0;        // of the task
  double sqnr_db = 0;              // of the model's worst output
};

struct LayerSensitivity {
  std::string node, op;
  int64_t macs = 0;
  std::vector<PrecisionEffect> alone;                 // in the order of SensitivityOptions::precisions
  double weight_sqnr_db = 0, activation_sqnr_db = 0;  // local, int8 for one kind of operand only; kIdenticalDb: none
  double without_score = 0, without_sqnr_db = 0;      // the whole model in int8 but this layer in float32
  double milliseconds_saved = 0;                      // float32 less int8; 0 where costs were not given
  std::string reason;                                 // why it is hard: outlier channels, saturation, ...
};

struct SensitivityOptions {
  std::vector<DType> precisions = {DType::kInt8, DType::kBFloat16, DType::kFloat16};
  bool without = true;                      // measure without_score
  int64_t memory_bytes = int64_t{2} << 30;  // of cached activations
  const LayerCosts* costs = nullptr;        // for milliseconds_saved
  // A file that is rewritten after every few layers and when the run is stopped; empty: none. With `resume` the run
  // goes on from it, if it is there. The caller removes it once the result is safe.
  std::string checkpoint;
  bool resume = false;
  std::string settings;  // whatever else tells two runs apart; a checkpoint with another is refused
  const std::atomic<bool>* stop = nullptr;
  std::function<void(size_t done, size_t total)> progress;  // layers, once per sweep
};

struct SensitivityReport {
  std::vector<LayerSensitivity> layers;  // hardest first: lowest score alone in the first precision, then lowest SQNR
  Verdict all_quantized;                 // the recipe as it is
  bool stopped = false;                  // `layers` holds those that were done
};

// Layers are the nodes that the recipe quantizes. `stats` are of RewriteWithoutBiases(prepared, recipe),
// for the reasons. A layer's change runs only what depends on it, on cached values of the rest.
// Errors: those of ApplyRecipe, Session and the task; a checkpoint of another model, recipe or settings.
Result<SensitivityReport> MeasureSensitivity(const Graph& prepared, const Recipe& recipe, const Stats& stats,
                                             const Judge& judge, const SensitivityOptions& options = {});

// The layers as JSON ({"layers": [..], "all_int8": {..}}) and as CSV with a header line; equal reports, equal text.
std::string FormatSensitivity(const SensitivityReport& report);
std::string FormatSensitivityCsv(const SensitivityReport& report);

// What `stats` say of why a layer's operands are hard to quantize; "" for nothing in particular.
// Exact thresholds in docs/sensitivity.md.
std::string WhyHard(const Graph& rewritten, const Stats& stats, const Recipe& recipe, const std::string& node);

}  // namespace octavo
