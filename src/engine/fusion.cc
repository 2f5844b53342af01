#include "engine/fusion.h"

#include <algorithm>
#include <array>
#include <string_view>

#include "graph/quantization.h"

namespace octavo {

namespace {

bool IsAnchor(const Graph& graph, const Node& node) {
  if (!node.domain.empty()) return false;
  if (node.op == "Conv" || node.op == "ConvTranspose") return true;
  if (node.op == "Gemm") return true;
  return node.op == "MatMul" && graph.value(node.input(0)).dims.size() >= 2 &&
         graph.value(node.input(1)).dims.size() >= 2;
}

// Whether `value` is a constant with one element per channel that broadcasts along every other axis of `dims`.
bool IsPerChannelConstant(const Graph& graph, ValueId value, const Dims& dims, size_t channel_axis) {
  const Value& v = graph.value(value);
  if (!v.is_constant() || v.dtype != DType::kFloat32 || v.dims.size() > dims.size()) return false;
  const size_t lead = dims.size() - v.dims.size();
  for (size_t d = 0; d < v.dims.size(); ++d) {
    const bool channel = lead + d == channel_axis;
    if (v.dims[d] != (channel ? dims[channel_axis] : 1)) return false;
  }
  return ElementCount(v.dims) == dims[channel_axis];
}

const Node* DequantizeOf(const Graph& graph, ValueId value) {
  const NodeId producer = value == kNoValue ? kNoNode : graph.value(value).producer;
  return producer != kNoNode && IsDequantize(graph.node(producer)) ? &graph.node(producer) : nullptr;
}

// A product of dequantized activations and dequantized constants.
bool MultipliesIntegers(const Graph& graph, const Node& anchor) {
  const Node *source = DequantizeOf(graph, anchor.input(0)), *weights = DequantizeOf(graph, anchor.input(1));
  return source != nullptr && weights != nullptr && graph.value(weights->input(0)).is_constant();
}

// The DequantizeLinear that alone reads `quantize` and undoes it in 8 bits with one constant scale; else kNoNode.
NodeId RoundingPair(const Graph& graph, const std::vector<std::vector<NodeId>>& uses, const Node& quantize) {
  if (!IsQuantize(quantize) || graph.IsOutput(quantize.output(0))) return kNoNode;
  const std::vector<NodeId>& readers = uses[static_cast<size_t>(quantize.output(0))];
  if (readers.size() != 1 || !IsDequantize(graph.node(readers[0]))) return kNoNode;
  return UndoesQuantize(graph, quantize, graph.node(readers[0])) ? readers[0] : kNoNode;
}

}  // namespace

bool FusionGroup::rounds() const {
  return std::any_of(post_ops.begin(), post_ops.end(), [](const PostOp& op) { return op.kind == PostOpKind::kRound; });
}

size_t ChannelAxis(const Node& anchor, size_t rank) {
  return anchor.op == "Conv" || anchor.op == "ConvTranspose" ? 1 : rank - 1;
}

bool IsPlainGemm(const Node& gemm) {
  return gemm.Float("alpha", 1.0f) == 1.0f && (gemm.Float("beta", 1.0f) == 1.0f || !gemm.has_input(2)) &&
         gemm.Int("transA", 0) == 0;
}

bool IsFusableUnary(const Graph& graph, const Node& node) {
  if (node.domain == kOctavoDomain) return node.op == "Silu";
  if (!node.domain.empty()) return false;
  constexpr std::array<std::string_view, 8> kUnary = {"Relu", "Gelu",      "HardSwish", "Sigmoid",
                                                      "Tanh", "LeakyRelu", "Abs",       "Sqrt"};
  if (std::find(kUnary.begin(), kUnary.end(), node.op) != kUnary.end()) return true;
  if (node.op != "Clip") return false;
  for (size_t i : {1u, 2u}) {
    if (node.has_input(i) && !graph.value(node.input(i)).is_constant()) return false;
  }
  return true;
}

std::vector<FusionGroup> FuseEpilogues(const Graph& graph) {
  constexpr size_t kMaxPostOps = 6;
  const auto uses = graph.Uses();
  std::vector<bool> taken(graph.nodes.size(), false);
  std::vector<FusionGroup> groups;
  // Later anchors choose first: of two convolutions that meet in an Add, the later one takes it and reads the other.
  for (size_t i = graph.nodes.size(); i-- > 0;) {
    const Node& anchor = graph.nodes[i];
    if (anchor.removed || !IsAnchor(graph, anchor)) continue;
    FusionGroup group;
    group.anchor = group.last = static_cast<NodeId>(i);
    group.output = anchor.output(0);
    const Dims& dims = graph.value(group.output).dims;
    const bool has_bias = anchor.has_input(2);
    const bool on_integers = MultipliesIntegers(graph, anchor);
    FusionGroup whole = group;  // up to the last post-op that is no rounding
    std::vector<NodeId> absorbed;
    while (group.post_ops.size() < kMaxPostOps) {
      const auto& readers = uses[static_cast<size_t>(group.output)];
      if (readers.size() != 1 || graph.IsOutput(group.output)) break;
      const NodeId next_id = readers[0];
      const Node& next = graph.node(next_id);
      if (taken[static_cast<size_t>(next_id)] || graph.value(next.output(0)).dims != dims) break;
      if (const NodeId dequantize = on_integers ? RoundingPair(graph, uses, next) : kNoNode; dequantize != kNoNode) {
        group.post_ops.push_back({PostOpKind::kRound, next_id, kNoValue, dequantize});
        group.last = dequantize;
        group.output = graph.node(dequantize).output(0);
        continue;
      }
      if (graph.value(next.output(0)).dtype != DType::kFloat32) break;
      if (next.domain.empty() && (next.op == "Add" || next.op == "Mul") && next.inputs.size() == 2) {
        const ValueId other = next.input(0) == group.output ? next.input(1) : next.input(0);
        if (other == group.output) break;
        const size_t axis = ChannelAxis(anchor, dims.size());
        if (IsPerChannelConstant(graph, other, dims, axis)) {
          if (next.op == "Add" && !has_bias && group.bias == kNoValue && group.post_ops.empty()) {
            group.bias = other;
          } else {
            group.post_ops.push_back({next.op == "Add" ? PostOpKind::kAdd : PostOpKind::kMul, next_id, other});
          }
        } else if (graph.value(other).dims == dims && graph.value(other).dtype == DType::kFloat32) {
          group.post_ops.push_back({next.op == "Add" ? PostOpKind::kAdd : PostOpKind::kMul, next_id, other});
        } else {
          break;
        }
      } else if (IsFusableUnary(graph, next) && next.input(0) == group.output) {
        group.post_ops.push_back({PostOpKind::kUnary, next_id, kNoValue});
      } else {
        break;
      }
      absorbed.push_back(next_id);
      group.last = next_id;
      group.output = next.output(0);
      whole = group;
    }
    // A pair at the end is not part of it: the integers are what is kept in memory.
    for (const NodeId id : absorbed) taken[static_cast<size_t>(id)] = true;
    groups.push_back(std::move(whole));
  }
  return groups;
}

}  // namespace octavo
