// Which axis of an activation is its channels.
#pragma once

#include <string>
#include <vector>

#include "octavo/graph.h"

namespace octavo {

// By what reads and makes the value: 1 beside convolutions, pooling and their like, the last one beside products and
// LayerNormalization; readers come before the maker. Where neither says, 1 for rank 4 and above, else the last.
// 0 for scalars.
std::vector<int> ChannelAxes(const Graph& graph, const std::vector<ValueId>& values);

}  // namespace octavo
