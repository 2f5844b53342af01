// y = f(x) * scale + shift per output channel, with f's weights constant: scale goes into the weights, shift into the
// bias.
#pragma once

#include <vector>

#include "passes/rewriter.h"

namespace octavo {

// A contraction whose output channels a constant scale and shift can be folded into: Conv, ConvTranspose, Gemm, MatMul
// with a constant 2-D right-hand side, or such a MatMul followed by Add of a constant that varies over columns only.
struct ScalableContraction {
  NodeId contraction = kNoNode;
  NodeId bias_add = kNoNode;  // the Add behind a MatMul; kNoNode: none
  int64_t axis = 0;           // of the output that holds the channels
  int64_t channels = 0;
};

// The contraction that makes `value`, when `value` and what lies in between are read once.
std::optional<ScalableContraction> FindScalable(const Rewriter& rewriter, ValueId value);

// Makes `result`, read from scale * value + shift by now, the contraction's own output. `scale` and `shift` have
// `channels` values each. The products are rounded to float once; shift is computed in double.
void FoldAffine(Rewriter& rewriter, const ScalableContraction& target, ValueId result, const std::vector<double>& scale,
                const std::vector<double>& shift);

}  // namespace octavo
