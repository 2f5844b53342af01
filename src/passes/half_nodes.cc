// y = Op(x, ...) in float16  ->  y = Cast(Op(Cast(x, to = float32), ...), to = float16)
// That is what computing in float16 means here (graph/half_ops.h). Of Casts between two such nodes cast-pairs makes
// roundings, and the fast float32 kernels apply.
#include <map>

#include "graph/half_ops.h"
#include "graph/rounding.h"
#include "passes/rewrites.h"

namespace octavo {
namespace {

class Widener {
 public:
  explicit Widener(Graph& graph) : graph_(graph) {}

  int Run() {
    int rewrites = 0;
    const auto count = static_cast<NodeId>(graph_.nodes.size());
    for (NodeId id = 0; id < count; ++id) rewrites += Widen(id) ? 1 : 0;
    return rewrites;
  }

 private:
  bool IsHalf(ValueId id) const { return id != kNoValue && graph_.value(id).dtype == DType::kFloat16; }

  bool Widen(NodeId id) {
    if (graph_.node(id).removed || !CanBeHalf(graph_.node(id))) return false;
    bool any = false;
    for (size_t i = 0; i < graph_.node(id).inputs.size(); ++i) {
      const ValueId input = graph_.node(id).inputs[i];
      if (!IsHalf(input)) continue;
      const ValueId wide = WideOf(input);
      graph_.node(id).inputs[i] = wide;
      any = true;
    }
    for (size_t i = 0; i < graph_.node(id).outputs.size(); ++i) {
      if (!IsHalf(graph_.node(id).outputs[i])) continue;
      WidenOutput(id, i);
      any = true;
    }
    return any;
  }

  // The node makes a float32 value, of which a Cast makes what it made before.
  void WidenOutput(NodeId id, size_t index) {
    const ValueId half = graph_.node(id).outputs[index];
    const std::string name = graph_.value(half).name;
    const ValueId wide = graph_.AddValue(name + "/float32", DType::kFloat32, Dims(graph_.value(half).dims));
    graph_.value(wide).producer = id;
    graph_.node(id).outputs[index] = wide;
    graph_.AddNode(name + "/Cast", "", "Cast", {wide}, {half}, {{"to", kOnnxFloat16}});
  }

  ValueId WideOf(ValueId half) {
    if (const auto found = wide_of_.find(half); found != wide_of_.end()) return found->second;
    const std::string name = graph_.value(half).name + "/float32";
    ValueId wide = kNoValue;
    if (graph_.value(half).is_constant()) wide = WidenedConstant(name, graph_.value(half).constant);
    if (wide == kNoValue) {
      wide = graph_.AddValue(name, DType::kFloat32, Dims(graph_.value(half).dims));
      graph_.AddNode(name + "/Cast", "", "Cast", {half}, {wide}, {{"to", kOnnxFloat}});
    }
    wide_of_.emplace(half, wide);
    return wide;
  }

  // kNoValue where there is no memory for it.
  ValueId WidenedConstant(const std::string& name, const Tensor& half) {
    const auto values = ToFloats(half);
    return values.ok() ? graph_.AddConstant(name, Tensor::FromVector<float>(half.dims(), *values)) : kNoValue;
  }

  Graph& graph_;
  std::map<ValueId, ValueId> wide_of_;
};

}  // namespace

int WidenHalfNodes(Graph& graph) { return Widener(graph).Run(); }

}  // namespace octavo
