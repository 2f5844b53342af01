// One row per op: what the rest of Octavo knows about it without looking at its name.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "octavo/graph.h"

namespace octavo {

// What shape inference sees of a node's input: its type and shape, and its value where it is constant.
struct InferInput {
  bool present = false;
  DType dtype = DType::kUndefined;
  Dims dims;                         // all known
  const Tensor* constant = nullptr;  // null when the value is not constant
};

struct InferOutput {
  DType dtype = DType::kUndefined;
  Dims dims;
};

// Shapes of a node's outputs from concrete inputs, by the rules of the ONNX operator and `opset`.
// Errors name what is wrong, not the node: the caller adds that.
using InferFn = Result<std::vector<InferOutput>> (*)(const Node& node, int64_t opset,
                                                     std::span<const InferInput> inputs);

enum class OpClass : uint8_t {
  kElementwise,  // every output element depends on the inputs' elements of the same (broadcast) position
  kView,         // only moves or renames elements (Reshape, Transpose, Slice, ...)
  kContraction,  // multiply-accumulate: Conv, MatMul, ...
  kReduction,    // ReduceMean, Softmax, pooling, normalization
  kOther,
};

struct OpTraits {
  std::string_view domain;
  std::string_view op;
  int64_t since;               // first opset whose semantics are implemented
  int min_inputs, max_inputs;  // max -1: any number
  OpClass op_class;
  InferFn infer;
  // Multiplicands that quantization may narrow (bit i = input i), and the weight's output-channel axis
  // (negative: from the end) when input 1 is constant. Zero for ops that are not contractions.
  uint32_t quantizable_inputs = 0;
  int weight_axis = 0;
  // Inputs whose values, not only shapes, must be known when shapes are bound (bit i = input i; the last bit stands for
  // all further ones).
  uint32_t value_inputs = 0;
};

// The row of an op, or null when Octavo does not know it.
const OpTraits* FindOp(std::string_view domain, std::string_view op);
std::span<const OpTraits> AllOps();

// The row's rule with what it may take for granted checked around it: the op is known, inputs are as many as it takes,
// required ones are there, ranks are at most kMaxRank (base/rank.h), and outputs have sizes that CheckedElementCount
// accepts. Gives at least as many outputs as the node names. Errors as InferFn's.
Result<std::vector<InferOutput>> InferNode(const Node& node, int64_t opset, std::span<const InferInput> inputs);

// The type that Cast's `to` names: the attribute keeps ONNX's number. Nothing for types Octavo does not have.
std::optional<DType> DTypeFromOnnx(int64_t number);

// One error that lists every node whose op (or opset) is not supported, grouped by op.
Status CheckSupported(const Graph& graph);

// Multiply-accumulates of a node of a graph with static shapes; 0 for ops that have none.
int64_t CountMacs(const Graph& graph, const Node& node);

}  // namespace octavo
