// Runs one node in a test: through EvaluateNode, or bound to operands whose memory is laid out in another order.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <numeric>
#include <string>
#include <vector>

#include "kernels/kernel.h"

namespace octavo {

using Attributes = std::map<std::string, Attribute>;

inline Node NodeOf(std::string_view op, Attributes attributes = {}, std::string_view domain = "", size_t outputs = 1) {
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

// A float tensor in memory whose dimensions are ordered by `order` (outermost first), with a gap after each row.
class StridedTensor {
 public:
  StridedTensor(const Dims& dims, const std::vector<size_t>& order) : dims_(dims), strides_(dims.size(), 0) {
    int64_t step = 1;
    for (size_t i = order.size(); i-- > 0;) {
      strides_[order[i]] = step;
      step = step * dims[order[i]] + (i + 1 == order.size() ? kGap : 0);
    }
    memory_.assign(static_cast<size_t>(step), kUntouched);
  }

  void Fill(const Tensor& tensor) {
    ForEach([&](size_t at, size_t i) { memory_[at] = tensor.values<float>()[i]; });
  }
  std::vector<float> Read() const {
    std::vector<float> values(static_cast<size_t>(ElementCount(dims_)));
    const_cast<StridedTensor*>(this)->ForEach([&](size_t at, size_t i) { values[i] = memory_[at]; });
    return values;
  }
  // Elements that are still as they were at construction.
  size_t untouched() const { return static_cast<size_t>(std::count(memory_.begin(), memory_.end(), kUntouched)); }
  size_t gaps() const { return memory_.size() - static_cast<size_t>(ElementCount(dims_)); }

  Operand operand() const { return {true, DType::kFloat32, dims_, strides_, nullptr}; }
  float* data() { return memory_.data(); }

 private:
  static constexpr int64_t kGap = 3;
  static constexpr float kUntouched = 12345.5f;

  template <typename Fn>
  void ForEach(Fn&& fn) {
    const size_t count = static_cast<size_t>(ElementCount(dims_));
    for (size_t i = 0; i < count; ++i) {
      int64_t rest = static_cast<int64_t>(i), at = 0;
      for (size_t d = dims_.size(); d-- > 0;) {
        at += rest % dims_[d] * strides_[d];
        rest /= dims_[d];
      }
      fn(static_cast<size_t>(at), i);
    }
  }

  Dims dims_, strides_;
  std::vector<float> memory_;
};

}  // namespace octavo
