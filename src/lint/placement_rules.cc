// Q/DQ where they break a fusion of TensorRT's, and where they lack for one.
#include <fmt/format.h>

#include <algorithm>

#include "base/quote.h"
#include "graph/quantization.h"
#include "lint/rule.h"

namespace octavo {
namespace {

constexpr LintSeverity kNote = LintSeverity::kNote, kWarning = LintSeverity::kWarning;

// The Q directly before a DQ; null where there is none.
const Node* PairedQuantize(const LintContext& context, const Node& dequantize) {
  const Node* quantize = context.quantized.Producer(dequantize.input(0));
  return quantize != nullptr && IsQuantize(*quantize) ? quantize : nullptr;
}

// What a convolution fuses with behind itself.
bool JoinsContraction(const Node& node) {
  return node.Is("BatchNormalization") || node.Is("Relu") || node.Is("LeakyRelu") || node.Is("PRelu") ||
         node.Is("Clip");
}

// The contraction that makes `value`, itself or with its bias or BatchNormalization; null where none does.
const Node* ContractionOf(const LintContext& context, ValueId value) {
  for (int step = 0; step < 3; ++step) {
    const Node* node = context.quantized.Producer(value);
    if (node == nullptr) return nullptr;
    if (context.quantized.IsContraction(context.quantized.ProducerId(value))) return node;
    if (node->Is("Add")) {
      value = context.quantized.OperandBesideConstant(*node);
    } else if (node->Is("BatchNormalization")) {
      value = node->input(0);
    } else {
      return nullptr;
    }
  }
  return nullptr;
}

void CheckSplitFusion(const LintContext& context, LintReporter& reporter) {
  for (const NodeId id : context.quantized.dequantizes()) {
    const Node& node = context.graph.node(id);
    const Node* quantize = PairedQuantize(context, node);
    if (quantize == nullptr) continue;
    const Node* contraction = ContractionOf(context, quantize->input(0));
    if (contraction == nullptr) continue;
    for (const NodeId reader : context.quantized.readers(node.output(0))) {
      const Node& behind = context.graph.node(reader);
      if (!JoinsContraction(behind) || behind.input(0) != node.output(0)) continue;
      reporter.Add(id, quantize->input(0),
                   fmt::format("it stands between {} and {}", context.graph.Describe(*contraction),
                               context.graph.Describe(behind)));
      break;
    }
  }
}

// A ReduceMean of `value` whose result, itself or quantized, is taken from `value`: where a LayerNorm begins.
const Node* BeginOfLayerNorm(const LintContext& context, ValueId value) {
  for (const NodeId id : context.quantized.readers(value)) {
    const Node& sub = context.graph.node(id);
    if (!sub.Is("Sub") || sub.input(0) != value || !sub.has_input(1)) continue;
    const Node* mean = context.quantized.Producer(sub.input(1));
    if (mean != nullptr && IsDequantize(*mean)) {
      const Node* quantize = PairedQuantize(context, *mean);
      mean = quantize == nullptr ? nullptr : context.quantized.Producer(quantize->input(0));
    }
    if (mean != nullptr && mean->Is("ReduceMean") && mean->input(0) == value) return mean;
  }
  return nullptr;
}

void CheckNorm(const LintContext& context, LintReporter& reporter) {
  for (const NodeId id : context.quantized.dequantizes()) {
    const Node& node = context.graph.node(id);
    const Node* norm = nullptr;
    for (const NodeId reader : context.quantized.readers(node.output(0))) {
      const Node& behind = context.graph.node(reader);
      const bool normalizes =
          behind.Is("LayerNormalization") || behind.Is("InstanceNormalization") || behind.Is("GroupNormalization");
      if (normalizes && behind.input(0) == node.output(0)) norm = &behind;
    }
    if (norm == nullptr) norm = BeginOfLayerNorm(context, node.output(0));
    if (norm == nullptr) continue;
    reporter.Add(id, node.output(0), "it feeds the normalization at " + context.graph.Describe(*norm));
  }
}

struct Sum {
  NodeId node = kNoNode;
  ValueId operands[2] = {kNoValue, kNoValue};
  bool quantized[2] = {false, false};          // comes from a DQ
  NodeId contraction[2] = {kNoNode, kNoNode};  // makes it, quantized itself, with no Q/DQ between
};

// The quantized contraction whose result only `reader` reads: what else reads it keeps the two from fusing.
NodeId ContractionFor(const LintContext& context, ValueId value, NodeId reader) {
  const NodeId contraction = context.quantized.ContractionBehind(value);
  for (ValueId next = value; contraction != kNoNode;) {
    const std::vector<NodeId>& readers = context.quantized.readers(next);
    if (readers.size() != 1 || readers[0] != reader || context.quantized.IsOutput(next)) return kNoNode;
    reader = context.quantized.ProducerId(next);
    if (reader == contraction) return contraction;
    const Node& node = context.graph.node(reader);
    next = node.Is("Add") ? context.quantized.OperandBesideConstant(node) : node.input(0);
  }
  return kNoNode;
}

// Whether `value` is computed from `source` nearby: x + c x^3 of GELU is no skip connection.
bool DerivesFrom(const LintContext& context, ValueId value, ValueId source) {
  constexpr size_t kMostVisited = 16;
  std::vector<ValueId> pending = {value};
  for (size_t i = 0; i < pending.size() && i < kMostVisited; ++i) {
    if (pending[i] == source) return true;
    const Node* node = context.quantized.Producer(pending[i]);
    if (node == nullptr || context.quantized.IsContraction(context.quantized.ProducerId(pending[i]))) continue;
    std::copy_if(node->inputs.begin(), node->inputs.end(), std::back_inserter(pending),
                 [&](ValueId input) { return input != kNoValue && !context.quantized.IsConstantMade(input); });
  }
  return false;
}

// Adds of two activations of one shape.
template <typename Fn>
void ForEachSum(const LintContext& context, Fn fn) {
  for (size_t n = 0; n < context.graph.nodes.size(); ++n) {
    const Node& node = context.graph.nodes[n];
    if (node.removed || !node.Is("Add") || !node.has_input(0) || !node.has_input(1)) continue;
    Sum sum{.node = static_cast<NodeId>(n)};
    bool activations = node.input(0) != node.input(1);
    for (size_t i = 0; i < 2; ++i) {
      sum.operands[i] = node.input(i);
      activations &= !context.quantized.IsConstantMade(node.input(i));
      sum.quantized[i] = context.quantized.DequantizeBehind(node.input(i)) != kNoNode;
      sum.contraction[i] = ContractionFor(context, node.input(i), sum.node);
    }
    const Dims *first = context.quantized.StaticDims(node.input(0)),
               *second = context.quantized.StaticDims(node.input(1));
    activations &=
        !DerivesFrom(context, node.input(0), node.input(1)) && !DerivesFrom(context, node.input(1), node.input(0));
    if (activations && (first == nullptr || second == nullptr || *first == *second)) fn(sum);
  }
}

void CheckResidual(const LintContext& context, LintReporter& reporter) {
  ForEachSum(context, [&](const Sum& sum) {
    if (sum.quantized[0] && sum.quantized[1]) return;
    if (!sum.quantized[0] && !sum.quantized[1]) {
      // Of two contractions the later one takes the Add in; the other's result is the skip.
      if (sum.contraction[0] == kNoNode && sum.contraction[1] == kNoNode) return;
      const size_t skip = sum.contraction[0] > sum.contraction[1] ? 1 : 0;
      reporter.Add(
          sum.node, sum.operands[skip],
          fmt::format("{} is float beside the result of {}", Quote(context.graph.value(sum.operands[skip]).name),
                      context.graph.Describe(context.graph.node(sum.contraction[1 - skip]))));
      return;
    }
    const size_t wide = sum.quantized[0] ? 1 : 0;
    if (sum.contraction[wide] != kNoNode) return;
    reporter.Add(sum.node, sum.operands[wide],
                 fmt::format("{} is float, the other operand is quantized",
                             Quote(context.graph.value(sum.operands[wide]).name)));
  });
}

void CheckBothQuantized(const LintContext& context, LintReporter& reporter) {
  ForEachSum(context, [&](const Sum& sum) {
    if (!sum.quantized[0] || !sum.quantized[1]) return;
    for (const ValueId operand : sum.operands) {
      const Node* dequantize = context.quantized.Producer(operand);
      if (dequantize == nullptr || !IsDequantize(*dequantize)) continue;
      const Node* quantize = PairedQuantize(context, *dequantize);
      if (quantize == nullptr || context.quantized.readers(operand).size() != 1) continue;
      const NodeId made_by =
          ContractionFor(context, quantize->input(0), context.quantized.ProducerId(quantize->output(0)));
      if (made_by == kNoNode) continue;
      const Node& contraction = context.graph.node(made_by);
      reporter.Add(sum.node, operand, "Q/DQ stand between it and " + context.graph.Describe(contraction));
      return;
    }
  });
}

void CheckConcat(const LintContext& context, LintReporter& reporter) {
  for (size_t n = 0; n < context.graph.nodes.size(); ++n) {
    const Node& node = context.graph.nodes[n];
    if (node.removed || !node.Is("Concat") || node.output(0) == kNoValue) continue;
    const NodeId after = context.quantized.QuantizeAfter(node.output(0));
    if (after == kNoNode) continue;
    const WrittenParameters& expected = context.quantized.Parameters(after);
    size_t narrow = 0;
    std::vector<std::string> wrong;
    for (const ValueId part : node.inputs) {
      if (part == kNoValue) continue;
      const NodeId before = context.quantized.DequantizeBehind(part);
      narrow += before != kNoNode ? 1 : 0;
      if (before == kNoNode ||
          !AreEqual(context.quantized.Parameters(before), expected, context.quantized.Rank(part))) {
        wrong.push_back(context.graph.value(part).name);
      }
    }
    if (narrow == 0 || wrong.empty()) continue;
    LintFinding& finding =
        reporter.Add(static_cast<NodeId>(n), context.graph.Find(wrong[0]),
                     fmt::format("{} of its {} inputs are float or have another scale than its result", wrong.size(),
                                 node.inputs.size()));
    finding.more.assign(wrong.begin() + 1, wrong.end());
  }
}

constexpr LintRule kRules[] = {
    {{.id = "split-fusion",
      .effect = LintEffect::kFusionLost,
      .tensorrt = kWarning,
      .title = "Q/DQ between a contraction and what fuses with it",
      .mend = "put the pair behind the activation; fold BatchNormalization into the weights before quantizing",
      .source = "TensorRT's developer guide, Q/DQ Layer-Placement Recommendations: do not simulate BatchNorm and ReLU "
                "fusions; outputs of weighted operations stay float by default"},
     CheckSplitFusion},
    {{.id = "quantized-norm",
      .effect = LintEffect::kFusionLost,
      .tensorrt = kWarning,
      .title = "Q/DQ before a normalization",
      .mend = "leave normalizations float: their kernels are FP32 or FP16, and a residual stream in 8 bits loses "
              "accuracy",
      .source = "TensorRT's developer guide, Q/DQ Layer-Placement Recommendations: Q/DQ that do not fuse cost time, "
                "be conservative where an op has no INT8 form"},
     CheckNorm},
    {{.id = "residual-float",
      .effect = LintEffect::kFusionLost,
      .tensorrt = kWarning,
      .title = "a residual Add with one operand in float",
      .mend = "quantize the skip operand (octavo quantize --target tensorrt does)",
      .source = "TensorRT's developer guide, Q/DQ Layer-Placement Recommendations: quantize the residual input in skip "
                "connections"},
     CheckResidual},
    {{.id = "residual-split",
      .effect = LintEffect::kFusionLost,
      .tensorrt = kNote,
      .title = "a residual Add both of whose operands are quantized",
      .mend = "remove the pair between the contraction and the Add; the skip operand's stays",
      .source = "TensorRT's developer guide, Q/DQ Layer-Placement Recommendations: outputs of weighted operations are "
                "not quantized by default; the Add fuses with the contraction before it"},
     CheckBothQuantized},
    {{.id = "concat-scales",
      .effect = LintEffect::kFusionLost,
      .tensorrt = kWarning,
      .title = "a quantized Concat whose tensors have several scales",
      .mend = "quantize all of its inputs with the scale of its result (octavo quantize --target tensorrt does)",
      .source = "TensorRT's developer guide, Q/DQ Limitations: rewrites that compare scales are done where they are "
                "equal"},
     CheckConcat},
};

}  // namespace

std::span<const LintRule> PlacementRules() { return kRules; }

}  // namespace octavo
