// Resize: tables of source positions and weights are made at bind time, one axis after the other is applied.
#include <algorithm>
#include <array>
#include <cmath>
#include <memory>
#include <optional>
#include <utility>

#include "base/parallel.h"
#include "graph/infer_resize.h"
#include "kernels/generic/movement.h"
#include "kernels/generic/resize_taps.h"
#include "kernels/generic/rows.h"
#include "kernels/generic/strided_convert.h"

namespace octavo {
namespace {

using InferArgs = std::span<const InferInput>;

// Where output position `at` of an axis lies among the input's positions, of any size or NaN for a hostile roi. Float
// arithmetic in this order is what ONNX Runtime does, and rounding at the borders between pixels depends on it.
float SourceCoordinate(ResizeCoordinates mode, const ResizeAxis& axis, int64_t at) {
  const float x = static_cast<float>(at);
  const float input = static_cast<float>(axis.input);
  const float output = static_cast<float>(axis.output);
  switch (mode) {
    case ResizeCoordinates::kHalfPixel:
      return (x + 0.5f) / axis.scale - 0.5f;
    case ResizeCoordinates::kHalfPixelSymmetric: {
      const float adjustment = output / (axis.scale * input);
      const float center = input / 2;
      return center * (1 - adjustment) + (x + 0.5f) / axis.scale - 0.5f;
    }
    case ResizeCoordinates::kPytorchHalfPixel:
      return axis.output > 1 ? (x + 0.5f) / axis.scale - 0.5f : 0.0f;
    case ResizeCoordinates::kAlignCorners:
      return axis.output == 1 ? 0.0f : x * (input - 1) / (output - 1);
    case ResizeCoordinates::kAsymmetric:
      return x / axis.scale;
    case ResizeCoordinates::kTfCropAndResize:
      if (axis.output == 1) return 0.5f * (axis.roi_start + axis.roi_end) * (input - 1);
      return axis.roi_start * (input - 1) + x * (axis.roi_end - axis.roi_start) * (input - 1) / (output - 1);
    case ResizeCoordinates::kTfHalfPixelForNearest:
      return (x + 0.5f) / axis.scale;
  }
  return x;
}

// A coordinate that converts to an integer. Positions are clamped to the input later, so that which one does not
// matter.
float Bounded(float x) { return x > -0x1p40f && x < 0x1p40f ? x : -1.0f; }

// Coordinates this close to the middle between two pixels count as in the middle, as in ONNX Runtime: float rounding of
// the scale alone moves them by that much (8 / (16f / 7f) is 3.4999998).
constexpr double kTieTolerance = 1e-6;

int64_t NearestPosition(ResizeNearest mode, float coordinate) {
  const float x = Bounded(coordinate);
  switch (mode) {
    case ResizeNearest::kRoundPreferFloor:
      return static_cast<int64_t>(std::ceil(static_cast<double>(x) - 0.5 - kTieTolerance));
    case ResizeNearest::kRoundPreferCeil:
      return static_cast<int64_t>(std::floor(static_cast<double>(x) + 0.5 + kTieTolerance));
    case ResizeNearest::kFloor:
      return static_cast<int64_t>(std::floor(x));
    case ResizeNearest::kCeil:
      return static_cast<int64_t>(std::ceil(x));
  }
  return 0;
}

// Whether an output position reads the extrapolation value instead of the input.
bool IsOutside(const ResizePlan& plan, const ResizeAxis& axis, float x) {
  return plan.coordinates == ResizeCoordinates::kTfCropAndResize && axis.resized &&
         !(x >= 0 && x <= static_cast<float>(axis.input - 1));  // NaN is outside
}

// The weight of a sample at distance `x` from the coordinate.
double LinearWeight(double x) { return std::max(0.0, 1 - std::abs(x)); }

double CubicWeight(double x, double a) {
  x = std::abs(x);
  if (x <= 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  if (x < 2) return ((a * x - 5 * a) * x + 8 * a) * x - 4 * a;
  return 0;
}

// out[o] = sum over k of weight[o * taps + k] * in[index[o * taps + k]].
template <typename C>
struct AxisTable {
  int64_t taps = 0;
  std::vector<int64_t> index;  // in elements: the input's stride is multiplied in
  std::vector<C> weight;
};

// How far, in input positions, the filter reaches to either side of a coordinate, and how it is stretched.
struct Filter {
  double support;  // of the filter itself: 1 linear, 2 cubic
  double stretch;  // > 1 where antialiasing widens it for a smaller output
};

Filter FilterOf(const ResizePlan& plan, const ResizeAxis& axis) {
  const double support = plan.mode == ResizeMode::kLinear ? 1 : 2;
  const double scale = static_cast<double>(axis.scale);
  return {support, plan.antialias && scale < 1 ? 1 / scale : 1.0};
}

template <typename C>
AxisTable<C> MakeTable(const ResizePlan& plan, const ResizeAxis& axis, int64_t from_step) {
  const Filter filter = FilterOf(plan, axis);
  const double reach = filter.support * filter.stretch;
  AxisTable<C> table;
  table.taps = 2 * static_cast<int64_t>(std::ceil(reach));
  std::vector<double> weights(static_cast<size_t>(table.taps));
  for (int64_t o = 0; o < axis.output; ++o) {
    const double x = static_cast<double>(Bounded(SourceCoordinate(plan.coordinates, axis, o)));
    const int64_t first = static_cast<int64_t>(std::floor(x)) - table.taps / 2 + 1;
    double sum = 0;
    for (int64_t k = 0; k < table.taps; ++k) {
      const double distance = (x - static_cast<double>(first + k)) / filter.stretch;
      const bool left_out = plan.exclude_outside && (first + k < 0 || first + k >= axis.input);
      double& weight = weights[static_cast<size_t>(k)];
      weight = plan.mode == ResizeMode::kLinear ? LinearWeight(distance)
                                                : CubicWeight(distance, static_cast<double>(plan.cubic_coeff_a));
      if (left_out) weight = 0;
      sum += weight;
    }
    // What is left of the weights is scaled to a sum of 1; without exclusion or stretching it is 1 already.
    const double norm = (plan.exclude_outside || plan.antialias) && sum != 0 ? 1 / sum : 1;
    for (int64_t k = 0; k < table.taps; ++k) {
      table.index.push_back(std::clamp<int64_t>(first + k, 0, axis.input - 1) * from_step);
      table.weight.push_back(static_cast<C>(weights[static_cast<size_t>(k)] * norm));
    }
  }
  return table;
}

// One axis resized, the others kept.
template <typename C>
struct AxisPass {
  AxisTable<C> table;
  StridedLoop<2> others;  // over the other axes, innermost the one that is densest in the output
  int64_t axis_size = 0;  // of the output
  int64_t axis_to_step = 0;
  bool axis_is_inner = false;  // the resized axis is denser in the output than any other

  void Run(const C* from, C* to, int threads) const {
    if (axis_is_inner) {
      RunAlongAxis(from, to, threads);
    } else {
      RunAcrossAxis(from, to, threads);
    }
  }

 private:
  // For each line of the axis: gather.
  void RunAlongAxis(const C* from, C* to, int threads) const {
    const int64_t grain = std::max<int64_t>(1, kCopyGrain / (axis_size * table.taps + 1));
    ParallelFor(threads, others.count(), grain, [&](int64_t begin, int64_t end) {
      others.ForEachIn(begin, end, [&](const auto& at) { ResizeLine(from + at[0], to + at[1]); });
    });
  }

  void ResizeLine(const C* from, C* to) const {
    const int64_t* index = table.index.data();
    const C* weight = table.weight.data();
    if (table.taps == 2) {
      for (int64_t o = 0; o < axis_size; ++o, index += 2, weight += 2) {
        to[o * axis_to_step] = weight[0] * from[index[0]] + weight[1] * from[index[1]];
      }
      return;
    }
    for (int64_t o = 0; o < axis_size; ++o, index += table.taps, weight += table.taps) {
      C sum = 0;
      for (int64_t k = 0; k < table.taps; ++k) sum += weight[k] * from[index[k]];
      to[o * axis_to_step] = sum;
    }
  }

  // For each output position of the axis and each run of another axis: a weighted sum of runs.
  void RunAcrossAxis(const C* from, C* to, int threads) const {
    const int64_t n = others.inner_size();
    const int64_t grain = std::max<int64_t>(1, kCopyGrain / (n * table.taps + 1));
    ParallelFor(threads, others.outer_count() * axis_size, grain, [&](int64_t begin, int64_t end) {
      int64_t o = begin % axis_size;
      int64_t left = end - begin;
      others.ForOuter(begin / axis_size, (end + axis_size - 1) / axis_size, [&](const auto& at) {
        for (; o < axis_size && left > 0; ++o, --left) SumRuns(from + at[0], o, to + at[1] + o * axis_to_step, n);
        o = 0;
      });
    });
  }

  void SumRuns(const C* from, int64_t o, C* to, int64_t n) const {
    const int64_t* index = table.index.data() + o * table.taps;
    const C* weight = table.weight.data() + o * table.taps;
    const std::array<int64_t, 2> step = others.inner_steps();
    if (step[0] == 1 && step[1] == 1 && table.taps == 2) {
      const C *a = from + index[0], *b = from + index[1];
      const C wa = weight[0], wb = weight[1];
      for (int64_t i = 0; i < n; ++i) to[i] = wa * a[i] + wb * b[i];
      return;
    }
    for (int64_t i = 0; i < n; ++i) {
      C sum = 0;
      for (int64_t k = 0; k < table.taps; ++k) sum += weight[k] * from[index[k] + i * step[0]];
      to[i * step[1]] = sum;
    }
  }
};

// Dense strides whose nesting is that of `like`.
Dims DenseStridesLike(const Dims& dims, const Dims& like) {
  std::vector<size_t> order(dims.size());
  for (size_t d = 0; d < order.size(); ++d) order[d] = d;
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return like[a] < like[b]; });
  Dims strides(dims.size());
  int64_t stride = 1;
  for (const size_t d : order) {
    strides[d] = stride;
    stride *= dims[d];
  }
  return strides;
}

template <typename C>
AxisPass<C> MakePass(const ResizePlan& plan, size_t axis, const Dims& from_dims, const Dims& from_strides,
                     const Dims& to_strides) {
  AxisPass<C> pass;
  pass.table = MakeTable<C>(plan, plan.axes[axis], from_strides[axis]);
  pass.axis_size = plan.axes[axis].output;
  pass.axis_to_step = to_strides[axis];
  Dims dims;
  std::array<Dims, 2> strides;
  pass.axis_is_inner = true;
  for (size_t d = 0; d < from_dims.size(); ++d) {
    if (d == axis) continue;
    pass.axis_is_inner &= from_dims[d] == 1 || to_strides[d] > to_strides[axis];
    dims.push_back(from_dims[d]);
    strides[0].push_back(from_strides[d]);
    strides[1].push_back(to_strides[d]);
  }
  OrderByStride(1, dims, strides);
  pass.others = StridedLoop<2>(dims, strides);
  return pass;
}

// The slabs of the output that tf_crop_and_resize leaves outside of the input.
struct OutsideSlabs {
  StridedCopy fill;  // one slab, from a single value
  std::vector<int64_t> to_bytes;
};

Result<std::vector<OutsideSlabs>> MakeOutsideSlabs(const ResizePlan& plan, const Operand& y) {
  std::vector<OutsideSlabs> all;
  for (size_t d = 0; d < plan.axes.size(); ++d) {
    OutsideSlabs slabs;
    for (int64_t o = 0; o < plan.axes[d].output; ++o) {
      if (!IsOutside(plan, plan.axes[d], SourceCoordinate(plan.coordinates, plan.axes[d], o))) continue;
      slabs.to_bytes.push_back(o * y.strides[d] * static_cast<int64_t>(SizeOf(y.dtype)));
    }
    if (slabs.to_bytes.empty()) continue;
    Dims dims = y.dims;
    dims[d] = 1;
    OCTAVO_ASSIGN(slabs.fill, StridedCopy::Make(SizeOf(y.dtype), dims, Dims(dims.size(), 0), y.strides));
    all.push_back(std::move(slabs));
  }
  return all;
}

// `kernel`, followed by filling what lies outside with the extrapolation value.
Result<BoundKernel> WithExtrapolation(BoundKernel kernel, const ResizePlan& plan, const BindContext& context) {
  const Operand& y = context.outputs[0];
  OCTAVO_ASSIGN(std::vector<OutsideSlabs> outside, MakeOutsideSlabs(plan, y));
  if (outside.empty()) return kernel;
  std::vector<std::byte> value(SizeOf(y.dtype));
  OCTAVO_ASSIGN(const StridedConvert convert, StridedConvert::Make(DType::kFloat32, y.dtype, {}, {}, {}));
  convert.Run(&plan.extrapolation_value, value.data(), 1);
  kernel.run = [resize = std::move(kernel.run), outside = std::move(outside), value = std::move(value),
                threads = context.threads](const KernelArgs& args) {
    OCTAVO_RETURN_IF_ERROR(resize(args));
    for (const OutsideSlabs& slabs : outside) {
      for (const int64_t at : slabs.to_bytes) {
        slabs.fill.Run(value.data(), static_cast<std::byte*>(args.outputs[0]) + at, threads);
      }
    }
    return Status();
  };
  return kernel;
}

// Everything that a Resize with weights runs: into C where the data is of another type, one pass per axis, and back.
template <typename C>
struct WeightedResize {
  std::optional<StridedConvert> load, store;
  std::vector<AxisPass<C>> passes;
  std::vector<size_t> scratch_at;  // of what load (if any) and each pass but the last (or all, with store) writes
  int threads = 1;

