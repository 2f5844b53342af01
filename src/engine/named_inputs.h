// Inputs that are given by name.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "octavo/graph.h"
#include "octavo/tensor.h"

namespace octavo {

// "x float32 ?x3, y int64 of unknown rank"
std::string DescribeInputs(const std::vector<Value>& inputs);

// The tensors given, in the order of `inputs`. Errors: kInvalidArgument where one is missing, is of another type, or
// has a name that the model does not know. Shapes are BindShapes' to check.
Result<std::vector<Tensor>> OrderInputs(const std::vector<Value>& inputs, const std::map<std::string, Tensor>& given);
// Their types, when they are given in order.
Status CheckInputs(const std::vector<Value>& inputs, std::span<const Tensor> given);

}  // namespace octavo
