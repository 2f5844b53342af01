#include "graph/infer_resize.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "graph/infer_dims.h"
#include "graph/infer_rules.h"

namespace octavo {
namespace {

// The largest side that a resize may give, so that float arithmetic on sizes stays meaningful.
constexpr float kMaxSide = 0x1p31f;

template <typename Enum>
struct Choice {
  std::string_view name;
  Enum value;
};

template <typename Enum, size_t N>
Result<Enum> Choose(const Node& node, std::string_view attribute, const Choice<Enum> (&choices)[N], Enum fallback) {
  if (!node.Has(attribute)) return fallback;
  const std::string wanted = node.String(attribute, "");
  for (const Choice<Enum>& choice : choices) {
    if (choice.name == wanted) return choice.value;
  }
  return Unsupported(std::string(attribute) + " '" + wanted + "' is not one that Octavo knows");
}

constexpr Choice<ResizeMode> kModes[] = {
    {"nearest", ResizeMode::kNearest}, {"linear", ResizeMode::kLinear}, {"cubic", ResizeMode::kCubic}};
constexpr Choice<ResizeMode> kUpsampleModes[] = {
    {"nearest", ResizeMode::kNearest}, {"linear", ResizeMode::kLinear}, {"bilinear", ResizeMode::kLinear}};
constexpr Choice<ResizeCoordinates> kCoordinates[] = {
    {"half_pixel", ResizeCoordinates::kHalfPixel},
    {"half_pixel_symmetric", ResizeCoordinates::kHalfPixelSymmetric},
    {"pytorch_half_pixel", ResizeCoordinates::kPytorchHalfPixel},
    {"align_corners", ResizeCoordinates::kAlignCorners},
    {"asymmetric", ResizeCoordinates::kAsymmetric},
    {"tf_crop_and_resize", ResizeCoordinates::kTfCropAndResize},
    {"tf_half_pixel_for_nn", ResizeCoordinates::kTfHalfPixelForNearest}};
constexpr Choice<ResizeNearest> kNearest[] = {{"round_prefer_floor", ResizeNearest::kRoundPreferFloor},
                                              {"round_prefer_ceil", ResizeNearest::kRoundPreferCeil},
                                              {"floor", ResizeNearest::kFloor},
                                              {"ceil", ResizeNearest::kCeil}};

Status ReadAttributes(const Node& node, ResizePlan& plan) {
  if (node.op == "Upsample") {
    plan.coordinates = ResizeCoordinates::kAsymmetric;
    plan.nearest = ResizeNearest::kFloor;
    OCTAVO_ASSIGN(plan.mode, Choose(node, "mode", kUpsampleModes, ResizeMode::kNearest));
    return {};
  }
  OCTAVO_ASSIGN(plan.mode, Choose(node, "mode", kModes, ResizeMode::kNearest));
  OCTAVO_ASSIGN(plan.coordinates,
                Choose(node, "coordinate_transformation_mode", kCoordinates, ResizeCoordinates::kHalfPixel));
  OCTAVO_ASSIGN(plan.nearest, Choose(node, "nearest_mode", kNearest, ResizeNearest::kRoundPreferFloor));
  plan.cubic_coeff_a = node.Float("cubic_coeff_a", -0.75f);
  plan.extrapolation_value = node.Float("extrapolation_value", 0);
  plan.exclude_outside = node.Int("exclude_outside", 0) != 0;
  plan.antialias = node.Int("antialias", 0) != 0;
  return {};
}

// Values of an optional float input, empty where it is absent or has no elements.
Result<std::vector<float>> OptionalFloats(InferArgs inputs, size_t index, std::string_view name) {
  const InferInput& input = InputAt(inputs, index);
  if (!input.present || ElementCount(input.dims) == 0) return std::vector<float>();
  if (input.constant == nullptr) {
    return Unsupported("the output's shape depends on the values of input '" + std::string(name) +
                       "', which are not known before the model runs; make that input a constant");
  }
  return ToFloats(*input.constant);
}

Result<std::vector<size_t>> ResizedAxes(const Node& node, size_t rank) {
  std::vector<size_t> axes(rank);
  std::iota(axes.begin(), axes.end(), 0);
  if (!node.Has("axes")) return axes;
  OCTAVO_ASSIGN(const auto named, NormalizeAxes(node.Ints("axes"), static_cast<int64_t>(rank)));
  axes.assign(named.begin(), named.end());
  return axes;
}

Status ApplyRoi(const std::vector<float>& roi, const std::vector<size_t>& axes, ResizePlan& plan) {
  if (plan.coordinates != ResizeCoordinates::kTfCropAndResize) return {};
  if (roi.size() != 2 * axes.size()) {
    return InvalidArgument("its roi has " + std::to_string(roi.size()) + " values instead of " +
                           std::to_string(2 * axes.size()));
  }
  for (size_t i = 0; i < axes.size(); ++i) {
    if (!std::isfinite(roi[i]) || !std::isfinite(roi[i + axes.size()])) return InvalidArgument("its roi is not finite");
    plan.axes[axes[i]].roi_start = roi[i];
    plan.axes[axes[i]].roi_end = roi[i + axes.size()];
  }
  return {};
}

Status ApplyScales(const std::vector<float>& scales, const std::vector<size_t>& axes, ResizePlan& plan) {
  if (scales.size() != axes.size()) {
    return InvalidArgument("it has " + std::to_string(scales.size()) + " scales for " + std::to_string(axes.size()) +
                           " axes");
  }
  for (size_t i = 0; i < axes.size(); ++i) {
    ResizeAxis& axis = plan.axes[axes[i]];
    // Not "scale <= 0": NaN must be refused too.
    if (!(scales[i] > 0)) return InvalidArgument("a scale of " + std::to_string(scales[i]) + " is not positive");
    axis.scale = scales[i];
    float side = static_cast<float>(axis.input) * scales[i];
    if (plan.coordinates == ResizeCoordinates::kTfCropAndResize) {
      side = static_cast<float>(axis.input) * (axis.roi_end - axis.roi_start) * scales[i];
    }
    if (!(side < kMaxSide)) return InvalidArgument("a scale of " + std::to_string(scales[i]) + " is too large");
    axis.output = static_cast<int64_t>(std::max(0.0f, std::floor(side)));
  }
  return {};
}

// keep_aspect_ratio_policy: one scale for all axes, the smallest (not_larger) or the largest (not_smaller).
Status KeepAspect(const std::string& policy, const std::vector<size_t>& axes, ResizePlan& plan) {
  if (policy != "not_larger" && policy != "not_smaller") {
    return InvalidArgument("keep_aspect_ratio_policy '" + policy + "' is not one of stretch, not_larger, not_smaller");
  }
  if (axes.empty()) return {};
  float scale = plan.axes[axes[0]].scale;
  for (const size_t d : axes) {
    scale = policy == "not_larger" ? std::min(scale, plan.axes[d].scale) : std::max(scale, plan.axes[d].scale);
  }
  for (const size_t d : axes) {
    plan.axes[d].scale = scale;
    const float side = scale * static_cast<float>(plan.axes[d].input);
    if (!(side < kMaxSide)) return InvalidArgument("its output is too large");
    plan.axes[d].output = static_cast<int64_t>(std::floor(side + 0.5f));
  }
  return {};
}

Status ApplySizes(const Node& node, const std::vector<int64_t>& sizes, const std::vector<size_t>& axes,
                  ResizePlan& plan) {
  if (sizes.size() != axes.size()) {
    return InvalidArgument("it has " + std::to_string(sizes.size()) + " sizes for " + std::to_string(axes.size()) +
                           " axes");
  }
  for (size_t i = 0; i < axes.size(); ++i) {
    ResizeAxis& axis = plan.axes[axes[i]];
    if (sizes[i] < 0 || static_cast<float>(sizes[i]) >= kMaxSide) {
      return InvalidArgument("a size of " + std::to_string(sizes[i]) + " is out of range");
    }
    if (axis.input == 0 && sizes[i] != 0) return InvalidArgument("an empty axis cannot grow");
    axis.output = sizes[i];
    axis.scale = axis.input == 0 ? 1.0f : static_cast<float>(sizes[i]) / static_cast<float>(axis.input);
  }
  const std::string policy = node.String("keep_aspect_ratio_policy", "stretch");
  return policy == "stretch" ? Status() : KeepAspect(policy, axes, plan);
}

Result<ResizePlan> MarkResized(ResizePlan plan) {
  for (ResizeAxis& axis : plan.axes) {
    const bool whole = axis.roi_start == 0 && axis.roi_end == 1;
    axis.resized = axis.output != axis.input || axis.scale != 1 ||
                   (plan.coordinates == ResizeCoordinates::kTfCropAndResize && !whole);
    if (axis.resized && axis.input == 0 && axis.output != 0) return InvalidArgument("an empty axis cannot grow");
  }
  return plan;
}

}  // namespace

Result<ResizePlan> ResolveResize(const Node& node, int64_t, InferArgs inputs) {
  const Dims& x = inputs[0].dims;
  ResizePlan plan;
  OCTAVO_RETURN_IF_ERROR(ReadAttributes(node, plan));
  for (const int64_t dim : x) plan.axes.push_back({.input = dim, .output = dim});
  OCTAVO_ASSIGN(const std::vector<size_t> axes, ResizedAxes(node, x.size()));
  if (node.op == "Upsample") {
    // The scales were an attribute before opset 9.
    OCTAVO_ASSIGN(std::vector<float> scales, OptionalFloats(inputs, 1, "scales"));
    if (scales.empty()) scales = node.Floats("scales");
    OCTAVO_RETURN_IF_ERROR(ApplyScales(scales, axes, plan));
    return MarkResized(std::move(plan));
  }
  OCTAVO_ASSIGN(const std::vector<float> roi, OptionalFloats(inputs, 1, "roi"));
  OCTAVO_ASSIGN(const std::vector<float> scales, OptionalFloats(inputs, 2, "scales"));
  const bool has_sizes = InputAt(inputs, 3).present && ElementCount(inputs[3].dims) > 0;
  if (has_sizes == !scales.empty() && !axes.empty()) {
    return InvalidArgument("it needs scales or sizes, and not both");
  }
  OCTAVO_RETURN_IF_ERROR(ApplyRoi(roi, axes, plan));
  if (has_sizes) {
    OCTAVO_ASSIGN(const std::vector<int64_t> sizes, ConstantInts(inputs[3], "sizes"));
    OCTAVO_RETURN_IF_ERROR(ApplySizes(node, sizes, axes, plan));
  } else if (!axes.empty()) {
    OCTAVO_RETURN_IF_ERROR(ApplyScales(scales, axes, plan));
  }
  return MarkResized(std::move(plan));
}

Inferred InferResize(const Node& node, int64_t opset, InferArgs inputs) {
  OCTAVO_ASSIGN(const ResizePlan plan, ResolveResize(node, opset, inputs));
  Dims dims;
  for (const ResizeAxis& axis : plan.axes) dims.push_back(axis.output);
  return OneOutput(inputs[0].dtype, std::move(dims));
}

}  // namespace octavo
