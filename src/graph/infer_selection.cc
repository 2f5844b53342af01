#include "graph/infer_selection.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <numeric>

#include "graph/infer_dims.h"
#include "graph/infer_rules.h"

namespace octavo {
namespace {

int64_t RankOf(const InferInput& input) { return static_cast<int64_t>(input.dims.size()); }

bool IsFloat(DType dtype) {
  return dtype == DType::kFloat32 || dtype == DType::kFloat64 || dtype == DType::kFloat16 || dtype == DType::kBFloat16;
}

bool IsSigned(DType dtype) {
  return dtype == DType::kInt8 || dtype == DType::kInt16 || dtype == DType::kInt32 || dtype == DType::kInt64;
}

uint64_t BitsAt(const Tensor& tensor, int64_t index) {
  const size_t bytes = SizeOf(tensor.dtype());
  uint64_t bits = 0;
  std::memcpy(&bits, static_cast<const std::byte*>(tensor.data()) + static_cast<size_t>(index) * bytes, bytes);
  return bits;
}

// A number that orders elements as their values do: signs of integers flipped, negative floats' bits inverted. Both
// zeros are one; every NaN comes last.
uint64_t OrderKey(const Tensor& tensor, int64_t index) {
  const uint64_t bits = BitsAt(tensor, index);
  const size_t width = 8 * SizeOf(tensor.dtype());
  const uint64_t sign = uint64_t{1} << (width - 1);
  if (IsSigned(tensor.dtype())) return bits ^ sign;
  if (!IsFloat(tensor.dtype())) return bits;
  const uint64_t magnitude = bits & (sign - 1);
  const int mantissa = tensor.dtype() == DType::kFloat64   ? 52
                       : tensor.dtype() == DType::kFloat32 ? 23
                       : tensor.dtype() == DType::kFloat16 ? 10
                                                           : 7;
  const uint64_t infinity = ((uint64_t{1} << (width - 1 - static_cast<size_t>(mantissa))) - 1) << mantissa;
  if (magnitude > infinity) return ~uint64_t{0};
  if (magnitude == 0) return sign;
  return (bits & sign) != 0 ? sign - magnitude : sign + magnitude;
}

// The axis attribute, when there is one.
Result<std::optional<int64_t>> OptionalAxis(const Node& node, int64_t rank) {
  if (!node.Has("axis")) return std::optional<int64_t>();
  OCTAVO_ASSIGN(const int64_t axis, NormalizeAxis(node.Int("axis", 0), rank));
  return std::optional(axis);
}

Status NeedsValue(std::string_view name) {
  return Unsupported("the output's shape depends on the values of input '" + std::string(name) +
                     "', which are not known before the model runs");
}

Status CheckIndices(const InferInput& indices) {
  if (indices.dtype == DType::kInt64 || indices.dtype == DType::kInt32) return {};
  return InvalidArgument("its indices are " + std::string(NameOf(indices.dtype)) + ", not int32 or int64");
}

Status CheckReduction(const Node& node) {
  const std::string reduction = node.String("reduction", "none");
  for (const char* known : {"none", "add", "mul", "max", "min"}) {
    if (reduction == known) return {};
  }
  return InvalidArgument("reduction '" + reduction + "' is not one of none, add, mul, max, min");
}

}  // namespace

std::vector<int64_t> NonZeroPositions(const Tensor& tensor) {
  // A float's sign says nothing about being zero.
  const uint64_t mask = IsFloat(tensor.dtype()) ? (uint64_t{1} << (8 * SizeOf(tensor.dtype()) - 1)) - 1 : ~uint64_t{0};
  std::vector<int64_t> positions;
  for (int64_t i = 0; i < tensor.size(); ++i) {
    if ((BitsAt(tensor, i) & mask) != 0) positions.push_back(i);
  }
  return positions;
}

Result<CompressPlan> ResolveCompress(const Node& node, InferArgs inputs) {
  const Dims& data = inputs[0].dims;
  CompressPlan plan;
  OCTAVO_ASSIGN(plan.axis, OptionalAxis(node, RankOf(inputs[0])));
  if (inputs[1].dtype != DType::kBool || inputs[1].dims.size() != 1) {
    return InvalidArgument("its condition must be a vector of bool");
  }
  if (inputs[1].constant == nullptr) return NeedsValue("condition");
  plan.kept = NonZeroPositions(*inputs[1].constant);
  const int64_t count = plan.axis ? data[static_cast<size_t>(*plan.axis)] : ElementCount(data);
  if (!plan.kept.empty() && plan.kept.back() >= count) {
    return InvalidArgument("its condition keeps element " + std::to_string(plan.kept.back()) + " of " +
                           std::to_string(count));
  }
  return plan;
}

Result<UniquePlan> ResolveUnique(const Node& node, const Tensor& data) {
  UniquePlan plan;
  OCTAVO_ASSIGN(plan.axis, OptionalAxis(node, data.rank()));
  // Slice i, element (outer o, inner j), is at (o * slices + i) * inner + j.
  int64_t slices = data.size(), outer = 1, inner = 1;
  if (plan.axis) {
    const Dims& dims = data.dims();
    slices = dims[static_cast<size_t>(*plan.axis)];
    outer = ElementCount({dims.begin(), dims.begin() + *plan.axis});
    inner = ElementCount({dims.begin() + *plan.axis + 1, dims.end()});
  }
  std::vector<uint64_t> keys(static_cast<size_t>(data.size()));
  for (size_t i = 0; i < keys.size(); ++i) keys[i] = OrderKey(data, static_cast<int64_t>(i));
  const auto compare = [&](int64_t a, int64_t b) {
    for (int64_t o = 0; o < outer; ++o) {
      const auto at = [&](int64_t slice) { return keys.begin() + (o * slices + slice) * inner; };
      const auto order = std::lexicographical_compare_three_way(at(a), at(a) + inner, at(b), at(b) + inner);
      if (order != 0) return order;
    }
    return std::strong_ordering::equal;
  };
  std::vector<int64_t> order(static_cast<size_t>(slices));
  std::iota(order.begin(), order.end(), int64_t{0});
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return compare(a, b) < 0; });
  plan.inverse.resize(order.size());
  for (size_t i = 0; i < order.size(); ++i) {
    if (i == 0 || compare(order[i - 1], order[i]) != 0) {
      plan.first.push_back(order[i]);
      plan.count.push_back(0);
    }
    ++plan.count.back();
    plan.inverse[static_cast<size_t>(order[i])] = static_cast<int64_t>(plan.first.size()) - 1;
  }
  if (node.Int("sorted", 1) != 0) return plan;
  // In the order in which they come up.
  std::vector<size_t> by_place(plan.first.size()), rank(plan.first.size());
  std::iota(by_place.begin(), by_place.end(), size_t{0});
  std::sort(by_place.begin(), by_place.end(), [&](size_t a, size_t b) { return plan.first[a] < plan.first[b]; });
  UniquePlan placed{plan.axis, {}, {}, plan.inverse};
  for (size_t i = 0; i < by_place.size(); ++i) {
    rank[by_place[i]] = i;
    placed.first.push_back(plan.first[by_place[i]]);
    placed.count.push_back(plan.count[by_place[i]]);
  }
  for (int64_t& index : placed.inverse) index = static_cast<int64_t>(rank[static_cast<size_t>(index)]);
  return placed;
}

