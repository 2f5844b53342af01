// Shape inference of single nodes, as text, for tests.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "graph/op_table.h"

namespace octavo {

using Attributes = std::map<std::string, Attribute>;
using Ints = std::vector<int64_t>;

// Shapes of float inputs, or values of constant ones.
struct Given {
  Given(Dims shape) : dims(std::move(shape)) {}                                         // NOLINT: implicit by design
  Given(std::initializer_list<int64_t> shape) : dims(shape) {}                          // NOLINT: implicit by design
  Given(Tensor value) : dims(value.dims()), constant(std::move(value)), known(true) {}  // NOLINT: implicit by design
  Dims dims;
  Tensor constant;
  bool known = false;
};

inline Tensor I64(const Ints& values) {
  return Tensor::FromVector<int64_t>({static_cast<int64_t>(values.size())}, values);
}

// "2x3, 4" for the shapes of all outputs, or the error.
inline std::string Infer(const char* op, Attributes attributes, const std::vector<Given>& given, int64_t opset = 18,
                         size_t outputs = 1, const char* domain = "") {
  Node node;
  node.op = op;
  node.domain = domain;
  node.attributes = std::move(attributes);
  node.outputs.assign(outputs, 0);
  std::vector<InferInput> inputs;
  for (const Given& one : given) {
    const bool present = !one.known || one.constant.defined();
    const DType dtype = one.known ? one.constant.dtype() : DType::kFloat32;
    inputs.push_back({present, dtype, one.dims, one.known && present ? &one.constant : nullptr});
  }
  const auto inferred = InferNode(node, opset, inputs);
  if (!inferred.ok()) return "error: " + inferred.status().message();
  std::string text;
  for (size_t i = 0; i < std::min(outputs, inferred->size()); ++i) {
    text += (i > 0 ? ", " : "") + ToString((*inferred)[i].dims);
  }
  return text;
}

}  // namespace octavo
