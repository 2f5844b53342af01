// A Q/DQ graph with the answers that rules ask for again and again: parameters as they are written, broken ones too;
// who makes and reads a value; which DQ a value comes from through ops that Q and DQ move through.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "octavo/graph.h"
#include "octavo/targets.h"

namespace octavo {

// Of one Q or DQ. Nothing is checked: scales may be NaN, counts may disagree.
struct WrittenParameters {
  bool constant = false;      // scale and zero point are constants
  std::vector<float> scales;  // empty where they are computed
  bool has_zero_point = false;
  std::vector<int32_t> zero_points;  // empty where there is none, or it is computed
  DType dtype = DType::kUndefined;   // of the integers
  int64_t scale_count = 1;           // known of computed scales whose shape is known
  bool axis_written = false;
  int64_t axis = 1;  // as written, perhaps negative

  bool per_channel() const { return scale_count > 1; }
  bool has_nonzero_zero_point() const;
};
// The same scales, zero points (0 where there is none), type and, per channel, axis. `rank` is the tensor's.
bool AreEqual(const WrittenParameters& a, const WrittenParameters& b, int64_t rank);

class QuantizedGraph {
 public:
  // Of a graph that Verify accepts, which must stay as it is and alive. Shapes come from a copy that is bound to
  // `input_dims`, as far as that goes.
  QuantizedGraph(const Graph& graph, const Target& target, const std::map<std::string, Dims>& input_dims);

  const Graph& graph() const { return graph_; }
  const Target& target() const { return target_; }
  // Why shapes are not all known; "" when they are.
  const std::string& shape_error() const { return shape_error_; }

  const std::vector<NodeId>& readers(ValueId value) const { return readers_[static_cast<size_t>(value)]; }
  bool IsOutput(ValueId value) const { return is_output_[static_cast<size_t>(value)]; }
  // The node that makes `value`; null for inputs, constants and kNoValue.
  const Node* Producer(ValueId value) const;
  NodeId ProducerId(ValueId value) const;
  // Null where some size is not known.
  const Dims* StaticDims(ValueId value) const;
  int64_t Rank(ValueId value) const;  // -1: unknown
  // True for constants and for what is computed from them alone.
  bool IsConstantMade(ValueId value) const { return value != kNoValue && constant_made_[static_cast<size_t>(value)]; }
  bool IsFloatActivation(ValueId value) const;

  // Q and DQ nodes, in order.
  const std::vector<NodeId>& quantizes() const { return quantizes_; }
  const std::vector<NodeId>& dequantizes() const { return dequantizes_; }
  bool is_quantized() const { return !quantizes_.empty() || !dequantizes_.empty(); }
  const WrittenParameters& Parameters(NodeId quantize_or_dequantize) const;
  // Constant in their data: weights and biases.
  bool IsOfWeights(NodeId quantize_or_dequantize) const {
    return IsConstantMade(graph_.node(quantize_or_dequantize).input(0));
  }

  // The DQ that `value` comes from, directly or through ops that move; kNoNode where there is none.
  NodeId DequantizeBehind(ValueId value) const;
  // The Q whose integers `value` holds, through ops that move.
  NodeId QuantizeBehind(ValueId value) const;
  // A Q that reads `value`, directly or through ops that move; kNoNode where there is none.
  NodeId QuantizeAfter(ValueId value) const;

  // Multiplies; every row of the op table that quantization may narrow and the target runs in INT8.
  bool IsContraction(NodeId node) const;
  std::vector<size_t> Operands(NodeId contraction) const;  // which inputs it multiplies
  bool IsDepthwise(NodeId node) const;                     // a grouped convolution of one channel a group
  // A contraction all of whose operands come from DQs.
  bool IsQuantizedContraction(NodeId node) const { return quantized_contraction_[static_cast<size_t>(node)]; }
  // Ops that hand elements on, so that the target's optimizer moves Q and DQ through them.
  bool Moves(const Node& node) const;
  // The quantized contraction whose result `value` is, through its bias and ops that move.
  NodeId ContractionBehind(ValueId value) const;
  // Of an Add, the operand beside a constant; kNoValue where none or both are constant.
  ValueId OperandBesideConstant(const Node& add) const;

 private:
  void ReadParameters(NodeId id);
  DType TypeOf(ValueId value) const;

  const Graph& graph_;
  const Target& target_;
  std::string shape_error_;
  std::vector<Value> shapes_;  // by value of graph_: the bound copy's type and dims
  std::vector<std::vector<NodeId>> readers_;
  std::vector<bool> is_output_, constant_made_, quantized_contraction_;
  std::vector<NodeId> quantizes_, dequantizes_;
  std::map<NodeId, WrittenParameters> parameters_;
};

}  // namespace octavo
