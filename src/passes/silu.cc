// x * Sigmoid(x)  ->  octavo.Silu(x)
#include "passes/gate_match.h"
#include "passes/rewrites.h"

namespace octavo {

int RewriteSilu(Graph& graph) {
  const GatePolynomial argument{{{1, 0}, 1.0}};
  const GatePolynomial result{{{1, 1}, 1.0}};
  Rewriter rewriter(graph);
  int rewrites = 0;
  for (NodeId id = 0; id < rewriter.node_count(); ++id) {
    if (graph.node(id).removed || !graph.node(id).Is("Sigmoid")) continue;
    const auto match = MatchGate(rewriter, id, argument, result);
    if (!match) continue;
    rewriter.Become(match->tail, kOctavoDomain, "Silu", {match->x});
    ++rewrites;
  }
  return rewrites;
}

}  // namespace octavo
