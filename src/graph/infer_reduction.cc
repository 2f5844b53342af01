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

Result<std::vector<bool>> ResolveMeanVarianceAxes(const Node& node, size_t rank) {
  OCTAVO_ASSIGN(const auto axes, NormalizeAxes(node.Ints("axes", {0, 2, 3}), static_cast<int64_t>(rank)));
  std::vector<bool> mask(rank, false);
  for (const int64_t axis : axes) mask[static_cast<size_t>(axis)] = true;
  return mask;
}

Inferred InferMeanVariance(const Node& node, int64_t, InferArgs inputs) {
  OCTAVO_RETURN_IF_ERROR(ResolveMeanVarianceAxes(node, inputs[0].dims.size()).status());
  return OneOutput(inputs[0].dtype, inputs[0].dims);
}

Inferred InferLpNormalization(const Node& node, int64_t, InferArgs inputs) {
  OCTAVO_RETURN_IF_ERROR(NormalizeAxis(node.Int("axis", -1), RankOf(inputs[0])).status());
  const int64_t p = node.Int("p", 2);
  if (p != 1 && p != 2) return InvalidArgument("p is " + std::to_string(p) + ", not 1 or 2");
  return OneOutput(inputs[0].dtype, inputs[0].dims);
}

Inferred InferLrn(const Node& node, int64_t, InferArgs inputs) {
  OCTAVO_RETURN_IF_ERROR(CheckRank(inputs[0], 2, "X"));
  const int64_t size = node.Int("size", 0);
  if (size < 1 || size > kMaxExtent) return InvalidArgument("size is " + std::to_string(size));
  return OneOutput(inputs[0].dtype, inputs[0].dims);
}

Inferred InferDet(const Node&, int64_t, InferArgs inputs) {
  const Dims& dims = inputs[0].dims;
  if (dims.size() < 2 || dims.back() != dims[dims.size() - 2]) {
    return InvalidArgument("its input must be square matrices, not " + ToString(dims));
  }
  if (dims.back() > kMaxExtent) return Unsupported("a matrix of " + ToString(dims));
  return OneOutput(inputs[0].dtype, Dims(dims.begin(), dims.end() - 2));
}

namespace {

// Scores (N, C, d...), a class for each of (N, d...), and the weights of the C classes.
Result<Dims> InferLoss(const Node& node, InferArgs inputs) {
  OCTAVO_RETURN_IF_ERROR(CheckRank(inputs[0], 2, "scores"));
  Dims labels = inputs[0].dims;
  labels.erase(labels.begin() + 1);
  OCTAVO_RETURN_IF_ERROR(CheckDims(inputs[1], labels, "labels"));
  if (inputs[1].dtype != DType::kInt64 && inputs[1].dtype != DType::kInt32) {
    return InvalidArgument("its labels are " + std::string(NameOf(inputs[1].dtype)) + ", not int32 or int64");
  }
  if (const InferInput& weights = InputAt(inputs, 2); weights.present) {
    OCTAVO_RETURN_IF_ERROR(CheckDims(weights, {inputs[0].dims[1]}, "weights"));
    if (weights.dtype != inputs[0].dtype) return InvalidArgument("its scores and weights differ in type");
  }
  const std::string reduction = node.String("reduction", "mean");
  if (reduction == "none") return labels;
  if (reduction == "sum" || reduction == "mean") return Dims();
  return InvalidArgument("reduction '" + reduction + "' is not one of none, sum, mean");
}

}  // namespace

Inferred InferLogLikelihoodLoss(const Node& node, int64_t, InferArgs inputs) {
  OCTAVO_ASSIGN(Dims dims, InferLoss(node, inputs));
  return OneOutput(inputs[0].dtype, std::move(dims));
}

Inferred InferCrossEntropyLoss(const Node& node, int64_t, InferArgs inputs) {
  OCTAVO_ASSIGN(Dims dims, InferLoss(node, inputs));
  std::vector<InferOutput> outputs(2);
  outputs[0] = {inputs[0].dtype, std::move(dims)};
  outputs[1] = {inputs[0].dtype, inputs[0].dims};
  return outputs;
}

}  // namespace octavo
