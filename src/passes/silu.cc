// x * Sigmoid(x)            ->  octavo.Silu(x)
// x * Sigmoid(x * number)   ->  octavo.Silu(x) {alpha: number}   CLIP's QuickGELU
#include <cmath>

#include "passes/gate_match.h"
#include "passes/rewrites.h"

namespace octavo {
namespace {

const GatePolynomial kResult{{{1, 1}, 1.0}};

// The number that the gate's input is a multiple by.
std::optional<double> NumberBefore(const Rewriter& rewriter, const Node& gate) {
  const Node* node = rewriter.Producer(gate.input(0));
  if (node == nullptr || (!node->Is("Mul") && !node->Is("Div"))) return std::nullopt;
  std::optional<double> number = UniformValue(rewriter.value(node->input(1)));
  if (number && node->Is("Div")) number = 1.0 / *number;
  if (!number && node->Is("Mul")) number = UniformValue(rewriter.value(node->input(0)));
  return number && std::isnormal(static_cast<float>(*number)) ? number : std::nullopt;
}

bool RewriteGate(Rewriter& rewriter, NodeId gate, double alpha) {
  const auto match = MatchGate(rewriter, gate, {{{1, 0}, alpha}}, kResult);
  if (!match) return false;
  std::map<std::string, Attribute> attributes;
  if (alpha != 1.0) attributes["alpha"] = static_cast<float>(alpha);
  rewriter.Become(match->tail, kOctavoDomain, "Silu", {match->x}, std::move(attributes));
  return true;
}

}  // namespace

int RewriteSilu(Graph& graph) {
  Rewriter rewriter(graph);
  int rewrites = 0;
  for (NodeId id = 0; id < rewriter.node_count(); ++id) {
    if (graph.node(id).removed || !graph.node(id).Is("Sigmoid")) continue;
    const std::optional<double> number = NumberBefore(rewriter, graph.node(id));
    if (RewriteGate(rewriter, id, 1.0) || (number && RewriteGate(rewriter, id, *number))) ++rewrites;
  }
  return rewrites;
}

}  // namespace octavo
