// What the ops that move elements decide from attributes and constant inputs; shape inference and kernels share it.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "graph/op_table.h"

namespace octavo {

// One axis of a Slice: elements start, start + step, ... (count of them; all inside the axis).
struct SliceAxis {
  int64_t start = 0;
  int64_t step = 1;
  int64_t count = 0;
};
// One entry per axis of the data, axes that are not sliced included.
Result<std::vector<SliceAxis>> ResolveSlice(const Node& node, std::span<const InferInput> inputs);

// perm, reversed axes by default.
Result<std::vector<int64_t>> ResolveTranspose(const Node& node, int64_t rank);

struct SplitPlan {
  int64_t axis = 0;
  std::vector<int64_t> sizes;  // one per output
};
Result<SplitPlan> ResolveSplit(const Node& node, std::span<const InferInput> inputs);

enum class PadMode : uint8_t { kConstant, kReflect, kEdge, kWrap };

// Negative amounts crop; cropping comes first, the rest is padded from what remains.
struct PadPlan {
  PadMode mode = PadMode::kConstant;
  std::vector<int64_t> begin, end;  // per axis of the data
};
Result<PadPlan> ResolvePad(const Node& node, std::span<const InferInput> inputs);

// CenterCropPad on one axis: `count` elements of the data from `from` on are those of the output from `to` on.
struct CenterAxis {
  int64_t from = 0, to = 0, count = 0, output = 0;
};
Result<std::vector<CenterAxis>> ResolveCenterCropPad(const Node& node, std::span<const InferInput> inputs);

}  // namespace octavo
