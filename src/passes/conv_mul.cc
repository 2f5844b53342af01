// Conv(x, W, b) * s         ->  Conv(x, W * s, b * s)           s, t constant per output channel (or one number);
// Conv(x, W, b) + t         ->  Conv(x, W, b + t)               the same for Sub and Div, ConvTranspose and Gemm,
// (MatMul(x, W) + b) * s    ->  MatMul(x, W * s) + b * s        and for MatMul along its last axis (ViT's layer scale).
#include "passes/channel_affine.h"
#include "passes/rewrites.h"

namespace octavo {
namespace {

struct Affine {
  std::vector<double> scale, shift;
};

// What `node` does to operand `at`, given the constant operand's values.
std::optional<Affine> AffineOf(const Node& node, ValueId at, const std::vector<float>& constant) {
  const bool first = node.input(0) == at;
  const std::vector<double> values(constant.begin(), constant.end());
  Affine affine{std::vector<double>(values.size(), 1.0), std::vector<double>(values.size(), 0.0)};
  if (node.Is("Mul")) {
    affine.scale = values;
  } else if (node.Is("Add") || (node.Is("Sub") && !first)) {
    affine.shift = values;
    if (node.Is("Sub")) affine.scale.assign(values.size(), -1.0);
  } else if (node.Is("Sub")) {
    for (size_t c = 0; c < values.size(); ++c) affine.shift[c] = -values[c];
  } else if (node.Is("Div") && first) {
    for (size_t c = 0; c < values.size(); ++c) {
      if (values[c] == 0.0) return std::nullopt;
      affine.scale[c] = 1.0 / values[c];
    }
  } else {
    return std::nullopt;
  }
  return affine;
}

bool FoldInto(Rewriter& rewriter, NodeId id, ValueId at) {
  const Node& node = rewriter.graph().node(id);
  const ValueId constant = OtherOperand(node, at);
  if (constant == kNoValue || !rewriter.value(constant).is_constant()) return false;
  if (rewriter.dims(node.output(0)) != rewriter.dims(at)) return false;
  const auto target = FindScalable(rewriter, at);
  if (!target) return false;
  // MatMul + constant is the form that we leave behind.
  const bool bare_matmul = rewriter.graph().node(target->contraction).Is("MatMul") && target->bias_add == kNoNode;
  if (bare_matmul && (node.Is("Add") || node.Is("Sub"))) return false;
  const auto values = ChannelValues(rewriter.value(constant), static_cast<int64_t>(rewriter.dims(at).size()),
                                    target->axis, target->channels);
  if (!values) return false;
  const std::optional<Affine> affine = AffineOf(node, at, *values);
  if (!affine) return false;
  FoldAffine(rewriter, *target, node.output(0), affine->scale, affine->shift);
  return true;
}

}  // namespace

int FoldChannelAffine(Graph& graph) {
  Rewriter rewriter(graph);
  int rewrites = 0;
  for (NodeId id = 0, count = rewriter.node_count(); id < count; ++id) {
    const Node& node = graph.node(id);
    if (node.removed || node.inputs.size() != 2 || !IsFloat32(graph, node.output(0))) continue;
    if (!node.Is("Mul") && !node.Is("Add") && !node.Is("Sub") && !node.Is("Div")) continue;
    const ValueId a = node.input(0), b = node.input(1);
    if (FoldInto(rewriter, id, a) || FoldInto(rewriter, id, b)) ++rewrites;
  }
  return rewrites;
}

}  // namespace octavo
