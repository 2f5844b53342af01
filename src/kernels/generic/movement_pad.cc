#include <algorithm>
#include <cstring>
#include <utility>

#include "graph/infer_movement.h"
#include "kernels/generic/movement.h"
#include "kernels/generic/strided_convert.h"

namespace octavo {
namespace {

using InferArgs = std::span<const InferInput>;

// Where element `at` (counted from the first kept one, any sign) of an axis of `size` kept elements comes from.
int64_t SourcePosition(PadMode mode, int64_t at, int64_t size) {
  if (mode == PadMode::kEdge || size == 1) return std::clamp<int64_t>(at, 0, size - 1);
  if (mode == PadMode::kWrap) return ((at % size) + size) % size;
  const int64_t period = 2 * (size - 1);
  const int64_t folded = ((at % period) + period) % period;
  return folded < size ? folded : period - folded;
}

Result<BoundKernel> BindTablePad(const BindContext& context, const PadPlan& plan) {
  const Operand& x = context.inputs[0];
  const Operand& y = context.outputs[0];
  std::vector<TableCopy::Axis> axes;
  for (size_t d = 0; d < x.dims.size(); ++d) {
    // Negative pads crop first; the rest is padded from what remains.
    const int64_t cropped = std::max<int64_t>(0, -plan.begin[d]);
    const int64_t kept = x.dims[d] - cropped - std::max<int64_t>(0, -plan.end[d]);
    if (y.dims[d] > kMaxTableEntries)
      return Unsupported("padding an axis to " + std::to_string(y.dims[d]) + " elements");
    TableCopy::Axis axis{y.dims[d], y.strides[d], {}};
    for (int64_t i = 0; i < y.dims[d]; ++i) {
      const int64_t at = i - std::max<int64_t>(0, plan.begin[d]);
      axis.from_offset.push_back((cropped + SourcePosition(plan.mode, at, kept)) * x.strides[d]);
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

// A box of the output: which elements, per axis.
struct Box {
  Dims begin, size;
};

int64_t OffsetOf(const Dims& begin, const Dims& strides) {
  int64_t offset = 0;
  for (size_t d = 0; d < begin.size(); ++d) offset += begin[d] * strides[d];
  return offset;
}

// The border around `inside`, as two boxes per axis: before and behind it, as wide as the output in the axes that
// follow and as `inside` in those that came before.
std::vector<Box> BorderBoxes(const Dims& whole, const Box& inside) {
  std::vector<Box> boxes;
  Box rest = {Dims(whole.size(), 0), whole};
  for (size_t d = 0; d < whole.size(); ++d) {
    const int64_t end = inside.begin[d] + inside.size[d];
    Box before = rest, behind = rest;
    before.size[d] = inside.begin[d];
    behind.begin[d] = end;
    behind.size[d] = whole[d] - end;
    boxes.insert(boxes.end(), {before, behind});
    rest.begin[d] = inside.begin[d];
    rest.size[d] = inside.size[d];
  }
  std::erase_if(boxes, [](const Box& box) { return ElementCount(box.size) == 0; });
  return boxes;
}

// The value to pad with where no input gives it: the attribute 'value' (below opset 11) or 0, in the data's type.
Result<std::vector<std::byte>> PadValue(const BindContext& context) {
  const DType dtype = context.inputs[0].dtype;
  std::vector<std::byte> value(SizeOf(dtype));
  const float stated = context.node.Float("value", 0);
  OCTAVO_ASSIGN(const StridedConvert convert, StridedConvert::Make(DType::kFloat32, dtype, {}, {}, {}));
  convert.Run(&stated, value.data(), 1);
  return value;
}

Result<BoundKernel> BindConstantPad(const BindContext& context, const PadPlan& plan) {
  const Operand& x = context.inputs[0];
  const Operand& y = context.outputs[0];
  const size_t bytes = SizeOf(x.dtype);
  const auto rank = x.dims.size();
  Box inside = {Dims(rank), Dims(rank)};
  Dims from(rank);
  for (size_t d = 0; d < rank; ++d) {
    from[d] = std::max<int64_t>(0, -plan.begin[d]);
    // A crop at one end may leave fewer elements than the pad at the other adds, or none.
    inside.begin[d] = std::max<int64_t>(0, plan.begin[d]);
    inside.size[d] = x.dims[d] - from[d] - std::max<int64_t>(0, -plan.end[d]);
  }
  std::vector<CopyPiece> border;
  for (const Box& box : BorderBoxes(y.dims, inside)) {
    OCTAVO_ASSIGN(StridedCopy copy, StridedCopy::Make(bytes, box.size, Dims(rank, 0), y.strides));
    border.push_back(
        {.copy = std::move(copy), .to_bytes = OffsetOf(box.begin, y.strides) * static_cast<int64_t>(bytes)});
  }
  OCTAVO_ASSIGN(StridedCopy copy, StridedCopy::Make(bytes, inside.size, x.strides, y.strides));
  OCTAVO_ASSIGN(std::vector<std::byte> value, PadValue(context));
  const bool value_given = context.inputs.size() > 2 && context.inputs[2].present;
  BoundKernel kernel;
  kernel.run = [border = std::move(border), copy = std::move(copy), value = std::move(value), value_given,
                from_bytes = OffsetOf(from, x.strides) * static_cast<int64_t>(bytes),
                to_bytes = OffsetOf(inside.begin, y.strides) * static_cast<int64_t>(bytes),
                threads = context.threads](const KernelArgs& args) {
    auto* y_data = static_cast<std::byte*>(args.outputs[0]);
    const void* fill = value_given ? args.inputs[2] : value.data();
    for (const CopyPiece& piece : border) piece.copy.Run(fill, y_data + piece.to_bytes, threads);
    copy.Run(static_cast<const std::byte*>(args.inputs[0]) + from_bytes, y_data + to_bytes, threads);
    return Status();
  };
  return kernel;
}

}  // namespace

Result<BoundKernel> BindPad(const BindContext& context, InferArgs inputs) {
  OCTAVO_ASSIGN(const PadPlan plan, ResolvePad(context.node, inputs));
  return plan.mode == PadMode::kConstant ? BindConstantPad(context, plan) : BindTablePad(context, plan);
}

}  // namespace octavo