Result<int64_t> AxisFromInput(const InferInput& input, std::string_view name, int64_t rank) {
  OCTAVO_ASSIGN(const std::vector<int64_t> values, ConstantInts(input, name));
  if (values.size() != 1) return InvalidArgument("input '" + std::string(name) + "' must be one number");
  return NormalizeAxis(values[0], rank);
}

Inferred InferTrilu(const Node&, int64_t, InferArgs inputs) {
  OCTAVO_RETURN_IF_ERROR(CheckRank(inputs[0], 2, "input"));
  const InferInput& k = InputAt(inputs, 1);
  if (k.present && (k.dtype != DType::kInt64 || ElementCount(k.dims) != 1)) {
    return InvalidArgument("its k must be one int64");
  }
  return OneOutput(inputs[0].dtype, inputs[0].dims);
}

Inferred InferEyeLike(const Node& node, int64_t, InferArgs inputs) {
  if (inputs[0].dims.size() != 2) return InvalidArgument("its input must be a matrix, not " + ToString(inputs[0].dims));
  const int64_t number = node.Int("dtype", 0);
  if (number == 0) return OneOutput(inputs[0].dtype, inputs[0].dims);
  const std::optional<DType> dtype = DTypeFromOnnx(number);
  if (!dtype) return Unsupported("it makes ONNX type " + std::to_string(number) + ", which Octavo does not have");
  return OneOutput(*dtype, inputs[0].dims);
}

