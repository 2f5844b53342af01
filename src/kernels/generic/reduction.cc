// Reductions and softmax. Sums are taken in double.
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
struct LogSumReduction : SumReduction {
  static int64_t Finish(int64_t a, int64_t) { return static_cast<int64_t>(std::log(static_cast<double>(a))); }
  static double Finish(double a, int64_t) { return std::log(a); }
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

using ReducedTypes = Types<float, double, Float16, BFloat16, int32_t, int64_t, uint32_t, uint64_t>;
using ComparedTypes = NumericTypes;

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

// log(sum of exp(x)), with the largest element taken out first so that nothing overflows.
Result<BoundKernel> BindReduceLogSumExp(const BindContext& context) {
  OCTAVO_ASSIGN(const std::vector<bool> reduced, ReducedAxes(context));
  OCTAVO_ASSIGN(const ReductionLoops loops, MakeReductionLoops(context, reduced));
  return ForDType(FloatTypes(), context.inputs[0].dtype, [&]<typename T>(std::type_identity<T>) {
    BoundKernel kernel;
    kernel.run = [loops, threads = context.threads](const KernelArgs& args) {
      const int64_t grain = RowGrain(loops.reduced.count() * 8);
      ParallelFor(threads, loops.kept.count(), grain, [&](int64_t begin, int64_t end) {
        loops.kept.ForEachIn(begin, end, [&](const auto& base) {
          const T* x = static_cast<const T*>(args.inputs[0]) + base[0];
          constexpr double kInfinity = std::numeric_limits<double>::infinity();
          double largest = -kInfinity, sum = 0;
          loops.reduced.ForEach(
              [&](const auto& at) { largest = MaxReduction::Fold(largest, static_cast<double>(Load(x[at[0]]))); });
          const double shift = std::abs(largest) == kInfinity ? 0 : largest;
          loops.reduced.ForEach([&](const auto& at) { sum += std::exp(static_cast<double>(Load(x[at[0]])) - shift); });
          static_cast<T*>(args.outputs[0])[base[1]] = Store<T>(std::log(sum) + shift);
        });
      });
      return Status();
    };
    return Result<BoundKernel>(std::move(kernel));
  });
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
      {"", "ReduceLogSum", BindReduce<LogSumReduction>},
      {"", "ReduceLogSumExp", BindReduceLogSumExp},
      {"", "ReduceL2", BindReduce<L2Reduction>},
      {"", "ArgMax", BindArg<true>},
      {"", "ArgMin", BindArg<false>},
      {"", "Softmax", BindSoftmax<false>},
      {"", "LogSoftmax", BindSoftmax<true>},
      {"", "AveragePool", BindAveragePool},
      {"", "MaxPool", BindMaxPool},
      {"", "GlobalAveragePool", BindGlobalPool<MeanReduction>},
      {"", "GlobalMaxPool", BindGlobalPool<MaxReduction>},
      {"", "LpPool", BindLpPool},
      {"", "GlobalLpPool", BindGlobalLpPool},
      {"", "MaxUnpool", BindMaxUnpool},
  };
  return kRows;
}

}  // namespace octavo
