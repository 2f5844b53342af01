// The slow, plain reference: what every fast path is tested against.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "octavo/graph.h"
#include "octavo/session.h"
#include "octavo/tensor.h"

namespace octavo {

// Binds the graph's shapes to `inputs` (by name, all of them) and runs it node by node with generic kernels: no passes,
// no fusion, no oneDNN. Returns the outputs in the order of graph.outputs. kFloat16 is defined on the graph after the
// passes, which therefore run; kBFloat16 is refused.
// Errors: a missing or unknown input, a wrong type (named), shapes that do not fit, an op without a kernel.
Result<std::vector<Tensor>> RunReference(Graph graph, const std::map<std::string, Tensor>& inputs,
                                         Precision precision = Precision::kFloat32);

}  // namespace octavo
