#include "graph/infer_dims.h"

#include <algorithm>
#include <utility>

namespace octavo {

Result<int64_t> NormalizeAxis(int64_t axis, int64_t rank) {
  if (axis < -rank || axis >= rank) {
    return InvalidArgument("axis " + std::to_string(axis) + " is out of range for rank " + std::to_string(rank));
  }
  return axis < 0 ? axis + rank : axis;
}

Result<std::vector<int64_t>> NormalizeAxes(const std::vector<int64_t>& axes, int64_t rank) {
  std::vector<int64_t> normalized;
  std::vector<bool> seen(static_cast<size_t>(rank));
  for (const int64_t axis : axes) {
    OCTAVO_ASSIGN(const int64_t at, NormalizeAxis(axis, rank));
    if (seen[static_cast<size_t>(at)]) return InvalidArgument("axis " + std::to_string(axis) + " is named twice");
    seen[static_cast<size_t>(at)] = true;
    normalized.push_back(at);
  }
  return normalized;
}

Result<Dims> Broadcast(const Dims& a, const Dims& b) {
  Dims out(std::max(a.size(), b.size()));
  for (size_t i = 0; i < out.size(); ++i) {
    const int64_t from_a = i < a.size() ? a[a.size() - 1 - i] : 1;
    const int64_t from_b = i < b.size() ? b[b.size() - 1 - i] : 1;
    if (from_a != from_b && from_a != 1 && from_b != 1) {
      return InvalidArgument("shapes " + ToString(a) + " and " + ToString(b) + " do not broadcast");
    }
    out[out.size() - 1 - i] = from_a == 1 ? from_b : from_a;
  }
  return out;
}

Status CheckBroadcastsTo(const Dims& from, const Dims& to, std::string_view what) {
  const auto both = Broadcast(from, to);
  if (both.ok() && *both == to) return {};
  return InvalidArgument(std::string(what) + " of shape " + ToString(from) + " does not broadcast to " + ToString(to));
}

const InferInput& InputAt(std::span<const InferInput> inputs, size_t index) {
  static const InferInput kAbsent;
  return index < inputs.size() ? inputs[index] : kAbsent;
}

Result<std::vector<int64_t>> ConstantInts(const InferInput& input, std::string_view name) {
  if (input.constant == nullptr) {
    return Unsupported("the output's shape depends on the values of input '" + std::string(name) +
                       "', which are not known before the model runs; make that input a constant");
  }
  if (input.constant->rank() > 1) {
    return InvalidArgument("input '" + std::string(name) + "' must be a vector, but has shape " +
                           ToString(input.constant->dims()));
  }
  if (input.dtype != DType::kInt64 && input.dtype != DType::kInt32) {
    return InvalidArgument("input '" + std::string(name) + "' is " + std::string(NameOf(input.dtype)) +
                           ", and must be int64");
  }
  auto values = ToInt64s(*input.constant);
  if (!values.ok()) return values.status().WithPrefix("input '" + std::string(name) + "': ");
  return values;
}

Result<std::optional<std::vector<int64_t>>> IntsFromInputOrAttribute(const Node& node, std::string_view attribute,
                                                                     std::span<const InferInput> inputs, size_t index) {
  if (InputAt(inputs, index).present) {
    OCTAVO_ASSIGN(std::vector<int64_t> values, ConstantInts(inputs[index], attribute));
    return std::optional(std::move(values));
  }
  if (node.Has(attribute)) return std::optional(node.Ints(attribute));
  return std::optional<std::vector<int64_t>>();
}

Result<std::vector<int64_t>> ExtentAttribute(const Node& node, std::string_view name, size_t count, int64_t low,
                                             int64_t fallback) {
  std::vector<int64_t> values = node.Ints(name);
  if (values.empty()) values.assign(count, fallback);
  if (values.size() != count) {
    return InvalidArgument("attribute '" + std::string(name) + "' has " + std::to_string(values.size()) +
                           " entries instead of " + std::to_string(count));
  }
  for (const int64_t value : values) {
    if (value < low || value > kMaxExtent) {
      return InvalidArgument("attribute '" + std::string(name) + "' holds " + std::to_string(value) +
                             ", which is out of range");
    }
  }
  return values;
}

Status CheckRank(const InferInput& input, int64_t low, std::string_view name) {
  if (static_cast<int64_t>(input.dims.size()) >= low) return {};
  return InvalidArgument("input '" + std::string(name) + "' of shape " + ToString(input.dims) + " needs rank " +
                         std::to_string(low) + " or more");
}

Status CheckDims(const InferInput& input, const Dims& wanted, std::string_view name) {
  if (input.dims == wanted) return {};
  return InvalidArgument("input '" + std::string(name) + "' has shape " + ToString(input.dims) + " instead of " +
                         ToString(wanted));
}

Status CheckSameDType(std::span<const InferInput> inputs, size_t first) {
  DType dtype = DType::kUndefined;
  for (size_t i = first; i < inputs.size(); ++i) {
    if (!inputs[i].present) continue;
    if (dtype == DType::kUndefined) dtype = inputs[i].dtype;
    if (inputs[i].dtype != dtype) {
      return InvalidArgument("its inputs differ in type: " + std::string(NameOf(dtype)) + " and " +
                             std::string(NameOf(inputs[i].dtype)));
    }
  }
  return {};
}

std::vector<InferOutput> OneOutput(DType dtype, Dims dims) {
  std::vector<InferOutput> outputs(1);
  outputs[0] = {dtype, std::move(dims)};
  return outputs;
}

}  // namespace octavo
