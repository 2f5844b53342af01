// Which elementwise nodes a contraction takes along as post-operations.
#pragma once

#include <vector>

#include "octavo/graph.h"

namespace octavo {

// kRound: a QuantizeLinear and the DequantizeLinear that alone reads it, between a contraction on integers and what
// follows; the result goes on rounded, without a way through memory.
enum class PostOpKind : uint8_t { kUnary, kAdd, kMul, kRound };

struct PostOp {
  PostOpKind kind;
  NodeId node = kNoNode;        // the node absorbed
  ValueId operand = kNoValue;   // the other operand of kAdd and kMul
  NodeId dequantize = kNoNode;  // of kRound
};

// A node with the elementwise nodes that follow it. The group computes `output` and stands, in the order of
// execution, where its last member stood, so that every operand has been made by then.
struct FusionGroup {
  NodeId anchor = kNoNode;
  ValueId bias = kNoValue;  // per output channel, constant, [C] elements; absorbed from a following Add
  std::vector<PostOp> post_ops;
  NodeId last = kNoNode;
  ValueId output = kNoValue;

  bool rounds() const;  // some post-op is kRound: only kernels on integers take the group along
};

// One group per Conv, ConvTranspose, Gemm and MatMul of the graph (also those that absorb nothing).
// A node belongs to at most one group.
std::vector<FusionGroup> FuseEpilogues(const Graph& graph);

// The axis of a contraction's output that holds channels: 1 for convolutions, the last for matrix products.
size_t ChannelAxis(const Node& anchor, size_t rank);

// A Gemm that is a product and a bias: alpha and beta are 1, A is not transposed.
bool IsPlainGemm(const Node& gemm);

// Whether oneDNN computes this unary node as a post-operation.
bool IsFusableUnary(const Graph& graph, const Node& node);

}  // namespace octavo
