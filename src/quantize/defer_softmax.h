// Softmax whose division waits until after the product: its numerators, exp(x - max), fill 8 bits in every row. See
// docs/remedies.md.
#pragma once

#include <string>
#include <vector>

#include "octavo/graph.h"
#include "octavo/status.h"
#include "quantize/placement.h"

namespace octavo {

// Names of the Softmax nodes over the last axis whose result the placement quantizes for one MatMul, its left operand,
// and which nothing else reads.
std::vector<std::string> DeferrableSoftmaxes(const Graph& graph, const Placement& placement);

// Rewrites one of them; the graph wants sorting then. Error: a node of another kind.
Status DeferSoftmax(Graph& graph, NodeId softmax);

// Whether `value` is such a numerator: every row lies in [0, 1] and reaches 1, whatever the data.
bool IsSoftmaxNumerator(const Graph& graph, ValueId value);

}  // namespace octavo
