// Nodes that no graph output depends on, and optional outputs that nobody reads, go.
#include "passes/rewriter.h"
#include "passes/rewrites.h"

namespace octavo {
namespace {

// The first output that ONNX lets a node leave out.
size_t FirstOptionalOutput(const Node& node) {
  const bool optional =
      node.Is("MaxPool") || node.Is("Dropout") || node.Is("BatchNormalization") || node.Is("LayerNormalization");
  return optional ? 1 : node.outputs.size();
}

int DropUnreadOutputs(const Rewriter& rewriter, Node& node) {
  int dropped = 0;
  while (node.outputs.size() > FirstOptionalOutput(node)) {
    const ValueId last = node.outputs.back();
    if (last != kNoValue && (rewriter.IsOutput(last) || !rewriter.Readers(last).empty())) break;
    if (last != kNoValue) ++dropped;
    node.outputs.pop_back();
  }
  return dropped;
}

}  // namespace

int RemoveDeadCode(Graph& graph) {
  Rewriter rewriter(graph);
  int rewrites = 0;
  for (NodeId id = rewriter.node_count() - 1; id >= 0; --id) {
    if (!graph.node(id).removed) rewriter.RemoveIfDead(id);
    if (graph.node(id).removed) {
      ++rewrites;
      continue;
    }
    const std::vector<ValueId> before = graph.node(id).outputs;
    rewrites += DropUnreadOutputs(rewriter, graph.node(id));
    for (size_t i = graph.node(id).outputs.size(); i < before.size(); ++i) {
      if (before[i] != kNoValue) graph.value(before[i]).producer = kNoNode;
    }
  }
  return rewrites;
}

}  // namespace octavo
