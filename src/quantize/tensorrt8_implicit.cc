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

// How many movers in a row are looked through.
constexpr int kMaxMovers = 8;

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
    SortEdges(graph_, placement_);
    return std::move(placement_);
  }

 private:
  bool IsKept(NodeId id) const { return !input_.keep_reasons[static_cast<size_t>(id)].empty(); }

  void PlaceNode(NodeId id) {
    const Node& node = graph_.node(id);
    const OpTraits* traits = FindOp(node.domain, node.op);
    if (traits == nullptr || traits->quantizable_inputs == 0) return;
    if (IsKept(id)) {
      placement_.float_nodes.push_back(
          {node.name, input_.keep_reasons[static_cast<size_t>(id)], input_.precisions[static_cast<size_t>(id)]});
    } else if (!IsQuantizableContraction(graph_, node, input_.target)) {
      placement_.float_nodes.push_back({node.name, "has no INT8 form there"});
    } else {
      AddWeights(graph_, id, placement_);
    }
  }

  void PlaceTensor(ValueId id) {
    if (id == kNoValue || !input_.quantizable[static_cast<size_t>(id)] || IsFused(id) || IsMoved(id)) return;
    PlaceReaders(id, id, kMaxMovers);
  }

  // Readers of `value`, which holds the bytes of `source`. Behind a Reshape or Transpose Q/DQ stand at its result, so
  // that they touch what multiplies; the bytes are the same.
  void PlaceReaders(ValueId value, ValueId source, int steps) {
    std::vector<NodeId> consumers;
    for (const NodeId reader : uses_[static_cast<size_t>(value)]) {
      if (IsKept(reader) || std::find(consumers.begin(), consumers.end(), reader) != consumers.end()) continue;
      const Node& node = graph_.node(reader);
      if (steps > 0 && IsMover(node) && node.input(0) == value) {
        PlaceReaders(node.output(0), source, steps - 1);
      } else {
        consumers.push_back(reader);
      }
    }
    if (consumers.empty()) return;
    placement_.edges.push_back({value, std::move(consumers), source, "kept in memory"});
  }

  bool IsMover(const Node& node) const { return input_.target.Commutes(node.op) && node.output(0) != kNoValue; }

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
    if (reader->Is("Add")) return TakesAddIn(producer, *reader);
    return reader->Is("Relu") || reader->Is("Clip");
  }

  // Of two contractions whose results are added, the later one takes the Add in.
  bool TakesAddIn(NodeId contraction, const Node& add) const {
    return std::all_of(add.inputs.begin(), add.inputs.end(), [&](ValueId operand) {
      const NodeId other = graph_.value(operand).producer;
      return other == kNoNode || other <= contraction ||
             !IsQuantizableContraction(graph_, graph_.node(other), input_.target);
    });
  }

  // Placed with the tensor whose bytes these are.
  bool IsMoved(ValueId id) const {
    for (int step = 0; step < kMaxMovers; ++step) {
      const NodeId producer = graph_.value(id).producer;
      if (producer == kNoNode || IsKept(producer) || !IsMover(graph_.node(producer))) return false;
      id = graph_.node(producer).input(0);
      if (input_.quantizable[static_cast<size_t>(id)] && !IsFused(id)) return true;
    }
    return false;
  }

  const PlacementInput& input_;
  const Graph& graph_;
  const std::vector<std::vector<NodeId>> uses_;
  Placement placement_;
};

}  // namespace

Placement PlaceTensorRt8Implicit(const PlacementInput& input) { return ImplicitPlacer(input).Run(); }

}  // namespace octavo
