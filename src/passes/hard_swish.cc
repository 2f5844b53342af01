// x * HardSigmoid(x) {alpha: 1/6, beta: 0.5}  ->  HardSwish(x)
// x * Clip(x + 3, 0, 6) / 6                   ->  HardSwish(x)
// x * Clip(x / 6 + 0.5, 0, 1)                 ->  HardSwish(x)
#include "passes/gate_match.h"
#include "passes/rewrites.h"

namespace octavo {
namespace {

struct Gate {
  GatePolynomial argument, result;
};

// The value of a Clip's bound: an input since opset 11, an attribute before.
std::optional<double> Bound(const Graph& graph, const Node& clip, size_t input, const char* attribute) {
  if (clip.Has(attribute)) return clip.Float(attribute, 0.0f);
  return clip.has_input(input) ? UniformValue(graph.value(clip.input(input))) : std::nullopt;
}

std::optional<Gate> GateOf(const Graph& graph, const Node& node) {
  const GatePolynomial x_times_gate{{{1, 1}, 1.0}};
  if (node.Is("HardSigmoid")) {
    if (!IsNear(node.Float("alpha", 0.2f), 1.0 / 6) || !IsNear(node.Float("beta", 0.5f), 0.5)) return std::nullopt;
    return Gate{{{{1, 0}, 1.0}}, x_times_gate};
  }
  if (!node.Is("Clip")) return std::nullopt;
  const std::optional<double> low = Bound(graph, node, 1, "min");
  const std::optional<double> high = Bound(graph, node, 2, "max");
  if (!low || !high || *low != 0.0) return std::nullopt;
  if (*high == 6.0) return Gate{{{{0, 0}, 3.0}, {{1, 0}, 1.0}}, {{{1, 1}, 1.0 / 6}}};
  if (*high == 1.0) return Gate{{{{0, 0}, 0.5}, {{1, 0}, 1.0 / 6}}, x_times_gate};
  return std::nullopt;
}

}  // namespace

int RewriteHardSwish(Graph& graph) {
  Rewriter rewriter(graph);
  int rewrites = 0;
  for (NodeId id = 0; id < rewriter.node_count(); ++id) {
    if (graph.node(id).removed) continue;
    const std::optional<Gate> gate = GateOf(graph, graph.node(id));
    if (!gate) continue;
    const auto match = MatchGate(rewriter, id, gate->argument, gate->result);
    if (!match) continue;
    rewriter.Become(match->tail, "", "HardSwish", {match->x});
    ++rewrites;
  }
  return rewrites;
}

}  // namespace octavo
