// Concrete shapes: once the graph's inputs have sizes, every value has, and shape arithmetic folds away.
#pragma once

#include <map>
#include <set>
#include <string>

#include "octavo/graph.h"
#include "octavo/tensor.h"

namespace octavo {

// Binds the graph's inputs to `input_dims` (by input name; inputs not listed must be static, and every listed shape
// must agree with the declared one), then walks the nodes in order: infers each output's type and shape, and replaces
// nodes whose inputs are all constant by their value (`fold_limit_bytes` bounds the size of a folded result).
// Afterwards every value has a static shape and `dim_params` is empty.
// Errors name the node: a shape that does not fit, a data-dependent shape that cannot be resolved.
Status BindShapes(Graph& graph, const std::map<std::string, Dims>& input_dims,
                  int64_t fold_limit_bytes = int64_t{256} << 20);

// The same for graphs in which shapes depend on the values of inputs (a Reshape to a shape that is an input, a
// NonZero): such inputs become constants, with `inputs`' values, and leave graph.inputs; what depends on them alone is
// folded. `inputs` has every input, by name. The graph is bound to the shapes alone when that is possible. `by_value`:
// names of inputs to make constants at once; those that are found on the way are added.
Status BindShapesByValue(Graph& graph, const std::map<std::string, Tensor>& inputs, std::set<std::string>& by_value);

}  // namespace octavo
