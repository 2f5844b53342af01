// A model for several samples at once, from one that was exported for one.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "octavo/graph.h"

namespace octavo {

// The model for `batch` samples that lie behind each other along the first dimension of every input and output.
// `single`: the inputs' shapes for one sample, by name, each with 1 in front; all others must be declared. Shapes that
// the file fixes for one sample, or computes, are made those of `batch` in Reshape, Expand and Resize. In every node
// exactly one dimension must grow `batch`-fold, and none may be merged with others out of order: so no sample meets
// another. Errors: an input without a leading 1; a node that mixes samples or has the number fixed otherwise, by name.
// The result is bound to its shapes.
Result<Graph> WithBatch(const Graph& graph, const std::map<std::string, Dims>& single, int64_t batch);

}  // namespace octavo
