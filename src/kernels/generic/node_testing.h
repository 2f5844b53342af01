// Runs one node on given values, for tests.
#pragma once

#include <gtest/gtest.h>

#include <map>
#include <string>
#include <vector>

#include "kernels/kernel.h"

namespace octavo {

using Attributes = std::map<std::string, Attribute>;

inline Node MakeNode(std::string_view op, Attributes attributes = {}, std::string_view domain = "",
                     size_t outputs = 1) {
  Node node;
  node.name = "node";
  node.op = op;
  node.domain = domain;
  node.attributes = std::move(attributes);
  for (size_t i = 0; i < outputs; ++i) node.outputs.push_back(static_cast<ValueId>(i));
  return node;
}

inline Result<Tensor> RunNode(const Node& node, const std::vector<Tensor>& inputs, int64_t opset = 17) {
  OCTAVO_ASSIGN(const std::vector<Tensor> outputs, EvaluateNode(node, opset, inputs));
  return outputs[0];
}

// The values of output 0; fails the test, and gives nothing, on an error.
template <typename T>
std::vector<T> ValuesOf(const Node& node, const std::vector<Tensor>& inputs, int64_t opset = 17) {
  const auto output = RunNode(node, inputs, opset);
  if (!output.ok()) {
    ADD_FAILURE() << output.status().message();
    return {};
  }
  if (output->dtype() != DTypeOf<T>()) {
    ADD_FAILURE() << "the output is " << NameOf(output->dtype());
    return {};
  }
  const auto values = output->template values<T>();
  return {values.begin(), values.end()};
}

inline Tensor Floats(Dims dims, const std::vector<float>& values) {
  return Tensor::FromVector<float>(std::move(dims), values);
}

// Values between -1 and 1 that look random and are the same everywhere.
inline Tensor Scrambled(const Dims& dims, uint32_t seed) {
  std::vector<float> values(static_cast<size_t>(ElementCount(dims)));
  uint32_t state = seed * 2654435761u + 1;
  for (float& value : values) {
    state = state * 1664525u + 1013904223u;
    value = static_cast<float>(state >> 8) / 8388608.0f - 1.0f;
  }
  return Floats(dims, values);
}

}  // namespace octavo
