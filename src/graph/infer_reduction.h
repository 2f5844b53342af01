// Which axes a reduction runs over; shape inference and kernels share it.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "graph/op_table.h"

namespace octavo {

// Axes of a ReduceX node, normalized, whether they come as attribute (opsets below 13 for ReduceSum, below 18 for the
// others) or as input. No axes mean all of them, or none where noop_with_empty_axes says so.
Result<std::vector<int64_t>> ResolveReduceAxes(const Node& node, std::span<const InferInput> inputs);

// The axes that MeanVarianceNormalization takes its moments over, as a mask.
Result<std::vector<bool>> ResolveMeanVarianceAxes(const Node& node, size_t rank);

}  // namespace octavo
