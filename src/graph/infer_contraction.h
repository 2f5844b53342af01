// Einsum equations, taken apart: shape inference, counting and kernels share it.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "graph/op_table.h"

namespace octavo {

// Labels are numbered 0 .. sizes.size() - 1; the dimensions under an ellipsis got labels of their own.
struct EinsumPlan {
  Dims sizes;                                 // of each label
  std::vector<std::vector<size_t>> operands;  // label of each dimension of each operand; one may repeat (a diagonal)
  std::vector<size_t> output;                 // labels of the output's dimensions, each once
};

// An operand's dimension of 1 stands for the label's whole size (broadcast). Errors: a malformed equation, operands
// that do not fit it.
Result<EinsumPlan> ResolveEinsum(const std::string& equation, std::span<const Dims> operands);

}  // namespace octavo
