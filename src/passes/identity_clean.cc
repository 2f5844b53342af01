// Nodes that hand their input on unchanged go: Identity, inference Dropout, Cast to the same type, Reshape or Expand to
// the same shape, identity Transpose, x * 1, x / 1, x + 0, x - 0, x ^ 1, Concat and Split of one, Slice of everything,
// Pad and Tile of nothing.
#include <algorithm>

#include "passes/rewriter.h"
#include "passes/rewrites.h"

namespace octavo {
namespace {

bool All(const std::optional<std::vector<int64_t>>& values, int64_t wanted) {
  return values && std::all_of(values->begin(), values->end(), [&](int64_t v) { return v == wanted; });
}

bool IsIdentityTranspose(const Graph& graph, const Node& node) {
  const int64_t rank = static_cast<int64_t>(graph.value(node.input(0)).dims.size());
  const std::vector<int64_t> perm = node.Ints("perm");
  if (perm.empty()) return rank <= 1;
  return std::is_sorted(perm.begin(), perm.end());
}

// A Slice that keeps every size may still turn an axis around.
bool IsForwardSlice(const Graph& graph, const Node& node) {
  if (!node.has_input(4)) return true;
  const auto steps = ConstantInts(graph, node.input(4));
  return steps && std::all_of(steps->begin(), steps->end(), [](int64_t step) { return step > 0; });
}

bool IsPadOfNothing(const Graph& graph, const Node& node) {
  if (node.Has("pads")) return All(node.Ints("pads"), 0);
  return All(ConstantInts(graph, node.input(1)), 0);
}

// Which input of a two-operand node passes through because the other is its neutral element.
ValueId NeutralOperand(const Graph& graph, const Node& node) {
  const bool commutes = node.op == "Add" || node.op == "Mul";
  const bool additive = node.op == "Add" || node.op == "Sub";
  if (!commutes && !additive && node.op != "Div" && node.op != "Pow") return kNoValue;
  const auto is_neutral = [&](ValueId value) {
    const std::optional<double> uniform = UniformValue(graph.value(value));
    return uniform && *uniform == (additive ? 0.0 : 1.0);
  };
  if (is_neutral(node.input(1))) return node.input(0);
  return commutes && is_neutral(node.input(0)) ? node.input(1) : kNoValue;
}

// The value that output 0 of `node` equals when its type and shape are the same; kNoValue when there is none.
ValueId PassedThrough(const Graph& graph, const Node& node) {
  if (!node.domain.empty()) return kNoValue;
  const std::string& op = node.op;
  if (op == "Identity" || op == "Cast" || op == "Reshape" || op == "Flatten" || op == "Squeeze" || op == "Unsqueeze" ||
      op == "Expand" || op == "Dropout") {
    return node.input(0);
  }
  if (op == "Transpose") return IsIdentityTranspose(graph, node) ? node.input(0) : kNoValue;
  if (op == "Concat") return node.inputs.size() == 1 ? node.input(0) : kNoValue;
  if (op == "Split") return node.outputs.size() == 1 ? node.input(0) : kNoValue;
  if (op == "Slice") return IsForwardSlice(graph, node) ? node.input(0) : kNoValue;
  if (op == "Pad") return IsPadOfNothing(graph, node) ? node.input(0) : kNoValue;
  if (op == "Tile") return All(ConstantInts(graph, node.input(1)), 1) ? node.input(0) : kNoValue;
  return node.inputs.size() == 2 ? NeutralOperand(graph, node) : kNoValue;
}

bool IsTrainingDropout(const Graph& graph, const Node& node) {
  if (!node.Is("Dropout") || !node.has_input(2)) return false;
  const Tensor& mode = graph.value(node.input(2)).constant;
  return !mode.defined() || mode.dtype() != DType::kBool || mode.size() != 1 || mode.values<bool>()[0];
}

}  // namespace

int CleanIdentities(Graph& graph) {
  Rewriter rewriter(graph);
  int rewrites = 0;
  for (NodeId id = 0; id < rewriter.node_count(); ++id) {
    const Node& node = graph.node(id);
    if (node.removed || node.output(0) == kNoValue || IsTrainingDropout(graph, node)) continue;
    const ValueId passed = PassedThrough(graph, node);
    if (passed == kNoValue) continue;
    const Value& from = graph.value(node.output(0));
    if (graph.value(passed).dims != from.dims || graph.value(passed).dtype != from.dtype) continue;
    if (rewriter.Bypass(id, passed)) ++rewrites;
  }
  return rewrites;
}

}  // namespace octavo
