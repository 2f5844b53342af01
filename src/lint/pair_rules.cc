// Which Q stands before which DQ: pairs that do nothing, tensors that are rounded twice, halves of pairs.
#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "base/quote.h"
#include "graph/quantization.h"
#include "lint/mends.h"
#include "lint/rule.h"

namespace octavo {
namespace {

constexpr LintSeverity kNote = LintSeverity::kNote, kWarning = LintSeverity::kWarning;

constexpr std::array<std::string_view, 5> kIntegerOps = {"ConvInteger", "MatMulInteger", "QLinearConv", "QLinearMatMul",
                                                         "DynamicQuantizeLinear"};

bool IsIntegerOp(const Node& node) {
  return node.domain.empty() && std::find(kIntegerOps.begin(), kIntegerOps.end(), node.op) != kIntegerOps.end();
}

void CheckRedundant(const LintContext& context, LintReporter& reporter) {
  for (const NodeId id : context.quantized.quantizes()) {
    if (!IsRedundantQuantize(context.quantized, id)) continue;
    const ValueId tensor = context.graph.node(id).input(0);
    reporter
        .Add(id, tensor,
             "it quantizes what " + context.graph.Describe(*context.quantized.Producer(tensor)) +
                 " has dequantized with the same scale")
        .fixable = true;
  }
}

std::string Written(const WrittenParameters& parameters) {
  if (parameters.scales.empty()) return "a computed scale";
  std::string text = parameters.per_channel() ? fmt::format("{} scales", parameters.scale_count)
                                              : fmt::format("scale {}", parameters.scales[0]);
  if (!parameters.zero_points.empty()) text += fmt::format(", zero point {}", parameters.zero_points[0]);
  return fmt::format("{} ({})", NameOf(parameters.dtype), text);
}

void CheckDouble(const LintContext& context, LintReporter& reporter) {
  for (const NodeId id : context.quantized.quantizes()) {
    const ValueId tensor = context.graph.node(id).input(0);
    const NodeId before = context.quantized.DequantizeBehind(tensor);
    if (before == kNoNode || context.quantized.IsOfWeights(before)) continue;
    const WrittenParameters &first = context.quantized.Parameters(before), &second = context.quantized.Parameters(id);
    // Behind a view the axis of equal scales may be another one.
    if (AreEqual(first, second, context.quantized.Rank(tensor))) continue;
    if (context.quantized.Producer(tensor) != &context.graph.node(before) && first.scales == second.scales &&
        first.dtype == second.dtype && first.zero_points == second.zero_points) {
      continue;
    }
    reporter.Add(id, tensor,
                 fmt::format("{} gave it as {}; it is quantized to {}",
                             context.graph.Describe(context.graph.node(before)), Written(first), Written(second)));
  }
}

// What reads the integers of `value`, through ops that move, and is neither a DQ nor an op on integers.
const Node* ForeignReader(const LintContext& context, ValueId value, bool& is_output, int steps = 8) {
  is_output |= context.quantized.IsOutput(value);
  for (const NodeId id : context.quantized.readers(value)) {
    const Node& node = context.graph.node(id);
    if (IsDequantize(node) || IsIntegerOp(node)) continue;
    if (!context.quantized.Moves(node) || node.input(0) != value || steps == 0) return &node;
    for (const ValueId output : node.outputs) {
      const Node* found = output == kNoValue ? nullptr : ForeignReader(context, output, is_output, steps - 1);
      if (found != nullptr) return found;
    }
  }
  return nullptr;
}

void CheckQuantizeAlone(const LintContext& context, LintReporter& reporter) {
  for (const NodeId id : context.quantized.quantizes()) {
    const ValueId integers = context.graph.node(id).output(0);
    bool is_output = false;
    const Node* reader = ForeignReader(context, integers, is_output);
    if (reader != nullptr) {
      reporter.Add(id, integers, context.graph.Describe(*reader) + " reads its integers, with no DQ between");
    } else if (is_output) {
      reporter.Add(id, integers, "its integers are an output of the model, with no DQ before");
    }
  }
}

void CheckDequantizeAlone(const LintContext& context, LintReporter& reporter) {
  for (const NodeId id : context.quantized.dequantizes()) {
    const ValueId integers = context.graph.node(id).input(0);
    if (context.quantized.IsConstantMade(integers) || context.quantized.QuantizeBehind(integers) != kNoNode) continue;
    const Node* producer = context.quantized.Producer(integers);
    if (producer != nullptr && IsIntegerOp(*producer)) continue;
    reporter.Add(id, integers,
                 producer == nullptr ? "its integers are an input of the model"
                                     : context.graph.Describe(*producer) + " makes its integers, no Q");
  }
}

void CheckDead(const LintContext& context, LintReporter& reporter) {
  for (const auto* nodes : {&context.quantized.quantizes(), &context.quantized.dequantizes()}) {
    for (const NodeId id : *nodes) {
      const ValueId made = context.graph.node(id).output(0);
      if (!context.quantized.readers(made).empty() || context.quantized.IsOutput(made)) continue;
      reporter.Add(id, made, "nobody reads what it makes").fixable = true;
    }
  }
}

constexpr LintRule kRules[] = {
    {{.id = "redundant-pair",
      .effect = LintEffect::kFusionLost,
      .tensorrt = kNote,
      .onnxruntime = kNote,
      .openvino = kNote,
      .title = "a Q directly behind a DQ of the same scale",
      .mend = "remove the second pair; --fix does, to the bit",
      .source = "TensorRT's developer guide, Q/DQ Layer-Placement Recommendations: unfused Q/DQ cost time",
      .fixable = true},
     CheckRedundant},
    {{.id = "double-quantization",
      .effect = LintEffect::kAccuracyLost,
      .tensorrt = kWarning,
      .onnxruntime = kWarning,
      .openvino = kWarning,
      .title = "a tensor that is quantized twice with different scales",
      .mend = "take one scale for both, the one of the wider range, and calibrate both as one tensor",
      .source = "TensorRT's developer guide, TensorRT Processing of Q/DQ Networks: Q and DQ with equal scales cancel; "
                "others are a requantization"},
     CheckDouble},
    {{.id = "q-without-dq",
      .effect = LintEffect::kBuildError,
      .tensorrt = kWarning,
      .onnxruntime = kWarning,
      .openvino = kWarning,
      .onnxruntime_effect = LintEffect::kFusionLost,
      .openvino_effect = LintEffect::kFusionLost,
      .title = "a Q whose integers are not dequantized",
      .mend = "put a DQ of the same parameters behind it",
      .source =
          "TensorRT's developer guide, Explicit Quantization: layers take INT8 from DQ; ONNX Runtime and OpenVINO "
          "fuse Q/DQ pairs"},
     CheckQuantizeAlone},
    {{.id = "dq-without-q",
      .effect = LintEffect::kFusionLost,
      .tensorrt = kWarning,
      .onnxruntime = kWarning,
      .openvino = kWarning,
      .title = "a DQ of integers that no Q made",
      .mend = "feed the model floats, with a Q before the DQ",
      .source = "TensorRT's developer guide, Explicit Quantization: a DQ stands behind a Q or a constant"},
     CheckDequantizeAlone},
    {{.id = "dead-qdq",
      .effect = LintEffect::kIgnored,
      .tensorrt = kNote,
      .onnxruntime = kNote,
      .openvino = kNote,
      .title = "a Q or DQ that nobody reads",
      .mend = "remove it; --fix does",
      .source = "ONNX: what no output needs has no effect",
      .fixable = true},
     CheckDead},
};

}  // namespace

std::span<const LintRule> PairRules() { return kRules; }

}  // namespace octavo
