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
  OCTAVO_ASSIGN(const std::vector<Tensor> ordered, OrderInputs(declared, inputs));
  std::map<std::string, Dims> dims;
  for (const auto& [name, tensor] : inputs) dims[name] = tensor.dims();
  OCTAVO_RETURN_IF_ERROR(BindShapes(graph, dims));
  if (precision == Precision::kFloat16) {
    OCTAVO_ASSIGN([[maybe_unused]] const auto reports, MakeCanonical(graph, {}, precision));
  }
  return EvaluateGraph(graph, ordered);
}

}  // namespace octavo
