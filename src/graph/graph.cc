#include "octavo/graph.h"

#include <algorithm>
#include <functional>
#include <queue>
#include <set>

#include "base/quote.h"

namespace octavo {
namespace {

template <typename T>
const T* FindAttribute(const Node& node, std::string_view name) {
  const auto it = node.attributes.find(std::string(name));
  return it == node.attributes.end() ? nullptr : std::get_if<T>(&it->second);
}

bool InRange(const Graph& graph, ValueId id) { return id >= 0 && static_cast<size_t>(id) < graph.values.size(); }

// For each value, the node that lists it as an output; removed nodes make nothing.
std::vector<NodeId> Producers(const Graph& graph) {
  std::vector<NodeId> producers(graph.values.size(), kNoNode);
  for (size_t n = 0; n < graph.nodes.size(); ++n) {
    if (graph.nodes[n].removed) continue;
    for (const ValueId output : graph.nodes[n].outputs) {
      if (InRange(graph, output)) producers[static_cast<size_t>(output)] = static_cast<NodeId>(n);
    }
  }
  return producers;
}

// A node on a cycle, given how many inputs of each node are still waited for (at least one node waits).
// Each waiting node waits for a waiting producer, so walking upstream must come back to a node already seen.
NodeId NodeOnCycle(const Graph& graph, const std::vector<NodeId>& producers, const std::vector<int>& waiting) {
  std::vector<bool> seen(graph.nodes.size());
  auto at =
      static_cast<size_t>(std::find_if(waiting.begin(), waiting.end(), [](int w) { return w > 0; }) - waiting.begin());
  while (!seen[at]) {
    seen[at] = true;
    for (const ValueId input : graph.nodes[at].inputs) {
      if (!InRange(graph, input)) continue;
      const NodeId producer = producers[static_cast<size_t>(input)];
      if (producer == kNoNode || waiting[static_cast<size_t>(producer)] == 0) continue;
      at = static_cast<size_t>(producer);
      break;
    }
  }
  return static_cast<NodeId>(at);
}

// Node ids in topological order; among nodes that are ready, the one that stood first comes first.
Result<std::vector<NodeId>> TopologicalOrder(const Graph& graph, const std::vector<NodeId>& producers) {
  const size_t count = graph.nodes.size();
  std::vector<int> waiting(count);
  std::vector<std::vector<NodeId>> readers(count);
  std::priority_queue<NodeId, std::vector<NodeId>, std::greater<>> ready;
  size_t live = 0;
  for (size_t n = 0; n < count; ++n) {
    if (graph.nodes[n].removed) continue;
    ++live;
    for (const ValueId input : graph.nodes[n].inputs) {
      const NodeId producer = InRange(graph, input) ? producers[static_cast<size_t>(input)] : kNoNode;
      if (producer == kNoNode) continue;
      ++waiting[n];
      readers[static_cast<size_t>(producer)].push_back(static_cast<NodeId>(n));
    }
    if (waiting[n] == 0) ready.push(static_cast<NodeId>(n));
  }
  std::vector<NodeId> order;
  order.reserve(live);
  while (!ready.empty()) {
    const NodeId node = ready.top();
    ready.pop();
    order.push_back(node);
    for (const NodeId reader : readers[static_cast<size_t>(node)]) {
      if (--waiting[static_cast<size_t>(reader)] == 0) ready.push(reader);
    }
  }
  if (order.size() == live) return order;
  return InvalidArgument("the graph has a cycle through " +
                         graph.Describe(graph.node(NodeOnCycle(graph, producers, waiting))));
}

Status VerifyValues(const Graph& graph) {
  std::set<std::string_view> names;
  for (const Value& value : graph.values) {
    if (value.name.empty()) return InternalError("a value has no name");
    if (!names.insert(value.name).second) return InternalError("two values are named " + Quote(value.name));
    if (value.shape_known && std::any_of(value.dims.begin(), value.dims.end(), [](int64_t d) { return d < -1; })) {
      return InternalError("value " + Quote(value.name) + " has a negative dimension");
    }
    if (!value.dim_params.empty() && value.dim_params.size() != value.dims.size()) {
      return InternalError("value " + Quote(value.name) + " has as many symbolic names as no dimensions");
    }
    if (!value.is_constant()) continue;
    if (value.dtype != value.constant.dtype() || !value.shape_known || value.dims != value.constant.dims()) {
      return InternalError("constant " + Quote(value.name) + " differs from its tensor in type or shape");
    }
    if (value.producer != kNoNode) return InternalError("constant " + Quote(value.name) + " has a producer");
  }
  return {};
}

Status VerifyProducers(const Graph& graph) {
  for (size_t v = 0; v < graph.values.size(); ++v) {
    const Value& value = graph.values[v];
    if (value.producer == kNoNode) continue;
    if (value.producer < 0 || static_cast<size_t>(value.producer) >= graph.nodes.size()) {
      return InternalError("value " + Quote(value.name) + " has a producer out of range");
    }
    const Node& node = graph.node(value.producer);
    const auto id = static_cast<ValueId>(v);
    if (node.removed || std::find(node.outputs.begin(), node.outputs.end(), id) == node.outputs.end()) {
      return InternalError("value " + Quote(value.name) + " is said to be made by " + graph.Describe(node) +
                           ", which does not make it");
    }
  }
  return {};
}

// Walks the nodes in order; `available` marks the values that exist so far.
Status VerifyNodes(const Graph& graph, std::vector<bool>& available) {
  for (size_t n = 0; n < graph.nodes.size(); ++n) {
    const Node& node = graph.nodes[n];
    if (node.removed) continue;
    for (const ValueId input : node.inputs) {
      if (input == kNoValue) continue;
      if (!InRange(graph, input)) return InternalError(graph.Describe(node) + " reads a value out of range");
      if (!available[static_cast<size_t>(input)]) {
        return InternalError(graph.Describe(node) + " reads " + Quote(graph.value(input).name) + " before it is made");
      }
    }
    for (const ValueId output : node.outputs) {
      if (output == kNoValue) continue;
      if (!InRange(graph, output)) return InternalError(graph.Describe(node) + " makes a value out of range");
      if (available[static_cast<size_t>(output)] || graph.value(output).producer != static_cast<NodeId>(n)) {
        return InternalError(graph.Describe(node) + " makes " + Quote(graph.value(output).name) +
                             ", which is made elsewhere too");
      }
      available[static_cast<size_t>(output)] = true;
    }
  }
  return {};
}

Status VerifyInputs(const Graph& graph, std::vector<bool>& available) {
  for (const ValueId input : graph.inputs) {
    if (!InRange(graph, input)) return InternalError("a graph input is out of range");
    const Value& value = graph.value(input);
    if (value.producer != kNoNode || value.is_constant()) {
      return InternalError("graph input " + Quote(value.name) + " is also made inside the graph");
    }
    if (available[static_cast<size_t>(input)])
      return InternalError("graph input " + Quote(value.name) + " is listed twice");
    available[static_cast<size_t>(input)] = true;
  }
  return {};
}

}  // namespace

bool Value::has_static_shape() const {
  return shape_known && std::all_of(dims.begin(), dims.end(), [](int64_t dim) { return dim >= 0; });
}

int64_t Node::Int(std::string_view attribute, int64_t fallback) const {
  const auto* found = FindAttribute<int64_t>(*this, attribute);
  return found != nullptr ? *found : fallback;
}

float Node::Float(std::string_view attribute, float fallback) const {
  const auto* found = FindAttribute<float>(*this, attribute);
  return found != nullptr ? *found : fallback;
}

std::string Node::String(std::string_view attribute, std::string_view fallback) const {
  const auto* found = FindAttribute<std::string>(*this, attribute);
  return found != nullptr ? *found : std::string(fallback);
}

std::vector<int64_t> Node::Ints(std::string_view attribute, std::vector<int64_t> fallback) const {
  const auto* found = FindAttribute<std::vector<int64_t>>(*this, attribute);
  if (found != nullptr) return *found;
  return fallback;
}

std::vector<float> Node::Floats(std::string_view attribute, std::vector<float> fallback) const {
  const auto* found = FindAttribute<std::vector<float>>(*this, attribute);
  if (found != nullptr) return *found;
  return fallback;
}

int64_t Graph::opset() const {
  const auto it = opsets.find("");
  return it == opsets.end() ? 0 : it->second;
}

std::string Graph::UniqueName(std::string_view wanted) {
  const std::string base(wanted.empty() ? std::string_view("value") : wanted);
  std::string unique = base;
  for (int suffix = 1; by_name_.contains(unique); ++suffix) unique = base + "_" + std::to_string(suffix);
  return unique;
}

ValueId Graph::AddValue(std::string_view value_name, DType dtype) {
  const auto id = static_cast<ValueId>(values.size());
  Value& added = values.emplace_back();
  added.name = UniqueName(value_name);
  added.dtype = dtype;
  by_name_.emplace(added.name, id);
  return id;
}

ValueId Graph::AddValue(std::string_view value_name, DType dtype, Dims dims) {
  const ValueId id = AddValue(value_name, dtype);
  value(id).shape_known = true;
  value(id).dims = std::move(dims);
  return id;
}

ValueId Graph::AddConstant(std::string_view value_name, Tensor tensor) {
  const ValueId id = AddValue(value_name, tensor.dtype(), tensor.dims());
  value(id).constant = std::move(tensor);
  return id;
}

NodeId Graph::AddNode(std::string_view node_name, std::string_view domain, std::string_view op,
                      std::vector<ValueId> node_inputs, std::vector<ValueId> node_outputs,
                      std::map<std::string, Attribute> attributes) {
  const auto id = static_cast<NodeId>(nodes.size());
  for (const ValueId output : node_outputs) {
    if (InRange(*this, output)) value(output).producer = id;
  }
  nodes.push_back({.name = std::string(node_name),
                   .domain = std::string(domain),
                   .op = std::string(op),
                   .inputs = std::move(node_inputs),
                   .outputs = std::move(node_outputs),
                   .attributes = std::move(attributes)});
  return id;
}

void Graph::RemoveNode(NodeId id) {
  node(id).removed = true;
  for (const ValueId output : node(id).outputs) {
    if (InRange(*this, output) && value(output).producer == id) value(output).producer = kNoNode;
  }
}

void Graph::ReplaceUses(ValueId from, ValueId to) {
  for (Node& reader : nodes) {
    if (!reader.removed) std::replace(reader.inputs.begin(), reader.inputs.end(), from, to);
  }
  std::replace(outputs.begin(), outputs.end(), from, to);
}

bool Graph::IsOutput(ValueId id) const { return std::find(outputs.begin(), outputs.end(), id) != outputs.end(); }

bool Graph::IsInput(ValueId id) const { return std::find(inputs.begin(), inputs.end(), id) != inputs.end(); }

std::vector<std::vector<NodeId>> Graph::Uses() const {
  std::vector<std::vector<NodeId>> uses(values.size());
  for (size_t n = 0; n < nodes.size(); ++n) {
    if (nodes[n].removed) continue;
    for (const ValueId input : nodes[n].inputs) {
      if (InRange(*this, input)) uses[static_cast<size_t>(input)].push_back(static_cast<NodeId>(n));
    }
  }
  return uses;
}

Status Graph::Sort() {
  OCTAVO_ASSIGN(const std::vector<NodeId> order, TopologicalOrder(*this, Producers(*this)));
  std::vector<Node> sorted;
  sorted.reserve(order.size());
  for (const NodeId id : order) sorted.push_back(std::move(node(id)));
  nodes = std::move(sorted);
  const std::vector<NodeId> producers = Producers(*this);
  for (size_t v = 0; v < values.size(); ++v) values[v].producer = producers[v];
  return {};
}

void Graph::CompactValues() {
  std::vector<bool> used(values.size());
  const auto mark = [&](const std::vector<ValueId>& ids) {
    for (const ValueId id : ids) {
      if (InRange(*this, id)) used[static_cast<size_t>(id)] = true;
    }
  };
  for (const Node& user : nodes) {
    if (user.removed) continue;
    mark(user.inputs);
    mark(user.outputs);
  }
  mark(inputs);
  mark(outputs);

  std::vector<ValueId> renumbered(values.size(), kNoValue);
  std::vector<Value> kept;
  by_name_.clear();
  for (size_t v = 0; v < values.size(); ++v) {
    if (!used[v]) continue;
    renumbered[v] = static_cast<ValueId>(kept.size());
    by_name_.emplace(values[v].name, renumbered[v]);
    kept.push_back(std::move(values[v]));
  }
  const auto renumber = [&](std::vector<ValueId>& ids) {
    for (ValueId& id : ids)
      id = id >= 0 && static_cast<size_t>(id) < renumbered.size() ? renumbered[static_cast<size_t>(id)] : kNoValue;
  };
  for (Node& user : nodes) {
    renumber(user.inputs);
    renumber(user.outputs);
  }
  renumber(inputs);
  renumber(outputs);
  values = std::move(kept);
}

ValueId Graph::Find(std::string_view value_name) const {
  const auto it = by_name_.find(value_name);
  if (it != by_name_.end() && InRange(*this, it->second) && value(it->second).name == value_name) return it->second;
  // Names are public and may have been changed behind the index.
  const auto found = std::find_if(values.begin(), values.end(), [&](const Value& v) { return v.name == value_name; });
  return found == values.end() ? kNoValue : static_cast<ValueId>(found - values.begin());
}

std::string Graph::Describe(const Node& described) const { return described.op + " " + Quote(described.name); }

Status Verify(const Graph& graph) {
  OCTAVO_RETURN_IF_ERROR(VerifyValues(graph));
  OCTAVO_RETURN_IF_ERROR(VerifyProducers(graph));
  std::vector<bool> available(graph.values.size());
  for (size_t v = 0; v < graph.values.size(); ++v) available[v] = graph.values[v].is_constant();
  OCTAVO_RETURN_IF_ERROR(VerifyInputs(graph, available));
  OCTAVO_RETURN_IF_ERROR(VerifyNodes(graph, available));
  for (const ValueId output : graph.outputs) {
    if (!InRange(graph, output)) return InternalError("a graph output is out of range");
    if (!available[static_cast<size_t>(output)]) {
      return InternalError("graph output " + Quote(graph.value(output).name) + " is never made");
    }
  }
  return {};
}

}  // namespace octavo
