// Scales per channel: of weights along their output channels, of activations not at all.
#include <fmt/format.h>

#include <algorithm>

#include "graph/quantization.h"
#include "lint/mends.h"
#include "lint/rule.h"
#include "quantize/opset.h"

namespace octavo {
namespace {

constexpr LintSeverity kNote = LintSeverity::kNote, kWarning = LintSeverity::kWarning, kError = LintSeverity::kError;

// OpenVINO runs depthwise convolutions with a scale per input channel.
bool AllReadersDepthwise(const LintContext& context, NodeId id) {
  const Node& node = context.graph.node(id);
  const auto is_depthwise = [&](ValueId value) {
    const std::vector<NodeId>& readers = context.quantized.readers(value);
    return !readers.empty() && std::all_of(readers.begin(), readers.end(), [&](NodeId reader) {
      return context.quantized.IsDepthwise(reader) && context.graph.node(reader).input(0) == value;
    });
  };
  if (IsDequantize(node)) return is_depthwise(node.output(0));
  const std::vector<NodeId>& readers = context.quantized.readers(node.output(0));
  return !readers.empty() && std::all_of(readers.begin(), readers.end(), [&](NodeId reader) {
    return IsDequantize(context.graph.node(reader)) && is_depthwise(context.graph.node(reader).output(0));
  });
}

// ONNX Runtime makes a QLinearConv or QLinearMatMul of a contraction with a Q behind it, and that one takes one scale.
bool FusesInOnnxRuntime(const LintContext& context, NodeId quantize) {
  for (const NodeId dequantize : context.quantized.readers(context.graph.node(quantize).output(0))) {
    const Node& node = context.graph.node(dequantize);
    if (!IsDequantize(node) || node.output(0) == kNoValue) continue;
    for (const NodeId reader : context.quantized.readers(node.output(0))) {
      const ValueId result = context.graph.node(reader).output(0);
      if (!context.quantized.IsQuantizedContraction(reader) || result == kNoValue) continue;
      const std::vector<NodeId>& behind = context.quantized.readers(result);
      if (behind.size() == 1 && IsQuantize(context.graph.node(behind[0]))) return true;
    }
  }
  return false;
}

// OpenVINO takes scales that are all the same for one.
bool IsUniform(const WrittenParameters& parameters) {
  const auto same = [](const auto& values) {
    return std::all_of(values.begin(), values.end(), [&](auto value) { return value == values[0]; });
  };
  return !parameters.scales.empty() && same(parameters.scales) && same(parameters.zero_points);
}

void CheckActivations(const LintContext& context, LintReporter& reporter) {
  const auto check = [&](NodeId id) {
    const WrittenParameters& parameters = context.quantized.Parameters(id);
    if (!parameters.per_channel() || context.quantized.IsOfWeights(id)) return;
    if (context.quantized.target().name == "openvino" && (IsUniform(parameters) || AllReadersDepthwise(context, id))) {
      return;
    }
    const Node& node = context.graph.node(id);
    LintFinding& finding =
        reporter.Add(id, IsQuantize(node) ? node.input(0) : node.output(0),
                     fmt::format("it has {} scales along axis {}", parameters.scale_count, parameters.axis));
    if (context.quantized.target().name != "onnxruntime") return;
    if (parameters.dtype == DType::kUInt8 && FusesInOnnxRuntime(context, id)) return;
    finding.severity = LintSeverity::kWarning;
    finding.effect = LintEffect::kSilentFloat;
  };
  for (const NodeId id : context.quantized.quantizes()) check(id);
  // A DQ behind its Q says the same again.
  for (const NodeId id : context.quantized.dequantizes()) {
    if (context.quantized.QuantizeBehind(context.graph.node(id).input(0)) == kNoNode) check(id);
  }
}

void CheckWeightAxis(const LintContext& context, LintReporter& reporter) {
  for (const NodeId id : context.quantized.dequantizes()) {
    const auto wrong = WrongAxisOf(context.quantized, id);
    if (!wrong) continue;
    const WrittenParameters& parameters = context.quantized.Parameters(id);
    reporter
        .Add(id, context.graph.node(id).input(0),
             fmt::format("its {} scales run along axis {}; the output channels of {} lie along axis {}",
                         parameters.scale_count, parameters.axis,
                         context.graph.Describe(context.graph.node(wrong->reader)), wrong->expected))
        .fixable = wrong->unambiguous;
  }
}

void CheckUnwrittenAxis(const LintContext& context, LintReporter& reporter) {
  const auto check = [&](NodeId id) {
    const WrittenParameters& parameters = context.quantized.Parameters(id);
    if (!parameters.per_channel() || parameters.axis_written) return;
    // Where axis 1 is wrong itself, that is what is said.
    if (IsDequantize(context.graph.node(id)) && WrongAxisOf(context.quantized, id)) return;
    reporter
        .Add(id, context.graph.node(id).input(0),
             fmt::format("its {} scales have no axis: by ONNX they run along axis 1, by TensorRT's parser along 0",
                         parameters.scale_count))
        .fixable = true;
  };
  for (const NodeId id : context.quantized.quantizes()) check(id);
  for (const NodeId id : context.quantized.dequantizes()) check(id);
}

void CheckOpset(const LintContext& context, LintReporter& reporter) {
  if (context.graph.opset() >= kQuantizingOpset) return;
  LintFinding* finding = nullptr;
  for (const auto* nodes : {&context.quantized.quantizes(), &context.quantized.dequantizes()}) {
    for (const NodeId id : *nodes) {
      if (!context.quantized.Parameters(id).per_channel()) continue;
      if (finding != nullptr) {
        finding->more.push_back(context.graph.node(id).name);
        continue;
      }
      finding = &reporter.Add(id, context.graph.node(id).input(1),
                              fmt::format("the model states opset {}", context.graph.opset()));
    }
  }
  if (finding == nullptr) return;
  Graph raised = context.graph;
  finding->fixable = RaiseOpset(raised).ok();
}

constexpr LintRule kRules[] = {
    {{.id = "per-channel-activation",
      .effect = LintEffect::kBuildError,
      .tensorrt = kError,
      .onnxruntime = kError,
      .openvino = kWarning,
      .openvino_effect = LintEffect::kSilentFloat,
      .title = "an activation with a scale per channel",
      .mend = "quantize activations per tensor; fold the channels' ratio into the weights before (octavo quantize "
              "equalizes channels by itself)",
      .source = "TensorRT's developer guide, Quantization Schemes: activations per tensor; ONNX Runtime 1.32 makes a "
                "QLinearConv of it that fails when it runs, or, with no Q behind, computes in float (a warning then; "
                "measured); OpenVINO, ConvolutionTransformation: dequantization on activations must be per tensor; "
                "2026.4 convolves in float, but for depthwise convolutions (measured)"},
     CheckActivations},
    {{.id = "weight-axis",
      .effect = LintEffect::kWrongResult,
      .tensorrt = kError,
      .onnxruntime = kError,
      .openvino = kError,
      .title = "scales of weights along another axis than output channels",
      .mend = "quantize the weights again along the axis named; the integers there do not fit other scales. --fix sets "
              "the axis where the count of scales fits no other",
      .source = "TensorRT's developer guide, Explicit Quantization: axis 0 of Conv, 1 of ConvTranspose; ONNX Runtime "
                "1.32 takes the scales as those of output channels, 3 dB of SQNR (measured), as does OpenVINO 2026.4 "
                "in MatMul, 1 dB; its Conv runs in float (measured)",
      .fixable = true},
     CheckWeightAxis},
    {{.id = "unwritten-axis",
      .effect = LintEffect::kWrongResult,
      .tensorrt = kError,
      .title = "scales per channel without an axis",
      .mend = "write the attribute axis; --fix writes ONNX's default, 1",
      .source = "TensorRT's ONNX parser, QuantDequantLinearHelper: without the attribute axis 0 is taken; ONNX: 1",
      .fixable = true},
     CheckUnwrittenAxis},
    {{.id = "per-channel-opset",
      .effect = LintEffect::kBuildError,
      .tensorrt = kError,
      .onnxruntime = kNote,
      .openvino = kError,
      .onnxruntime_effect = LintEffect::kWrongResult,
      .title = "scales per channel in an opset below 13",
      .mend = "convert the model to opset 13 or later; --fix does where its ops mean the same there",
      .source = "ONNX, QuantizeLinear-10: the scale is a scalar; axis begins with QuantizeLinear-13; TensorRT's "
                "developer guide, ONNX Support: per channel from opset 13; OpenVINO 2026.4 does not read it (measured)",
      .fixable = true},
     CheckOpset},
};

}  // namespace

std::span<const LintRule> AxisRules() { return kRules; }

}  // namespace octavo
