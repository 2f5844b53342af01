// How the constant weights of a contraction lie: one way to index Conv's, ConvTranspose's, MatMul's and Gemm's.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "octavo/graph.h"
#include "octavo/status.h"

namespace octavo {

struct ContractionWeights {
  int64_t outputs = 0, inputs_per_group = 0, groups = 1, window = 1;
  bool transposed = false;  // (I, O/g, ...) instead of (O, I/g, ...)
  int operand_axis = 1;     // the operand's channels
  int result_axis = 1;      // the result's

  // Element `k` of the window of output `o` and the group's input `i`.
  size_t At(int64_t o, int64_t i, int64_t k) const;
  // The operand's channel that is the group's input `i` to output `o`.
  size_t Input(int64_t o, int64_t i) const;
  int64_t inputs() const { return inputs_per_group * groups; }
};

// Nothing where input 1 is no float32 constant of two dimensions or more, input 0 has no channels or is transposed.
std::optional<ContractionWeights> WeightsOf(const Graph& graph, const Node& node);

// By element of the window, row-major: the share of the result's elements to which it adds an element of the operand.
// Elsewhere it sees padding, or, of a transposed convolution, falls between the strides.
Result<std::vector<double>> WindowShares(const Graph& graph, const Node& node);

}  // namespace octavo
