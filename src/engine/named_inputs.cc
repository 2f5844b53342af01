#include "engine/named_inputs.h"

#include <fmt/format.h>

#include <algorithm>

namespace octavo {

std::string DescribeInputs(const std::vector<Value>& inputs) {
  std::string list;
  for (const Value& input : inputs) {
    list += fmt::format("{}{} {} {}", list.empty() ? "" : ", ", input.name, NameOf(input.dtype),
                        input.shape_known ? ToString(input.dims) : "of unknown rank");
  }
  return list.empty() ? "none" : list;
}

Status CheckInputs(const std::vector<Value>& inputs, std::span<const Tensor> given) {
  if (given.size() != inputs.size()) {
    return InvalidArgument(
        fmt::format("{} inputs were given, the model has {}: {}", given.size(), inputs.size(), DescribeInputs(inputs)));
  }
  for (size_t i = 0; i < given.size(); ++i) {
    if (!given[i].defined()) return InvalidArgument(fmt::format("input '{}' is an undefined tensor", inputs[i].name));
    if (given[i].dtype() == inputs[i].dtype) continue;
    return InvalidArgument(fmt::format("input '{}' is {}, the model wants {}", inputs[i].name, NameOf(given[i].dtype()),
                                       NameOf(inputs[i].dtype)));
  }
  return {};
}

Result<std::vector<Tensor>> OrderInputs(const std::vector<Value>& inputs, const std::map<std::string, Tensor>& given) {
  std::vector<Tensor> ordered;
  std::vector<Value> missing;
  for (const Value& input : inputs) {
    const auto found = given.find(input.name);
    if (found == given.end()) {
      missing.push_back(input);
    } else {
      ordered.push_back(found->second);
    }
  }
  for (const auto& [name, tensor] : given) {
    const bool known =
        std::any_of(inputs.begin(), inputs.end(), [&name = name](const Value& v) { return v.name == name; });
    if (!known) {
      return InvalidArgument(fmt::format("the model has no input '{}'; its inputs: {}", name, DescribeInputs(inputs)));
    }
  }
  if (!missing.empty()) return InvalidArgument("missing inputs: " + DescribeInputs(missing));
  OCTAVO_RETURN_IF_ERROR(CheckInputs(inputs, ordered));
  return ordered;
}

}  // namespace octavo
