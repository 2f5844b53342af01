#include "quantize/channel_moments.h"

#include <algorithm>
#include <limits>

#include "octavo/session.h"

namespace octavo {
namespace {

// Adds one line of a tensor: `count` elements of one channel, or of consecutive channels, `stride` apart.
struct Accumulator {
  const ObservedTensor& observed;
  ChannelMoments& moments;

  void Add(size_t channel, float value) {
    moments.low[channel] = std::min(moments.low[channel], value);
    moments.high[channel] = std::max(moments.high[channel], value);
    moments.mean[channel] += value;
    moments.mean_square[channel] += double{value} * value;
    if (observed.map) moments.mean_mapped[channel] += observed.map(value);
  }
};

void AddTensor(const TensorView& view, const ObservedTensor& observed, ChannelMoments& moments) {
  const auto axis = static_cast<size_t>(observed.axis);
  if (moments.low.empty()) {
    const auto channels = static_cast<size_t>(view.dims[axis]);
    moments.low.assign(channels, std::numeric_limits<float>::infinity());
    moments.high.assign(channels, -std::numeric_limits<float>::infinity());
    moments.mean.assign(channels, 0);
    moments.mean_square.assign(channels, 0);
    if (observed.map) moments.mean_mapped.assign(channels, 0);
  }
  Accumulator accumulator{observed, moments};
  const auto* data = static_cast<const float*>(view.data);
  const size_t rank = view.dims.size();
  // The innermost loop runs along the axis whose elements lie closest together.
  size_t inner = rank - 1;
  for (size_t d = 0; d < rank; ++d) {
    const bool closer = view.dims[d] > 1 && (view.dims[inner] == 1 || view.strides[d] < view.strides[inner]);
    if (closer) inner = d;
  }
  Dims index(rank, 0);
  const int64_t lines = ElementCount(view.dims) / std::max<int64_t>(1, view.dims[inner]);
  for (int64_t line = 0; line < lines; ++line) {
    int64_t offset = 0;
    for (size_t d = 0; d < rank; ++d) offset += index[d] * view.strides[d];
    const auto channel = static_cast<size_t>(index[axis]);
    for (int64_t i = 0; i < view.dims[inner]; ++i) {
      accumulator.Add(inner == axis ? static_cast<size_t>(i) : channel, data[offset + i * view.strides[inner]]);
    }
    for (size_t d = rank; d-- > 0;) {
      if (d == inner) continue;
      if (++index[d] < view.dims[d]) break;
      index[d] = 0;
    }
  }
  moments.count += ElementCount(view.dims) / std::max<int64_t>(1, view.dims[axis]);
}

}  // namespace

Result<std::map<ValueId, ChannelMoments>> MeasureChannels(const Graph& graph,
                                                          const std::vector<ObservedTensor>& observed,
                                                          const Dataset& data, size_t samples, int threads) {
  std::map<ValueId, ChannelMoments> moments;
  SessionOptions options;
  options.threads = threads;
  for (const ObservedTensor& entry : observed) {
    options.watched.push_back(graph.value(entry.tensor).name);
    moments[entry.tensor];
  }
  options.watch = [&](size_t index, const TensorView& view) {
    AddTensor(view, observed[index], moments.at(observed[index].tensor));
  };
  OCTAVO_ASSIGN(Session session, Session::Create(graph, options));
  size_t used = 0;
  for (size_t i = 0; i < data.size() && used < samples; ++i) {
    const auto inputs = data.Load(i);
    if (!inputs.ok()) continue;  // calibration has reported it
    OCTAVO_RETURN_IF_ERROR(session.Run(*inputs).status());
    ++used;
  }
  if (used == 0) return InvalidArgument("no sample can be loaded");
  for (auto& [tensor, channels] : moments) {
    const double scale = channels.count > 0 ? 1.0 / static_cast<double>(channels.count) : 0;
    for (auto* sums : {&channels.mean, &channels.mean_square, &channels.mean_mapped}) {
      for (double& sum : *sums) sum *= scale;
    }
  }
  return moments;
}

}  // namespace octavo