  void Run(const KernelArgs& args) const {
    auto* scratch = static_cast<std::byte*>(args.scratch);
    size_t written = 0;
    const auto* from = static_cast<const C*>(args.inputs[0]);
    if (load) {
      auto* loaded = reinterpret_cast<C*>(scratch + scratch_at[written++]);
      load->Run(args.inputs[0], loaded, threads);
      from = loaded;
    }
    for (size_t i = 0; i < passes.size(); ++i) {
      const bool last = i + 1 == passes.size() && !store;
      C* to = last ? static_cast<C*>(args.outputs[0]) : reinterpret_cast<C*>(scratch + scratch_at[written++]);
      passes[i].Run(from, to, threads);
      from = to;
    }
    if (store) store->Run(from, args.outputs[0], threads);
  }
};

// Axes that shrink go first, so that the others have less to do.
std::vector<size_t> PassOrder(const ResizePlan& plan) {
  std::vector<size_t> order;
  for (size_t d = 0; d < plan.axes.size(); ++d) {
    if (plan.axes[d].resized) order.push_back(d);
  }
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return plan.axes[a].scale < plan.axes[b].scale; });
  return order;
}

template <typename C>
Result<BoundKernel> BindWeighted(const BindContext& context, const ResizePlan& plan, DType compute) {
  const Operand& x = context.inputs[0];
  const Operand& y = context.outputs[0];
  WeightedResize<C> resize;
  resize.threads = context.threads;
  size_t scratch = 0;
  const auto reserve = [&](const Dims& dims) {
    resize.scratch_at.push_back(scratch);
    scratch += (static_cast<size_t>(ElementCount(dims)) * sizeof(C) + 63) / 64 * 64;
  };
  Dims dims = x.dims, strides = x.strides;
  if (x.dtype != compute) {
    strides = DenseStridesLike(dims, y.strides);
    OCTAVO_ASSIGN(resize.load, StridedConvert::Make(x.dtype, compute, dims, x.strides, strides));
    reserve(dims);
  }
  const std::vector<size_t> order = PassOrder(plan);
  for (size_t i = 0; i < order.size(); ++i) {
    Dims to_dims = dims;
    to_dims[order[i]] = y.dims[order[i]];
    const bool into_output = i + 1 == order.size() && y.dtype == compute;
    const Dims to_strides = into_output ? y.strides : DenseStridesLike(to_dims, y.strides);
    resize.passes.push_back(MakePass<C>(plan, order[i], dims, strides, to_strides));
    if (!into_output) reserve(to_dims);
    dims = to_dims;
    strides = to_strides;
  }
  if (y.dtype != compute) {
    OCTAVO_ASSIGN(resize.store, StridedConvert::Make(compute, y.dtype, dims, strides, y.strides));
  }
  BoundKernel kernel;
  kernel.scratch_bytes = scratch;
  kernel.run = [resize = std::move(resize)](const KernelArgs& args) {
    resize.Run(args);
    return Status();
  };
  return kernel;
}

