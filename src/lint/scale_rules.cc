// Scales, zero points and types of single Q and DQ nodes.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/quote.h"
#include "graph/quantization.h"
#include "lint/mends.h"
#include "lint/rule.h"

namespace octavo {
namespace {

constexpr LintSeverity kWarning = LintSeverity::kWarning, kError = LintSeverity::kError;

// Q and DQ in execution order.
template <typename Fn>
void ForEach(const LintContext& context, Fn fn) {
  for (size_t n = 0; n < context.graph.nodes.size(); ++n) {
    const Node& node = context.graph.nodes[n];
    const auto id = static_cast<NodeId>(n);
    if (node.removed || !(IsQuantize(node) || IsDequantize(node)) || !node.has_input(0) || !node.has_input(1)) continue;
    fn(id, node, context.quantized.Parameters(id));
  }
}

// A Q and its DQ share a scale; what is wrong with it is said once.
template <typename Wrong>
void CheckScales(const LintContext& context, LintReporter& reporter, Wrong wrong) {
  std::vector<bool> reported(context.graph.values.size());
  ForEach(context, [&](NodeId id, const Node& node, const WrittenParameters& parameters) {
    const auto bad = std::find_if(parameters.scales.begin(), parameters.scales.end(), wrong);
    const auto scale = static_cast<size_t>(node.input(1));
    if (bad == parameters.scales.end() || reported[scale]) return;
    reported[scale] = true;
    const auto count = std::count_if(parameters.scales.begin(), parameters.scales.end(), wrong);
    reporter.Add(id, node.input(1),
                 parameters.scales.size() == 1
                     ? fmt::format("its scale is {}", *bad)
                     : fmt::format("{} of its {} scales are so, the first {}, of slice {}", count,
                                   parameters.scales.size(), *bad, bad - parameters.scales.begin()));
  });
}

void CheckBrokenScale(const LintContext& context, LintReporter& reporter) {
  CheckScales(context, reporter, [](float scale) { return !(scale > 0) || std::isinf(scale); });
}

void CheckDenormalScale(const LintContext& context, LintReporter& reporter) {
  CheckScales(context, reporter, [](float scale) { return scale > 0 && !std::isnormal(scale) && !std::isinf(scale); });
}

void CheckComputedParameters(const LintContext& context, LintReporter& reporter) {
  ForEach(context, [&](NodeId id, const Node& node, const WrittenParameters& parameters) {
    if (parameters.constant) return;
    const bool is_scale = !context.graph.value(node.input(1)).is_constant();
    const ValueId computed = node.input(is_scale ? 1 : 2);
    const Node* producer = context.quantized.Producer(computed);
    reporter.Add(id, computed,
                 fmt::format("its {} is {}", is_scale ? "scale" : "zero point",
                             producer == nullptr ? "an input of the model"
                                                 : "computed by " + context.graph.Describe(*producer)));
  });
}

// The Q before a DQ says what is wrong with both.
bool FollowsQuantize(const LintContext& context, const Node& node) {
  const Node* producer = context.quantized.Producer(node.input(0));
  return IsDequantize(node) && producer != nullptr && IsQuantize(*producer) && producer->has_input(2) &&
         producer->input(2) == node.input(2);
}

void CheckZeroPoint(const LintContext& context, LintReporter& reporter) {
  ForEach(context, [&](NodeId id, const Node& node, const WrittenParameters& parameters) {
    // Of uint8 the type is what is wrong first.
    if (parameters.dtype == DType::kUInt8 || !parameters.has_nonzero_zero_point()) return;
    if (FollowsQuantize(context, node)) return;
    const auto first = std::find_if(parameters.zero_points.begin(), parameters.zero_points.end(),
                                    [](int32_t zero_point) { return zero_point != 0; });
    reporter.Add(id, node.input(2), fmt::format("its zero point is {}", *first)).fixable =
        ShiftOf(context.quantized, id).has_value();
  });
}

void CheckUnsigned(const LintContext& context, LintReporter& reporter) {
  ForEach(context, [&](NodeId id, const Node& node, const WrittenParameters& parameters) {
    if (parameters.dtype != DType::kUInt8 || FollowsQuantize(context, node)) return;
    if (!parameters.has_zero_point && IsQuantize(node)) {
      reporter.Add(
          id, node.output(0),
          "it has no zero point, so ONNX makes it uint8, and TensorRT's parser int8: values above 127 steps saturate");
      return;
    }
    std::string why = "its integers are uint8";
    if (!parameters.zero_points.empty()) why += fmt::format(", zero point {}", parameters.zero_points[0]);
    reporter.Add(id, IsQuantize(node) ? node.output(0) : node.input(0), std::move(why)).fixable =
        ShiftOf(context.quantized, id).has_value();
  });
}

void CheckIntegerType(const LintContext& context, LintReporter& reporter) {
  ForEach(context, [&](NodeId id, const Node& node, const WrittenParameters& parameters) {
    if (parameters.dtype != DType::kInt16 && parameters.dtype != DType::kUInt16) return;
    if (FollowsQuantize(context, node)) return;
    reporter.Add(id, IsQuantize(node) ? node.output(0) : node.input(0),
                 fmt::format("its integers are {}", NameOf(parameters.dtype)));
  });
}

constexpr LintRule kRules[] = {
    {{.id = "broken-scale",
      .effect = LintEffect::kBuildError,
      .tensorrt = kError,
      .onnxruntime = kError,
      .openvino = kError,
      .onnxruntime_effect = LintEffect::kWrongResult,
      .openvino_effect = LintEffect::kWrongResult,
      .title = "a scale that is zero, negative, infinite or NaN",
      .mend = "calibrate the tensor again; one that is always zero takes any positive scale",
      .source = "TensorRT's ONNX parser: scale coefficients must all be positive; ONNX Runtime 1.32 and OpenVINO "
                "2026.4 run and give infinity or NaN (measured)"},
     CheckBrokenScale},
    {{.id = "denormal-scale",
      .effect = LintEffect::kWrongResult,
      .tensorrt = kWarning,
      .onnxruntime = kWarning,
      .openvino = kWarning,
      .title = "a scale below the smallest normal float",
      .mend = "calibrate the tensor again; a scale of 2^-60 is small enough for any activation",
      .source = "1/scale is infinite, and arithmetic that flushes denormals divides by zero; ONNX Runtime 1.32 and "
                "OpenVINO 2026.4 give infinity (measured)"},
     CheckDenormalScale},
    {{.id = "computed-scale",
      .effect = LintEffect::kBuildError,
      .tensorrt = kError,
      .openvino = kWarning,
      .openvino_effect = LintEffect::kSilentFloat,
      .title = "a scale or zero point that is no constant",
      .mend = "fold it: run the exporter's constant folding, or write the calibrated value as an initializer",
      .source = "TensorRT API, IQuantizeLayer: the scale is a build-time constant; OpenVINO 2026.4 computes in float "
                "(measured)"},
     CheckComputedParameters},
    {{.id = "zero-point",
      .effect = LintEffect::kBuildError,
      .tensorrt = kError,
      .title = "a zero point other than 0",
      .mend = "quantize symmetrically (octavo quantize --target tensorrt; ONNX Runtime's quantizer: "
              "ActivationSymmetric and WeightSymmetric); --fix moves those of constants that stay within int8",
      .source = "TensorRT's ONNX parser asserts shiftIsAllZeros(zeroPoint); developer guide, Introduction to "
                "Quantization: symmetric; TensorRT#2774",
      .fixable = true},
     CheckZeroPoint},
    {{.id = "uint8",
      .effect = LintEffect::kBuildError,
      .tensorrt = kError,
      .title = "Q or DQ in uint8",
      .mend =
          "quantize activations to int8 (octavo quantize --target tensorrt; ONNX Runtime's quantizer: activation_type "
          "QInt8); --fix moves uint8 with zero point 128 to int8 with zero point 0, the same values",
      .source = "TensorRT's ONNX parser refuses UINT8 data and zero points but for DLA; developer guide, supported "
                "data types: INT8, INT4, FP8, FP4",
      .fixable = true},
     CheckUnsigned},
    {{.id = "integer-type",
      .effect = LintEffect::kBuildError,
      .tensorrt = kError,
      .onnxruntime = kWarning,
      .openvino = kWarning,
      .onnxruntime_effect = LintEffect::kSilentFloat,
      .openvino_effect = LintEffect::kSilentFloat,
      .title = "Q or DQ in 16 bits",
      .mend = "quantize to 8 bits, or leave the tensor float",
      .source =
          "TensorRT's developer guide, supported data types; ONNX Runtime's QDQ selectors take 16 bits on few "
          "providers, not for CPU contractions; ONNX Runtime 1.32 and OpenVINO 2026.4 multiply in float (measured)"},
     CheckIntegerType},
};

}  // namespace

std::span<const LintRule> ScaleRules() { return kRules; }

}  // namespace octavo
