// Parts of a graph: what a change at some nodes reaches, to be run on values that are known already.
#pragma once

#include <set>
#include <string>
#include <vector>

#include "octavo/graph.h"

namespace octavo {

struct GraphPart {
  Graph graph;                        // its inputs are the boundary
  std::vector<std::string> boundary;  // names of values of the whole graph, in the order of graph.inputs
  std::vector<size_t> outputs;        // which outputs of the whole graph the part makes, in the order of graph.outputs
};

// The nodes of these names and everything that depends on them.
Result<GraphPart> CutSuffix(const Graph& whole, const std::set<std::string, std::less<>>& roots);
// The node of this name alone; its output is the part's, and `outputs` is empty.
Result<GraphPart> CutNode(const Graph& whole, const std::string& node);

}  // namespace octavo
