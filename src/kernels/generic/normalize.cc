#include "kernels/generic/normalize.h"

#include <algorithm>

namespace octavo {
namespace {

struct NormalizationLoops {
  StridedLoop<6> kept;     // x, y, scale, bias, mean, inverse deviation
  StridedLoop<4> reduced;  // x, y, scale, bias

  explicit NormalizationLoops(const Normalization& n)
      : kept(SelectAxes(n.dims, n.reduced, false),
             {SelectAxes(n.x, n.reduced, false), SelectAxes(n.y, n.reduced, false),
              SelectAxes(n.scale, n.reduced, false), SelectAxes(n.bias, n.reduced, false),
              SelectAxes(n.mean, n.reduced, false), SelectAxes(n.inverse_deviation, n.reduced, false)}),
        reduced(SelectAxes(n.dims, n.reduced, true),
                {SelectAxes(n.x, n.reduced, true), SelectAxes(n.y, n.reduced, true),
                 SelectAxes(n.scale, n.reduced, true), SelectAxes(n.bias, n.reduced, true)}) {}
};

struct Moments {
  double mean;
  double inverse_deviation;
};

// Two passes in double: no cancellation, whatever the mean.
template <typename T>
Moments MeasureMoments(const StridedLoop<4>& loop, const T* x, double epsilon) {
  const double count = static_cast<double>(loop.count());
  double sum = 0;
  loop.ForEach([&](const auto& at) { sum += static_cast<double>(Load(x[at[0]])); });
  const double mean = sum / count;
  double squares = 0;
  loop.ForEach([&](const auto& at) {
    const double distance = static_cast<double>(Load(x[at[0]])) - mean;
    squares += distance * distance;
  });
  return {mean, 1 / std::sqrt(squares / count + epsilon)};
}

// T: type of x and y; P: of scale and bias.
template <typename T, typename P>
BoundKernel BindTyped(const Normalization& n) {
  BoundKernel kernel;
  kernel.run = [loops = NormalizationLoops(n), epsilon = n.epsilon, silu = n.silu, has_scale = n.has_scale,
                has_bias = n.has_bias, has_mean = n.has_mean, has_deviation = n.has_inverse_deviation,
                threads = n.threads](const KernelArgs& args) {
    const T* x = static_cast<const T*>(args.inputs[0]);
    const P* scale = has_scale ? static_cast<const P*>(args.inputs[1]) : nullptr;
    const P* bias = has_bias ? static_cast<const P*>(args.inputs[2]) : nullptr;
    T* y = static_cast<T*>(args.outputs[0]);
    float* mean = has_mean ? static_cast<float*>(args.outputs[1]) : nullptr;
    float* deviation = has_deviation ? static_cast<float*>(args.outputs[2]) : nullptr;
    const int64_t grain = std::max<int64_t>(1, 16384 / std::max<int64_t>(1, loops.reduced.count()));
    ParallelFor(threads, loops.kept.count(), grain, [&](int64_t begin, int64_t end) {
      loops.kept.ForEachIn(begin, end, [&](const auto& base) {
        const Moments moments = MeasureMoments(loops.reduced, x + base[0], epsilon);
        if (mean != nullptr) mean[base[4]] = static_cast<float>(moments.mean);
        if (deviation != nullptr) deviation[base[5]] = static_cast<float>(moments.inverse_deviation);
        loops.reduced.ForEach([&](const auto& at) {
          double v = (static_cast<double>(Load(x[base[0] + at[0]])) - moments.mean) * moments.inverse_deviation;
          if (scale != nullptr) v *= static_cast<double>(Load(scale[base[2] + at[2]]));
          if (bias != nullptr) v += static_cast<double>(Load(bias[base[3] + at[3]]));
          if (silu) v /= 1 + std::exp(-v);
          y[base[1] + at[1]] = Store<T>(v);
        });
      });
    });
    return Status();
  };
  return kernel;
}

}  // namespace

Result<BoundKernel> BindNormalization(const Normalization& n) {
  if (n.dims.size() > kMaxRank) return Unsupported("the rank is too high");
  const DType scale_type = n.has_scale ? n.scale_type : n.x_type;
  return ForDType(FloatTypes(), n.x_type, [&]<typename T>(std::type_identity<T>) -> Result<BoundKernel> {
    if (scale_type == n.x_type) return BindTyped<T, T>(n);
    if (scale_type == DType::kFloat32) return BindTyped<T, float>(n);
    return UnsupportedDType(scale_type);
  });
}

}  // namespace octavo
