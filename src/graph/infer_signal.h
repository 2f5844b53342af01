// Fourier transforms, resolved; shape inference and kernels share it.
#pragma once

#include <cstdint>
#include <span>

#include "graph/op_table.h"

namespace octavo {

// The last axis holds real (and imaginary) parts. `length` elements of `axis`, padded with zeros or cut, make `bins`.
struct DftPlan {
  int64_t axis = 0, length = 1, bins = 1;
  bool inverse = false, onesided = false;
};
Result<DftPlan> ResolveDft(const Node& node, int64_t opset, std::span<const InferInput> inputs);

// Frames of `length`, one every `step` elements.
struct StftPlan {
  int64_t length = 0, step = 1, frames = 0, bins = 1;
  bool onesided = true;
};
Result<StftPlan> ResolveStft(const Node& node, std::span<const InferInput> inputs);

}  // namespace octavo
