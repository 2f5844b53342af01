// Softmax(x) . v   ->   m = ReduceMax(x);  e = Exp(x - m);  (e . v) / ReduceSum(e)
// A row of Softmax that attends to all of N tokens alike holds 1/N everywhere: below one step of 1/255 from N = 256 on.
// Its numerators are near 1, and what divides by their sum is float.
#include "quantize/defer_softmax.h"

#include "passes/rewriter.h"

namespace octavo {
namespace {

// From this opset on the axes of ReduceMax are an input; of ReduceSum from 13.
constexpr int64_t kReduceMaxAxesInput = 18, kReduceSumAxesInput = 13;

// The MatMul whose left operand is the only use of a Softmax over the last axis; kNoNode where it is not that.
NodeId WeightedSum(const Graph& graph, const std::vector<std::vector<NodeId>>& uses, NodeId id) {
  const Node& node = graph.node(id);
  if (node.removed || !node.Is("Softmax") || !IsFloat32(graph, node.output(0))) return kNoNode;
  const auto rank = static_cast<int64_t>(graph.value(node.input(0)).dims.size());
  if (WrapAxis(node.Int("axis", graph.opset() < 13 ? 1 : -1), rank) != rank - 1) return kNoNode;
  const std::vector<NodeId>& readers = uses[static_cast<size_t>(node.output(0))];
  if (readers.size() != 1 || graph.IsOutput(node.output(0))) return kNoNode;
  const Node& product = graph.node(readers[0]);
  const bool weighs = product.Is("MatMul") && product.input(0) == node.output(0);
  return weighs && graph.value(product.input(1)).dims.size() >= 2 ? readers[0] : kNoNode;
}

ValueId AddFloat(Graph& graph, const std::string& name, std::string_view op, std::vector<ValueId> inputs, Dims dims,
                 std::map<std::string, Attribute> attributes = {}) {
  const ValueId value = graph.AddValue(name, DType::kFloat32, std::move(dims));
  graph.AddNode(graph.value(value).name, "", op, std::move(inputs), {value}, std::move(attributes));
  return value;
}

// A reduction of the last axis, whose size stays as 1.
ValueId Reduce(Graph& graph, const std::string& name, std::string_view op, ValueId value, bool axes_input) {
  Dims dims = graph.value(value).dims;
  const auto last = static_cast<int64_t>(dims.size()) - 1;
  dims.back() = 1;
  if (!axes_input) return AddFloat(graph, name, op, {value}, dims, {{"axes", std::vector<int64_t>{last}}});
  const ValueId axes = graph.AddConstant(name + "/axes", Int64Constant({last}));
  return AddFloat(graph, name, op, {value, axes}, dims);
}

}  // namespace

std::vector<std::string> DeferrableSoftmaxes(const Graph& graph, const Placement& placement) {
  const auto uses = graph.Uses();
  std::vector<std::string> names;
  for (const Placement::Edge& edge : placement.edges) {
    const NodeId softmax = graph.value(edge.tensor).producer;
    if (softmax != kNoNode && WeightedSum(graph, uses, softmax) != kNoNode) names.push_back(graph.node(softmax).name);
  }
  return names;
}

Status DeferSoftmax(Graph& graph, NodeId softmax) {
  const NodeId product = WeightedSum(graph, graph.Uses(), softmax);
  if (product == kNoNode) {
    return InvalidArgument("it is no Softmax over the last axis that one MatMul alone reads, as its left operand");
  }
  const std::string name = graph.node(softmax).name;
  const ValueId x = graph.node(softmax).input(0), result = graph.node(product).output(0);
  const Dims dims = graph.value(x).dims, result_dims = graph.value(result).dims;
  const int64_t opset = graph.opset();
  graph.RemoveNode(softmax);
  const ValueId largest = Reduce(graph, name + "/max", "ReduceMax", x, opset >= kReduceMaxAxesInput);
  const ValueId shifted = AddFloat(graph, name + "/shifted", "Sub", {x, largest}, dims);
  const ValueId numerators = AddFloat(graph, name + "/numerators", "Exp", {shifted}, dims);
  const ValueId sum = Reduce(graph, name + "/sum", "ReduceSum", numerators, opset >= kReduceSumAxesInput);
  // The quotient is what others read under the product's name.
  const ValueId weighted = graph.AddValue(name + "/weighted", DType::kFloat32, result_dims);
  graph.node(product).inputs[0] = numerators;
  graph.node(product).outputs[0] = weighted;
  graph.value(weighted).producer = product;
  graph.AddNode(name + "/quotient", "", "Div", {weighted, sum}, {result});
  return {};
}

bool IsSoftmaxNumerator(const Graph& graph, ValueId value) {
  const auto producer = [&](ValueId of, std::string_view op) -> const Node* {
    const NodeId id = of == kNoValue ? kNoNode : graph.value(of).producer;
    return id != kNoNode && graph.node(id).Is(op) ? &graph.node(id) : nullptr;
  };
  const Node* exp = producer(value, "Exp");
  const Node* shift = exp == nullptr ? nullptr : producer(exp->input(0), "Sub");
  const Node* max = shift == nullptr ? nullptr : producer(shift->input(1), "ReduceMax");
  return max != nullptr && max->input(0) == shift->input(0);
}

}  // namespace octavo
