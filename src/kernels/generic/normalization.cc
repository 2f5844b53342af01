// Ops along an axis or over channels whose loops no other family has: Hardmax, LpNormalization,
// MeanVarianceNormalization, LRN, CumSum, Det. Sums of floats are taken in double.
#include <algorithm>
#include <cmath>
#include <utility>

#include "base/parallel.h"
#include "graph/infer_reduction.h"
#include "graph/infer_selection.h"
#include "kernels/generic/elements.h"
#include "kernels/generic/movement.h"
#include "kernels/generic/normalize.h"
#include "kernels/generic/rows.h"
#include "kernels/parts.h"

namespace octavo {
namespace {

using InferArgs = std::span<const InferInput>;

// Loops over x and y, split into the marked axes and the others.
struct SplitLoops {
  StridedLoop<2> kept, marked;

  SplitLoops(const Operand& x, const Operand& y, const std::vector<bool>& axes)
      : kept(SelectAxes(x.dims, axes, false), {SelectAxes(x.strides, axes, false), SelectAxes(y.strides, axes, false)}),
        marked(SelectAxes(x.dims, axes, true), {SelectAxes(x.strides, axes, true), SelectAxes(y.strides, axes, true)}) {
  }
};

std::vector<bool> OneAxis(size_t rank, int64_t axis) {
  std::vector<bool> axes(rank, false);
  if (rank > 0) axes[static_cast<size_t>(axis < 0 ? axis + static_cast<int64_t>(rank) : axis)] = true;
  return axes;
}

// row(loop, x, y) on each row of the marked axes.
template <typename TypeList, typename Row>
Result<BoundKernel> BindRows(const BindContext& context, const std::vector<bool>& axes, Row row) {
  const Operand& x = context.inputs[0];
  const SplitLoops loops(x, context.outputs[0], axes);
  return ForDType(TypeList(), x.dtype, [&]<typename T>(std::type_identity<T>) {
    BoundKernel kernel;
    kernel.run = [loops, row, threads = context.threads](const KernelArgs& args) {
      const int64_t grain = std::max<int64_t>(1, 16384 / std::max<int64_t>(1, loops.marked.count()));
      ParallelFor(threads, loops.kept.count(), grain, [&](int64_t begin, int64_t end) {
        loops.kept.ForEachIn(begin, end, [&](const auto& at) {
          row(loops.marked, static_cast<const T*>(args.inputs[0]) + at[0], static_cast<T*>(args.outputs[0]) + at[1]);
        });
      });
      return Status();
    };
    return Result<BoundKernel>(std::move(kernel));
  });
}

// 1 at the first largest element, 0 elsewhere. Before opset 13 everything from `axis` on is one row.
Result<BoundKernel> BindHardmax(const BindContext& context, InferArgs) {
  const size_t rank = context.inputs[0].dims.size();
  const bool flattens = context.opset < 13;
  int64_t axis = context.node.Int("axis", flattens ? 1 : -1);
  if (axis < 0) axis += static_cast<int64_t>(rank);
  std::vector<bool> axes(rank, false);
  for (size_t d = static_cast<size_t>(axis); d < rank; ++d) axes[d] = flattens || d == static_cast<size_t>(axis);
  return BindRows<FloatTypes>(context, axes, []<typename T>(const StridedLoop<2>& loop, const T* x, T* y) {
    int64_t best = -1;
    auto largest = Load(x[0]);
    loop.ForEach([&](const auto& at) {
      const auto value = Load(x[at[0]]);
      if (best >= 0 && !(value > largest)) return;
      largest = value;
      best = at[1];
    });
    loop.ForEach([&](const auto& at) { y[at[1]] = Store<T>(at[1] == best ? 1.0f : 0.0f); });
  });
}

// x / (sum of |x|^p)^(1/p); a row of zeros stays zero.
Result<BoundKernel> BindLpNormalization(const BindContext& context, InferArgs) {
  const std::vector<bool> axes = OneAxis(context.inputs[0].dims.size(), context.node.Int("axis", -1));
  const bool squares = context.node.Int("p", 2) == 2;
  return BindRows<FloatTypes>(context, axes, [squares]<typename T>(const StridedLoop<2>& loop, const T* x, T* y) {
    double sum = 0;
    loop.ForEach([&](const auto& at) {
      const auto value = static_cast<double>(Load(x[at[0]]));
      sum += squares ? value * value : std::abs(value);
    });
    const double norm = squares ? std::sqrt(sum) : sum;
    loop.ForEach(
        [&](const auto& at) { y[at[1]] = Store<T>(norm == 0 ? 0.0 : static_cast<double>(Load(x[at[0]])) / norm); });
  });
}

// (x - mean) / (deviation + 1e-9), the constant being that of the op's definition as a function.
Result<BoundKernel> BindMeanVariance(const BindContext& context, InferArgs inputs) {
  OCTAVO_ASSIGN(const std::vector<bool> axes, ResolveMeanVarianceAxes(context.node, inputs[0].dims.size()));
  return BindRows<FloatTypes>(context, axes, []<typename T>(const StridedLoop<2>& loop, const T* x, T* y) {
    double sum = 0, squares = 0;
    loop.ForEach([&](const auto& at) { sum += static_cast<double>(Load(x[at[0]])); });
    const double count = static_cast<double>(loop.count()), mean = sum / count;
    loop.ForEach([&](const auto& at) {
      const double distance = static_cast<double>(Load(x[at[0]])) - mean;
      squares += distance * distance;
    });
    const double deviation = std::sqrt(squares / count) + 1e-9;
    loop.ForEach(
        [&](const auto& at) { y[at[1]] = Store<T>((static_cast<double>(Load(x[at[0]])) - mean) / deviation); });
  });
}

// x / (bias + alpha / size * sum of squares over `size` channels around)^beta.
Result<BoundKernel> BindLrn(const BindContext& context, InferArgs) {
  const Node& node = context.node;
  const int64_t size = node.Int("size", 1), before = (size - 1) / 2, after = size - 1 - before;
  const double alpha = static_cast<double>(node.Float("alpha", 1e-4f)) / static_cast<double>(size);
  const double beta = static_cast<double>(node.Float("beta", 0.75f)), bias = static_cast<double>(node.Float("bias", 1));
  const std::vector<bool> axes = OneAxis(context.inputs[0].dims.size(), 1);
  return BindRows<FloatTypes>(context, axes, [=]<typename T>(const StridedLoop<2>& loop, const T* x, T* y) {
    const int64_t channels = loop.count();
    const auto [x_step, y_step] = loop.inner_steps();
    for (int64_t c = 0; c < channels; ++c) {
      double sum = 0;
      for (int64_t i = std::max<int64_t>(0, c - before); i <= std::min(channels - 1, c + after); ++i) {
        const auto value = static_cast<double>(Load(x[i * x_step]));
        sum += value * value;
      }
      y[c * y_step] = Store<T>(static_cast<double>(Load(x[c * x_step])) / std::pow(bias + alpha * sum, beta));
    }
  });
}

// Integers wrap; floats are summed in double.
Result<BoundKernel> BindCumSum(const BindContext& context, InferArgs inputs) {
  const auto rank = static_cast<int64_t>(inputs[0].dims.size());
  OCTAVO_ASSIGN(const int64_t axis, AxisFromInput(inputs[1], "axis", rank));
  const bool exclusive = context.node.Int("exclusive", 0) != 0, reverse = context.node.Int("reverse", 0) != 0;
  using SummedTypes = decltype(Join(FloatTypes(), Types<int32_t, int64_t, uint32_t, uint64_t>()));
  return BindRows<SummedTypes>(context, OneAxis(static_cast<size_t>(rank), axis),
                               [exclusive, reverse]<typename T>(const StridedLoop<2>& loop, const T* x, T* y) {
                                 const int64_t count = loop.count();
                                 const auto [x_step, y_step] = loop.inner_steps();
                                 std::conditional_t<std::is_integral_v<T>, uint64_t, double> sum = 0;
                                 for (int64_t i = 0; i < count; ++i) {
                                   const int64_t at = reverse ? count - 1 - i : i;
                                   const auto value = static_cast<decltype(sum)>(Load(x[at * x_step]));
                                   if (exclusive) y[at * y_step] = Store<T>(sum);
                                   sum += value;
                                   if (!exclusive) y[at * y_step] = Store<T>(sum);
                                 }
                               });
}

// By elimination with the largest pivot of each column, in double.
double Determinant(double* m, int64_t n) {
  double determinant = 1;
  for (int64_t c = 0; c < n; ++c) {
    int64_t pivot = c;
    for (int64_t r = c + 1; r < n; ++r) {
      if (std::abs(m[r * n + c]) > std::abs(m[pivot * n + c])) pivot = r;
    }
    if (m[pivot * n + c] == 0) return 0;
    if (pivot != c) {
      std::swap_ranges(m + c * n, m + c * n + n, m + pivot * n);
      determinant = -determinant;
    }
    determinant *= m[c * n + c];
    for (int64_t r = c + 1; r < n; ++r) {
      const double factor = m[r * n + c] / m[c * n + c];
      for (int64_t k = c; k < n; ++k) m[r * n + k] -= factor * m[c * n + k];
    }
  }
  return determinant;
}

Result<BoundKernel> BindDet(const BindContext& context, InferArgs) {
  const Operand &x = context.inputs[0], &y = context.outputs[0];
  const size_t batch_rank = y.dims.size();
  const int64_t n = x.dims.back();
  const StridedLoop<2> loop(
      y.dims, {Dims(x.strides.begin(), x.strides.begin() + static_cast<std::ptrdiff_t>(batch_rank)), y.strides});
  return ForDType(FloatTypes(), x.dtype, [&]<typename T>(std::type_identity<T>) {
    BoundKernel kernel;
    kernel.scratch_bytes = static_cast<size_t>(n * n) * sizeof(double);
    kernel.run = [loop, n, row_step = x.strides[batch_rank], step = x.strides[batch_rank + 1]](const KernelArgs& args) {
      auto* matrix = static_cast<double*>(args.scratch);
      loop.ForEach([&](const auto& at) {
        const T* from = static_cast<const T*>(args.inputs[0]) + at[0];
        for (int64_t i = 0; i < n * n; ++i) {
          matrix[i] = static_cast<double>(Load(from[i / n * row_step + i % n * step]));
        }
        static_cast<T*>(args.outputs[0])[at[1]] = Store<T>(Determinant(matrix, n));
      });
      return Status();
    };
    return Result<BoundKernel>(std::move(kernel));
  });
}

}  // namespace

std::span<const GenericKernelRow> NormalizationKernels() {
  static constexpr GenericKernelRow kRows[] = {
      {"", "CumSum", BindChecked<BindCumSum>},
      {"", "Det", BindChecked<BindDet>},
      {"", "Hardmax", BindChecked<BindHardmax>},
      {"", "LRN", BindChecked<BindLrn>},
      {"", "LpNormalization", BindChecked<BindLpNormalization>},
      {"", "MeanVarianceNormalization", BindChecked<BindMeanVariance>},
  };
  return kRows;
}

}  // namespace octavo
