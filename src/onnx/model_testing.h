// Building ONNX files field by field, for tests of what reads them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "octavo/tensor.h"
#include "onnx.pb.h"

namespace octavo {

inline onnx::NodeProto& AddNode(onnx::ModelProto& model, const std::string& op, const std::vector<std::string>& inputs,
                                const std::vector<std::string>& outputs, const std::string& name = "") {
  onnx::NodeProto& node = *model.mutable_graph()->add_node();
  node.set_op_type(op);
  node.set_name(name);
  for (const auto& input : inputs) node.add_input(input);
  for (const auto& output : outputs) node.add_output(output);
  return node;
}

inline onnx::TensorProto& AddInitializer(onnx::ModelProto& model, const std::string& name, int32_t type,
                                         const Dims& dims) {
  onnx::TensorProto& tensor = *model.mutable_graph()->add_initializer();
  tensor.set_name(name);
  tensor.set_data_type(type);
  for (const int64_t dim : dims) tensor.add_dims(dim);
  return tensor;
}

template <typename T>
void SetRaw(onnx::TensorProto& tensor, const std::vector<T>& values) {
  tensor.set_raw_data(values.data(), values.size() * sizeof(T));
}

inline onnx::AttributeProto& AddAttribute(onnx::NodeProto& node, const std::string& name,
                                          onnx::AttributeProto::AttributeType type) {
  onnx::AttributeProto& attribute = *node.add_attribute();
  attribute.set_name(name);
  attribute.set_type(type);
  return attribute;
}

// A dimension of -1 is "batch".
inline void Declare(onnx::ValueInfoProto& info, const std::string& name, int32_t type, const Dims& dims) {
  info.set_name(name);
  auto& tensor = *info.mutable_type()->mutable_tensor_type();
  tensor.set_elem_type(type);
  tensor.mutable_shape();
  for (const int64_t dim : dims) {
    auto& added = *tensor.mutable_shape()->add_dim();
    dim < 0 ? added.set_dim_param("batch") : added.set_dim_value(dim);
  }
}

}  // namespace octavo
