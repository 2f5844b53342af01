// Nodes that compute in float16 in a float32 graph, as strongly typed runtimes want it written:
//   x -> Conv(w, b) -> Relu -> y   becomes   x -> Cast(float16) -> Conv(w16, b16) -> Relu -> Cast(float32) -> y
#pragma once

#include <set>

#include "octavo/graph.h"
#include "octavo/status.h"

namespace octavo {

// Gives the nodes float16 operands, constants and results, with Casts where others make or read them; neighbours hand
// float16 on. New nodes stand last: the caller sorts. Error: kInvalidArgument for a node that CanBeHalf does not take
// or whose constants float16 cannot hold (the message names it).
Status MakeHalfIslands(Graph& graph, const std::set<NodeId>& nodes);

}  // namespace octavo
