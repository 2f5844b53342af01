// Softmax attention on 8-bit operands without its matrices of scores in memory:
//
//   s = q k;  e = exp(s - max s);  y = (Q(e) v) / sum e
//
// with q (queries x depth), k (depth x keys) and v (keys x width) behind DequantizeLinear, and Q the QuantizeLinear and
// DequantizeLinear of the numerators. Both products are exact; everything else rounds as the nodes by themselves do,
// but for e, which is within 4e-6 of itself, and the order in which it is summed.
#pragma once

#include <vector>

#include "engine/onednn.h"
#include "kernels/kernel.h"
#include "kernels/linear_attention/integer_linear_attention.h"  // ByteOperand
#include "octavo/graph.h"

namespace octavo {

// The nodes of one: two MatMul nodes and what lies between and behind them.
struct DeferredSoftmax {
  NodeId scores = kNoNode, product = kNoNode, quotient = kNoNode;  // MatMul, MatMul, Div
  NodeId quantize = kNoNode;                                       // of the numerators
  std::vector<NodeId> inside;                                      // all but the quotient, in order
};

// Those whose values inside have no other reader. `uses` is graph.Uses().
std::vector<DeferredSoftmax> FindDeferredSoftmax(const Graph& graph, const std::vector<std::vector<NodeId>>& uses);

struct IntegerAttentionSpec {
  ByteOperand q, k, v;  // ranks of at least 2 and equal batches
  float numerator_scale = 1;
  int32_t numerator_zero_point = 0;
  DType numerator_dtype = DType::kUInt8;  // or kInt8
  Operand y;                              // float32, bfloat16 or 8 bits; channels are neighbours
  float y_scale = 1;                      // of 8 bits, which are round(y / y_scale) + y_zero_point
  int32_t y_zero_point = 0;
  int threads = 1;
};

// KernelArgs: q, k, v; y. Errors: Unsupported where this CPU has no exact products of bytes, sums may not fit 32 bits,
// or neither channels nor tokens of an operand are neighbours.
Result<BoundKernel> BindIntegerAttention(OneDnnBuilder& onednn, const IntegerAttentionSpec& spec);

}  // namespace octavo
