// Where a graph holds ReLU linear attention as it is exported; linear_attention.cc has the pattern.
#pragma once

#include <vector>

#include "octavo/graph.h"

namespace octavo {

struct LinearAttentionMatch {
  struct Operand {
    ValueId value = kNoValue;
    NodeId reader = kNoNode;  // the node of the pattern that reads it
  };
  NodeId quotient = kNoNode;     // the Div that makes the result
  std::vector<NodeId> products;  // its MatMul nodes: numerator and divisor, KᵀV
  Operand query, key, values;    // Relu(q), Relu(k) and v, before v gets its row of ones
  std::vector<ValueId> inputs;   // q, k, v as octavo.LinearAttention takes them
  double epsilon = 0;
};

// In execution order.
std::vector<LinearAttentionMatch> FindLinearAttention(const Graph& graph);

}  // namespace octavo
