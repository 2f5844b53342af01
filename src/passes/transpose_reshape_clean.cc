// Squeeze, Unsqueeze, Flatten(x)             ->  Reshape(x)
// Reshape(Reshape(x))                        ->  Reshape(x)
// Transpose(Transpose(x))                    ->  Transpose(x), with the permutations composed
// Transpose(x) that moves sizes of 1 only    ->  Reshape(x)
#include <algorithm>

#include "passes/rewriter.h"
#include "passes/rewrites.h"

namespace octavo {
namespace {

bool IsReshape(const Node& node) {
  return node.Is("Reshape") || node.Is("Squeeze") || node.Is("Unsqueeze") || node.Is("Flatten");
}

std::vector<int64_t> PermOf(const Graph& graph, const Node& transpose) {
  std::vector<int64_t> perm = transpose.Ints("perm");
  if (!perm.empty()) return perm;
  const int64_t rank = static_cast<int64_t>(graph.value(transpose.input(0)).dims.size());
  for (int64_t i = rank - 1; i >= 0; --i) perm.push_back(i);
  return perm;
}

// True when the dimensions other than 1 keep their order.
bool KeepsElementOrder(const Dims& dims, const std::vector<int64_t>& perm) {
  int64_t last = -1;
  for (const int64_t axis : perm) {
    if (dims[static_cast<size_t>(axis)] == 1) continue;
    if (axis < last) return false;
    last = axis;
  }
  return true;
}

void BecomeReshape(Rewriter& rewriter, NodeId id, ValueId x) {
  const ValueId result = rewriter.graph().node(id).output(0);
  const Dims dims = rewriter.dims(result);
  const ValueId shape = rewriter.AddConstant(rewriter.value(result).name + "/shape", Int64Constant(dims));
  rewriter.Become(id, "", "Reshape", {x, shape});
}

bool CleanReshape(Rewriter& rewriter, NodeId id) {
  const Node& node = rewriter.graph().node(id);
  const Dims& dims = rewriter.dims(node.output(0));
  if (std::find(dims.begin(), dims.end(), 0) != dims.end()) return false;  // 0 means "copy" in a Reshape
  ValueId source = node.input(0);
  for (const Node* inner = rewriter.Producer(source); inner != nullptr && IsReshape(*inner);
       inner = rewriter.Producer(source)) {
    source = inner->input(0);
  }
  if (source == node.input(0) && node.Is("Reshape")) return false;
  BecomeReshape(rewriter, id, source);
  return true;
}

bool CleanTranspose(Rewriter& rewriter, NodeId id) {
  const Node& node = rewriter.graph().node(id);
  const std::vector<int64_t> perm = PermOf(rewriter.graph(), node);
  const Node* inner = rewriter.Producer(node.input(0), "Transpose");
  if (inner != nullptr) {
    std::vector<int64_t> composed = PermOf(rewriter.graph(), *inner);
    const std::vector<int64_t> first = composed;
    for (size_t i = 0; i < perm.size(); ++i) composed[i] = first[static_cast<size_t>(perm[i])];
    rewriter.Become(id, "", "Transpose", {inner->input(0)}, {{"perm", composed}});
    CleanTranspose(rewriter, id);
    return true;
  }
  const Dims& dims = rewriter.dims(node.input(0));
  if (!KeepsElementOrder(dims, perm) || std::find(dims.begin(), dims.end(), 0) != dims.end()) return false;
  if (std::is_sorted(perm.begin(), perm.end())) return false;  // identity-clean's
  BecomeReshape(rewriter, id, node.input(0));
  CleanReshape(rewriter, id);
  return true;
}

}  // namespace

int CleanTransposesAndReshapes(Graph& graph) {
  Rewriter rewriter(graph);
  int rewrites = 0;
  for (NodeId id = 0, count = rewriter.node_count(); id < count; ++id) {
    const Node& node = graph.node(id);
    if (node.removed) continue;
    if (IsReshape(node) && CleanReshape(rewriter, id)) ++rewrites;
    if (node.Is("Transpose") && CleanTranspose(rewriter, id)) ++rewrites;
  }
  return rewrites;
}

}  // namespace octavo
