// Softmax attention in INT8: where TensorRT's fused kernel wants its Q/DQ, and what it takes.
#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "base/quote.h"
#include "graph/quantization.h"
#include "lint/rule.h"

namespace octavo {
namespace {

constexpr LintSeverity kWarning = LintSeverity::kWarning;

// Scales, masks, casts and views between the products and Softmax.
constexpr int kMaxSteps = 10;
// Masks may be computed from much; what leads to the product is found before.
constexpr int kMostVisited = 200;

struct Attention {
  NodeId softmax = kNoNode;
  NodeId scores = kNoNode, context = kNoNode;  // the two products
  NodeId score_dequantize = kNoNode;           // between the first product and Softmax
};

bool IsBetween(const Node& node) {
  return node.Is("Mul") || node.Is("Div") || node.Is("Add") || node.Is("Sub") || node.Is("Where") || node.Is("Cast") ||
         node.Is("Reshape") || node.Is("Identity") || node.Is("Transpose") || node.Is("Squeeze") ||
         node.Is("Unsqueeze") || node.Is("Dropout") || IsQuantize(node) || IsDequantize(node);
}

bool IsProductOfActivations(const LintContext& context, const Node& node) {
  return node.Is("MatMul") && node.has_input(0) && node.has_input(1) &&
         !context.quantized.IsConstantMade(node.input(0)) && !context.quantized.IsConstantMade(node.input(1));
}

// Upwards along the data: of a mask's Add or Where, the operand that leads to a product.
NodeId ProductBehind(const LintContext& context, ValueId value, int steps, int& budget, NodeId& dequantize) {
  const Node* node = context.quantized.Producer(value);
  if (node == nullptr || steps == 0 || --budget < 0) return kNoNode;
  if (IsProductOfActivations(context, *node)) return context.quantized.ProducerId(value);
  if (!IsBetween(*node)) return kNoNode;
  const NodeId before = dequantize;
  if (IsDequantize(*node)) dequantize = context.quantized.ProducerId(value);
  const size_t data_inputs = IsQuantize(*node) || IsDequantize(*node) || node->Is("Reshape") ? 1 : node->inputs.size();
  for (size_t i = 0; i < std::min<size_t>(data_inputs, 3); ++i) {
    if (!context.quantized.IsConstantMade(node->inputs[i])) {
      const NodeId found = ProductBehind(context, node->inputs[i], steps - 1, budget, dequantize);
      if (found != kNoNode) return found;
    }
  }
  dequantize = before;
  return kNoNode;
}

NodeId ProductAfter(const LintContext& context, ValueId value) {
  for (int step = 0; step < kMaxSteps && value != kNoValue; ++step) {
    NodeId next = kNoNode;
    for (const NodeId id : context.quantized.readers(value)) {
      const Node& node = context.graph.node(id);
      if (IsProductOfActivations(context, node)) return id;
      if (IsBetween(node) && node.input(0) == value) next = id;
    }
    if (next == kNoNode) return kNoNode;
    value = context.graph.node(next).output(0);
  }
  return kNoNode;
}

template <typename Fn>
void ForEachAttention(const LintContext& context, Fn fn) {
  for (size_t n = 0; n < context.graph.nodes.size(); ++n) {
    const Node& node = context.graph.nodes[n];
    if (node.removed || !node.Is("Softmax") || !node.has_input(0)) continue;
    Attention attention{.softmax = static_cast<NodeId>(n)};
    int budget = kMostVisited;
    attention.scores = ProductBehind(context, node.input(0), kMaxSteps, budget, attention.score_dequantize);
    attention.context = ProductAfter(context, node.output(0));
    fn(attention);
  }
}

bool HasQuantizedOperand(const LintContext& context, NodeId product) {
  if (product == kNoNode) return false;
  const std::vector<size_t> operands = context.quantized.Operands(product);
  return std::any_of(operands.begin(), operands.end(), [&](size_t i) {
    return context.quantized.DequantizeBehind(context.graph.node(product).inputs[i]) != kNoNode;
  });
}

void CheckSoftmaxInput(const LintContext& context, LintReporter& reporter) {
  ForEachAttention(context, [&](const Attention& attention) {
    NodeId dequantize = attention.score_dequantize;
    const ValueId input = context.graph.node(attention.softmax).input(0);
    if (dequantize == kNoNode) dequantize = context.quantized.DequantizeBehind(input);
    if (dequantize == kNoNode) return;
    reporter.Add(dequantize, context.graph.node(dequantize).output(0),
                 "what it gives goes to " + context.graph.Describe(context.graph.node(attention.softmax)));
  });
}

void CheckMissingPairs(const LintContext& context, LintReporter& reporter) {
  ForEachAttention(context, [&](const Attention& attention) {
    if (attention.scores == kNoNode || attention.context == kNoNode) return;
    if (!HasQuantizedOperand(context, attention.scores) && !HasQuantizedOperand(context, attention.context)) return;
    const Node& product = context.graph.node(attention.context);
    std::vector<std::string_view> missing;
    if (!context.quantized.IsQuantizedContraction(attention.scores)) missing.push_back("before the first product");
    if (context.quantized.DequantizeBehind(product.input(0)) == kNoNode) missing.push_back("behind Softmax");
    if (context.quantized.DequantizeBehind(product.input(1)) == kNoNode) missing.push_back("on the values");
    if (context.quantized.QuantizeAfter(product.output(0)) == kNoNode) missing.push_back("behind the second product");
    if (missing.empty()) return;
    std::string list(missing[0]);
    for (size_t i = 1; i < missing.size(); ++i) list += ", " + std::string(missing[i]);
    reporter.Add(attention.softmax, context.graph.node(attention.softmax).output(0), "Q/DQ lack " + list);
  });
}

void CheckLimits(const LintContext& context, LintReporter& reporter) {
  constexpr int64_t kLongest = 512;
  constexpr std::array<int64_t, 3> kHeads = {16, 32, 64};
  ForEachAttention(context, [&](const Attention& attention) {
    if (attention.scores == kNoNode || attention.context == kNoNode) return;
    if (!HasQuantizedOperand(context, attention.scores) && !HasQuantizedOperand(context, attention.context)) return;
    const Dims* query = context.quantized.StaticDims(context.graph.node(attention.scores).input(0));
    const Dims* scores = context.quantized.StaticDims(context.graph.node(attention.scores).output(0));
    if (query == nullptr || scores == nullptr || query->empty() || scores->size() < 2) return;
    const int64_t head = query->back();
    const int64_t longest = std::max((*scores)[scores->size() - 1], (*scores)[scores->size() - 2]);
    const bool head_fits = std::find(kHeads.begin(), kHeads.end(), head) != kHeads.end();
    if (head_fits && longest <= kLongest) return;
    std::string why;
    if (longest > kLongest) why = fmt::format("its sequence has {} tokens, the kernel takes {}", longest, kLongest);
    if (!head_fits)
      why += fmt::format("{}its heads have {} channels, the kernel takes 16, 32 or 64", why.empty() ? "" : "; ", head);
    reporter.Add(attention.scores, context.graph.node(attention.scores).output(0), std::move(why));
  });
}

constexpr LintRule kRules[] = {
    {{.id = "softmax-input",
      .effect = LintEffect::kFusionLost,
      .tensorrt = kWarning,
      .title = "Q/DQ on Softmax's input",
      .mend = "remove the pair: of attention only the operands of both products and the result of the second are "
              "quantized",
      .source =
          "TensorRT's developer guide, Multi-Head Attention Fusion: Q/DQ before the first product, behind Softmax "
          "and behind the second product"},
     CheckSoftmaxInput},
    {{.id = "attention-pairs",
      .effect = LintEffect::kFusionLost,
      .tensorrt = kWarning,
      .title = "attention with some of its Q/DQ missing",
      .mend = "quantize both products (octavo quantize --quantize-attention), or none",
      .source =
          "TensorRT's developer guide, Multi-Head Attention Fusion: INT8 only with Q/DQ before the first product, "
          "behind Softmax and behind the second product; TensorRT#2981"},
     CheckMissingPairs},
    {{.id = "attention-limits",
      .effect = LintEffect::kSlower,
      .tensorrt = kWarning,
      .title = "attention in INT8 beyond what is fused",
      .mend =
          "leave attention float: FP16 has a fused kernel for long sequences (octavo quantize --keep-float attention)",
      .source =
          "TensorRT's developer guide, Multi-Head Attention Fusion: for INT8 head size 16, 32 or 64 and sequences "
          "of at most 512; TensorRT#2981, TensorRT#3714"},
     CheckLimits},
};

}  // namespace

std::span<const LintRule> AttentionRules() { return kRules; }

}  // namespace octavo
