// Placement as TensorRT 8 quantizes a network that has scales but no Q/DQ: every tensor that is kept in memory is int8,
// and its readers read it so. Not kept are
//   contraction -> [y] -> + constant, Relu, Clip, or a residual Add, which the contraction takes in when it is y's only
//   reader;
//   elementwise -> [y] -> elementwise, one kernel, when y has one reader;
//   what Reshape, Transpose and their like make: the same bytes as before them.
#include <algorithm>

#include "graph/op_table.h"
#include "quantize/placement.h"

namespace octavo {
namespace {

bool IsElementwise(const Node& node) {
  const OpTraits* traits = FindOp(node.domain, node.op);
  return traits != nullptr && traits->op_class == OpClass::kElementwise;
}

class ImplicitPlacer {
 public:
  explicit ImplicitPlacer(const PlacementInput& input) : input_(input), graph_(input.graph), uses_(graph_.Uses()) {}

  Placement Run() {
    for (const ValueId id : graph_.inputs) PlaceTensor(id);
    for (size_t n = 0; n < graph_.nodes.size(); ++n) {
      if (graph_.nodes[n].removed) continue;
      PlaceNode(static_cast<NodeId>(n));
      for (const ValueId id : graph_.nodes[n].outputs) PlaceTensor(id);
    }
    return std::move(placement_);
  }

 private:
  bool IsKept(NodeId id) const { return !input_.keep_reasons[static_cast<size_t>(id)].empty(); }

  void PlaceNode(NodeId id) {
    const Node& node = graph_.node(id);
    const OpTraits* traits = FindOp(node.domain, node.op);
    if (traits == nullptr || traits->quantizable_inputs == 0) return;
    if (IsKept(id)) {
      placement_.float_nodes.push_back({node.name, input_.keep_reasons[static_cast<size_t>(id)]});
    } else if (!IsQuantizableContraction(graph_, node, input_.target)) {
      placement_.float_nodes.push_back({node.name, "has no INT8 form there"});
    } else {
      AddWeights(graph_, id, placement_);
    }
  }

  void PlaceTensor(ValueId id) {
    if (id == kNoValue || !input_.quantizable[static_cast<size_t>(id)] || IsFused(id) || IsMoved(id)) return;
    std::vector<NodeId> consumers;
    for (const NodeId reader : uses_[static_cast<size_t>(id)]) {
      if (IsKept(reader) || std::find(consumers.begin(), consumers.end(), reader) != consumers.end()) continue;
      consumers.push_back(reader);
    }
    if (consumers.empty()) return;
    std::sort(consumers.begin(), consumers.end());
    placement_.edges.push_back({id, std::move(consumers), id, "kept in memory"});
  }

  // The one node that reads `value`, perhaps in several places; null where there are more or the graph gives it out.
  const Node* OnlyReader(ValueId value) const {
    const std::vector<NodeId>& readers = uses_[static_cast<size_t>(value)];
    if (readers.empty() || graph_.IsOutput(value)) return nullptr;
    const bool one = std::all_of(readers.begin(), readers.end(), [&](NodeId id) { return id == readers.front(); });
    return one ? &graph_.node(readers.front()) : nullptr;
  }

  bool IsFused(ValueId id) const {
    const NodeId producer = graph_.value(id).producer;
    const Node* reader = OnlyReader(id);
    if (producer == kNoNode || reader == nullptr) return false;
    const Node& made_by = graph_.node(producer);
    if (IsElementwise(made_by)) return IsElementwise(*reader);
    if (!IsQuantizableContraction(graph_, made_by, input_.target)) return false;
    return reader->Is("Relu") || reader->Is("Clip") || reader->Is("Add");
  }

  bool IsMoved(ValueId id) const {
    const NodeId producer = graph_.value(id).producer;
    if (producer == kNoNode || !input_.target.Commutes(graph_.node(producer).op)) return false;
    const ValueId source = graph_.node(producer).input(0);
    return input_.quantizable[static_cast<size_t>(source)] && !IsFused(source);
  }

  const PlacementInput& input_;
  const Graph& graph_;
  const std::vector<std::vector<NodeId>> uses_;
  Placement placement_;
};

}  // namespace

Placement PlaceTensorRt8Implicit(const PlacementInput& input) { return ImplicitPlacer(input).Run(); }

}  // namespace octavo
