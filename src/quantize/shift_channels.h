// Channels moved to the middle of a tensor's range: each reader's bias takes back what the shift adds.
//   x -> W x + b      ->      x -> x + v -> W (x + v) + (b - W v)
// exact in real numbers; floats round the new bias once, and x + v where it is not part of a constant before.
#pragma once

#include <optional>
#include <vector>

#include "octavo/dataset.h"
#include "octavo/quantize.h"
#include "octavo/status.h"

namespace octavo {

// The axis of `node`'s operand whose channels may be shifted: W v is the same for every element of an output channel,
// and a bias can take it. Error: why not.
Result<int> ShiftableAxis(const Graph& graph, const Node& node);

// W v by output channel, for weights W that are given or the node's own.
std::vector<double> ShiftOfResult(const Graph& graph, const Node& node, const std::vector<float>& shift);

// A constant that is added to `tensor` per channel of `axis`, as its maker's bias: input `input` of `node`, which may
// be absent.
struct ShiftHome {
  NodeId node = kNoNode;
  int input = 2;
};
std::optional<ShiftHome> FindShiftHome(const Graph& graph, ValueId tensor, int axis);

// A shift, and the widest of the channels that it moves: what 8 bits have to hold.
struct ChannelShift {
  ShiftRecipe recipe;
  float widest = 0;
};

// Shifts for the tensors whose range, as far as their 8 bits hold it now, shrinks enough to pay for them. `graph` is
// the float graph that `recipe` quantizes, rewritten by it. Ranges of channels are those of all samples.
Result<std::vector<ChannelShift>> ShiftChannels(const Graph& graph, const Dataset& data, const Recipe& recipe,
                                                int threads);

// Gives shifted tensors the scale that holds their widest channel, and rounds each shift to whole steps of it: what was
// 0 stays exact, and what lies near it, most of what activation functions make, keeps its small errors. An estimator
// would cut off the channels that were shifted farthest, and with them all of their zeros. `recipe` is decided for the
// shifted graph, and has `shifts`, in order, at the end of its own.
void ScaleShifts(const std::vector<ChannelShift>& shifts, Recipe& recipe);

// What the shifts of `recipe` cost because weights are rounded: W v - Q(W) v, to be added to the biases of their
// readers, so that a shift meets no rounding of weights. `shifted` is the float graph with the shifts and without
// biases.
std::vector<BiasRecipe> RoundingOfShifts(const Graph& shifted, const Recipe& recipe);

}  // namespace octavo
