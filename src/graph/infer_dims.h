// Arithmetic of dimensions that every inference rule shares.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "graph/op_table.h"

namespace octavo {

// Attributes that count elements (kernels, strides, pads, blocks) stay below this, so that products of two of them, or
// of one with a dimension, cannot overflow an int64.
inline constexpr int64_t kMaxExtent = int64_t{1} << 22;

// `axis` counted from the front; negative ones count from the end. Error: out of [-rank, rank).
Result<int64_t> NormalizeAxis(int64_t axis, int64_t rank);
// The same for each of `axes`; an axis named twice is an error. The order is kept.
Result<std::vector<int64_t>> NormalizeAxes(const std::vector<int64_t>& axes, int64_t rank);

// Numpy's two-way broadcast. Error: sizes that neither agree nor are 1.
Result<Dims> Broadcast(const Dims& a, const Dims& b);
// Error unless `from` broadcasts to exactly `to`; `what` names the operand.
Status CheckBroadcastsTo(const Dims& from, const Dims& to, std::string_view what);

// The input at `index`, or one that is absent.
const InferInput& InputAt(std::span<const InferInput> inputs, size_t index);
// Whole numbers of an input that decides the output's shape. Error when it is not constant (says so, with the input's
// name) or not a vector of whole numbers.
Result<std::vector<int64_t>> ConstantInts(const InferInput& input, std::string_view name);
// An optional vector of whole numbers that moved from an attribute to an input in a later opset: the input when it is
// present, else the attribute, else nothing.
Result<std::optional<std::vector<int64_t>>> IntsFromInputOrAttribute(const Node& node, std::string_view attribute,
                                                                     std::span<const InferInput> inputs, size_t index);
// An attribute with one entry per axis, `fallback` for each where it is absent; entries in [low, kMaxExtent].
Result<std::vector<int64_t>> ExtentAttribute(const Node& node, std::string_view name, size_t count, int64_t low,
                                             int64_t fallback);

Status CheckRank(const InferInput& input, int64_t low, std::string_view name);
Status CheckDims(const InferInput& input, const Dims& wanted, std::string_view name);
// Error unless all present inputs from `first` on have one type.
Status CheckSameDType(std::span<const InferInput> inputs, size_t first = 0);

std::vector<InferOutput> OneOutput(DType dtype, Dims dims);

}  // namespace octavo
