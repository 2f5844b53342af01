// Many small changes of one graph, each judged without running what stands before it again.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "octavo/graph.h"
#include "octavo/judge.h"
#include "octavo/session.h"

namespace octavo {

// Values of the unchanged graph over the judging samples: kept, or made again sample by sample where they are too many.
class BoundaryValues {
 public:
  // Runs `base` over the first `samples`. With `keep` false nothing is kept: Values runs it again for the sample it is
  // asked for. `names` are values of `base`.
  static Result<BoundaryValues> Create(const Graph& base, std::vector<std::string> names, const Judge& judge,
                                       size_t samples, bool keep);

  // By name: the named values, the graph's inputs, and its outputs. Valid until the next call.
  Result<const std::map<std::string, Tensor>*> Values(size_t sample);

 private:
  BoundaryValues() = default;
  Result<std::map<std::string, Tensor>> Run(size_t sample);

  const Judge* judge_ = nullptr;
  std::unique_ptr<Session> session_;
  std::vector<std::map<std::string, Tensor>> kept_;
  std::map<std::string, Tensor> current_;
  size_t current_sample_ = SIZE_MAX;
};

// Something to be found out about one node, with the values around it.
struct LayerJob {
  std::string node;
  std::function<Status(BoundaryValues& values)> run;
};
// Runs jobs in order, over the first `samples`, in groups whose boundary values fit into `memory_bytes` together. A job
// whose own do not fit runs on values that are made again each time.
Status RunLayerJobs(const Graph& base, const Judge& judge, size_t samples, int64_t memory_bytes,
                    std::span<const LayerJob> jobs);

// The verdict on `changed`, which differs from the values' graph at `node` (and in how its operands are converted).
Result<Verdict> ScoreChanged(const Judge& judge, BoundaryValues& values, const Graph& base, const Graph& changed,
                             const std::string& node);

// Verdict::noise of the same, over the first `samples`.
Result<double> NoiseOfChanged(const Judge& judge, BoundaryValues& values, const Graph& base, const Graph& changed,
                              const std::string& node, size_t samples);

// Output noise of a node alone, fed with the values that it has in `base`: SQNR in dB of `changed`'s against `base`'s.
Result<double> LocalSqnr(const Judge& judge, BoundaryValues& values, const Graph& base, const Graph& changed,
                         const std::string& node);

}  // namespace octavo
