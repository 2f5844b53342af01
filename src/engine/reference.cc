#include "octavo/reference.h"

#include "engine/canonical.h"
#include "engine/named_inputs.h"
#include "graph/shape_inference.h"
#include "kernels/kernel.h"

namespace octavo {

Result<std::vector<Tensor>> RunReference(Graph graph, const std::map<std::string, Tensor>& inputs,
                                         Precision precision) {
  if (precision == Precision::kBFloat16) return Unsupported("the reference does not compute in bfloat16");
  std::vector<Value> declared;
  for (const ValueId id : graph.inputs) declared.push_back(graph.value(id));
  OCTAVO_RETURN_IF_ERROR(OrderInputs(declared, inputs).status());
  std::set<std::string> by_value;
  OCTAVO_RETURN_IF_ERROR(BindShapesByValue(graph, inputs, by_value));
  if (precision == Precision::kFloat16) {
    OCTAVO_ASSIGN([[maybe_unused]] const auto reports, MakeCanonical(graph, {}, precision));
  }
  std::vector<Tensor> ordered;
  for (const ValueId id : graph.inputs) ordered.push_back(inputs.at(graph.value(id).name));
  return EvaluateGraph(graph, ordered);
}

}  // namespace octavo
