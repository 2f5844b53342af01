// Calibration: runs a float model over samples and collects statistics of its activations.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "octavo/dataset.h"
#include "octavo/graph.h"
#include "octavo/stats.h"
#include "octavo/status.h"

namespace octavo {

struct CalibrateOptions {
  int threads = 0;  // samples at a time, each on a single-threaded engine; 0: every core this process may run on
  // What the process may have resident, in bytes; 0: no limit. Kept by running fewer samples at a time and by observing
  // fewer tensors in each of several sweeps over the data; the statistics are the same, bit for bit.
  int64_t memory_bytes = 0;
  bool strict = false;  // a sample that cannot be used is an error instead of being skipped
  // Of every `shard_count` samples the one at `shard_index`; merging all shards' statistics equals one run.
  size_t shard_index = 0, shard_count = 1;
  std::vector<std::string> tensors;          // what to observe; empty: QuantizableTensors
  std::vector<std::string> disabled_passes;  // see SessionOptions

  // A file that is rewritten every `checkpoint_seconds` and when the run is stopped; empty: none. With `resume` the run
  // goes on from it, if it is there. The caller removes it once the statistics are safe.
  std::string checkpoint;
  double checkpoint_seconds = 60;
  bool resume = false;
  std::string settings;  // whatever else tells two runs apart (preprocessing); a checkpoint with another is refused

  const std::atomic<bool>* stop = nullptr;  // once true, the samples that are running are finished, and that is all
  // Samples done and to be done, counted once per sweep; called from one thread at a time.
  std::function<void(size_t done, size_t total)> progress;
};

struct SkippedSample {
  std::string path;
  std::string reason;  // names the file
};

struct CalibrateReport {
  Stats stats;           // empty when the run was stopped
  bool stopped = false;  // by CalibrateOptions::stop, before the end; the checkpoint, if any, is written
  size_t resumed = 0;    // samples that the checkpoint already had, of this sweep
  size_t done = 0;       // samples of the last sweep, used or skipped
  std::vector<SkippedSample> skipped;
  int threads = 0;
  int sweeps = 0;  // over the data, those before a checkpoint included
  double seconds = 0;
};

// The shapes of the first sample that can be loaded: what to prepare a model of dynamic shape for.
// Error: that of the first sample, when none can.
Result<std::map<std::string, Dims>> FindInputDims(const Dataset& data);

// Runs `prepared` (PrepareForQuantization) over `data`, in whatever order threads come to the samples: the result
// depends on the samples alone, on one instruction set. Memory does not grow with their number. Samples that cannot be
// loaded, have other shapes than the model was prepared for, or hold NaN or infinity are skipped and reported.
// Errors: a NaN or infinite activation (names sample and tensor); a value of `tensors` that is not there; a sample
// that fails where an earlier sweep used it; a checkpoint of another model, other data or settings; a limit of memory
// that cannot be kept (says what is needed); no sample left.
Result<CalibrateReport> Calibrate(const Graph& prepared, const Dataset& data, const CalibrateOptions& options = {});

}  // namespace octavo
