#include "graph/infer_reduction.h"

#include <algorithm>
#include <numeric>

#include "graph/infer_dims.h"
#include "graph/infer_rules.h"

namespace octavo {
namespace {

int64_t RankOf(const InferInput& input) { return static_cast<int64_t>(input.dims.size()); }

Dims Reduced(const Dims& dims, const std::vector<int64_t>& axes, bool keep) {
  Dims reduced;
  for (size_t d = 0; d < dims.size(); ++d) {
    const bool gone = std::find(axes.begin(), axes.end(), static_cast<int64_t>(d)) != axes.end();
    if (!gone) reduced.push_back(dims[d]);
    if (gone && keep) reduced.push_back(1);
  }
  return reduced;
}

// Inputs first .. of a normalization over channels: each a vector of that length.
Status CheckPerChannel(InferArgs inputs, size_t first, int64_t channels) {
  for (size_t i = first; i < inputs.size(); ++i) {
    if (!inputs[i].present || inputs[i].dims == Dims{channels}) continue;
    return InvalidArgument("input " + std::to_string(i) + " has shape " + ToString(inputs[i].dims) + " instead of " +
                           std::to_string(channels));
  }
  return {};
}

}  // namespace

Result<std::vector<int64_t>> ResolveReduceAxes(const Node& node, InferArgs inputs) {
  const int64_t rank = RankOf(inputs[0]);
  OCTAVO_ASSIGN(const auto axes, IntsFromInputOrAttribute(node, "axes", inputs, 1));
  if (axes && !axes->empty()) return NormalizeAxes(*axes, rank);
  std::vector<int64_t> all;
  if (node.Int("noop_with_empty_axes", 0) != 0) return all;
  all.resize(static_cast<size_t>(rank));
  std::iota(all.begin(), all.end(), 0);
  return all;
}

Inferred InferReduce(const Node& node, int64_t, InferArgs inputs) {
  OCTAVO_ASSIGN(const std::vector<int64_t> axes, ResolveReduceAxes(node, inputs));
  return OneOutput(inputs[0].dtype, Reduced(inputs[0].dims, axes, node.Int("keepdims", 1) != 0));
}

Inferred InferArgMax(const Node& node, int64_t, InferArgs inputs) {
  OCTAVO_ASSIGN(const int64_t axis, NormalizeAxis(node.Int("axis", 0), RankOf(inputs[0])));
  if (inputs[0].dims[static_cast<size_t>(axis)] == 0) return InvalidArgument("it looks for the largest of no elements");
  return OneOutput(DType::kInt64, Reduced(inputs[0].dims, {axis}, node.Int("keepdims", 1) != 0));
}

Inferred InferSoftmax(const Node& node, int64_t opset, InferArgs inputs) {
  // Below opset 13 the axis, 1 by default, splits the shape in two, and may lie past its end.
  const int64_t rank = RankOf(inputs[0]);
  const int64_t axis = node.Int("axis", opset < 13 ? 1 : -1);
  const bool past_end = opset < 13 && axis == rank;
  if (!past_end && rank > 0) OCTAVO_RETURN_IF_ERROR(NormalizeAxis(axis, rank).status());
  return OneOutput(inputs[0].dtype, inputs[0].dims);
}

Inferred InferLayerNormalization(const Node& node, int64_t, InferArgs inputs) {
  const Dims& x = inputs[0].dims;
  OCTAVO_ASSIGN(const int64_t axis, NormalizeAxis(node.Int("axis", -1), RankOf(inputs[0])));
  const Dims normalized(x.begin() + axis, x.end());
  for (size_t i = 1; i < inputs.size(); ++i) {
    if (inputs[i].present) OCTAVO_RETURN_IF_ERROR(CheckBroadcastsTo(inputs[i].dims, normalized, "scale or bias"));
  }
  Dims statistics = x;
  std::fill(statistics.begin() + axis, statistics.end(), 1);
  // stash_type 1, the only one in use: statistics in float32.
  std::vector<InferOutput> outputs(3);
  outputs[0] = {inputs[0].dtype, x};
  outputs[1] = outputs[2] = {DType::kFloat32, statistics};
  return outputs;
}

Inferred InferInstanceNormalization(const Node&, int64_t, InferArgs inputs) {
  OCTAVO_RETURN_IF_ERROR(CheckSameDType(inputs));
  OCTAVO_RETURN_IF_ERROR(CheckRank(inputs[0], 3, "input"));
  OCTAVO_RETURN_IF_ERROR(CheckPerChannel(inputs, 1, inputs[0].dims[1]));
  return OneOutput(inputs[0].dtype, inputs[0].dims);
}

Inferred InferGroupNormalization(const Node& node, int64_t opset, InferArgs inputs) {
  OCTAVO_RETURN_IF_ERROR(CheckSameDType(inputs));
  OCTAVO_RETURN_IF_ERROR(CheckRank(inputs[0], 2, "X"));
  const int64_t channels = inputs[0].dims[1];
  const int64_t groups = node.Int("num_groups", 0);
  if (groups < 1 || channels % groups != 0) {
    return InvalidArgument(std::to_string(channels) + " channels do not divide into " + std::to_string(groups) +
                           " groups");
  }
  // Opset 21 replaced one scale per group by one per channel.
  OCTAVO_RETURN_IF_ERROR(CheckPerChannel(inputs, 1, opset < 21 ? groups : channels));
  return OneOutput(inputs[0].dtype, inputs[0].dims);
}

Inferred InferBatchNormalization(const Node& node, int64_t, InferArgs inputs) {
  if (node.Int("training_mode", 0) != 0) return Unsupported("it is in training mode; export the model for inference");
  OCTAVO_RETURN_IF_ERROR(CheckRank(inputs[0], 2, "X"));
  OCTAVO_RETURN_IF_ERROR(CheckPerChannel(inputs, 1, inputs[0].dims[1]));
  return OneOutput(inputs[0].dtype, inputs[0].dims);
}

}  // namespace octavo
