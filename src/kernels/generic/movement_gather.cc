#include <algorithm>
#include <utility>

#include "base/parallel.h"
#include "graph/infer_dims.h"
#include "kernels/generic/elementwise.h"
#include "kernels/generic/movement.h"

namespace octavo {
namespace {

using InferArgs = std::span<const InferInput>;

// Reads int32 or int64 indices.
struct IndexReader {
  bool wide = true;
  int64_t operator()(const void* data, int64_t offset) const {
    return wide ? static_cast<const int64_t*>(data)[offset] : static_cast<const int32_t*>(data)[offset];
  }
};

Result<IndexReader> ReaderOf(DType dtype) {
  if (dtype == DType::kInt64) return IndexReader{true};
  if (dtype == DType::kInt32) return IndexReader{false};
  return InvalidArgument("indices must be int32 or int64, not " + std::string(NameOf(dtype)));
}

Status IndexError(int64_t index, int64_t size) {
  return InvalidArgument("index " + std::to_string(index) + " is out of range for an axis of " + std::to_string(size));
}

bool Fits(int64_t index, int64_t size) { return index >= -size && index < size; }
int64_t FromFront(int64_t index, int64_t size) { return index < 0 ? index + size : index; }

// Parts [first, last) of `values`.
Dims Part(const Dims& values, size_t first, size_t last) {
  return {values.begin() + static_cast<std::ptrdiff_t>(first), values.begin() + static_cast<std::ptrdiff_t>(last)};
}
Dims Joined(Dims a, const Dims& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

struct GatherPlan {
  IndexReader reader;
  StridedLoop<2> indices;  // over the indices: operands are the indices and the output
  StridedCopy slab;        // what one index copies
  int64_t axis_size = 0;
  int64_t axis_step_bytes = 0;
  int64_t element_bytes = 0;
  int64_t slab_elements = 0;
  int threads = 1;
};

Status RunGather(const GatherPlan& plan, const KernelArgs& args) {
  // Nothing is written unless every index fits.
  int64_t misfit = 0;
  plan.indices.ForEach([&](const auto& at) {
    const int64_t index = plan.reader(args.inputs[1], at[0]);
    if (!Fits(index, plan.axis_size)) misfit = index;
  });
  // No index that is out of range is 0, except where the axis is empty.
  if (misfit != 0 || (plan.axis_size == 0 && plan.indices.count() > 0)) return IndexError(misfit, plan.axis_size);
  const auto* data = static_cast<const std::byte*>(args.inputs[0]);
  auto* y = static_cast<std::byte*>(args.outputs[0]);
  const auto copy = [&](const auto& at, int threads) {
    const int64_t index = FromFront(plan.reader(args.inputs[1], at[0]), plan.axis_size);
    plan.slab.Run(data + index * plan.axis_step_bytes, y + at[1] * plan.element_bytes, threads);
  };
  if (plan.indices.count() < 2 * plan.threads) {
    plan.indices.ForEach([&](const auto& at) { copy(at, plan.threads); });
    return {};
  }
  const int64_t grain = kCopyGrain / std::max<int64_t>(1, plan.slab_elements);
  ParallelFor(plan.threads, plan.indices.count(), grain, [&](int64_t begin, int64_t end) {
    plan.indices.ForEachIn(begin, end, [&](const auto& at) { copy(at, 1); });
  });
  return {};
}

struct GatherElementsPlan {
  IndexReader reader;
  StridedLoop<3> loop;  // operands: indices, data (the axis standing still), output
  int64_t axis_size = 0;
  int64_t axis_step = 0;
  int threads = 1;
};

template <typename T>
void RunGatherElements(const GatherElementsPlan& plan, const KernelArgs& args) {
  const T* data = static_cast<const T*>(args.inputs[0]);
  T* y = static_cast<T*>(args.outputs[0]);
  ParallelFor(plan.threads, plan.loop.count(), kElementGrain, [&](int64_t begin, int64_t end) {
    plan.loop.ForEachIn(begin, end, [&](const auto& at) {
      y[at[2]] = data[at[1] + FromFront(plan.reader(args.inputs[1], at[0]), plan.axis_size) * plan.axis_step];
    });
  });
}

struct GatherNdPlan {
  IndexReader reader;
  StridedLoop<3> tuples;  // over the index tuples: operands are the indices, the data's batch and the output
  StridedCopy slab;
  int64_t tuple_step = 0;  // between the entries of a tuple
  Dims sizes, steps;       // of the axes that a tuple indexes
  int64_t element_bytes = 0;
  int threads = 1;
};

Status RunGatherNd(const GatherNdPlan& plan, const KernelArgs& args) {
  Status status;
  plan.tuples.ForEach([&](const auto& at) {
    for (size_t k = 0; k < plan.sizes.size() && status.ok(); ++k) {
      const int64_t index = plan.reader(args.inputs[1], at[0] + static_cast<int64_t>(k) * plan.tuple_step);
      if (!Fits(index, plan.sizes[k])) status = IndexError(index, plan.sizes[k]);
    }
  });
  if (!status.ok()) return status;
  const auto* data = static_cast<const std::byte*>(args.inputs[0]);
  auto* y = static_cast<std::byte*>(args.outputs[0]);
  ParallelFor(plan.threads, plan.tuples.count(), 1024, [&](int64_t begin, int64_t end) {
    plan.tuples.ForEachIn(begin, end, [&](const auto& at) {
      int64_t from = at[1];
      for (size_t k = 0; k < plan.sizes.size(); ++k) {
        const int64_t index = plan.reader(args.inputs[1], at[0] + static_cast<int64_t>(k) * plan.tuple_step);
        from += FromFront(index, plan.sizes[k]) * plan.steps[k];
      }
      plan.slab.Run(data + from * plan.element_bytes, y + at[2] * plan.element_bytes, 1);
    });
  });
  return {};
}

}  // namespace

Result<BoundKernel> BindGather(const BindContext& context, InferArgs) {
  const Operand& data = context.inputs[0];
  const Operand& indices = context.inputs[1];
  const Operand& y = context.outputs[0];
  const size_t rank = data.dims.size();
  OCTAVO_ASSIGN(const int64_t normalized, NormalizeAxis(context.node.Int("axis", 0), static_cast<int64_t>(rank)));
  const auto axis = static_cast<size_t>(normalized);
  const size_t behind = axis + indices.dims.size();  // the output's first axis after the indices'
  GatherPlan plan;
  OCTAVO_ASSIGN(plan.reader, ReaderOf(indices.dtype));
  plan.indices = StridedLoop<2>(indices.dims, {indices.strides, Part(y.strides, axis, behind)});
  const Dims slab = Joined(Part(data.dims, 0, axis), Part(data.dims, axis + 1, rank));
  OCTAVO_ASSIGN(plan.slab, StridedCopy::Make(SizeOf(data.dtype), slab,
                                             Joined(Part(data.strides, 0, axis), Part(data.strides, axis + 1, rank)),
                                             Joined(Part(y.strides, 0, axis), Part(y.strides, behind, y.dims.size()))));
  plan.slab_elements = ElementCount(slab);
  plan.element_bytes = static_cast<int64_t>(SizeOf(data.dtype));
  plan.axis_size = data.dims[axis];
  plan.axis_step_bytes = data.strides[axis] * plan.element_bytes;
  plan.threads = context.threads;
  BoundKernel kernel;
  kernel.run = [plan = std::move(plan)](const KernelArgs& args) { return RunGather(plan, args); };
  return kernel;
}

Result<BoundKernel> BindGatherElements(const BindContext& context, InferArgs) {
  const Operand& data = context.inputs[0];
  const Operand& indices = context.inputs[1];
  OCTAVO_ASSIGN(const int64_t axis, NormalizeAxis(context.node.Int("axis", 0), static_cast<int64_t>(data.dims.size())));
  GatherElementsPlan plan;
  OCTAVO_ASSIGN(plan.reader, ReaderOf(indices.dtype));
  Dims still = data.strides;
  still[static_cast<size_t>(axis)] = 0;
  plan.loop = StridedLoop<3>(indices.dims, {indices.strides, still, context.outputs[0].strides});
  plan.axis_size = data.dims[static_cast<size_t>(axis)];
  plan.axis_step = data.strides[static_cast<size_t>(axis)];
  plan.threads = context.threads;
  BoundKernel kernel;
  kernel.run = [plan = std::move(plan), bytes = SizeOf(data.dtype)](const KernelArgs& args) {
    Status status;
    plan.loop.ForEach([&](const auto& at) {
      const int64_t index = plan.reader(args.inputs[1], at[0]);
      if (!Fits(index, plan.axis_size)) status = IndexError(index, plan.axis_size);
    });
    if (!status.ok()) return status;
    if (bytes == 1) RunGatherElements<uint8_t>(plan, args);
    if (bytes == 2) RunGatherElements<uint16_t>(plan, args);
    if (bytes == 4) RunGatherElements<uint32_t>(plan, args);
    if (bytes == 8) RunGatherElements<uint64_t>(plan, args);
    return status;
  };
  return kernel;
}

Result<BoundKernel> BindGatherNd(const BindContext& context, InferArgs) {
  const Operand& data = context.inputs[0];
  const Operand& indices = context.inputs[1];
  const Operand& y = context.outputs[0];
  const auto batch = static_cast<size_t>(context.node.Int("batch_dims", 0));
  const size_t outer = indices.dims.size() - 1;  // axes that count tuples
  const auto depth = static_cast<size_t>(indices.dims.back());
  GatherNdPlan plan;
  OCTAVO_ASSIGN(plan.reader, ReaderOf(indices.dtype));
  const Dims tuples = Part(indices.dims, 0, outer);
  plan.tuples =
      StridedLoop<3>(tuples, {Part(indices.strides, 0, outer),
                              Joined(Part(data.strides, 0, batch), Dims(outer - batch, 0)), Part(y.strides, 0, outer)});
  OCTAVO_ASSIGN(plan.slab, StridedCopy::Make(SizeOf(data.dtype), Part(data.dims, batch + depth, data.dims.size()),
                                             Part(data.strides, batch + depth, data.dims.size()),
                                             Part(y.strides, outer, y.dims.size())));
  plan.tuple_step = indices.strides.back();
  plan.sizes = Part(data.dims, batch, batch + depth);
  plan.steps = Part(data.strides, batch, batch + depth);
  plan.element_bytes = static_cast<int64_t>(SizeOf(data.dtype));
  plan.threads = context.threads;
  BoundKernel kernel;
  kernel.run = [plan = std::move(plan)](const KernelArgs& args) { return RunGatherNd(plan, args); };
  return kernel;
}

}  // namespace octavo
