#include "quantize/attention_size.h"

#include <fmt/format.h>

#include <algorithm>

namespace octavo {
namespace {

// Scale, mask, guard and their like between a product and its Softmax.
constexpr int kMaxSteps = 8;

bool HandsOn(const Node& node) {
  static constexpr std::string_view kOps[] = {"Add", "Cast", "Div", "Identity", "Mul", "Reshape", "Where"};
  return node.domain.empty() && std::find(std::begin(kOps), std::end(kOps), node.op) != std::end(kOps);
}

bool ComesFromSoftmax(const Graph& graph, ValueId value, int steps = kMaxSteps) {
  const NodeId producer = value == kNoValue ? kNoNode : graph.value(value).producer;
  if (producer == kNoNode || steps == 0) return false;
  const Node& node = graph.node(producer);
  if (node.Is("Softmax")) return true;
  if (!HandsOn(node)) return false;
  return std::any_of(node.inputs.begin(), node.inputs.end(),
                     [&](ValueId input) { return ComesFromSoftmax(graph, input, steps - 1); });
}

bool LeadsToSoftmax(const Graph& graph, const std::vector<std::vector<NodeId>>& uses, ValueId value,
                    int steps = kMaxSteps) {
  if (steps == 0) return false;
  const std::vector<NodeId>& readers = uses[static_cast<size_t>(value)];
  return std::any_of(readers.begin(), readers.end(), [&](NodeId id) {
    const Node& node = graph.node(id);
    if (node.Is("Softmax")) return true;
    return HandsOn(node) && node.output(0) != kNoValue && LeadsToSoftmax(graph, uses, node.output(0), steps - 1);
  });
}

}  // namespace

std::string WhyNoInt8Attention(const Graph& graph, const std::vector<std::vector<NodeId>>& uses, const Node& product,
                               const Target& target) {
  if (target.most_int8_attention_tokens == 0 || !product.Is("MatMul")) return {};
  const Dims &a = graph.value(product.input(0)).dims, &b = graph.value(product.input(1)).dims;
  if (a.size() < 2 || b.size() < 2) return {};
  // (queries, head) . (head, keys) before the Softmax, (queries, keys) . (keys, head) behind it.
  const int64_t queries = a[a.size() - 2], inner = a.back(), outer = b.back();
  const bool behind = ComesFromSoftmax(graph, product.input(0));
  if (!behind && !LeadsToSoftmax(graph, uses, product.output(0))) return {};
  const int64_t tokens = std::max(queries, behind ? inner : outer), head = behind ? outer : inner;
  if (tokens > target.most_int8_attention_tokens) {
    return fmt::format("fused INT8 attention has at most {} tokens, here are {}", target.most_int8_attention_tokens,
                       tokens);
  }
  const auto sizes = target.int8_attention_heads;
  if (std::find(sizes.begin(), sizes.end(), head) != sizes.end()) return {};
  return fmt::format("fused INT8 attention has no heads of size {}", head);
}

}  // namespace octavo
