// The graph that is lowered: after the passes, and rounded where the precision rounds.
#pragma once

#include "octavo/graph.h"
#include "octavo/passes.h"
#include "octavo/session.h"

namespace octavo {

// Runs the passes on a graph with static shapes. At Precision::kFloat16 those that would hide a value that a target
// keeps in FP16 (inside of attention) are left out, and InsertHalfRoundings follows.
Result<std::vector<PassReport>> MakeCanonical(Graph& graph, const PassOptions& options, Precision precision);

// Puts a RoundHalf behind every float32 value of a canonical graph and rounds its float32 constants, but for
//   - what a contraction on integers fuses: its operands and bias, and what lies between it and its QuantizeLinear;
//   - a product that a bias is added to: the sum is rounded;
//   - what only a Relu or Clip reads: rounding behind them gives the same;
//   - values that are halves already: selections and views of rounded values;
//   - scales of Q/DQ and of Resize.
// Inputs are rounded for whoever computes on them; outputs are rounded. The result is sorted.
Status InsertHalfRoundings(Graph& graph);

}  // namespace octavo
