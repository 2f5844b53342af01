// What `bench` needs beside one session that runs by itself: batches, streams beside each other, several thread counts.
#pragma once

#include <string>
#include <vector>

#include "console.h"
#include "octavo/bench.h"
#include "octavo/session.h"

namespace octavo::cli {

// Sample i of a batch for one input: the first is `single`, the others differ from it and from each other.
Result<Tensor> MakeSample(const Tensor& single, int64_t i);
// `batch` samples behind each other along the first dimension, which is 1 in `single`.
Result<Tensor> StackSamples(const Tensor& single, int64_t batch);

struct BatchCheck {
  bool same_bits = false;
  double largest_share = 0;  // of the tolerance, over the outputs; at most 1
};

// Compares `together`, what `batched` makes of stacked samples, with what `one` makes of each of them.
// Sums of integers must have the same bits: a plan without float steps is compared so. Sums of floats may be taken in
// another order. One layer then moves by about sqrt(K) 2^-24 of its size, 2^-20 for K = 256 products, as if its inputs
// had been off by as much; so the tolerance is 16 times (independent errors of up to 256 layers) what the outputs of
// one sample move when every input is off by 2^-20 of itself, or by 2^-9, bfloat16's rounding, in 16-bit arithmetic.
// Error: the output that differs, and by how much.
Result<BatchCheck> CheckBatch(Session& one, const Session& batched, const std::vector<Tensor>& single,
                              const std::vector<Tensor>& together, int64_t batch, Precision precision);

struct StreamTimes {
  std::vector<double> milliseconds;  // of every run of every stream
  double seconds = 0;                // from the common start to the end of the last run
  double runs_per_second() const { return seconds > 0 ? static_cast<double>(milliseconds.size()) / seconds : 0; }
};

// Runs every session on a thread of its own, on the same inputs, each `iterations` times after one that warms up.
Result<StreamTimes> TimeStreams(std::vector<Session>& sessions, const std::vector<Tensor>& inputs, int iterations);

struct ThreadTimes {
  int threads = 0;
  TimingSummary timing;
};

// One session per count, all of `graph`, that run in turns.
Result<std::vector<ThreadTimes>> TimeThreadCounts(const Graph& graph, const SessionOptions& options,
                                                  const std::vector<Tensor>& inputs, const std::vector<int>& counts,
                                                  int iterations);

void PrintThreadTimes(const Report& report, const std::vector<ThreadTimes>& times);
Json ThreadTimesJson(const std::vector<ThreadTimes>& times);

}  // namespace octavo::cli
