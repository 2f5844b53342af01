// Outputs that are made of shapes and attributes rather than of elements.
#include <algorithm>
#include <cstring>
#include <utility>

#include "kernels/generic/movement.h"
#include "kernels/generic/strided_convert.h"

namespace octavo {
namespace {

using InferArgs = std::span<const InferInput>;

// output[i] = start + i * delta, computed in Via and stored as T.
template <typename T, typename Via>
void FillRange(const void* start, const void* delta, void* y, int64_t count, int64_t step) {
  const Via from = static_cast<Via>(*static_cast<const T*>(start));
  const Via by = static_cast<Via>(*static_cast<const T*>(delta));
  for (int64_t i = 0; i < count; ++i) {
    static_cast<T*>(y)[i * step] = static_cast<T>(from + static_cast<Via>(i) * by);
  }
}

using RangeFn = void (*)(const void* start, const void* delta, void* y, int64_t count, int64_t step);

RangeFn RangeOf(DType dtype) {
  switch (dtype) {
    case DType::kFloat32:
      return FillRange<float, float>;
    case DType::kFloat64:
      return FillRange<double, double>;
    // Modular arithmetic gives the right element whatever lies between.
    case DType::kInt16:
      return FillRange<int16_t, uint64_t>;
    case DType::kInt32:
      return FillRange<int32_t, uint64_t>;
    case DType::kInt64:
      return FillRange<int64_t, uint64_t>;
    default:
      return nullptr;
  }
}

}  // namespace

Result<BoundKernel> WriteValues(const Operand& y, size_t output, std::vector<int64_t> values) {
  OCTAVO_ASSIGN(StridedCopy copy, StridedCopy::Make(sizeof(int64_t), y.dims, ContiguousStrides(y.dims), y.strides));
  BoundKernel kernel;
  kernel.run = [copy = std::move(copy), output, values = std::move(values)](const KernelArgs& args) {
    if (!values.empty()) copy.Run(values.data(), args.outputs[output], 1);
    return Status();
  };
  return kernel;
}

Result<BoundKernel> BindShape(const BindContext& context, InferArgs) {
  const Dims& dims = context.inputs[0].dims;
  const auto rank = static_cast<int64_t>(dims.size());
  const int64_t start = context.node.Int("start", 0);
  const auto first = dims.begin() + std::clamp<int64_t>(start < 0 ? start + rank : start, 0, rank);
  const int64_t count = std::min<int64_t>(context.outputs[0].dims[0], dims.end() - first);
  return WriteValues(context.outputs[0], 0, {first, first + count});
}

Result<BoundKernel> BindSize(const BindContext& context, InferArgs) {
  return WriteValues(context.outputs[0], 0, {ElementCount(context.inputs[0].dims)});
}

Result<BoundKernel> BindConstantOfShape(const BindContext& context, InferArgs) {
  const Operand& y = context.outputs[0];
  const auto value = context.node.attributes.find("value");
  std::vector<std::byte> element(SizeOf(y.dtype));
  if (value != context.node.attributes.end()) {
    std::memcpy(element.data(), std::get<Tensor>(value->second).data(), element.size());
  }
  OCTAVO_ASSIGN(StridedCopy copy, StridedCopy::Make(element.size(), y.dims, Dims(y.dims.size(), 0), y.strides));
  BoundKernel kernel;
  kernel.run = [copy = std::move(copy), element = std::move(element),
                threads = context.threads](const KernelArgs& args) {
    copy.Run(element.data(), args.outputs[0], threads);
    return Status();
  };
  return kernel;
}

Result<BoundKernel> BindRange(const BindContext& context, InferArgs) {
  const Operand& y = context.outputs[0];
  const RangeFn fill = RangeOf(y.dtype);
  if (fill == nullptr) return Unsupported("a range of " + std::string(NameOf(y.dtype)));
  BoundKernel kernel;
  kernel.run = [fill, count = y.dims[0], step = y.strides[0]](const KernelArgs& args) {
    fill(args.inputs[0], args.inputs[2], args.outputs[0], count, step);
    return Status();
  };
  return kernel;
}

}  // namespace octavo
