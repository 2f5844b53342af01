// Rewrites that leave a graph's function as it is and its shape better: folding, fusing, cleaning.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "octavo/graph.h"

namespace octavo {

struct PassOptions {
  std::vector<std::string> disabled;  // names from PassNames(); an unknown name is an error
  bool verify = true;                 // Verify() the graph after each pass
};

struct PassReport {
  std::string name;
  int rewrites = 0;  // patterns rewritten
  double seconds = 0;
};

// Names of all passes, in the order they run.
std::vector<std::string_view> PassNames();

// Runs every pass that is not disabled, in order, on a graph with static shapes (BindShapes). Fused ops are in the
// domain "octavo"; src/graph/op_table.cc states their semantics. Graph outputs keep their names and values.
// Errors: kInvalidArgument for an unknown pass name; kInternal when a pass broke an invariant (a bug; names the pass).
Result<std::vector<PassReport>> RunPasses(Graph& graph, const PassOptions& options = {});

}  // namespace octavo
