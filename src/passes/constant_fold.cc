// A node whose inputs are all constant  ->  its value. BindShapes folds what is constant in the file; this pass folds
// what later rewrites made so.
#include <algorithm>

#include "graph/quantization.h"
#include "kernels/kernel.h"
#include "passes/rewriter.h"
#include "passes/rewrites.h"

namespace octavo {
namespace {

// A result larger than this is cheaper to compute than to keep.
constexpr size_t kMaxFoldedBytes = size_t{64} << 20;

bool IsFoldable(const Graph& graph, const Node& node) {
  if (node.removed || node.inputs.empty()) return false;
  if (node.op.starts_with("Random") || node.op == "Bernoulli" || node.op == "Multinomial") return false;
  const bool constant = std::all_of(node.inputs.begin(), node.inputs.end(), [&](ValueId input) {
    return input == kNoValue || graph.value(input).is_constant();
  });
  return constant && std::all_of(node.outputs.begin(), node.outputs.end(), [&](ValueId output) {
           if (output == kNoValue) return true;
           const Result<int64_t> count = CheckedElementCount(graph.value(output).dims);
           return count.ok() && static_cast<size_t>(*count) * SizeOf(graph.value(output).dtype) <= kMaxFoldedBytes;
         });
}

bool Fold(Rewriter& rewriter, NodeId id) {
  const Node& node = rewriter.graph().node(id);
  std::vector<Tensor> inputs;
  for (const ValueId input : node.inputs) {
    inputs.push_back(input == kNoValue ? Tensor() : rewriter.value(input).constant);
  }
  Result<std::vector<Tensor>> folded = EvaluateNode(node, rewriter.graph().opset(), inputs);
  if (!folded.ok()) return false;  // the engine will name the node's trouble where it runs it
  const std::vector<ValueId> outputs = node.outputs;
  for (size_t i = 0; i < outputs.size() && i < folded->size(); ++i) {
    if (outputs[i] == kNoValue) continue;
    const Tensor& tensor = (*folded)[i];
    const Value& value = rewriter.value(outputs[i]);
    if (tensor.dtype() != value.dtype || tensor.dims() != value.dims) return false;
  }
  for (size_t i = 0; i < outputs.size() && i < folded->size(); ++i) {
    if (outputs[i] != kNoValue) rewriter.BecomeConstant(outputs[i], (*folded)[i]);
  }
  return true;
}

}  // namespace

int FoldConstants(Graph& graph) {
  const auto uses = graph.Uses();
  Rewriter rewriter(graph);
  int rewrites = 0;
  for (NodeId id = 0; id < rewriter.node_count(); ++id) {
    if (!IsFoldable(graph, graph.node(id)) || IsWeightDequantize(graph, graph.node(id), uses)) continue;
    if (Fold(rewriter, id)) ++rewrites;
  }
  return rewrites;
}

}  // namespace octavo
