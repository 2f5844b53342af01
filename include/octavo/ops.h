// Which ops Octavo runs: what docs/ops.md is made of.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

namespace octavo {

struct SupportedOp {
  std::string_view domain;  // "" is ai.onnx
  std::string_view op;
  int64_t since = 1;            // first opset whose semantics are implemented; up to 21
  std::string_view kind;        // "elementwise", "view", "contraction", "reduction", "other"
  std::string_view types;       // element types of its data
  std::string_view limits;      // what it does not do; may be empty
  bool quantizable = false;     // INT8 can narrow what it multiplies
  bool shape_by_value = false;  // its output's shape depends on values of inputs
};

// One row per op of the standard, in alphabetical order.
std::vector<SupportedOp> SupportedOps();

}  // namespace octavo
