// Windows of signal processing, Fourier transforms by their definition, and the matrix of mel bins. In double.
#include <cmath>
#include <numbers>
#include <utility>

#include "base/parallel.h"
#include "graph/infer_signal.h"
#include "kernels/generic/index_reader.h"
#include "kernels/generic/movement.h"
#include "kernels/generic/rows.h"
#include "kernels/strided.h"

namespace octavo {
namespace {

using InferArgs = std::span<const InferInput>;

constexpr double kTurn = 2 * std::numbers::pi;

// y[n] = a0 + a1 cos(2 pi n / period) + a2 cos(4 pi n / period).
Result<BoundKernel> BindCosines(const BindContext& context, std::array<double, 3> a) {
  const Operand& y = context.outputs[0];
  const int64_t size = y.dims[0], period = context.node.Int("periodic", 1) != 0 ? size : size - 1;
  return ForDType(NumericTypes(), y.dtype, [&]<typename T>(std::type_identity<T>) {
    BoundKernel kernel;
    kernel.run = [a, size, period, step = y.strides[0]](const KernelArgs& args) {
      for (int64_t n = 0; n < size; ++n) {
        const double turn = period == 0 ? 0 : kTurn * static_cast<double>(n) / static_cast<double>(period);
        static_cast<T*>(args.outputs[0])[n * step] = Store<T>(a[0] + a[1] * std::cos(turn) + a[2] * std::cos(2 * turn));
      }
      return Status();
    };
    return Result<BoundKernel>(std::move(kernel));
  });
}

Result<BoundKernel> BindHann(const BindContext& context, InferArgs) { return BindCosines(context, {0.5, -0.5, 0}); }
Result<BoundKernel> BindHamming(const BindContext& context, InferArgs) {
  return BindCosines(context, {25.0 / 46, -21.0 / 46, 0});
}
Result<BoundKernel> BindBlackman(const BindContext& context, InferArgs) {
  return BindCosines(context, {0.42, -0.5, 0.08});
}

// One transform: `available` elements `x_step` apart, as many as `length` of which count, real and imaginary parts
// `part_step` apart.
struct Transform {
  int64_t length = 1, available = 1, bins = 1;
  int64_t x_step = 0, x_part = 0, y_step = 0, y_part = 0, window_step = 0;
  bool complex = false, inverse = false;
  // Cosines and sines of multiples of a whole turn / length.
  std::vector<double> cosine, sine;

