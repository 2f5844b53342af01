#include "graph/half_ops.h"

#include <algorithm>

#include "graph/op_table.h"

namespace octavo {
namespace {

// Reductions that are means, maxima or shares: no sum that float16 could not hold.
constexpr std::string_view kReductions[] = {"AveragePool", "GlobalAveragePool", "GlobalMaxPool", "MaxPool", "Softmax"};
// These have float32 operands that stay so in every opset, or are about types.
constexpr std::string_view kExceptions[] = {"Cast",   "CastLike", "QuantizeLinear", "DequantizeLinear",
                                            "Resize", "Upsample", "Range"};

template <size_t N>
bool Holds(const std::string_view (&list)[N], std::string_view op) {
  return std::find(std::begin(list), std::end(list), op) != std::end(list);
}

}  // namespace

bool CanBeHalf(const Node& node) {
  const OpTraits* traits = FindOp(node.domain, node.op);
  if (traits == nullptr || !node.domain.empty() || Holds(kExceptions, node.op)) return false;
  if (traits->op_class == OpClass::kContraction) return traits->quantizable_inputs != 0;
  return traits->op_class == OpClass::kElementwise || traits->op_class == OpClass::kView || Holds(kReductions, node.op);
}

}  // namespace octavo