BoundKernel BindNearest(const BindContext& context, const ResizePlan& plan) {
  const Operand& x = context.inputs[0];
  const Operand& y = context.outputs[0];
  std::vector<TableCopy::Axis> axes;
  for (size_t d = 0; d < plan.axes.size(); ++d) {
    const ResizeAxis& resized = plan.axes[d];
    TableCopy::Axis axis{y.dims[d], y.strides[d], {}};
    for (int64_t o = 0; o < resized.output; ++o) {
      int64_t at = o;
      if (resized.resized) at = NearestPosition(plan.nearest, SourceCoordinate(plan.coordinates, resized, o));
      axis.from_offset.push_back(std::clamp<int64_t>(at, 0, resized.input - 1) * x.strides[d]);
    }
    axes.push_back(std::move(axis));
  }
  BoundKernel kernel;
  kernel.run = [copy = TableCopy(SizeOf(x.dtype), std::move(axes)), threads = context.threads](const KernelArgs& args) {
    copy.Run(args.inputs[0], args.outputs[0], threads);
    return Status();
  };
  return kernel;
}

// Tables have one entry per position and tap.
Status CheckTableSizes(const ResizePlan& plan) {
  for (const ResizeAxis& axis : plan.axes) {
    const bool weighted = plan.mode != ResizeMode::kNearest;
    const double taps = weighted ? 2 * std::ceil(FilterOf(plan, axis).support * FilterOf(plan, axis).stretch) : 1;
    if (static_cast<double>(std::max<int64_t>(1, axis.output)) * taps <= static_cast<double>(kMaxTableEntries))
      continue;
    return Unsupported("resizing an axis to " + std::to_string(axis.output) + " elements");
  }
  return {};
}

