// The graph that is lowered: after the passes, and rounded where the precision rounds.
#pragma once

#include <set>
#include <string>
#include <vector>

#include "octavo/graph.h"
#include "octavo/passes.h"
#include "octavo/session.h"

namespace octavo {

// Runs the passes on a graph with static shapes, but for Precision::kFloat16 those that would hide a value that a
// target keeps in FP16 (inside of attention), or make one that it does not have.
Result<std::vector<PassReport>> RunPassesFor(Precision precision, Graph& graph, const PassOptions& options);

// The same and then, at Precision::kFloat16, InsertHalfRoundings. `float32_nodes` is SessionOptions'.
Result<std::vector<PassReport>> MakeCanonical(Graph& graph, const PassOptions& options, Precision precision,
                                              const std::vector<std::string>& float32_nodes = {});

// Puts a RoundTo behind every float32 value of a canonical graph and rounds its float32 constants, but for
//   - what a contraction on integers fuses: its operands and bias, and what lies between it and its QuantizeLinear;
//   - a product that a bias is added to: the sum is rounded;
//   - values that are not among `model_values`, the names before the passes: they are inside of a fused op;
//   - what only a Relu or Clip reads: rounding behind them gives the same;
//   - values that are halves already: selections and views of rounded values;
//   - scales of Q/DQ and of Resize.
// Inputs are rounded for whoever computes on them; outputs are rounded. What a node of `float32_nodes` makes is rounded
// for other readers only. The result is sorted.
Status InsertHalfRoundings(Graph& graph, const std::vector<std::string>& float32_nodes,
                           const std::set<std::string>& model_values);

// Whether each element the node makes is one of its inputs', perhaps negated, or an integer near it: of halves it makes
// halves.
bool SelectsElements(const Node& node);

}  // namespace octavo
