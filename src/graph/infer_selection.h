// Which elements an op selects by value; shape inference and kernels share it.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "graph/op_table.h"

namespace octavo {

// Row-major positions of the elements that are not zero.
std::vector<int64_t> NonZeroPositions(const Tensor& tensor);

// Compress: the positions kept, along `axis` or, without one, in the flattened data.
struct CompressPlan {
  std::optional<int64_t> axis;
  std::vector<int64_t> kept;
};
Result<CompressPlan> ResolveCompress(const Node& node, std::span<const InferInput> inputs);

// Unique: slices along `axis`, or single elements without one.
struct UniquePlan {
  std::optional<int64_t> axis;
  std::vector<int64_t> first;    // per unique slice: where it comes up first
  std::vector<int64_t> count;    // and how often
  std::vector<int64_t> inverse;  // per slice of the data: which unique one it is
};
Result<UniquePlan> ResolveUnique(const Node& node, const Tensor& data);

// The axis that an op takes from an input (CumSum, DFT), normalized.
Result<int64_t> AxisFromInput(const InferInput& input, std::string_view name, int64_t rank);

}  // namespace octavo