Result<BoundKernel> BindResize(const BindContext& context, InferArgs inputs) {
  OCTAVO_ASSIGN(const ResizePlan plan, ResolveResize(context.node, context.opset, inputs));
  const Operand& y = context.outputs[0];
  if (ElementCount(y.dims) == 0) return RunPieces({}, 1);
  OCTAVO_RETURN_IF_ERROR(CheckTableSizes(plan));
  const bool moves_only =
      plan.mode == ResizeMode::kNearest ||
      std::none_of(plan.axes.begin(), plan.axes.end(), [](const ResizeAxis& axis) { return axis.resized; });
  Result<BoundKernel> kernel = moves_only                   ? BindNearest(context, plan)
                               : y.dtype == DType::kFloat64 ? BindWeighted<double>(context, plan, DType::kFloat64)
                                                            : BindWeighted<float>(context, plan, DType::kFloat32);
  if (!kernel.ok()) return kernel;
  return WithExtrapolation(*std::move(kernel), plan, context);
}

constexpr GenericKernelRow kRows[] = {{"", "Resize", BindChecked<BindResize>},
                                      {"", "Upsample", BindChecked<BindResize>}};

}  // namespace

Result<std::vector<ResizeTaps>> MakeResizeTaps(const ResizePlan& plan) {
  OCTAVO_RETURN_IF_ERROR(CheckTableSizes(plan));
  std::vector<ResizeTaps> all;
  for (const ResizeAxis& axis : plan.axes) {
    ResizeTaps taps;
    if (axis.resized && plan.mode != ResizeMode::kNearest) {
      AxisTable<float> table = MakeTable<float>(plan, axis, 1);
      taps = {table.taps, std::move(table.index), std::move(table.weight)};
    }
    for (int64_t o = 0; o < axis.output; ++o) {
      const float x = SourceCoordinate(plan.coordinates, axis, o);
      if (IsOutside(plan, axis, x)) return Unsupported("the output reaches outside of the input");
      if (!taps.index.empty() && taps.taps > 1) continue;
      const int64_t at = axis.resized ? NearestPosition(plan.nearest, x) : o;
      taps.index.push_back(std::clamp<int64_t>(at, 0, axis.input - 1));
      taps.weight.push_back(1.0f);
    }
    all.push_back(std::move(taps));
  }
  return all;
}

std::span<const GenericKernelRow> ResizeKernels() { return kRows; }

}  // namespace octavo
