#include "quantize/biases_apart.h"

#include "graph/quantization.h"

namespace octavo {
namespace {

bool IsDequantized(const Graph& graph, ValueId value) {
  const NodeId producer = value == kNoValue ? kNoNode : graph.value(value).producer;
  return producer != kNoNode && IsDequantize(graph.node(producer));
}

Result<ValueId> Scaled(Graph& graph, ValueId bias, float factor) {
  if (factor == 1) return bias;
  const Value& value = graph.value(bias);
  if (!value.is_constant() || value.dtype != DType::kFloat32) return kNoValue;
  OCTAVO_ASSIGN(Tensor scaled, value.constant.Clone());
  for (float& element : scaled.mutable_values<float>()) element *= factor;
  return graph.AddConstant(value.name + "/scaled", std::move(scaled));
}

Status SplitGemm(Graph& graph, NodeId id) {
  if (!graph.node(id).has_input(2)) return {};
  OCTAVO_ASSIGN(const ValueId bias, Scaled(graph, graph.node(id).input(2), graph.node(id).Float("beta", 1)));
  if (bias == kNoValue) return {};
  const ValueId sum = graph.node(id).output(0);
  const ValueId product = graph.AddValue(graph.value(sum).name + "/product", DType::kFloat32, graph.value(sum).dims);
  graph.node(id).inputs.resize(2);
  graph.node(id).attributes.erase("beta");
  graph.node(id).outputs[0] = product;
  graph.value(product).producer = id;
  graph.value(sum).producer = kNoNode;
  graph.AddNode(graph.node(id).name + "/Bias", "", "Add", {product, bias}, {sum});
  return {};
}

// The Add of a constant vector that alone reads the product; kNoNode where there is none.
NodeId VectorAddedTo(const Graph& graph, const std::vector<std::vector<NodeId>>& uses, ValueId product) {
  const std::vector<NodeId>& readers = uses[static_cast<size_t>(product)];
  if (readers.size() != 1 || graph.IsOutput(product)) return kNoNode;
  const Node& add = graph.node(readers[0]);
  if (!add.Is("Add") || add.input(0) == add.input(1)) return kNoNode;
  const Value& vector = graph.value(add.input(0) == product ? add.input(1) : add.input(0));
  const bool fits = vector.is_constant() && !vector.dims.empty() && vector.dims.size() <= 2 &&
                    vector.dims.back() == graph.value(product).dims.back();
  return fits ? readers[0] : kNoNode;
}

void PutMatMulApart(Graph& graph, const std::vector<std::vector<NodeId>>& uses, NodeId id) {
  const ValueId product = graph.node(id).output(0);
  const size_t rank = graph.value(product).dims.size();
  const NodeId add = rank < 2 ? kNoNode : VectorAddedTo(graph, uses, product);
  if (add == kNoNode) return;
  if (rank == 2) {
    graph.node(id).op = "Gemm";
    return;
  }
  ValueId& vector = graph.node(add).inputs[graph.node(add).input(0) == product ? 1 : 0];
  const Tensor constant = graph.value(vector).constant;
  if (constant.rank() != 1) return;
  vector = graph.AddConstant(graph.value(vector).name + "/row", constant.Reshaped({1, constant.size()}));
}

}  // namespace

Status MoveBiasesApart(Graph& graph) {
  const auto uses = graph.Uses();
  const auto count = static_cast<NodeId>(graph.nodes.size());
  for (NodeId id = 0; id < count; ++id) {
    const Node& node = graph.node(id);
    if (node.removed || !(node.Is("Gemm") || node.Is("MatMul"))) continue;
    if (!IsDequantized(graph, node.input(0)) || !IsDequantized(graph, node.input(1))) continue;
    if (node.Is("Gemm")) {
      OCTAVO_RETURN_IF_ERROR(SplitGemm(graph, id));
    } else {
      PutMatMulApart(graph, uses, id);
    }
  }
  return {};
}

}  // namespace octavo
