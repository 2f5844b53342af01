// What remedies need to know of activations: per channel, over a few samples.
#pragma once

#include <functional>
#include <map>
#include <vector>

#include "octavo/dataset.h"
#include "octavo/graph.h"
#include "octavo/status.h"

namespace octavo {

struct ChannelMoments {
  std::vector<float> low, high;           // over all samples
  std::vector<double> mean, mean_square;  // of x, of x^2
  std::vector<double> mean_mapped;        // of map(x), see below
  int64_t count = 0;                      // elements per channel
};

struct ObservedTensor {
  ValueId tensor = kNoValue;
  int axis = 1;
  std::function<float(float)> map;  // may be empty
};

// By value. Runs `graph`, float32, over the first `samples` of `data`. A tensor may be listed once.
Result<std::map<ValueId, ChannelMoments>> MeasureChannels(const Graph& graph,
                                                          const std::vector<ObservedTensor>& observed,
                                                          const Dataset& data, size_t samples, int threads);

}  // namespace octavo
