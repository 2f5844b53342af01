// ScatterElements and ScatterND: a copy of the data in which some elements are replaced, or updated by a reduction.
// Updates go in order on one thread, so that repeated indices give the same result every time.
#include <utility>

#include "kernels/generic/elementwise.h"
#include "kernels/generic/movement.h"
#include "kernels/generic/rows.h"

namespace octavo {
namespace {

using InferArgs = std::span<const InferInput>;

struct IndexView {
  bool wide = true;
  int64_t operator()(const void* data, int64_t offset) const {
    return wide ? static_cast<const int64_t*>(data)[offset] : static_cast<const int32_t*>(data)[offset];
  }
};

Status IndexError(int64_t index, int64_t size) {
  return InvalidArgument("index " + std::to_string(index) + " is out of range for an axis of " + std::to_string(size));
}

// Moves on by `index` on an axis.
Status Step(int64_t index, int64_t size, int64_t step, int64_t& offset) {
  if (index < -size || index >= size) return IndexError(index, size);
  offset += (index < 0 ? index + size : index) * step;
  return {};
}

enum class Reduction : uint8_t { kNone, kAdd, kMul, kMax, kMin };

Reduction ReductionOf(const Node& node) {
  const std::string name = node.String("reduction", "none");
  return name == "add"   ? Reduction::kAdd
         : name == "mul" ? Reduction::kMul
         : name == "max" ? Reduction::kMax
         : name == "min" ? Reduction::kMin
                         : Reduction::kNone;
}

template <typename T>
void Update(Reduction reduction, T& target, T update) {
  if (reduction == Reduction::kNone) {
    target = update;
    return;
  }
  const auto a = Load(target), b = Load(update);
  using C = decltype(Load(target));
  C result = a;
  if constexpr (std::is_integral_v<C>) {  // wraps
    if (reduction == Reduction::kAdd) result = static_cast<C>(static_cast<uint64_t>(a) + static_cast<uint64_t>(b));
    if (reduction == Reduction::kMul) result = static_cast<C>(static_cast<uint64_t>(a) * static_cast<uint64_t>(b));
  } else {
    if (reduction == Reduction::kAdd) result = a + b;
    if (reduction == Reduction::kMul) result = a * b;
  }
  if (reduction == Reduction::kMax) result = a > b || a != a ? a : b;
  if (reduction == Reduction::kMin) result = a < b || a != a ? a : b;
  target = Store<T>(result);
}

Result<StridedCopy> CopyData(const BindContext& context) {
  const Operand &x = context.inputs[0], &y = context.outputs[0];
  return StridedCopy::Make(SizeOf(x.dtype), x.dims, x.strides, y.strides);
}

// Booleans are moved, or combined as 0 and 1.
DType ByteForBool(DType dtype) { return dtype == DType::kBool ? DType::kUInt8 : dtype; }

Result<BoundKernel> BindScatterElements(const BindContext& context, InferArgs) {
  const Operand &x = context.inputs[0], &indices = context.inputs[1], &updates = context.inputs[2];
  const Operand& y = context.outputs[0];
  const int64_t attribute = context.node.Int("axis", 0);
  const auto axis = static_cast<size_t>(attribute < 0 ? attribute + static_cast<int64_t>(x.dims.size()) : attribute);
  OCTAVO_ASSIGN(const StridedCopy copy, CopyData(context));
  Dims still = y.strides;
  still[axis] = 0;
  const StridedLoop<3> loop(indices.dims, {indices.strides, updates.strides, still});
  const IndexView index{indices.dtype == DType::kInt64};
  const bool copies = ElementCount(x.dims) > 0, scatters = ElementCount(indices.dims) > 0;
  return ForDType(NumericTypes(), ByteForBool(x.dtype), [&]<typename T>(std::type_identity<T>) {
    BoundKernel kernel;
    kernel.run = [=, size = y.dims[axis], step = y.strides[axis], reduction = ReductionOf(context.node),
                  threads = context.threads](const KernelArgs& args) {
      if (copies) copy.Run(args.inputs[0], args.outputs[0], threads);
      Status status;
      if (!scatters) return status;
      loop.ForEach([&](const auto& at) {
        int64_t target = at[2];
        Status stepped = Step(index(args.inputs[1], at[0]), size, step, target);
        if (!stepped.ok()) {
          status = std::move(stepped);
          return;
        }
        Update(reduction, static_cast<T*>(args.outputs[0])[target], static_cast<const T*>(args.inputs[2])[at[1]]);
      });
      return status;
    };
    return Result<BoundKernel>(std::move(kernel));
  });
}

Result<BoundKernel> BindScatterNd(const BindContext& context, InferArgs) {
  const Operand &x = context.inputs[0], &indices = context.inputs[1], &updates = context.inputs[2];
  const Operand& y = context.outputs[0];
  const auto outer = static_cast<std::ptrdiff_t>(indices.dims.size()) - 1;
  const auto depth = static_cast<std::ptrdiff_t>(indices.dims.back());
  OCTAVO_ASSIGN(const StridedCopy copy, CopyData(context));
  const auto head = [&](const Dims& values) { return Dims(values.begin(), values.begin() + outer); };
  const StridedLoop<2> tuples(head(indices.dims), {head(indices.strides), head(updates.strides)});
  const StridedLoop<2> slab(
      Dims(y.dims.begin() + depth, y.dims.end()),
      {Dims(updates.strides.begin() + outer, updates.strides.end()), Dims(y.strides.begin() + depth, y.strides.end())});
  const Dims sizes(y.dims.begin(), y.dims.begin() + depth), steps(y.strides.begin(), y.strides.begin() + depth);
  const bool copies = ElementCount(x.dims) > 0, scatters = ElementCount(updates.dims) > 0;
  return ForDType(NumericTypes(), ByteForBool(x.dtype), [&]<typename T>(std::type_identity<T>) {
    BoundKernel kernel;
    kernel.run = [=, tuple_step = indices.strides.back(), reduction = ReductionOf(context.node),
                  threads = context.threads](const KernelArgs& args) {
      if (copies) copy.Run(args.inputs[0], args.outputs[0], threads);
      Status status;
      if (!scatters) return status;
      tuples.ForEach([&](const auto& at) {
        int64_t target = 0;
        for (size_t k = 0; k < sizes.size(); ++k) {
          const int64_t index =
              static_cast<const int64_t*>(args.inputs[1])[at[0] + static_cast<int64_t>(k) * tuple_step];
          Status stepped = Step(index, sizes[k], steps[k], target);
          if (!stepped.ok()) {
            status = std::move(stepped);
            return;
          }
        }
        const T* update = static_cast<const T*>(args.inputs[2]) + at[1];
        T* out = static_cast<T*>(args.outputs[0]) + target;
        slab.ForEach([&](const auto& inner) { Update(reduction, out[inner[1]], update[inner[0]]); });
      });
      return status;
    };
    return Result<BoundKernel>(std::move(kernel));
  });
}

}  // namespace

std::span<const GenericKernelRow> ScatterKernels() {
  static constexpr GenericKernelRow kRows[] = {
      {"", "Scatter", BindChecked<BindScatterElements>},
      {"", "ScatterElements", BindChecked<BindScatterElements>},
      {"", "ScatterND", BindChecked<BindScatterNd>},
  };
  return kRows;
}

}  // namespace octavo
