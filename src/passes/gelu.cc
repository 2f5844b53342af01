// x * 0.5 * (1 + Erf(x / sqrt(2)))                                  ->  Gelu(x)
// x * 0.5 * (1 + Tanh(sqrt(2 / pi) * (x + 0.044715 * x^3)))         ->  Gelu(x) {approximate: "tanh"}
#include <numbers>

#include "passes/gate_match.h"
#include "passes/rewrites.h"

namespace octavo {

int RewriteGelu(Graph& graph) {
  constexpr double kSqrt2OverPi = std::numbers::sqrt2 * std::numbers::inv_sqrtpi;
  const GatePolynomial erf_argument{{{1, 0}, std::numbers::sqrt2 / 2}};
  const GatePolynomial tanh_argument{{{1, 0}, kSqrt2OverPi}, {{3, 0}, kSqrt2OverPi * 0.044715}};
  const GatePolynomial result{{{1, 0}, 0.5}, {{1, 1}, 0.5}};
  Rewriter rewriter(graph);
  int rewrites = 0;
  for (NodeId id = 0; id < rewriter.node_count(); ++id) {
    const Node& node = graph.node(id);
    const bool erf = node.Is("Erf");
    if (node.removed || (!erf && !node.Is("Tanh"))) continue;
    const auto match = MatchGate(rewriter, id, erf ? erf_argument : tanh_argument, result);
    if (!match) continue;
    rewriter.Become(match->tail, "", "Gelu", {match->x}, {{"approximate", std::string(erf ? "none" : "tanh")}});
    ++rewrites;
  }
  return rewrites;
}

}  // namespace octavo
