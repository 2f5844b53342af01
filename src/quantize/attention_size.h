// How large softmax attention is, as far as it decides whether a target runs its products in INT8.
#pragma once

#include <string>
#include <vector>

#include "octavo/graph.h"
#include "octavo/targets.h"

namespace octavo {

// Why `target` does not run `product`, a MatMul of two activations, in INT8 as part of attention: "fused INT8 attention
// has at most 512 tokens, here are 4096"; "" where it does or where the product belongs to no Softmax. `uses` is
// Graph::Uses().
std::string WhyNoInt8Attention(const Graph& graph, const std::vector<std::vector<NodeId>>& uses, const Node& product,
                               const Target& target);

}  // namespace octavo