Inferred InferOneHot(const Node& node, int64_t, InferArgs inputs) {
  // Of any type: the standard's own tests have a float32.
  const Tensor* number = inputs[1].constant;
  OCTAVO_ASSIGN(const std::vector<int64_t> depth,
                number == nullptr ? ConstantInts(inputs[1], "depth") : ToInt64s(*number));
  if (depth.size() != 1 || depth[0] < 1) return InvalidArgument("its depth must be one positive number");
  if (inputs[2].dims != Dims{2}) return InvalidArgument("its values must be two, off and on");
  Dims dims = inputs[0].dims;
  OCTAVO_ASSIGN(const int64_t axis, NormalizeAxis(node.Int("axis", -1), RankOf(inputs[0]) + 1));
  dims.insert(dims.begin() + axis, depth[0]);
  return OneOutput(inputs[2].dtype, std::move(dims));
}

Inferred InferNonZero(const Node&, int64_t, InferArgs inputs) {
  if (inputs[0].constant == nullptr) return NeedsValue("X");
  const auto count = static_cast<int64_t>(NonZeroPositions(*inputs[0].constant).size());
  return OneOutput(DType::kInt64, {RankOf(inputs[0]), count});
}

Inferred InferCompress(const Node& node, int64_t, InferArgs inputs) {
  OCTAVO_ASSIGN(const CompressPlan plan, ResolveCompress(node, inputs));
  const auto count = static_cast<int64_t>(plan.kept.size());
  if (!plan.axis) return OneOutput(inputs[0].dtype, {count});
  Dims dims = inputs[0].dims;
  dims[static_cast<size_t>(*plan.axis)] = count;
  return OneOutput(inputs[0].dtype, std::move(dims));
}

Inferred InferUnique(const Node& node, int64_t, InferArgs inputs) {
  if (inputs[0].constant == nullptr) return NeedsValue("X");
  OCTAVO_ASSIGN(const UniquePlan plan, ResolveUnique(node, *inputs[0].constant));
  const auto count = static_cast<int64_t>(plan.first.size());
  Dims dims = {count};
  if (plan.axis) {
    dims = inputs[0].dims;
    dims[static_cast<size_t>(*plan.axis)] = count;
  }
  std::vector<InferOutput> outputs(4);
  outputs[0] = {inputs[0].dtype, std::move(dims)};
  outputs[1] = outputs[3] = {DType::kInt64, {count}};
  outputs[2] = {DType::kInt64, {static_cast<int64_t>(plan.inverse.size())}};
  return outputs;
}

