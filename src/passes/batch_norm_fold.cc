// BatchNormalization(Conv(x, W, b))  ->  Conv(x, W * s, (b - mean) * s + beta)   with s = gamma / sqrt(variance +
// epsilon);
//   the same for ConvTranspose, Gemm and MatMul (rank 2).
// BatchNormalization(x)              ->  x * s + (beta - mean * s)               with constants of shape [C, 1, ...].
#include <cmath>

#include "passes/channel_affine.h"
#include "passes/rewrites.h"

namespace octavo {
namespace {

struct Affine {
  std::vector<double> scale, shift;
};

std::optional<Affine> AffineOf(const Rewriter& rewriter, const Node& node) {
  if (node.Int("training_mode", 0) != 0 || !IsFloat32(rewriter.graph(), node.input(0))) return std::nullopt;
  for (size_t i = 1; i < node.outputs.size(); ++i) {
    if (node.outputs[i] != kNoValue) return std::nullopt;
  }
  const Dims& dims = rewriter.dims(node.input(0));
  if (dims.size() < 2) return std::nullopt;
  std::vector<std::vector<float>> parameters;
  for (size_t i = 1; i <= 4; ++i) {
    if (!node.has_input(i) || rewriter.dims(node.input(i)) != Dims{dims[1]}) return std::nullopt;
    auto values = ChannelValues(rewriter.value(node.input(i)), 1, 0, dims[1]);
    if (!values) return std::nullopt;
    parameters.push_back(*std::move(values));
  }
  const double epsilon = static_cast<double>(node.Float("epsilon", 1e-5f));
  Affine affine;
  for (size_t c = 0; c < parameters[0].size(); ++c) {
    const double scale = parameters[0][c] / std::sqrt(parameters[3][c] + epsilon);
    affine.scale.push_back(scale);
    affine.shift.push_back(parameters[1][c] - parameters[2][c] * scale);
  }
  return affine;
}

ValueId AddChannels(Rewriter& rewriter, const std::string& name, const std::vector<double>& values, size_t rank) {
  Dims dims(rank - 1, 1);
  dims[0] = static_cast<int64_t>(values.size());
  return rewriter.AddConstant(name, Tensor::FromVector<float>(dims, std::vector<float>(values.begin(), values.end())));
}

void Expand(Rewriter& rewriter, NodeId id, const Affine& affine) {
  const Node node = rewriter.graph().node(id);
  const Dims dims = rewriter.dims(node.input(0));
  const std::string name = rewriter.value(node.output(0)).name;
  const ValueId scale = AddChannels(rewriter, name + "/scale", affine.scale, dims.size());
  const ValueId shift = AddChannels(rewriter, name + "/shift", affine.shift, dims.size());
  const ValueId scaled = rewriter.AddNode(name + "/scaled", "", "Mul", {node.input(0), scale}, DType::kFloat32, dims);
  rewriter.Become(id, "", "Add", {scaled, shift});
}

}  // namespace

int FoldBatchNorm(Graph& graph) {
  Rewriter rewriter(graph);
  int rewrites = 0;
  for (NodeId id = 0, count = rewriter.node_count(); id < count; ++id) {
    const Node& node = graph.node(id);
    if (node.removed || !node.Is("BatchNormalization")) continue;
    const std::optional<Affine> affine = AffineOf(rewriter, node);
    if (!affine) continue;
    const auto target = FindScalable(rewriter, node.input(0));
    if (target && target->axis == 1) {
      FoldAffine(rewriter, *target, node.output(0), affine->scale, affine->shift);
    } else {
      Expand(rewriter, id, *affine);
    }
    ++rewrites;
  }
  return rewrites;
}

}  // namespace octavo
