// How values lie in memory: strides, the orders that the engine prefers, and which ops are only a change of strides.
#pragma once

#include <optional>

#include "octavo/graph.h"

namespace octavo {

// Dense strides in which dimensions are nested in the order `order` (outermost first).
Dims StridesInOrder(const Dims& dims, const std::vector<int>& order);
// N, spatial..., C: what oneDNN calls nwc/nhwc/ndhwc. Contiguous for ranks below 3.
Dims ChannelsLastStrides(const Dims& dims);
// Dense strides whose nesting is that of `strides` (ties and broadcast dimensions keep the logical order).
Dims DenseLike(const Dims& dims, const Dims& strides);
// Whether both describe the same addresses; strides of dimensions of size 1 do not count.
bool SameStrides(const Dims& dims, const Dims& a, const Dims& b);
// Elements spanned from the first to the last one addressed, inclusive; 0 when a dimension is 0.
int64_t Extent(const Dims& dims, const Dims& strides);

// Strides of the same memory under other dims, or nothing when only a copy can do that.
std::optional<Dims> ReshapeStrides(const Dims& dims, const Dims& strides, const Dims& new_dims);

// One output of a view op: the same memory from `offset` (elements) on, with other strides.
struct View {
  int64_t offset = 0;
  Dims strides;
};
// The views that `node`'s outputs are of its first input, which lies with `strides`; nothing when the op moves data.
// Handles Reshape, Flatten, Squeeze, Unsqueeze, Transpose, Identity, Dropout, Expand, Split and Slice.
std::optional<std::vector<View>> ViewsOf(const Graph& graph, const Node& node, const Dims& strides);

}  // namespace octavo
