// Reductions, softmax, normalizations. Sums are taken in double.
#include <cmath>
#include <limits>

#include "base/parallel.h"
#include "graph/infer_reduction.h"
#include "kernels/generic/elements.h"
#include "kernels/generic/normalize.h"
#include "kernels/generic/pool.h"
#include "kernels/generic/rows.h"
#include "kernels/strided.h"

namespace octavo {
namespace {

constexpr int64_t kGrain = 16384;  // elements read that are worth a thread's start

int64_t RowGrain(int64_t row) { return std::max<int64_t>(1, kGrain / std::max<int64_t>(1, row)); }

// An attribute that shape inference has found to be in range.
size_t AxisOf(const BindContext& context, int64_t fallback) {
  const int64_t axis = context.node.Int("axis", fallback);
  return static_cast<size_t>(axis < 0 ? axis + static_cast<int64_t>(context.inputs[0].dims.size()) : axis);
}

Result<std::vector<bool>> ReducedAxes(const BindContext& context) {
  std::vector<InferInput> inputs;
  for (const Operand& input : context.inputs)
    inputs.push_back({input.present, input.dtype, input.dims, input.constant});
  OCTAVO_ASSIGN(const std::vector<int64_t> axes, ResolveReduceAxes(context.node, inputs));
  std::vector<bool> reduced(context.inputs[0].dims.size(), false);
  for (int64_t axis : axes) reduced[static_cast<size_t>(axis)] = true;
  return reduced;
}

// Strides of an output over the kept axes of its input, whether the reduced ones were kept as 1 or dropped.
Result<Dims> KeptStrides(const Operand& input, const Operand& output, const std::vector<bool>& reduced) {
  const Dims kept = SelectAxes(input.dims, reduced, false);
  if (output.dims.size() == input.dims.size()) return SelectAxes(output.strides, reduced, false);
  if (output.dims.size() != kept.size()) return InternalError("the output's rank does not fit the reduced axes");
  return output.strides;
}

struct ReductionLoops {
  StridedLoop<2> kept;     // x, y
  StridedLoop<1> reduced;  // x
};

Result<ReductionLoops> MakeReductionLoops(const BindContext& context, const std::vector<bool>& reduced) {
  const Operand& x = context.inputs[0];
  if (x.dims.size() > kMaxRank) return Unsupported("the rank is too high");
  OCTAVO_ASSIGN(Dims output_strides, KeptStrides(x, context.outputs[0], reduced));
  return ReductionLoops{
      StridedLoop<2>(SelectAxes(x.dims, reduced, false), {SelectAxes(x.strides, reduced, false), output_strides}),
      StridedLoop<1>(SelectAxes(x.dims, reduced, true), {SelectAxes(x.strides, reduced, true)})};
}

// A reduction is a first value, fold(accumulator, x) and finish(accumulator, count).
template <typename T>
using Accumulator = std::conditional_t<std::is_integral_v<T>, int64_t, double>;

int64_t WrappingAdd(int64_t a, int64_t b) {
  return static_cast<int64_t>(static_cast<uint64_t>(a) + static_cast<uint64_t>(b));
}
double WrappingAdd(double a, double b) { return a + b; }
int64_t WrappingMultiply(int64_t a, int64_t b) {
  return static_cast<int64_t>(static_cast<uint64_t>(a) * static_cast<uint64_t>(b));
}
double WrappingMultiply(double a, double b) { return a * b; }

struct SumReduction {
  template <typename A>
  static A First() {
    return 0;
  }
  template <typename A>
  static A Fold(A a, A x) {
    return WrappingAdd(a, x);
  }
  template <typename A>
  static A Finish(A a, int64_t) {
    return a;
  }
};
struct MeanReduction : SumReduction {
  static int64_t Finish(int64_t a, int64_t count) { return count == 0 ? 0 : a / count; }
  static double Finish(double a, int64_t count) { return a / static_cast<double>(count); }
};
struct L1Reduction : SumReduction {
  template <typename A>
  static A Fold(A a, A x) {
    return WrappingAdd(a, x < 0 ? WrappingMultiply(A(-1), x) : x);
  }
};
struct SumSquareReduction : SumReduction {
  template <typename A>
  static A Fold(A a, A x) {
    return WrappingAdd(a, WrappingMultiply(x, x));
  }
};
struct L2Reduction : SumSquareReduction {
  static int64_t Finish(int64_t a, int64_t) { return static_cast<int64_t>(std::sqrt(static_cast<double>(a))); }
  static double Finish(double a, int64_t) { return std::sqrt(a); }
};
struct ProductReduction : SumReduction {
  template <typename A>
  static A First() {
    return 1;
  }
  template <typename A>
  static A Fold(A a, A x) {
    return WrappingMultiply(a, x);
  }
};
// NaN wins; no elements at all give the type's extreme.
struct MaxReduction : SumReduction {
  template <typename A>
  static A Fold(A a, A x) {
    return a > x || a != a ? a : x;
  }
};
struct MinReduction : SumReduction {
  template <typename A>
  static A Fold(A a, A x) {
    return a < x || a != a ? a : x;
  }
};

// First value of a reduction over elements of type T.
template <typename Reduction, typename T>
Accumulator<T> FirstOf() {
  using Limits = std::numeric_limits<ComputeType<T>>;
  constexpr bool kIsMax = std::is_same_v<Reduction, MaxReduction>;
  constexpr bool kIsMin = std::is_same_v<Reduction, MinReduction>;
  if constexpr (!kIsMax && !kIsMin) return Reduction::template First<Accumulator<T>>();
  if constexpr (Limits::has_infinity) return kIsMax ? -Limits::infinity() : Limits::infinity();
  return static_cast<Accumulator<T>>(kIsMax ? Limits::lowest() : Limits::max());
}

template <typename T, typename Reduction>
BoundKernel BindTypedReduction(const ReductionLoops& loops, int threads) {
  BoundKernel kernel;
  kernel.run = [loops, threads](const KernelArgs& args) {
    const T* x = static_cast<const T*>(args.inputs[0]);
    T* y = static_cast<T*>(args.outputs[0]);
    const int64_t count = loops.reduced.count();
    ParallelFor(threads, loops.kept.count(), RowGrain(count), [&](int64_t begin, int64_t end) {
      loops.kept.ForEachIn(begin, end, [&](const auto& base) {
        using A = Accumulator<T>;
        A a = FirstOf<Reduction, T>();
        loops.reduced.ForEach(
            [&](const auto& at) { a = Reduction::Fold(a, static_cast<A>(Load(x[base[0] + at[0]]))); });
        y[base[1]] = Store<T>(Reduction::Finish(a, count));
      });
    });
    return Status();
  };
  return kernel;
}

using ReducedTypes = Types<float, double, Float16, BFloat16, int32_t, int64_t>;
using ComparedTypes = decltype(Join(ReducedTypes(), Types<int8_t, uint8_t>()));

template <typename Reduction, typename TypeList>
Result<BoundKernel> BindAxesReduction(const BindContext& context, const std::vector<bool>& reduced) {
  OCTAVO_ASSIGN(const ReductionLoops loops, MakeReductionLoops(context, reduced));
  // The largest bool is the largest byte.
  const DType dtype = context.inputs[0].dtype == DType::kBool ? DType::kUInt8 : context.inputs[0].dtype;
  return ForDType(TypeList(), dtype, [&]<typename T>(std::type_identity<T>) {
    return Result<BoundKernel>(BindTypedReduction<T, Reduction>(loops, context.threads));
  });
}

template <typename Reduction, typename TypeList = ReducedTypes>
Result<BoundKernel> BindReduce(const BindContext& context) {
  OCTAVO_ASSIGN(const std::vector<bool> reduced, ReducedAxes(context));
  return BindAxesReduction<Reduction, TypeList>(context, reduced);
}

// Global pools reduce every axis after the channels.
template <typename Reduction>
Result<BoundKernel> BindGlobalPool(const BindContext& context) {
  std::vector<bool> reduced(context.inputs[0].dims.size(), true);
  for (size_t d = 0; d < std::min<size_t>(2, reduced.size()); ++d) reduced[d] = false;
  return BindAxesReduction<Reduction, FloatTypes>(context, reduced);
}

// ArgMax, ArgMin

template <typename T, bool kMax>
BoundKernel BindTypedArg(const ReductionLoops& loops, bool select_last, int threads) {
  BoundKernel kernel;
  kernel.run = [loops, select_last, threads](const KernelArgs& args) {
    const T* x = static_cast<const T*>(args.inputs[0]);
    int64_t* y = static_cast<int64_t*>(args.outputs[0]);
    const int64_t count = loops.reduced.count();
    const int64_t step = loops.reduced.inner_steps()[0];
    ParallelFor(threads, loops.kept.count(), RowGrain(count), [&](int64_t begin, int64_t end) {
      loops.kept.ForEachIn(begin, end, [&](const auto& base) {
        const T* row = x + base[0];
        int64_t best = 0;
        for (int64_t i = 1; i < count; ++i) {
          const auto value = Load(row[i * step]), champion = Load(row[best * step]);
          if ((kMax ? value > champion : value < champion) || (select_last && value == champion)) best = i;
        }
        y[base[1]] = best;
      });
    });
    return Status();
  };
  return kernel;
}

template <bool kMax>
Result<BoundKernel> BindArg(const BindContext& context) {
  const Operand& x = context.inputs[0];
  const size_t axis = AxisOf(context, 0);
  if (x.dims[axis] == 0) return InvalidArgument("the axis has no elements");
  std::vector<bool> reduced(x.dims.size(), false);
  reduced[axis] = true;
  OCTAVO_ASSIGN(const ReductionLoops loops, MakeReductionLoops(context, reduced));
  const bool select_last = context.node.Int("select_last_index", 0) != 0;
  return ForDType(ComparedTypes(), x.dtype, [&]<typename T>(std::type_identity<T>) {
    return Result<BoundKernel>(BindTypedArg<T, kMax>(loops, select_last, context.threads));
  });
}

// Softmax, LogSoftmax

struct SoftmaxLoops {
  StridedLoop<2> kept, reduced;  // x, y
};

// Before opset 13 the input is taken as a matrix: rows are everything from `axis` on.
Result<SoftmaxLoops> MakeSoftmaxLoops(const BindContext& context) {
  const Operand& x = context.inputs[0];
  const Operand& y = context.outputs[0];
  const size_t rank = x.dims.size();
  if (rank > kMaxRank) return Unsupported("the rank is too high");
  const bool flattens = context.opset < 13;
  std::vector<bool> reduced(rank, false);
  const size_t axis = AxisOf(context, flattens ? 1 : -1);
  for (size_t d = axis; d < (flattens ? rank : std::min(rank, axis + 1)); ++d) reduced[d] = true;
  const auto split = [&](bool wanted) {
    return StridedLoop<2>(SelectAxes(x.dims, reduced, wanted),
                          {SelectAxes(x.strides, reduced, wanted), SelectAxes(y.strides, reduced, wanted)});
  };
  return SoftmaxLoops{split(false), split(true)};
}

template <typename T, bool kLog>
void SoftmaxRow(const StridedLoop<2>& loop, const T* x, T* y) {
  using C = ComputeType<T>;
  C largest = -std::numeric_limits<C>::infinity();
  loop.ForEach([&](const auto& at) {
    const C value = Load(x[at[0]]);
    largest = largest > value || largest != largest ? largest : value;
  });
  double sum = 0;
  loop.ForEach([&](const auto& at) {
    const C weight = std::exp(Load(x[at[0]]) - largest);
    if constexpr (!kLog && !kIsHalf<T>) y[at[1]] = weight;
    sum += static_cast<double>(weight);
  });
  const double inverse = 1 / sum, log_sum = std::log(sum);
  loop.ForEach([&](const auto& at) {
    if constexpr (kLog) {
      y[at[1]] = Store<T>(static_cast<double>(Load(x[at[0]]) - largest) - log_sum);
    } else if constexpr (kIsHalf<T>) {
      y[at[1]] = Store<T>(static_cast<double>(std::exp(Load(x[at[0]]) - largest)) * inverse);
    } else {
      y[at[1]] = Store<T>(static_cast<double>(y[at[1]]) * inverse);
    }
  });
}

template <bool kLog>
Result<BoundKernel> BindSoftmax(const BindContext& context) {
  OCTAVO_ASSIGN(const SoftmaxLoops loops, MakeSoftmaxLoops(context));
  return ForDType(FloatTypes(), context.inputs[0].dtype, [&]<typename T>(std::type_identity<T>) {
    BoundKernel kernel;
    kernel.run = [loops, threads = context.threads](const KernelArgs& args) {
      const T* x = static_cast<const T*>(args.inputs[0]);
      T* y = static_cast<T*>(args.outputs[0]);
      ParallelFor(threads, loops.kept.count(), RowGrain(loops.reduced.count() * 8), [&](int64_t begin, int64_t end) {
        loops.kept.ForEachIn(begin, end,
                             [&](const auto& base) { SoftmaxRow<T, kLog>(loops.reduced, x + base[0], y + base[1]); });
      });
      return Status();
    };
    return Result<BoundKernel>(std::move(kernel));
  });
}

// Normalizations

// A normalization of input 0 into output 0, both still over the input's own axes.
Normalization NormalizationOf(const BindContext& context, float default_epsilon) {
  const Operand& x = context.inputs[0];
  Normalization n(x.dims);
  n.x = x.strides;
  n.y = context.outputs[0].strides;
  n.x_type = x.dtype;
  n.has_scale = context.inputs.size() > 1 && context.inputs[1].present;
  n.has_bias = context.inputs.size() > 2 && context.inputs[2].present;
  if (n.has_scale) n.scale_type = context.inputs[1].dtype;
  n.epsilon = static_cast<double>(context.node.Float("epsilon", default_epsilon));
  n.threads = context.threads;
  return n;
}

bool HasDims(const Operand& operand, const Dims& dims) { return operand.dims == dims; }

Status CheckScaleAndBias(const BindContext& context) {
  const auto in = context.inputs;
  if (in.size() > 2 && in[1].present && in[2].present && in[1].dtype != in[2].dtype) {
    return InvalidArgument("scale and bias differ in type");
  }
  return {};
}

Result<BoundKernel> BindLayerNormalization(const BindContext& context) {
  OCTAVO_RETURN_IF_ERROR(CheckScaleAndBias(context));
  Normalization n = NormalizationOf(context, 1e-5f);
  const size_t axis = AxisOf(context, -1);
  for (size_t d = axis; d < n.dims.size(); ++d) n.reduced[d] = true;
  for (size_t i = 1; i < std::min<size_t>(3, context.inputs.size()); ++i) {
    const Operand& operand = context.inputs[i];
    if (!operand.present) continue;
    bool fits = operand.dims.size() <= n.dims.size();
    for (size_t d = 0; fits && d < operand.dims.size(); ++d) {
      fits = operand.dims[d] == 1 || operand.dims[d] == n.dims[n.dims.size() - operand.dims.size() + d];
    }
    if (!fits) return InvalidArgument("scale or bias does not broadcast to the input");
    (i == 1 ? n.scale : n.bias) = BroadcastStrides(operand.dims, operand.strides, n.dims);
  }
  for (size_t i = 1; i < std::min<size_t>(3, context.outputs.size()); ++i) {
    const Operand& operand = context.outputs[i];
    if (!operand.present) continue;
    if (operand.dtype != DType::kFloat32) return UnsupportedDType(operand.dtype);
    (i == 1 ? n.has_mean : n.has_inverse_deviation) = true;
    (i == 1 ? n.mean : n.inverse_deviation) = operand.strides;
  }
  return BindNormalization(n);
}

// octavo::LayerNorm: one axis, scale and bias along it.
Result<BoundKernel> BindLayerNorm(const BindContext& context) {
  OCTAVO_RETURN_IF_ERROR(CheckScaleAndBias(context));
  Normalization n = NormalizationOf(context, 1e-5f);
  const size_t axis = AxisOf(context, -1);
  n.reduced[axis] = true;
  for (size_t i = 1; i < std::min<size_t>(3, context.inputs.size()); ++i) {
    const Operand& operand = context.inputs[i];
    if (!operand.present) continue;
    if (!HasDims(operand, {n.dims[axis]})) return InvalidArgument("scale or bias is not as long as the axis");
    (i == 1 ? n.scale : n.bias)[axis] = operand.strides[0];
  }
  return BindNormalization(n);
}

Result<BoundKernel> BindInstanceNormalization(const BindContext& context) {
  OCTAVO_RETURN_IF_ERROR(CheckScaleAndBias(context));
  Normalization n = NormalizationOf(context, 1e-5f);
  if (n.dims.size() < 2) return InvalidArgument("the input has no channels");
  for (size_t d = 2; d < n.dims.size(); ++d) n.reduced[d] = true;
  for (size_t i : {1, 2}) {
    if (!HasDims(context.inputs[i], {n.dims[1]})) return InvalidArgument("scale or bias is not one per channel");
    (i == 1 ? n.scale : n.bias)[1] = context.inputs[i].strides[0];
  }
  return BindNormalization(n);
}

// `strides` over (N, C, spatial...) as strides over (N, groups, C / groups, spatial...).
Dims SplitChannels(const Dims& strides, int64_t channels_per_group) {
  Dims result = strides;
  result.insert(result.begin() + 1, strides[1] * channels_per_group);
  return result;
}

// The views of x and y with the channels split into groups; mean and variance are taken within a group.
Result<Normalization> GroupedNormalization(const BindContext& context) {
  OCTAVO_RETURN_IF_ERROR(CheckScaleAndBias(context));
  const Normalization flat = NormalizationOf(context, 1e-5f);
  const int64_t groups = context.node.Int("num_groups", 1);
  if (flat.dims.size() < 2 || groups < 1 || flat.dims[1] % groups != 0) {
    return InvalidArgument("the channels cannot be split into " + std::to_string(groups) + " groups");
  }
  Dims dims = flat.dims;
  dims[1] /= groups;
  dims.insert(dims.begin() + 1, groups);
  Normalization n(dims);
  n.x = SplitChannels(flat.x, dims[2]);
  n.y = SplitChannels(flat.y, dims[2]);
  n.x_type = flat.x_type;
  n.scale_type = flat.scale_type;
  n.has_scale = flat.has_scale;
  n.has_bias = flat.has_bias;
  n.epsilon = flat.epsilon;
  n.threads = flat.threads;
  for (size_t d = 2; d < dims.size(); ++d) n.reduced[d] = true;
  return n;
}

// Opset 18 has one scale and bias per group, opset 21 one per channel.
Result<BoundKernel> BindGroupNormalization(const BindContext& context) {
  OCTAVO_ASSIGN(Normalization n, GroupedNormalization(context));
  const bool per_group = context.opset < 21;
  const int64_t expected = per_group ? n.dims[1] : n.dims[1] * n.dims[2];
  for (size_t i : {1, 2}) {
    const Operand& operand = context.inputs[i];
    if (!HasDims(operand, {expected})) return InvalidArgument("scale or bias does not have the expected length");
    Dims& strides = i == 1 ? n.scale : n.bias;
    strides[1] = per_group ? operand.strides[0] : operand.strides[0] * n.dims[2];
    strides[2] = per_group ? 0 : operand.strides[0];
  }
  return BindNormalization(n);
}

// octavo::GroupNorm: scale and bias are [C] or [N or 1, C].
Result<BoundKernel> BindGroupNorm(const BindContext& context) {
  OCTAVO_ASSIGN(Normalization n, GroupedNormalization(context));
  const std::string activation = context.node.String("activation", "none");
  if (activation != "none" && activation != "silu") return InvalidArgument("activation is '" + activation + "'");
  n.silu = activation == "silu";
  const int64_t channels = n.dims[1] * n.dims[2];
  for (size_t i = 1; i < std::min<size_t>(3, context.inputs.size()); ++i) {
    const Operand& operand = context.inputs[i];
    if (!operand.present) continue;
    const bool per_image = HasDims(operand, {n.dims[0], channels});
    if (!per_image && !HasDims(operand, {1, channels}) && !HasDims(operand, {channels})) {
      return InvalidArgument("scale or bias is not one per channel");
    }
    Dims& strides = i == 1 ? n.scale : n.bias;
    strides[0] = per_image ? operand.strides[0] : 0;
    strides[1] = operand.strides.back() * n.dims[2];
    strides[2] = operand.strides.back();
  }
  return BindNormalization(n);
}

// y = (x - mean) / sqrt(variance + epsilon) * scale + bias, all four per channel.
template <typename T, typename P>
BoundKernel BindTypedBatchNormalization(const StridedLoop<6>& loop, double epsilon, int threads) {
  BoundKernel kernel;
  kernel.run = [loop, epsilon, threads](const KernelArgs& args) {
    const T* x = static_cast<const T*>(args.inputs[0]);
    std::array<const P*, 4> parameters;  // scale, bias, mean, variance
    for (size_t i = 0; i < 4; ++i) parameters[i] = static_cast<const P*>(args.inputs[i + 1]);
    T* y = static_cast<T*>(args.outputs[0]);
    ParallelFor(threads, loop.count(), kGrain, [&](int64_t begin, int64_t end) {
      loop.ForEachIn(begin, end, [&](const auto& at) {
        const auto parameter = [&](size_t i) { return static_cast<double>(Load(parameters[i][at[i + 1]])); };
        const double centered = static_cast<double>(Load(x[at[0]])) - parameter(2);
        y[at[5]] = Store<T>(centered / std::sqrt(parameter(3) + epsilon) * parameter(0) + parameter(1));
      });
    });
    return Status();
  };
  return kernel;
}

Result<BoundKernel> BindBatchNormalization(const BindContext& context) {
  const auto in = context.inputs;
  const Operand& x = in[0];
  if (context.node.Int("training_mode", 0) != 0) return Unsupported("training_mode is not supported");
  if (x.dims.size() < 2 || x.dims.size() > kMaxRank) return InvalidArgument("the input has no channels");
  std::array<Dims, 6> strides;
  strides[0] = x.strides;
  strides[5] = context.outputs[0].strides;
  for (size_t i = 1; i < 5; ++i) {
    if (!HasDims(in[i], {x.dims[1]})) return InvalidArgument("a parameter is not one per channel");
    if (in[i].dtype != in[1].dtype) return InvalidArgument("the parameters differ in type");
    strides[i] = Dims(x.dims.size(), 0);
    strides[i][1] = in[i].strides[0];
  }
  Dims dims = x.dims;
  OrderByStride(5, dims, strides);
  const StridedLoop<6> loop(dims, strides);
  const double epsilon = static_cast<double>(context.node.Float("epsilon", 1e-5f));
  return ForDType(FloatTypes(), x.dtype, [&]<typename T>(std::type_identity<T>) -> Result<BoundKernel> {
    if (in[1].dtype == x.dtype) return BindTypedBatchNormalization<T, T>(loop, epsilon, context.threads);
    if (in[1].dtype == DType::kFloat32) return BindTypedBatchNormalization<T, float>(loop, epsilon, context.threads);
    return UnsupportedDType(in[1].dtype);
  });
}

}  // namespace

std::span<const GenericKernelRow> ReductionKernels() {
  static constexpr GenericKernelRow kRows[] = {
      {"", "ReduceSum", BindReduce<SumReduction>},
      {"", "ReduceMean", BindReduce<MeanReduction>},
      {"", "ReduceMax", BindReduce<MaxReduction, ComparedTypes>},
      {"", "ReduceMin", BindReduce<MinReduction, ComparedTypes>},
      {"", "ReduceProd", BindReduce<ProductReduction>},
      {"", "ReduceSumSquare", BindReduce<SumSquareReduction>},
      {"", "ReduceL1", BindReduce<L1Reduction>},
      {"", "ReduceL2", BindReduce<L2Reduction>},
      {"", "ArgMax", BindArg<true>},
      {"", "ArgMin", BindArg<false>},
      {"", "Softmax", BindSoftmax<false>},
      {"", "LogSoftmax", BindSoftmax<true>},
      {"", "LayerNormalization", BindLayerNormalization},
      {"", "InstanceNormalization", BindInstanceNormalization},
      {"", "GroupNormalization", BindGroupNormalization},
      {"", "BatchNormalization", BindBatchNormalization},
      {"", "AveragePool", BindAveragePool},
      {"", "MaxPool", BindMaxPool},
      {"", "GlobalAveragePool", BindGlobalPool<MeanReduction>},
      {"", "GlobalMaxPool", BindGlobalPool<MaxReduction>},
      {kOctavoDomain, "LayerNorm", BindLayerNorm},
      {kOctavoDomain, "GroupNorm", BindGroupNorm},
  };
  return kRows;
}

}  // namespace octavo
