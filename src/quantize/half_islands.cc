#include "quantize/half_islands.h"

#include <algorithm>
#include <map>

#include "graph/half_ops.h"
#include "graph/rounding.h"
#include "quantize/scales.h"

namespace octavo {
namespace {

class IslandMaker {
 public:
  IslandMaker(Graph& graph, const std::set<NodeId>& nodes) : graph_(graph), nodes_(nodes), uses_(graph.Uses()) {}

  Status Run() {
    for (const NodeId id : nodes_) {
      if (!CanBeHalf(graph_.node(id))) {
        return InvalidArgument(graph_.Describe(graph_.node(id)) + " has no float16 form here");
      }
      NarrowOutputs(id);
    }
    for (const NodeId id : nodes_) {
      const Status status = NarrowInputs(id);
      if (!status.ok()) return status.WithPrefix(graph_.Describe(graph_.node(id)) + ": ");
    }
    return {};
  }

 private:
  bool IsFloat(ValueId id) const { return id != kNoValue && graph_.value(id).dtype == DType::kFloat32; }
  std::string HalfName(ValueId id) const { return graph_.value(id).name + "/float16"; }

  // The node makes a new value in float16; whoever is outside reads it through a Cast under the old name.
  void NarrowOutputs(NodeId id) {
    for (size_t i = 0; i < graph_.node(id).outputs.size(); ++i) {
      const ValueId wide = graph_.node(id).outputs[i];
      if (!IsFloat(wide)) continue;
      const ValueId narrow = graph_.AddValue(HalfName(wide), DType::kFloat16, Dims(graph_.value(wide).dims));
      graph_.value(narrow).producer = id;
      graph_.node(id).outputs[i] = narrow;
      graph_.value(wide).producer = kNoNode;
      half_of_.emplace(wide, narrow);
      const std::vector<NodeId>& readers = uses_[static_cast<size_t>(wide)];
      const bool read_outside =
          graph_.IsOutput(wide) ||
          std::any_of(readers.begin(), readers.end(), [&](NodeId reader) { return nodes_.count(reader) == 0; });
      if (read_outside) AddCast(narrow, wide, kOnnxFloat);
    }
  }

  Status NarrowInputs(NodeId id) {
    for (size_t i = 0; i < graph_.node(id).inputs.size(); ++i) {
      if (!IsFloat(graph_.node(id).inputs[i])) continue;
      OCTAVO_ASSIGN(const ValueId half, HalfOf(graph_.node(id).inputs[i]));
      graph_.node(id).inputs[i] = half;
    }
    return {};
  }

  Result<ValueId> HalfOf(ValueId wide) {
    if (const auto found = half_of_.find(wide); found != half_of_.end()) return found->second;
    ValueId narrow = kNoValue;
    if (graph_.value(wide).is_constant()) {
      OCTAVO_ASSIGN(Tensor constant, NarrowWeights(graph_.value(wide).constant, DType::kFloat16));
      narrow = graph_.AddConstant(HalfName(wide), std::move(constant));
    } else {
      narrow = graph_.AddValue(HalfName(wide), DType::kFloat16, Dims(graph_.value(wide).dims));
      AddCast(wide, narrow, kOnnxFloat16);
    }
    half_of_.emplace(wide, narrow);
    return narrow;
  }

  void AddCast(ValueId from, ValueId to, int64_t type) {
    graph_.AddNode(graph_.value(to).name + "/Cast", "", "Cast", {from}, {to}, {{"to", type}});
  }

  Graph& graph_;
  const std::set<NodeId>& nodes_;
  const std::vector<std::vector<NodeId>> uses_;
  std::map<ValueId, ValueId> half_of_;
};

}  // namespace

Status MakeHalfIslands(Graph& graph, const std::set<NodeId>& nodes) { return IslandMaker(graph, nodes).Run(); }

}  // namespace octavo
