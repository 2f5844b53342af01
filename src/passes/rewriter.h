// What rewrites share: who reads a value, constants by value, and edits that keep both current.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "octavo/graph.h"

namespace octavo {

// A graph while one pass works on it. References to nodes and values do not survive an edit that adds some.
class Rewriter {
 public:
  // Nodes that make nothing at all go at once: rewrites may count on the output of an op that has one.
  explicit Rewriter(Graph& graph);

  Graph& graph() { return graph_; }
  const Graph& graph() const { return graph_; }
  const Value& value(ValueId id) const { return graph_.value(id); }
  const Dims& dims(ValueId id) const { return graph_.value(id).dims; }
  // Nodes that are there now, removed ones included; those added later come behind.
  NodeId node_count() const { return static_cast<NodeId>(graph_.nodes.size()); }

  // The node that makes `value`, or null (absent values, inputs, constants, another op than the one asked for).
  const Node* Producer(ValueId value) const;
  const Node* Producer(ValueId value, std::string_view op, std::string_view domain = "") const;
  NodeId ProducerId(ValueId value) const;
  const std::vector<NodeId>& Readers(ValueId value) const { return readers_[static_cast<size_t>(value)]; }
  bool IsOutput(ValueId value) const { return is_output_[static_cast<size_t>(value)]; }
  // The node that alone reads `value` (perhaps in several places); kNoNode when there are more or the graph gives it
  // out.
  NodeId OnlyReader(ValueId value) const;
  // True when nodes outside `interior` read nothing that `interior` makes but `result`, and the graph gives none of it
  // out: the condition for replacing these nodes by one that makes `result`.
  bool IsEnclosed(std::span<const NodeId> interior, ValueId result) const;

  ValueId AddConstant(std::string_view name, Tensor tensor);
  // A new node that makes a new value of that type and shape. Returns the value.
  ValueId AddNode(std::string_view name, std::string_view domain, std::string_view op, std::vector<ValueId> inputs,
                  DType dtype, Dims dims, std::map<std::string, Attribute> attributes = {});
  // A new Split of `input` along `axis` that makes `outputs`, values of known shape that have producers: each of those
  // goes when it makes nothing else.
  void AddSplit(const std::string& name, ValueId input, std::vector<ValueId> outputs, int64_t axis);
  // Turns `node` into another one that makes the same outputs in the same place; what only the old one needed goes.
  void Become(NodeId node, std::string_view domain, std::string_view op, std::vector<ValueId> inputs,
              std::map<std::string, Attribute> attributes = {});
  void SetInput(NodeId node, size_t index, ValueId value);
  // Removes `node`: whoever read output i reads replacements[i] instead, which has the same type and shape. Names of
  // graph outputs stay: where one is replaced, the replacement's producer makes it under the old name. False, with
  // nothing done, where that cannot be (the replacement is itself an output, an input or a constant).
  bool Bypass(NodeId node, std::span<const ValueId> replacements);
  bool Bypass(NodeId node, ValueId replacement) { return Bypass(node, std::span<const ValueId>(&replacement, 1)); }
  // `value` becomes the constant `tensor`; its producer goes when nothing else needs it.
  void BecomeConstant(ValueId value, Tensor tensor);
  // Removes `node` when nobody reads its outputs, then those that only it read.
  void RemoveIfDead(NodeId node);

 private:
  void AddReader(ValueId value, NodeId node);
  void DropReader(ValueId value, NodeId node);
  void Track(ValueId value);
  void MoveReaders(ValueId from, ValueId to);

  Graph& graph_;
  std::vector<std::vector<NodeId>> readers_;
  std::vector<bool> is_output_;
};

// The one value that all elements of a constant have; nothing for other values and empty constants.
std::optional<double> UniformValue(const Value& value);
// |a - b| <= tolerance * |b|. The default accepts constants that were written with five digits.
bool IsNear(double a, double b, double tolerance = 2e-5);
bool IsUniform(const Value& value, double expected);
// A constant's values as integers.
std::optional<std::vector<int64_t>> ConstantInts(const Graph& graph, ValueId value);
// The `channels` values of a float32 constant that, broadcast to `rank` dimensions, varies along `axis` at most.
std::optional<std::vector<float>> ChannelValues(const Value& value, int64_t rank, int64_t axis, int64_t channels);
// `axis` in [0, rank), or -1 when it is out of range.
int64_t WrapAxis(int64_t axis, int64_t rank);
// The axes of a Reduce* node, from its attribute or its constant input; nothing when they are not known.
std::optional<std::vector<int64_t>> ReduceAxes(const Graph& graph, const Node& node);
// The other operand of a two-operand node one of whose operands is `value`; kNoValue when none is.
ValueId OtherOperand(const Node& node, ValueId value);
Tensor Int64Constant(const std::vector<int64_t>& values);
bool IsFloat32(const Graph& graph, ValueId value);

}  // namespace octavo
