// The graph that everything works on: values, nodes, attributes. Plain data with a few checked operations;
// it knows nothing of protobuf, of kernels, or of any target.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "octavo/status.h"
#include "octavo/tensor.h"

namespace octavo {

using ValueId = int32_t;
using NodeId = int32_t;
inline constexpr ValueId kNoValue = -1;  // an optional input that is absent
inline constexpr NodeId kNoNode = -1;

using Attribute = std::variant<int64_t, float, std::string, std::vector<int64_t>, std::vector<float>,
                               std::vector<std::string>, Tensor>;

// An edge of the graph: a graph input, a constant, or what one node makes.
struct Value {
  std::string name;                     // unique within the graph, never empty
  DType dtype = DType::kUndefined;      // kUndefined until inferred
  bool shape_known = false;             // false: the rank is not known
  Dims dims;                            // -1 where a size is not known
  std::vector<std::string> dim_params;  // symbolic names ("batch_size"), "" where there is none; may be empty
  Tensor constant;                      // defined(): an initializer or a folded constant
  NodeId producer = kNoNode;            // kNoNode for inputs and constants
  bool is_constant() const { return constant.defined(); }
  // True when every dimension is known.
  bool has_static_shape() const;
};

// The domain of Octavo's own fused ops (see src/graph/op_table.cc for their semantics).
inline constexpr std::string_view kOctavoDomain = "octavo";

struct Node {
  std::string name;              // as in the file; made unique on loading when it is empty
  std::string domain;            // "" is ai.onnx
  std::string op;                // "Conv", "MatMul", ...
  std::vector<ValueId> inputs;   // kNoValue where an optional input is absent
  std::vector<ValueId> outputs;  // kNoValue where an optional output is not wanted
  std::map<std::string, Attribute> attributes;
  bool removed = false;  // a tombstone: passes remove by marking, Graph::Sort sweeps

  bool Is(std::string_view op_type, std::string_view op_domain = "") const {
    return op == op_type && domain == op_domain;
  }
  ValueId input(size_t i) const { return i < inputs.size() ? inputs[i] : kNoValue; }
  ValueId output(size_t i) const { return i < outputs.size() ? outputs[i] : kNoValue; }
  bool has_input(size_t i) const { return input(i) != kNoValue; }
  // Attribute of that name and type, or the fallback.
  int64_t Int(std::string_view attribute, int64_t fallback) const;
  float Float(std::string_view attribute, float fallback) const;
  std::string String(std::string_view attribute, std::string_view fallback) const;
  std::vector<int64_t> Ints(std::string_view attribute, std::vector<int64_t> fallback = {}) const;
  std::vector<float> Floats(std::string_view attribute, std::vector<float> fallback = {}) const;
  bool Has(std::string_view attribute) const { return attributes.find(std::string(attribute)) != attributes.end(); }
};

// Not thread safe; const member functions may run concurrently.
class Graph {
 public:
  std::string name;
  std::string source;  // path of the file it came from, for messages; may be empty
  int64_t ir_version = 8;
  std::string producer_name, producer_version, doc_string;
  std::map<std::string, int64_t> opsets;  // domain -> version; "" is ai.onnx
  std::map<std::string, std::string> metadata;
  std::vector<Value> values;
  std::vector<Node> nodes;  // in topological order after Sort()
  std::vector<ValueId> inputs, outputs;

  int64_t opset() const;  // of ai.onnx; 0 when the file names none

  // Adds a value; a taken name gets a suffix. Returns its id.
  ValueId AddValue(std::string_view value_name, DType dtype = DType::kUndefined);
  ValueId AddValue(std::string_view value_name, DType dtype, Dims dims);
  ValueId AddConstant(std::string_view value_name, Tensor tensor);
  // Appends a node, makes it the producer of its outputs, and returns its id. `after` of Sort() may change ids.
  NodeId AddNode(std::string_view node_name, std::string_view domain, std::string_view op,
                 std::vector<ValueId> node_inputs, std::vector<ValueId> node_outputs,
                 std::map<std::string, Attribute> attributes = {});
  // Marks the node as removed; its outputs lose their producer.
  void RemoveNode(NodeId node);
  // Every node input and graph output that reads `from` reads `to`.
  void ReplaceUses(ValueId from, ValueId to);
  bool IsOutput(ValueId value) const;
  bool IsInput(ValueId value) const;
  // For each value, the nodes that read it (a node that reads it twice is listed twice).
  std::vector<std::vector<NodeId>> Uses() const;
  // Sweeps removed nodes and orders the rest topologically (stable). Error: a cycle, named by a node on it.
  Status Sort();
  // Drops values that nothing refers to; ids change.
  void CompactValues();
  // Value of that name, or kNoValue.
  ValueId Find(std::string_view value_name) const;

  const Value& value(ValueId id) const { return values[static_cast<size_t>(id)]; }
  Value& value(ValueId id) { return values[static_cast<size_t>(id)]; }
  const Node& node(NodeId id) const { return nodes[static_cast<size_t>(id)]; }
  Node& node(NodeId id) { return nodes[static_cast<size_t>(id)]; }
  // "Conv 'stem/conv'" — for messages.
  std::string Describe(const Node& node) const;

 private:
  std::string UniqueName(std::string_view wanted);
  std::map<std::string, ValueId, std::less<>> by_name_;
};

// Structural invariants: ids in range, producers consistent, inputs available before use, names unique, outputs made.
// The error names the first offender.
Status Verify(const Graph& graph);

}  // namespace octavo
