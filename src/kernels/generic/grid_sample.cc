// GridSample and AffineGrid: reading a tensor at places that another one holds, and making those places.
#include <algorithm>
#include <cmath>
#include <utility>

#include "base/parallel.h"
#include "kernels/generic/elements.h"
#include "kernels/generic/movement.h"
#include "kernels/generic/rows.h"
#include "kernels/strided.h"

namespace octavo {
namespace {

using InferArgs = std::span<const InferInput>;

constexpr size_t kMaxSpatial = 3;

// GridSample

enum class Padding : uint8_t { kZeros, kBorder, kReflection };
enum class Interpolation : uint8_t { kNearest, kLinear, kCubic };

struct GridSample {
  StridedLoop<2> places;  // over the grid's positions: grid, y (of one image and channel)
  size_t spatial = 2;
  std::array<int64_t, kMaxSpatial> sizes{}, steps{};  // of X's spatial axes
  int64_t images = 1, channels = 1;
  std::array<int64_t, 2> x_steps{}, y_steps{};
  int64_t grid_image = 0, grid_step = 0;
  Padding padding = Padding::kZeros;
  Interpolation mode = Interpolation::kLinear;
  bool align_corners = false;
  int threads = 1;
};

// Mirrored at the borders until it lies between them.
float Reflect(float x, float low, float high) {
  const float range = high - low;
  if (!(range > 0)) return low;
  const float distance = x < low ? low - x : x - high;
  if (!(distance > 0)) return x;
  const float turns = std::floor(distance / range), rest = distance - turns * range;
  const bool from_start = (std::fmod(turns, 2.0f) == 0) == (x < low);
  return from_start ? low + rest : high - rest;
}

// Where, and with what weights, an axis is read; a position of -1 reads 0.
struct Taps {
  std::array<int64_t, 4> at{};
  std::array<float, 4> weight{};
  int count = 1;
};

int64_t PadPosition(const GridSample& s, size_t d, float position, float low, float high) {
  const float last = static_cast<float>(s.sizes[d] - 1);
  if (s.padding == Padding::kReflection) position = std::trunc(Reflect(position, low, high));
  if (s.padding != Padding::kZeros) return static_cast<int64_t>(std::clamp(position, 0.0f, last));
  return position >= 0 && position <= last ? static_cast<int64_t>(position) : -1;
}

// The weights of the cubic convolution with a = -0.75 (Keys, 1981) of the four neighbours, `x` past the second.
std::array<float, 4> CubicWeights(float x) {
  constexpr float kA = -0.75f;
  const auto outer = [](float t) { return ((kA * t - 5 * kA) * t + 8 * kA) * t - 4 * kA; };
  const auto inner = [](float t) { return ((kA + 2) * t - (kA + 3)) * t * t + 1; };
  return {outer(x + 1), inner(x), inner(1 - x), outer(2 - x)};
}

Taps TapsAt(const GridSample& s, size_t d, float normalized) {
  const auto size = static_cast<float>(s.sizes[d]);
  const float low = s.align_corners ? 0.0f : -0.5f, high = s.align_corners ? size - 1 : size - 0.5f;
  float x = s.align_corners ? (normalized + 1) / 2 * (size - 1) : ((normalized + 1) * size - 1) / 2;
  if (s.mode == Interpolation::kNearest) x = std::nearbyint(x);
  if (s.padding == Padding::kReflection && (x < low || x > high)) x = Reflect(x, low, high);
  // Far outside it is all padding, and nothing overflows; so too NaN.
  constexpr float kFar = 0x1p30f;
  x = x > -kFar ? std::min(x, kFar) : -kFar;
  Taps taps;
  const float first = std::floor(x), fraction = x - first;
  if (s.mode == Interpolation::kNearest) {
    taps.at[0] = PadPosition(s, d, x, low, high);
    taps.weight[0] = 1;
  } else if (s.mode == Interpolation::kLinear) {
    taps.count = 2;
    taps.weight = {1 - fraction, fraction};
    for (size_t k = 0; k < 2; ++k) taps.at[k] = PadPosition(s, d, first + static_cast<float>(k), low, high);
  } else {
    taps.count = 4;
    taps.weight = CubicWeights(fraction);
    for (size_t k = 0; k < 4; ++k) taps.at[k] = PadPosition(s, d, first - 1 + static_cast<float>(k), low, high);
  }
  return taps;
}

template <typename T>
double SampleAt(const GridSample& s, const std::array<Taps, kMaxSpatial>& taps, const T* x) {
  double sum = 0;
  for (int i = 0; i < taps[0].count; ++i) {
    for (int j = 0; j < taps[1].count; ++j) {
      for (int k = 0; k < taps[2].count; ++k) {
        const std::array<int, kMaxSpatial> chosen = {i, j, k};
        double weight = 1;
        int64_t offset = 0;
        bool inside = true;
        for (size_t d = 0; d < kMaxSpatial; ++d) {
          const auto t = static_cast<size_t>(chosen[d]);
          weight *= static_cast<double>(taps[d].weight[t]);
          inside &= taps[d].at[t] >= 0;
          offset += taps[d].at[t] * s.steps[d];
        }
        if (inside) sum += weight * static_cast<double>(Load(x[offset]));
      }
    }
  }
  return sum;
}

GridSample ReadGridSample(const BindContext& context) {
  const Operand &x = context.inputs[0], &grid = context.inputs[1], &y = context.outputs[0];
  GridSample s;
  s.spatial = x.dims.size() - 2;
  const auto places = [&](const Dims& values, std::ptrdiff_t first) {
    return Dims(values.begin() + first, values.begin() + first + static_cast<std::ptrdiff_t>(s.spatial));
  };
  s.places = StridedLoop<2>(places(y.dims, 2), {places(grid.strides, 1), places(y.strides, 2)});
  s.sizes.fill(1);
  for (size_t d = 0; d < s.spatial; ++d) {
    s.sizes[d] = x.dims[d + 2];
    s.steps[d] = x.strides[d + 2];
  }
  s.images = x.dims[0];
  s.channels = x.dims[1];
  s.x_steps = {x.strides[0], x.strides[1]};
  s.y_steps = {y.strides[0], y.strides[1]};
  s.grid_image = grid.strides[0];
  s.grid_step = grid.strides.back();
  const std::string padding = context.node.String("padding_mode", "zeros"),
                    mode = context.node.String("mode", "linear");
  s.padding = padding == "border" ? Padding::kBorder : padding == "reflection" ? Padding::kReflection : Padding::kZeros;
  s.mode = mode == "nearest" ? Interpolation::kNearest
                             : (mode == "cubic" || mode == "bicubic" ? Interpolation::kCubic : Interpolation::kLinear);
  s.align_corners = context.node.Int("align_corners", 0) != 0;
  s.threads = context.threads;
  return s;
}

template <typename T, typename G>
BoundKernel BindTypedGridSample(const GridSample& s) {
  BoundKernel kernel;
  kernel.run = [s](const KernelArgs& args) {
    const int64_t count = s.places.count();
    ParallelFor(s.threads, s.images * count, 64, [&](int64_t begin, int64_t end) {
      for (int64_t task = begin; task < end; ++task) {
        const int64_t image = task / count;
        const std::array<int64_t, 2> at = s.places.OffsetsOf(task % count);
        const G* grid = static_cast<const G*>(args.inputs[1]) + image * s.grid_image + at[0];
        std::array<Taps, kMaxSpatial> taps;
        for (Taps& unused : taps) unused.weight[0] = 1;
        // The grid names the innermost axis first.
        for (size_t d = 0; d < s.spatial; ++d) {
          const G position = grid[static_cast<int64_t>(s.spatial - 1 - d) * s.grid_step];
          taps[d] = TapsAt(s, d, static_cast<float>(Load(position)));
        }
        const T* x = static_cast<const T*>(args.inputs[0]) + image * s.x_steps[0];
        T* y = static_cast<T*>(args.outputs[0]) + image * s.y_steps[0] + at[1];
        for (int64_t c = 0; c < s.channels; ++c)
          y[c * s.y_steps[1]] = Store<T>(SampleAt(s, taps, x + c * s.x_steps[1]));
      }
    });
    return Status();
  };
  return kernel;
}

Result<BoundKernel> BindGridSample(const BindContext& context, InferArgs) {
  const GridSample s = ReadGridSample(context);
  return ForDType(FloatTypes(), context.inputs[0].dtype, [&]<typename T>(std::type_identity<T>) -> Result<BoundKernel> {
    if (context.inputs[1].dtype == context.inputs[0].dtype) return BindTypedGridSample<T, T>(s);
    if (context.inputs[1].dtype == DType::kFloat32) return BindTypedGridSample<T, float>(s);
    return UnsupportedDType(context.inputs[1].dtype);
  });
}

// AffineGrid: theta (x, y, [z,] 1) at the centers or, with align_corners, the corners of a regular grid over [-1, 1].

double GridCoordinate(int64_t i, int64_t size, bool align_corners) {
  if (size == 1) return 0;
  const auto n = static_cast<double>(size), at = static_cast<double>(i);
  return align_corners ? -1 + 2 * at / (n - 1) : -1 + (2 * at + 1) / n;
}

Result<BoundKernel> BindAffineGrid(const BindContext& context, InferArgs) {
  const Operand &theta = context.inputs[0], &y = context.outputs[0];
  const auto spatial = static_cast<size_t>(y.dims.back());
  const bool align_corners = context.node.Int("align_corners", 0) != 0;
  const Dims places(y.dims.begin() + 1, y.dims.end() - 1);
  const StridedLoop<1> loop(y.dims, {y.strides});
  return ForDType(FloatTypes(), y.dtype, [&]<typename T>(std::type_identity<T>) {
    BoundKernel kernel;
    kernel.run = [=, steps = theta.strides, dims = y.dims, strides = y.strides](const KernelArgs& args) {
      const int64_t count = ElementCount(dims);
      for (int64_t e = 0; e < count; ++e) {
        std::array<int64_t, kMaxSpatial + 2> index{};
        int64_t rest = e, offset = 0;
        for (size_t d = dims.size(); d-- > 0; rest /= dims[d]) {
          index[d] = rest % dims[d];
          offset += index[d] * strides[d];
        }
        const T* row = static_cast<const T*>(args.inputs[0]) + index[0] * steps[0] + index[spatial + 1] * steps[1];
        double sum = static_cast<double>(Load(row[static_cast<int64_t>(spatial) * steps[2]]));
        for (size_t d = 0; d < spatial; ++d) {
          const size_t axis = spatial - 1 - d;  // x is the innermost axis
          sum += static_cast<double>(Load(row[static_cast<int64_t>(d) * steps[2]])) *
                 GridCoordinate(index[axis + 1], places[axis], align_corners);
        }
        static_cast<T*>(args.outputs[0])[offset] = Store<T>(sum);
      }
      return Status();
    };
    return Result<BoundKernel>(std::move(kernel));
  });
}

}  // namespace

std::span<const GenericKernelRow> GridKernels() {
  static constexpr GenericKernelRow kRows[] = {
      {"", "AffineGrid", BindChecked<BindAffineGrid>},
      {"", "GridSample", BindChecked<BindGridSample>},
  };
  return kRows;
}

}  // namespace octavo