  void MakeTable() {
    for (int64_t i = 0; i < length; ++i) {
      const double turn = kTurn * static_cast<double>(i) / static_cast<double>(length);
      cosine.push_back(std::cos(turn));
      sine.push_back(inverse ? std::sin(turn) : -std::sin(turn));
    }
  }
};

template <typename T>
void RunTransform(const Transform& t, const T* x, const T* window, T* y) {
  const int64_t count = std::min(t.length, t.available);
  for (int64_t bin = 0; bin < t.bins; ++bin) {
    double real = 0, imaginary = 0;
    for (int64_t i = 0; i < count; ++i) {
      const auto turn = static_cast<size_t>(i * bin % t.length);
      const double weight = window == nullptr ? 1.0 : static_cast<double>(Load(window[i * t.window_step]));
      const double a = static_cast<double>(Load(x[i * t.x_step])) * weight;
      const double b = t.complex ? static_cast<double>(Load(x[i * t.x_step + t.x_part])) * weight : 0.0;
      real += a * t.cosine[turn] - b * t.sine[turn];
      imaginary += a * t.sine[turn] + b * t.cosine[turn];
    }
    const double scale = t.inverse ? 1.0 / static_cast<double>(t.length) : 1.0;
    y[bin * t.y_step] = Store<T>(real * scale);
    y[bin * t.y_step + t.y_part] = Store<T>(imaginary * scale);
  }
}

template <typename T>
BoundKernel BindTransforms(Transform t, const StridedLoop<2>& lanes, bool has_window, int threads) {
  BoundKernel kernel;
  kernel.run = [t = std::move(t), lanes, has_window, threads](const KernelArgs& args) {
    ParallelFor(threads, lanes.count(), 1, [&](int64_t begin, int64_t end) {
      lanes.ForEachIn(begin, end, [&](const auto& at) {
        RunTransform(t, static_cast<const T*>(args.inputs[0]) + at[0],
                     has_window ? static_cast<const T*>(args.inputs[2]) : nullptr,
                     static_cast<T*>(args.outputs[0]) + at[1]);
      });
    });
    return Status();
  };
  return kernel;
}

Result<BoundKernel> BindDft(const BindContext& context, InferArgs inputs) {
  const Operand &x = context.inputs[0], &y = context.outputs[0];
  OCTAVO_ASSIGN(const DftPlan plan, ResolveDft(context.node, context.opset, inputs));
  const auto axis = static_cast<size_t>(plan.axis);
  Transform t;
  t.length = plan.length;
  t.available = x.dims[axis];
  t.bins = plan.bins;
  t.x_step = x.strides[axis];
  t.x_part = x.strides.back();
  t.y_step = y.strides[axis];
  t.y_part = y.strides.back();
  t.complex = x.dims.back() == 2;
  t.inverse = plan.inverse;
  t.MakeTable();
  const auto lanes_of = [axis](Dims values) {
    values.pop_back();
    values.erase(values.begin() + static_cast<std::ptrdiff_t>(axis));
    return values;
  };
  const StridedLoop<2> lanes(lanes_of(x.dims), {lanes_of(x.strides), lanes_of(y.strides)});
  return ForDType(FloatTypes(), x.dtype, [&]<typename T>(std::type_identity<T>) {
    return Result<BoundKernel>(BindTransforms<T>(t, lanes, false, context.threads));
  });
}

Result<BoundKernel> BindStft(const BindContext& context, InferArgs inputs) {
  const Operand &x = context.inputs[0], &y = context.outputs[0];
  OCTAVO_ASSIGN(const StftPlan plan, ResolveStft(context.node, inputs));
  const bool has_window = context.inputs.size() > 2 && context.inputs[2].present;
  Transform t;
  t.length = t.available = plan.length;
  t.bins = plan.bins;
  t.x_step = x.strides[1];
  t.x_part = x.strides[2];
  t.y_step = y.strides[2];
  t.y_part = y.strides[3];
  if (has_window) t.window_step = context.inputs[2].strides[0];
  t.complex = x.dims[2] == 2;
  t.MakeTable();
  const StridedLoop<2> lanes({x.dims[0], plan.frames},
                             {Dims{x.strides[0], plan.step * x.strides[1]}, Dims{y.strides[0], y.strides[1]}});
  return ForDType(FloatTypes(), x.dtype, [&]<typename T>(std::type_identity<T>) {
    return Result<BoundKernel>(BindTransforms<T>(t, lanes, has_window, context.threads));
  });
}

// Triangles over the bins of a spectrum, evenly spaced in mel: 2595 log10(1 + f / 700).
struct MelScale {
  double low, step, per_hertz;
  int64_t BinOf(int64_t i) const {
    const double hertz = 700 * (std::pow(10.0, (low + static_cast<double>(i) * step) / 2595) - 1);
    return Saturate<int64_t>(std::floor(hertz * per_hertz));
  }
};

template <typename T>
Status FillMel(const MelScale& scale, int64_t spectrum, int64_t bins, int64_t row, int64_t column, T* y) {
  for (int64_t i = 0; i < spectrum; ++i) {
    for (int64_t k = 0; k < bins; ++k) y[i * row + k * column] = Store<T>(0.0);
  }
  for (int64_t k = 0; k < bins; ++k) {
    const int64_t low = scale.BinOf(k), center = scale.BinOf(k + 1), high = scale.BinOf(k + 2);
    if (low < 0 || low > center || center >= spectrum || center > high || high > spectrum) {
      return InvalidArgument("its edges lie outside of the spectrum");
    }
    if (low == center) y[center * row + k * column] = Store<T>(1.0);
    for (int64_t i = low; low != center && i <= center; ++i) {
      y[i * row + k * column] = Store<T>(static_cast<double>(i - low) / static_cast<double>(center - low));
    }
    for (int64_t i = center; i < high; ++i) {
      y[i * row + k * column] = Store<T>(static_cast<double>(high - i) / static_cast<double>(high - center));
    }
  }
  return {};
}

Result<BoundKernel> BindMelWeightMatrix(const BindContext& context, InferArgs) {
  const Operand& y = context.outputs[0];
  std::array<RealReader, 4> readers;  // of inputs 1..4
  for (size_t i = 0; i < readers.size(); ++i) {
    readers[i] = ReaderOf<double>(context.inputs[i + 1].dtype);
    if (readers[i] == nullptr) return UnsupportedDType(context.inputs[i + 1].dtype);
  }
  return ForDType(NumericTypes(), y.dtype, [&]<typename T>(std::type_identity<T>) {
    BoundKernel kernel;
    kernel.run = [readers, spectrum = y.dims[0], bins = y.dims[1], row = y.strides[0],
                  column = y.strides[1]](const KernelArgs& args) -> Status {
      const auto value = [&](size_t i) { return readers[i - 1](args.inputs[i], 0); };
      const auto mel = [](double hertz) { return 2595 * std::log10(1 + hertz / 700); };
      const double length = value(1), rate = value(2), low = mel(value(3)), high = mel(value(4));
      if (!(rate > 0)) return InvalidArgument("its sample_rate is not positive");
      const MelScale scale{low, (high - low) / static_cast<double>(bins + 2), (length + 1) / rate};
      return FillMel(scale, spectrum, bins, row, column, static_cast<T*>(args.outputs[0]));
    };
    return Result<BoundKernel>(std::move(kernel));
  });
}

}  // namespace

std::span<const GenericKernelRow> SignalKernels() {
  static constexpr GenericKernelRow kRows[] = {
      {"", "BlackmanWindow", BindChecked<BindBlackman>},         {"", "DFT", BindChecked<BindDft>},
      {"", "HammingWindow", BindChecked<BindHamming>},           {"", "HannWindow", BindChecked<BindHann>},
      {"", "MelWeightMatrix", BindChecked<BindMelWeightMatrix>}, {"", "STFT", BindChecked<BindStft>},
  };
  return kRows;
}

}  // namespace octavo
