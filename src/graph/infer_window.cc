#include "graph/infer_window.h"

#include <algorithm>

#include "graph/infer_dims.h"
#include "graph/infer_rules.h"

namespace octavo {
namespace {

enum class AutoPad : uint8_t { kNotSet, kSameUpper, kSameLower, kValid };

Result<AutoPad> ParseAutoPad(const Node& node) {
  const std::string mode = node.String("auto_pad", "NOTSET");
  if (mode == "NOTSET" || mode.empty()) return AutoPad::kNotSet;
  if (mode == "SAME_UPPER") return AutoPad::kSameUpper;
  if (mode == "SAME_LOWER") return AutoPad::kSameLower;
  if (mode == "VALID") return AutoPad::kValid;
  return InvalidArgument("auto_pad '" + mode + "' is not one of NOTSET, SAME_UPPER, SAME_LOWER, VALID");
}

int64_t Reach(const WindowAxis& axis) { return (axis.kernel - 1) * axis.dilation + 1; }

void PadInTotal(WindowAxis& axis, int64_t total, bool more_at_end) {
  const int64_t half = total / 2;
  axis.pad_begin = more_at_end ? half : total - half;
  axis.pad_end = total - axis.pad_begin;
}

// Kernel, stride, dilation, pads and input of each axis, before auto_pad.
Result<std::vector<WindowAxis>> ReadAxes(const Node& node, const Dims& x, const std::vector<int64_t>& kernel) {
  const size_t count = x.size() - 2;
  OCTAVO_ASSIGN(const auto strides, ExtentAttribute(node, "strides", count, 1, 1));
  OCTAVO_ASSIGN(const auto dilations, ExtentAttribute(node, "dilations", count, 1, 1));
  OCTAVO_ASSIGN(const auto pads, ExtentAttribute(node, "pads", 2 * count, 0, 0));
  std::vector<WindowAxis> axes(count);
  for (size_t d = 0; d < count; ++d) {
    axes[d] = {.kernel = kernel[d],
               .stride = strides[d],
               .dilation = dilations[d],
               .pad_begin = pads[d],
               .pad_end = pads[d + count],
               .input = x[d + 2]};
  }
  return axes;
}

// Where `auto_pad` asks for it, pads so that output = ceil(input / stride), or not at all.
void ApplyAutoPad(WindowAxis& axis, AutoPad mode) {
  if (mode == AutoPad::kNotSet) return;
  if (mode == AutoPad::kValid) {
    axis.pad_begin = axis.pad_end = 0;
    return;
  }
  const int64_t output = (axis.input + axis.stride - 1) / axis.stride;
  PadInTotal(axis, std::max<int64_t>(0, (output - 1) * axis.stride + Reach(axis) - axis.input),
             mode == AutoPad::kSameUpper);
}

Status PlaceWindows(WindowAxis& axis, bool ceil_mode) {
  const int64_t room = axis.input + axis.pad_begin + axis.pad_end - Reach(axis);
  if (room < 0) {
    return InvalidArgument("a window that reaches over " + std::to_string(Reach(axis)) + " does not fit " +
                           std::to_string(axis.input) + " elements with pads " + std::to_string(axis.pad_begin) +
                           " and " + std::to_string(axis.pad_end));
  }
  axis.output = (ceil_mode ? room + axis.stride - 1 : room) / axis.stride + 1;
  // A last window that starts in the padding at the end would see no input at all.
  if (ceil_mode && (axis.output - 1) * axis.stride >= axis.input + axis.pad_begin) --axis.output;
  return {};
}

Status PlaceTransposed(WindowAxis& axis, int64_t output_padding, const int64_t* output_shape, AutoPad mode) {
  const int64_t natural = (axis.input - 1) * axis.stride + output_padding + Reach(axis);
  const bool same = mode == AutoPad::kSameUpper || mode == AutoPad::kSameLower;
  if (output_shape != nullptr || same) {
    axis.output = output_shape != nullptr ? *output_shape : axis.input * axis.stride;
    PadInTotal(axis, std::max<int64_t>(0, natural - axis.output), mode == AutoPad::kSameUpper);
    return {};
  }
  if (mode == AutoPad::kValid) axis.pad_begin = axis.pad_end = 0;
  axis.output = natural - axis.pad_begin - axis.pad_end;
  if (axis.output < 0) return InvalidArgument("its pads are larger than its output");
  return {};
}

Status CheckConvOperands(const Dims& x, const Dims& w) {
  if (x.size() < 3 || w.size() != x.size()) {
    return InvalidArgument("input of " + ToString(x) + " and weight of " + ToString(w) +
                           " must have the same rank, 3 or more");
  }
  return {};
}

Result<int64_t> ResolveGroups(const Node& node) {
  const int64_t group = node.Int("group", 1);
  if (group < 1) return InvalidArgument("group is " + std::to_string(group));
  return group;
}

Result<std::vector<int64_t>> KernelOf(const Node& node, const Dims& w) {
  std::vector<int64_t> kernel(w.begin() + 2, w.end());
  if (node.Has("kernel_shape") && node.Ints("kernel_shape") != kernel) {
    return InvalidArgument("kernel_shape differs from the weight's shape " + ToString(w));
  }
  for (const int64_t size : kernel) {
    if (size < 1 || size > kMaxExtent) return InvalidArgument("a weight of " + ToString(w) + " has no usable kernel");
  }
  return kernel;
}

Dims WithSpatial(int64_t batch, int64_t channels, const std::vector<WindowAxis>& axes) {
  Dims dims = {batch, channels};
  for (const WindowAxis& axis : axes) dims.push_back(axis.output);
  return dims;
}

Status CheckBias(InferArgs inputs, int64_t channels) {
  return InputAt(inputs, 2).present ? CheckDims(inputs[2], {channels}, "B") : Status();
}

}  // namespace

Result<std::vector<WindowAxis>> ResolveConv(const Node& node, const Dims& x, const Dims& w) {
  OCTAVO_RETURN_IF_ERROR(CheckConvOperands(x, w));
  OCTAVO_ASSIGN(const auto kernel, KernelOf(node, w));
  OCTAVO_ASSIGN(std::vector<WindowAxis> axes, ReadAxes(node, x, kernel));
  OCTAVO_ASSIGN(const AutoPad mode, ParseAutoPad(node));
  for (WindowAxis& axis : axes) {
    ApplyAutoPad(axis, mode);
    OCTAVO_RETURN_IF_ERROR(PlaceWindows(axis, false));
  }
  return axes;
}

Result<std::vector<WindowAxis>> ResolveConvTranspose(const Node& node, const Dims& x, const Dims& w) {
  OCTAVO_RETURN_IF_ERROR(CheckConvOperands(x, w));
  OCTAVO_ASSIGN(const auto kernel, KernelOf(node, w));
  OCTAVO_ASSIGN(std::vector<WindowAxis> axes, ReadAxes(node, x, kernel));
  OCTAVO_ASSIGN(const AutoPad mode, ParseAutoPad(node));
  OCTAVO_ASSIGN(const auto output_padding, ExtentAttribute(node, "output_padding", axes.size(), 0, 0));
  std::vector<int64_t> output_shape = node.Ints("output_shape");
  // Some exporters list batch and channels too.
  if (output_shape.size() == axes.size() + 2) output_shape.erase(output_shape.begin(), output_shape.begin() + 2);
  if (!output_shape.empty() && output_shape.size() != axes.size()) {
    return InvalidArgument("output_shape has " + std::to_string(output_shape.size()) + " entries instead of " +
                           std::to_string(axes.size()));
  }
  for (size_t d = 0; d < axes.size(); ++d) {
    if (axes[d].input < 1) return InvalidArgument("its input of " + ToString(x) + " is empty");
    if (!output_shape.empty() && output_shape[d] < 1) return InvalidArgument("output_shape holds a size below 1");
    OCTAVO_RETURN_IF_ERROR(
        PlaceTransposed(axes[d], output_padding[d], output_shape.empty() ? nullptr : &output_shape[d], mode));
  }
  return axes;
}

Result<std::vector<WindowAxis>> ResolvePool(const Node& node, const Dims& x) {
  if (x.size() < 3) return InvalidArgument("input of " + ToString(x) + " needs rank 3 or more");
  if (!node.Has("kernel_shape")) return InvalidArgument("its kernel_shape is missing");
  OCTAVO_ASSIGN(const auto kernel, ExtentAttribute(node, "kernel_shape", x.size() - 2, 1, 1));
  OCTAVO_ASSIGN(std::vector<WindowAxis> axes, ReadAxes(node, x, kernel));
  OCTAVO_ASSIGN(const AutoPad mode, ParseAutoPad(node));
  for (WindowAxis& axis : axes) {
    ApplyAutoPad(axis, mode);
    OCTAVO_RETURN_IF_ERROR(PlaceWindows(axis, node.Int("ceil_mode", 0) != 0));
  }
  return axes;
}

Inferred InferConv(const Node& node, int64_t, InferArgs inputs) {
  OCTAVO_RETURN_IF_ERROR(CheckSameDType(inputs));
  const Dims& x = inputs[0].dims;
  const Dims& w = inputs[1].dims;
  OCTAVO_ASSIGN(const std::vector<WindowAxis> axes, ResolveConv(node, x, w));
  OCTAVO_ASSIGN(const int64_t group, ResolveGroups(node));
  if (x[1] % group != 0 || x[1] / group != w[1] || w[0] % group != 0) {
    return InvalidArgument("a weight of " + ToString(w) + " in " + std::to_string(group) +
                           " groups does not fit an input of " + ToString(x));
  }
  OCTAVO_RETURN_IF_ERROR(CheckBias(inputs, w[0]));
  return OneOutput(inputs[0].dtype, WithSpatial(x[0], w[0], axes));
}

Inferred InferConvTranspose(const Node& node, int64_t, InferArgs inputs) {
  OCTAVO_RETURN_IF_ERROR(CheckSameDType(inputs));
  const Dims& x = inputs[0].dims;
  const Dims& w = inputs[1].dims;
  OCTAVO_ASSIGN(const std::vector<WindowAxis> axes, ResolveConvTranspose(node, x, w));
  OCTAVO_ASSIGN(const int64_t group, ResolveGroups(node));
  int64_t channels = 0;
  if (x[1] != w[0] || x[1] % group != 0 || __builtin_mul_overflow(w[1], group, &channels)) {
    return InvalidArgument("a weight of " + ToString(w) + " in " + std::to_string(group) +
                           " groups does not fit an input of " + ToString(x));
  }
  OCTAVO_RETURN_IF_ERROR(CheckBias(inputs, channels));
  return OneOutput(inputs[0].dtype, WithSpatial(x[0], channels, axes));
}

Inferred InferAveragePool(const Node& node, int64_t, InferArgs inputs) {
  OCTAVO_ASSIGN(const std::vector<WindowAxis> axes, ResolvePool(node, inputs[0].dims));
  return OneOutput(inputs[0].dtype, WithSpatial(inputs[0].dims[0], inputs[0].dims[1], axes));
}

Inferred InferMaxPool(const Node& node, int64_t, InferArgs inputs) {
  OCTAVO_ASSIGN(const std::vector<WindowAxis> axes, ResolvePool(node, inputs[0].dims));
  const Dims dims = WithSpatial(inputs[0].dims[0], inputs[0].dims[1], axes);
  std::vector<InferOutput> outputs(2);
  outputs[0] = {inputs[0].dtype, dims};
  outputs[1] = {DType::kInt64, dims};
  return outputs;
}

Inferred InferGlobalPool(const Node&, int64_t, InferArgs inputs) {
  OCTAVO_RETURN_IF_ERROR(CheckRank(inputs[0], 3, "X"));
  Dims dims(inputs[0].dims.size(), 1);
  std::copy_n(inputs[0].dims.begin(), 2, dims.begin());
  return OneOutput(inputs[0].dtype, std::move(dims));
}

Inferred InferLpPool(const Node& node, int64_t opset, InferArgs inputs) {
  if (node.Int("p", 2) < 1) return InvalidArgument("p is " + std::to_string(node.Int("p", 2)));
  return InferAveragePool(node, opset, inputs);
}

Result<Dims> ResolveUnpool(const Node& node, const Dims& x) {
  if (x.size() < 3) return InvalidArgument("input of " + ToString(x) + " needs rank 3 or more");
  const size_t count = x.size() - 2;
  if (!node.Has("kernel_shape")) return InvalidArgument("its kernel_shape is missing");
  OCTAVO_ASSIGN(const auto kernel, ExtentAttribute(node, "kernel_shape", count, 1, 1));
  OCTAVO_ASSIGN(const auto strides, ExtentAttribute(node, "strides", count, 1, 1));
  OCTAVO_ASSIGN(const auto pads, ExtentAttribute(node, "pads", 2 * count, 0, 0));
  Dims dims(x.begin(), x.begin() + 2);
  for (size_t d = 0; d < count; ++d) {
    dims.push_back((x[d + 2] - 1) * strides[d] + kernel[d] - pads[d] - pads[d + count]);
  }
  OCTAVO_RETURN_IF_ERROR(CheckedElementCount(dims).status());
  return dims;
}

Inferred InferMaxUnpool(const Node& node, int64_t, InferArgs inputs) {
  OCTAVO_ASSIGN(Dims dims, ResolveUnpool(node, inputs[0].dims));
  OCTAVO_RETURN_IF_ERROR(CheckDims(inputs[1], inputs[0].dims, "I"));
  if (inputs[1].dtype != DType::kInt64) return InvalidArgument("its indices must be int64");
  if (!InputAt(inputs, 2).present) return OneOutput(inputs[0].dtype, std::move(dims));
  OCTAVO_ASSIGN(Dims wanted, ConstantInts(inputs[2], "output_shape"));
  bool fits = wanted.size() == dims.size();
  for (size_t d = 0; fits && d < dims.size(); ++d) fits = d < 2 ? wanted[d] == dims[d] : wanted[d] >= dims[d];
  if (!fits) return InvalidArgument("output_shape " + ToString(wanted) + " has no room for " + ToString(dims));
  return OneOutput(inputs[0].dtype, std::move(wanted));
}

}  // namespace octavo