Inferred InferTopK(const Node& node, int64_t, InferArgs inputs) {
  OCTAVO_ASSIGN(const int64_t axis, NormalizeAxis(node.Int("axis", -1), RankOf(inputs[0])));
  OCTAVO_ASSIGN(const auto k, IntsFromInputOrAttribute(node, "k", inputs, 1));
  int64_t count = node.Int("k", -1);
  if (k && InputAt(inputs, 1).present) {
    if (k->size() != 1) return InvalidArgument("its K must be one number");
    count = (*k)[0];
  }
  Dims dims = inputs[0].dims;
  int64_t& size = dims[static_cast<size_t>(axis)];
  if (count < 0 || count > size) {
    return InvalidArgument("it asks for " + std::to_string(count) + " of " + std::to_string(size) + " elements");
  }
  size = count;
  std::vector<InferOutput> outputs(2);
  outputs[0] = {inputs[0].dtype, dims};
  outputs[1] = {DType::kInt64, std::move(dims)};
  return outputs;
}

Inferred InferCumSum(const Node&, int64_t, InferArgs inputs) {
  OCTAVO_RETURN_IF_ERROR(AxisFromInput(inputs[1], "axis", RankOf(inputs[0])).status());
  return OneOutput(inputs[0].dtype, inputs[0].dims);
}

Inferred InferReverseSequence(const Node& node, int64_t, InferArgs inputs) {
  OCTAVO_RETURN_IF_ERROR(CheckRank(inputs[0], 2, "input"));
  const int64_t batch = node.Int("batch_axis", 1), time = node.Int("time_axis", 0);
  if (batch + time != 1 || batch * time != 0) {
    return InvalidArgument("batch_axis and time_axis must be 0 and 1, or 1 and 0");
  }
  if (inputs[1].dtype != DType::kInt64) return InvalidArgument("its sequence_lens must be int64");
  OCTAVO_RETURN_IF_ERROR(CheckDims(inputs[1], {inputs[0].dims[static_cast<size_t>(batch)]}, "sequence_lens"));
  return OneOutput(inputs[0].dtype, inputs[0].dims);
}

Inferred InferScatterElements(const Node& node, int64_t, InferArgs inputs) {
  const Dims &data = inputs[0].dims, &indices = inputs[1].dims;
  OCTAVO_RETURN_IF_ERROR(CheckReduction(node));
  OCTAVO_RETURN_IF_ERROR(CheckIndices(inputs[1]));
  OCTAVO_ASSIGN(const int64_t axis, NormalizeAxis(node.Int("axis", 0), RankOf(inputs[0])));
  bool fits = indices.size() == data.size();
  for (size_t d = 0; fits && d < data.size(); ++d) fits = static_cast<int64_t>(d) == axis || indices[d] <= data[d];
  if (!fits) return InvalidArgument("indices of " + ToString(indices) + " do not fit data of " + ToString(data));
  OCTAVO_RETURN_IF_ERROR(CheckDims(inputs[2], indices, "updates"));
  if (inputs[2].dtype != inputs[0].dtype) return InvalidArgument("its data and updates differ in type");
  return OneOutput(inputs[0].dtype, data);
}

Inferred InferScatterNd(const Node& node, int64_t, InferArgs inputs) {
  const Dims &data = inputs[0].dims, &indices = inputs[1].dims;
  OCTAVO_RETURN_IF_ERROR(CheckReduction(node));
  if (inputs[1].dtype != DType::kInt64) return InvalidArgument("its indices must be int64");
  if (data.empty() || indices.empty()) return InvalidArgument("its data and indices must have rank 1 or more");
  const int64_t depth = indices.back();
  if (depth < 0 || depth > RankOf(inputs[0])) {
    return InvalidArgument("index tuples of " + std::to_string(depth) + " do not fit data of " + ToString(data));
  }
  Dims wanted(indices.begin(), indices.end() - 1);
  wanted.insert(wanted.end(), data.begin() + depth, data.end());
  OCTAVO_RETURN_IF_ERROR(CheckDims(inputs[2], wanted, "updates"));
  if (inputs[2].dtype != inputs[0].dtype) return InvalidArgument("its data and updates differ in type");
  return OneOutput(inputs[0].dtype, data);
}

}  // namespace octavo
