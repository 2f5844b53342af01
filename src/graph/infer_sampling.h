// Ops that look at regions and boxes; shape inference and kernels share it.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "graph/op_table.h"

namespace octavo {

// NonMaxSuppression on known boxes and scores: batch, class and box of each one that is kept, three numbers each.
Result<std::vector<int64_t>> SelectBoxes(const Node& node, std::span<const InferInput> inputs);

// Col2Im: each of the image's axes as a window that slid over it; `output` is the number of its positions.
struct Col2ImAxis {
  int64_t image = 0, kernel = 1, stride = 1, dilation = 1, pad_begin = 0, pad_end = 0, output = 0;
};
Result<std::vector<Col2ImAxis>> ResolveCol2Im(const Node& node, std::span<const InferInput> inputs);

}  // namespace octavo
