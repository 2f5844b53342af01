// y = Cast(Cast(x, to = bfloat16 or float16), to = float32)  ->  y = octavo.RoundTo(x) {to}
// One op that a contraction's lowering can recognize, and one step where it has to be computed.
#include "graph/rounding.h"
#include "passes/rewriter.h"
#include "passes/rewrites.h"

namespace octavo {
namespace {

bool JoinCasts(Rewriter& rewriter, NodeId id) {
  const Node& back = rewriter.graph().node(id);
  if (back.removed || !back.Is("Cast") || back.Int("to", 0) != kOnnxFloat) return false;
  const Node* there = rewriter.Producer(back.input(0), "Cast");
  if (there == nullptr || !IsFloat32(rewriter.graph(), there->input(0))) return false;
  const int64_t to = there->Int("to", 0);
  if (to != kOnnxBFloat16 && to != kOnnxFloat16) return false;
  rewriter.Become(id, kOctavoDomain, "RoundTo", {there->input(0)}, {{"to", to}});
  return true;
}

}  // namespace

int JoinCastPairs(Graph& graph) {
  Rewriter rewriter(graph);
  int rewrites = 0;
  for (NodeId id = 0; id < rewriter.node_count(); ++id) {
    if (JoinCasts(rewriter, id)) ++rewrites;
  }
  return rewrites;
}

}  // namespace octavo
