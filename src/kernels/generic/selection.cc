// Ops that choose elements: by value (NonZero, Compress, Unique), by order (TopK), by place (Trilu, EyeLike, OneHot,
// ReverseSequence).
#include <algorithm>
#include <cstring>
#include <utility>

#include "base/parallel.h"
#include "graph/infer_selection.h"
#include "kernels/generic/elementwise.h"
#include "kernels/generic/index_reader.h"
#include "kernels/generic/movement.h"
#include "kernels/generic/rows.h"
#include "kernels/parts.h"

namespace octavo {
namespace {

using InferArgs = std::span<const InferInput>;

size_t NormalizedAxis(const BindContext& context, int64_t fallback, size_t rank) {
  const int64_t axis = context.node.Int("axis", fallback);
  return static_cast<size_t>(axis < 0 ? axis + static_cast<int64_t>(rank) : axis);
}

// Calls bind(std::type_identity<U>()) with the unsigned integer as wide as `dtype`, for kernels that only move
// elements.
template <typename Bind>
Result<BoundKernel> ForWidth(DType dtype, Bind&& bind) {
  switch (SizeOf(dtype)) {
    case 1:
      return bind(std::type_identity<uint8_t>());
    case 2:
      return bind(std::type_identity<uint16_t>());
    case 4:
      return bind(std::type_identity<uint32_t>());
    case 8:
      return bind(std::type_identity<uint64_t>());
    default:
      return UnsupportedDType(dtype);
  }
}

Dims Without(Dims values, size_t axis) {
  values.erase(values.begin() + static_cast<std::ptrdiff_t>(axis));
  return values;
}

// By value. The values are known while binding, so what is selected is too.

// One row per axis: where the elements lie on it.
Result<BoundKernel> BindNonZero(const BindContext& context, InferArgs inputs) {
  const Dims& dims = inputs[0].dims;
  const std::vector<int64_t> positions = NonZeroPositions(*inputs[0].constant);
  std::vector<int64_t> indices(dims.size() * positions.size());
  for (size_t i = 0; i < positions.size(); ++i) {
    int64_t rest = positions[i];
    for (size_t d = dims.size(); d-- > 0; rest /= dims[d]) indices[d * positions.size() + i] = rest % dims[d];
  }
  return WriteValues(context.outputs[0], 0, std::move(indices));
}

// Elements or slices of x at `kept`, along `axis` or in the flattened tensor.
Result<TableCopy> CopyKept(const Operand& x, const Operand& y, std::optional<int64_t> axis,
                           const std::vector<int64_t>& kept) {
  std::vector<TableCopy::Axis> axes;
  if (!axis) {
    const StridedLoop<1> loop(x.dims, {x.strides});
    TableCopy::Axis only{static_cast<int64_t>(kept.size()), y.strides[0], {}};
    for (const int64_t position : kept) only.from_offset.push_back(loop.OffsetsOf(position)[0]);
    axes.push_back(std::move(only));
    return TableCopy(SizeOf(x.dtype), std::move(axes));
  }
  for (size_t d = 0; d < x.dims.size(); ++d) {
    TableCopy::Axis along{y.dims[d], y.strides[d], {}};
    if (along.size > kMaxTableEntries) return Unsupported("an axis of " + std::to_string(along.size) + " elements");
    const bool chosen = static_cast<int64_t>(d) == *axis;
    for (int64_t i = 0; i < along.size; ++i) {
      along.from_offset.push_back((chosen ? kept[static_cast<size_t>(i)] : i) * x.strides[d]);
    }
    axes.push_back(std::move(along));
  }
  return TableCopy(SizeOf(x.dtype), std::move(axes));
}

BoundKernel RunTableCopy(TableCopy copy, bool empty, int threads) {
  BoundKernel kernel;
  kernel.run = [copy = std::move(copy), empty, threads](const KernelArgs& args) {
    if (!empty) copy.Run(args.inputs[0], args.outputs[0], threads);
    return Status();
  };
  return kernel;
}

Result<BoundKernel> BindCompress(const BindContext& context, InferArgs inputs) {
  const Operand& y = context.outputs[0];
  OCTAVO_ASSIGN(const CompressPlan plan, ResolveCompress(context.node, inputs));
  OCTAVO_ASSIGN(TableCopy copy, CopyKept(context.inputs[0], y, plan.axis, plan.kept));
  return RunTableCopy(std::move(copy), ElementCount(y.dims) == 0, context.threads);
}

Result<BoundKernel> BindUnique(const BindContext& context, InferArgs inputs) {
  const auto outputs = context.outputs;
  OCTAVO_ASSIGN(UniquePlan plan, ResolveUnique(context.node, *inputs[0].constant));
  std::vector<BoundKernel> parts;
  if (outputs[0].present) {
    OCTAVO_ASSIGN(TableCopy copy, CopyKept(context.inputs[0], outputs[0], plan.axis, plan.first));
    parts.push_back(RunTableCopy(std::move(copy), ElementCount(outputs[0].dims) == 0, context.threads));
  }
  const std::array<std::vector<int64_t>*, 3> written = {&plan.first, &plan.inverse, &plan.count};
  for (size_t i = 1; i < outputs.size(); ++i) {
    if (!outputs[i].present) continue;
    OCTAVO_ASSIGN(BoundKernel write, WriteValues(outputs[i], i, std::move(*written[i - 1])));
    parts.push_back(std::move(write));
  }
  BoundKernel kernel;
  kernel.run = [parts = std::move(parts)](const KernelArgs& args) {
    for (const BoundKernel& part : parts) OCTAVO_RETURN_IF_ERROR(part.run(args));
    return Status();
  };
  return kernel;
}

// By order

struct TopKPlan {
  StridedLoop<3> rows;  // x, values, indices
  int64_t size = 0, count = 0;
  int64_t x_step = 0, y_step = 0, index_step = 0;
  bool largest = true, sorted = true, has_values = true, has_indices = true;
  int threads = 1;
};

// NaN counts as the largest; the lower index wins a tie.
template <typename T>
void TopKRow(const TopKPlan& plan, const T* x, T* y, int64_t* indices, int64_t* order) {
  const auto precedes = [&](int64_t i, int64_t j) {
    const auto a = Load(x[i * plan.x_step]), b = Load(x[j * plan.x_step]);
    const bool a_nan = a != a, b_nan = b != b;
    if (a_nan || b_nan) return a_nan && b_nan ? i < j : a_nan == plan.largest;
    if (a != b) return plan.largest ? a > b : a < b;
    return i < j;
  };
  for (int64_t i = 0; i < plan.size; ++i) order[i] = i;
  std::partial_sort(order, order + plan.count, order + plan.size, precedes);
  if (!plan.sorted) std::sort(order, order + plan.count);
  for (int64_t k = 0; k < plan.count; ++k) {
    if (y != nullptr) y[k * plan.y_step] = x[order[k] * plan.x_step];
    if (indices != nullptr) indices[k * plan.index_step] = order[k];
  }
}

Result<BoundKernel> BindTopK(const BindContext& context, InferArgs) {
  const Operand& x = context.inputs[0];
  const size_t rank = x.dims.size(), axis = NormalizedAxis(context, -1, rank);
  TopKPlan plan;
  plan.has_indices = context.outputs.size() > 1 && context.outputs[1].present;
  plan.has_values = context.outputs[0].present;
  const Operand& y = context.outputs[plan.has_values ? 0 : 1];
  const Dims index_strides = plan.has_indices ? context.outputs[1].strides : Dims(rank, 0);
  plan.rows = StridedLoop<3>(Without(x.dims, axis),
                             {Without(x.strides, axis), Without(y.strides, axis), Without(index_strides, axis)});
  plan.size = x.dims[axis];
  plan.count = y.dims[axis];
  plan.x_step = x.strides[axis];
  plan.y_step = y.strides[axis];
  plan.index_step = index_strides[axis];
  plan.largest = context.node.Int("largest", 1) != 0;
  plan.sorted = context.node.Int("sorted", 1) != 0;
  plan.threads = context.threads;
  return ForDType(NumericTypes(), x.dtype, [&]<typename T>(std::type_identity<T>) {
    BoundKernel kernel;
    kernel.scratch_bytes = static_cast<size_t>(plan.size * plan.threads) * sizeof(int64_t);
    kernel.run = [plan](const KernelArgs& args) {
      ParallelForParts(plan.threads, plan.rows.count(), 1, [&](int64_t part, int64_t begin, int64_t end) {
        plan.rows.ForEachIn(begin, end, [&](const auto& at) {
          TopKRow(plan, static_cast<const T*>(args.inputs[0]) + at[0],
                  plan.has_values ? static_cast<T*>(args.outputs[0]) + at[1] : nullptr,
                  plan.has_indices ? static_cast<int64_t*>(args.outputs[1]) + at[2] : nullptr,
                  static_cast<int64_t*>(args.scratch) + part * plan.size);
        });
      });
      return Status();
    };
    return Result<BoundKernel>(std::move(kernel));
  });
}

// By place

// Keeps the elements on one side of diagonal k: column >= row + k, or column <= row + k.
Result<BoundKernel> BindTrilu(const BindContext& context, InferArgs) {
  const Operand &x = context.inputs[0], &y = context.outputs[0];
  const size_t rank = x.dims.size();
  const auto batch = [rank](const Dims& values) {
    return Dims(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(rank - 2));
  };
  const StridedLoop<2> loop(batch(x.dims), {batch(x.strides), batch(y.strides)});
  const bool upper = context.node.Int("upper", 1) != 0;
  const bool has_k = context.inputs.size() > 1 && context.inputs[1].present;
  return ForWidth(x.dtype, [&]<typename T>(std::type_identity<T>) {
    BoundKernel kernel;
    kernel.run = [=, rows = x.dims[rank - 2], columns = x.dims[rank - 1],
                  x_steps = std::array{x.strides[rank - 2], x.strides[rank - 1]},
                  y_steps = std::array{y.strides[rank - 2], y.strides[rank - 1]}](const KernelArgs& args) {
      // Clamped, so that adding a row cannot overflow.
      const int64_t k = std::clamp(has_k ? *static_cast<const int64_t*>(args.inputs[1]) : 0, -rows, columns);
      loop.ForEach([&](const auto& at) {
        const T* from = static_cast<const T*>(args.inputs[0]) + at[0];
        T* to = static_cast<T*>(args.outputs[0]) + at[1];
        for (int64_t i = 0; i < rows; ++i) {
          for (int64_t j = 0; j < columns; ++j) {
            const bool kept = upper ? j >= i + k : j <= i + k;
            to[i * y_steps[0] + j * y_steps[1]] = kept ? from[i * x_steps[0] + j * x_steps[1]] : T(0);
          }
        }
      });
      return Status();
    };
    return Result<BoundKernel>(std::move(kernel));
  });
}

Result<BoundKernel> BindEyeLike(const BindContext& context, InferArgs) {
  const Operand& y = context.outputs[0];
  const int64_t rows = y.dims[0], columns = y.dims[1];
  const int64_t k = std::clamp(context.node.Int("k", 0), -rows, columns);
  const auto bind = [&]<typename T>(std::type_identity<T>) {
    BoundKernel kernel;
    kernel.run = [=, row_step = y.strides[0], column_step = y.strides[1]](const KernelArgs& args) {
      T* out = static_cast<T*>(args.outputs[0]);
      for (int64_t i = 0; i < rows; ++i) {
        for (int64_t j = 0; j < columns; ++j) out[i * row_step + j * column_step] = Store<T>(j == i + k ? 1 : 0);
      }
      return Status();
    };
    return Result<BoundKernel>(std::move(kernel));
  };
  return ForDType(NumericTypes(), y.dtype == DType::kBool ? DType::kUInt8 : y.dtype, bind);
}

// y[.., d, ..] = index == d ? on : off; an index from -depth on counts from the end, any other is off everywhere.
Result<BoundKernel> BindOneHot(const BindContext& context, InferArgs) {
  const Operand &indices = context.inputs[0], &values = context.inputs[2], &y = context.outputs[0];
  const size_t axis = NormalizedAxis(context, -1, y.dims.size());
  const IntReader read = ReaderOf<int64_t>(indices.dtype);
  if (read == nullptr) return UnsupportedDType(indices.dtype);
  const StridedLoop<2> loop(indices.dims, {indices.strides, Without(y.strides, axis)});
  return ForWidth(y.dtype, [&]<typename T>(std::type_identity<T>) {
    BoundKernel kernel;
    kernel.run = [loop, read, depth = y.dims[axis], step = y.strides[axis],
                  value_step = values.strides[0]](const KernelArgs& args) {
      const T* value = static_cast<const T*>(args.inputs[2]);
      loop.ForEach([&](const auto& at) {
        int64_t index = read(args.inputs[0], at[0]);
        if (index < 0 && index >= -depth) index += depth;
        T* out = static_cast<T*>(args.outputs[0]) + at[1];
        for (int64_t d = 0; d < depth; ++d) out[d * step] = value[d == index ? value_step : 0];
      });
      return Status();
    };
    return Result<BoundKernel>(std::move(kernel));
  });
}

// The first sequence_lens[batch] slices of the time axis in reverse, the rest as they are.
Result<BoundKernel> BindReverseSequence(const BindContext& context, InferArgs) {
  const Operand &x = context.inputs[0], &lengths = context.inputs[1], &y = context.outputs[0];
  const auto batch = static_cast<size_t>(context.node.Int("batch_axis", 1)), time = 1 - batch;
  const auto tail = [](const Dims& values) { return Dims(values.begin() + 2, values.end()); };
  OCTAVO_ASSIGN(StridedCopy slice, StridedCopy::Make(SizeOf(x.dtype), tail(x.dims), tail(x.strides), tail(y.strides)));
  BoundKernel kernel;
  kernel.run = [slice = std::move(slice), bytes = static_cast<int64_t>(SizeOf(x.dtype)), batches = x.dims[batch],
                times = x.dims[time], x_steps = std::array{x.strides[batch], x.strides[time]},
                y_steps = std::array{y.strides[batch], y.strides[time]}, length_step = lengths.strides[0],
                empty = ElementCount(x.dims) == 0](const KernelArgs& args) {
    for (int64_t b = 0; b < batches && !empty; ++b) {
      const int64_t length = static_cast<const int64_t*>(args.inputs[1])[b * length_step];
      if (length < 0 || length > times) {
        return InvalidArgument("a sequence of " + std::to_string(length) + " does not fit " + std::to_string(times));
      }
      for (int64_t t = 0; t < times; ++t) {
        const int64_t from = t < length ? length - 1 - t : t;
        slice.Run(static_cast<const std::byte*>(args.inputs[0]) + (b * x_steps[0] + from * x_steps[1]) * bytes,
                  static_cast<std::byte*>(args.outputs[0]) + (b * y_steps[0] + t * y_steps[1]) * bytes, 1);
      }
    }
    return Status();
  };
  return kernel;
}

}  // namespace

std::span<const GenericKernelRow> SelectionKernels() {
  static constexpr GenericKernelRow kRows[] = {
      {"", "Compress", BindChecked<BindCompress>},
      {"", "EyeLike", BindChecked<BindEyeLike>},
      {"", "NonZero", BindChecked<BindNonZero>},
      {"", "OneHot", BindChecked<BindOneHot>},
      {"", "ReverseSequence", BindChecked<BindReverseSequence>},
      {"", "TopK", BindChecked<BindTopK>},
      {"", "Trilu", BindChecked<BindTrilu>},
      {"", "Unique", BindChecked<BindUnique>},
  };
  return kRows;
}

}  // namespace octavo
