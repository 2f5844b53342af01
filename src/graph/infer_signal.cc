#include "graph/infer_signal.h"

#include "graph/infer_dims.h"
#include "graph/infer_rules.h"
#include "graph/infer_selection.h"

namespace octavo {
namespace {

Result<int64_t> OneInt(const InferInput& input, std::string_view name, int64_t low) {
  OCTAVO_ASSIGN(const std::vector<int64_t> values, ConstantInts(input, name));
  if (values.size() != 1 || values[0] < low || values[0] > kMaxExtent) {
    return InvalidArgument("input '" + std::string(name) + "' must be one number of " + std::to_string(low) +
                           " or more");
  }
  return values[0];
}

// The type that the attribute output_datatype names; float32 by default.
Result<DType> OutputType(const Node& node) {
  const int64_t number = node.Int("output_datatype", 1);
  const std::optional<DType> dtype = DTypeFromOnnx(number);
  if (dtype && *dtype != DType::kBool) return *dtype;
  return Unsupported("it makes ONNX type " + std::to_string(number));
}

Status CheckComplex(const InferInput& input, bool real_only) {
  const int64_t parts = input.dims.empty() ? 0 : input.dims.back();
  if (parts == 1 || (parts == 2 && !real_only)) return {};
  return InvalidArgument("the last axis of " + ToString(input.dims) +
                         " must hold one part, or a real and an imaginary one");
}

}  // namespace

Result<DftPlan> ResolveDft(const Node& node, int64_t opset, InferArgs inputs) {
  const auto rank = static_cast<int64_t>(inputs[0].dims.size());
  OCTAVO_RETURN_IF_ERROR(CheckRank(inputs[0], 2, "input"));
  DftPlan plan;
  plan.inverse = node.Int("inverse", 0) != 0;
  plan.onesided = node.Int("onesided", 0) != 0;
  if (plan.inverse && plan.onesided) return Unsupported("it inverts a one-sided transform");
  OCTAVO_RETURN_IF_ERROR(CheckComplex(inputs[0], plan.onesided));
  // Opset 20 made the axis an input.
  if (opset < 20) {
    OCTAVO_ASSIGN(plan.axis, NormalizeAxis(node.Int("axis", 1), rank));
  } else if (InputAt(inputs, 2).present) {
    OCTAVO_ASSIGN(plan.axis, AxisFromInput(inputs[2], "axis", rank));
  } else {
    plan.axis = rank - 2;
  }
  if (plan.axis == rank - 1) return InvalidArgument("it transforms the axis of real and imaginary parts");
  plan.length = inputs[0].dims[static_cast<size_t>(plan.axis)];
  if (InputAt(inputs, 1).present) {
    OCTAVO_ASSIGN(plan.length, OneInt(inputs[1], "dft_length", 1));
  }
  if (plan.length < 1 || plan.length > kMaxExtent)
    return InvalidArgument("it transforms " + std::to_string(plan.length) + " elements");
  plan.bins = plan.onesided ? plan.length / 2 + 1 : plan.length;
  return plan;
}

Result<StftPlan> ResolveStft(const Node& node, InferArgs inputs) {
  if (inputs[0].dims.size() != 3) return InvalidArgument("its signal must be N x L x 1 or N x L x 2");
  StftPlan plan;
  plan.onesided = node.Int("onesided", 1) != 0;
  OCTAVO_RETURN_IF_ERROR(CheckComplex(inputs[0], plan.onesided));
  OCTAVO_ASSIGN(plan.step, OneInt(inputs[1], "frame_step", 1));
  const InferInput& window = InputAt(inputs, 2);
  if (InputAt(inputs, 3).present) {
    OCTAVO_ASSIGN(plan.length, OneInt(inputs[3], "frame_length", 1));
  } else if (window.present && window.dims.size() == 1) {
    plan.length = window.dims[0];
  }
  if (window.present) {
    OCTAVO_RETURN_IF_ERROR(CheckDims(window, {plan.length}, "window"));
    if (window.dtype != inputs[0].dtype) return InvalidArgument("its signal and window differ in type");
  }
  if (plan.length < 1 || plan.length > inputs[0].dims[1]) {
    return InvalidArgument("frames of " + std::to_string(plan.length) + " do not fit a signal of " +
                           ToString(inputs[0].dims));
  }
  plan.frames = (inputs[0].dims[1] - plan.length) / plan.step + 1;
  plan.bins = plan.onesided ? plan.length / 2 + 1 : plan.length;
  return plan;
}

Inferred InferSignalWindow(const Node& node, int64_t, InferArgs inputs) {
  OCTAVO_ASSIGN(const int64_t size, OneInt(inputs[0], "size", 0));
  OCTAVO_ASSIGN(const DType dtype, OutputType(node));
  return OneOutput(dtype, {size});
}

Inferred InferDft(const Node& node, int64_t opset, InferArgs inputs) {
  OCTAVO_ASSIGN(const DftPlan plan, ResolveDft(node, opset, inputs));
  Dims dims = inputs[0].dims;
  dims[static_cast<size_t>(plan.axis)] = plan.bins;
  dims.back() = 2;
  return OneOutput(inputs[0].dtype, std::move(dims));
}

Inferred InferStft(const Node& node, int64_t, InferArgs inputs) {
  OCTAVO_ASSIGN(const StftPlan plan, ResolveStft(node, inputs));
  return OneOutput(inputs[0].dtype, {inputs[0].dims[0], plan.frames, plan.bins, 2});
}

Inferred InferMelWeightMatrix(const Node& node, int64_t, InferArgs inputs) {
  OCTAVO_ASSIGN(const int64_t bins, OneInt(inputs[0], "num_mel_bins", 0));
  OCTAVO_ASSIGN(const int64_t length, OneInt(inputs[1], "dft_length", 0));
  for (const InferInput& input : inputs) {
    if (ElementCount(input.dims) != 1) return InvalidArgument("its inputs must be scalars");
  }
  OCTAVO_ASSIGN(const DType dtype, OutputType(node));
  return OneOutput(dtype, {length / 2 + 1, bins});
}

}  // namespace octavo
