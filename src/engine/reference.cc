#include "octavo/reference.h"

#include <fmt/format.h>

#include "engine/canonical.h"
#include "graph/shape_inference.h"
#include "kernels/kernel.h"

namespace octavo {

Result<std::vector<Tensor>> RunReference(Graph graph, const std::map<std::string, Tensor>& inputs,
                                         Precision precision) {
  if (precision == Precision::kBFloat16) return Unsupported("the reference does not compute in bfloat16");
  std::map<std::string, Dims> dims;
  std::vector<Tensor> ordered;
  for (const ValueId id : graph.inputs) {
    const Value& input = graph.value(id);
    const auto given = inputs.find(input.name);
    if (given == inputs.end()) return InvalidArgument(fmt::format("input '{}' is missing", input.name));
    if (given->second.dtype() != input.dtype) {
      return InvalidArgument(
          fmt::format("input '{}' is {}, not {}", input.name, NameOf(input.dtype), NameOf(given->second.dtype())));
    }
    dims[input.name] = given->second.dims();
    ordered.push_back(given->second);
  }
  if (inputs.size() != ordered.size()) return InvalidArgument("more inputs were given than the model has");
  OCTAVO_RETURN_IF_ERROR(BindShapes(graph, dims));
  if (precision == Precision::kFloat16) {
    OCTAVO_ASSIGN([[maybe_unused]] const auto reports, MakeCanonical(graph, {}, precision));
  }
  return EvaluateGraph(graph, ordered);
}

}  // namespace octavo
