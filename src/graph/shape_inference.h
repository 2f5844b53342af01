// Concrete shapes: once the graph's inputs have sizes, every value has, and shape arithmetic folds away.
#pragma once

#include <map>
#include <string>

#include "octavo/graph.h"

namespace octavo {

// Binds the graph's inputs to `input_dims` (by input name; inputs not listed must be static, and every listed shape
// must agree with the declared one), then walks the nodes in order: infers each output's type and shape, and replaces
// nodes whose inputs are all constant by their value (`fold_limit_bytes` bounds the size of a folded result).
// Afterwards every value has a static shape and `dim_params` is empty.
// Errors name the node: a shape that does not fit, a data-dependent shape that cannot be resolved.
Status BindShapes(Graph& graph, const std::map<std::string, Dims>& input_dims, int64_t fold_limit_bytes = int64_t{256} << 20);

}  // namespace octavo
