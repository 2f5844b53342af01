#include "engine/transposed_phases.h"

#include <algorithm>

namespace octavo {

namespace {

struct AxisPhase {
  WindowAxis window;
  int64_t first_tap = 0;  // r
};

// The plain convolution along one axis for outputs of phase p; nothing when there is none.
bool PhaseOfAxis(const WindowAxis& axis, int64_t p, AxisPhase& phase) {
  const int64_t s = axis.stride;
  phase.first_tap = (p + axis.pad_begin) % s;
  const int64_t shift = (p + axis.pad_begin - phase.first_tap) / s;
  phase.window = {};
  phase.window.kernel = (axis.kernel - phase.first_tap + s - 1) / s;
  phase.window.input = axis.input;
  phase.window.output = (axis.output - p + s - 1) / s;
  phase.window.pad_begin = phase.window.kernel - 1 - shift;
  return phase.first_tap < axis.kernel && phase.window.output > 0 && phase.window.pad_begin >= 0;
}

// (O, I, T...) from (I, O, K...): tap u of the phase is tap r + s (T - 1 - u).
Result<Tensor> PhaseWeights(const std::vector<WindowAxis>& axes, const std::vector<AxisPhase>& phases,
                            const Tensor& weights) {
  const int64_t in = weights.dims()[0], out = weights.dims()[1];
  Dims dims = {out, in};
  int64_t window = 1, taps = 1;
  for (size_t d = 0; d < axes.size(); ++d) {
    dims.push_back(phases[d].window.kernel);
    window *= axes[d].kernel;
    taps *= phases[d].window.kernel;
  }
  OCTAVO_ASSIGN(Tensor result, Tensor::Create(DType::kFloat32, dims));
  std::vector<int64_t> source(static_cast<size_t>(taps));  // where each tap lies within the window
  for (int64_t t = 0; t < taps; ++t) {
    int64_t rest = t, at = 0, step = 1;
    for (size_t d = axes.size(); d-- > 0;) {
      const int64_t kernel = phases[d].window.kernel, u = rest % kernel;
      rest /= kernel;
      at += (phases[d].first_tap + axes[d].stride * (kernel - 1 - u)) * step;
      step *= axes[d].kernel;
    }
    source[static_cast<size_t>(t)] = at;
  }
  const float* from = weights.values<float>().data();
  float* to = result.mutable_values<float>().data();
  for (int64_t o = 0; o < out; ++o) {
    for (int64_t i = 0; i < in; ++i) {
      for (int64_t t = 0; t < taps; ++t) *to++ = from[(i * out + o) * window + source[static_cast<size_t>(t)]];
    }
  }
  return result;
}

}  // namespace

Result<std::vector<TransposedPhase>> SplitTransposed(const std::vector<WindowAxis>& axes, const Tensor& weights) {
  std::vector<TransposedPhase> result;
  int64_t count = 1;
  for (const auto& axis : axes) {
    if (axis.dilation != 1 || axis.pad_begin < 0) return result;
    count *= axis.stride;
  }
  if (count == 1) return result;
  for (int64_t index = 0; index < count; ++index) {
    TransposedPhase phase;
    std::vector<AxisPhase> along(axes.size());
    phase.first.resize(axes.size());
    int64_t rest = index;
    for (size_t d = axes.size(); d-- > 0;) {
      phase.first[d] = rest % axes[d].stride;
      rest /= axes[d].stride;
      if (!PhaseOfAxis(axes[d], phase.first[d], along[d])) return std::vector<TransposedPhase>();
    }
    for (const auto& a : along) phase.axes.push_back(a.window);
    OCTAVO_ASSIGN(phase.weights, PhaseWeights(axes, along, weights));
    result.push_back(std::move(phase));
  }
  return result;
}

}  // namespace octavo
