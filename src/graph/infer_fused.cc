#include <algorithm>

#include "graph/infer_dims.h"
#include "graph/infer_rules.h"
#include "graph/rounding.h"

namespace octavo {
namespace {

// Rows (from the end) of which operands must agree.
int64_t FromEnd(const InferInput& input, size_t n) { return input.dims[input.dims.size() - n]; }

Status Mismatch(InferArgs inputs) {
  return InvalidArgument("q of " + ToString(inputs[0].dims) + ", k of " + ToString(inputs[1].dims) + " and v of " +
                         ToString(inputs[2].dims) + " do not fit together");
}

// The dimensions before the last two, which q, k and v broadcast to.
Result<Dims> AttentionBatch(InferArgs inputs) {
  Dims batch;
  for (const InferInput& input : inputs.first(3)) {
    OCTAVO_RETURN_IF_ERROR(CheckRank(input, 2, "q, k or v"));
    OCTAVO_ASSIGN(batch, Broadcast(batch, {input.dims.begin(), input.dims.end() - 2}));
  }
  return batch;
}

}  // namespace

Inferred InferFusedLayerNorm(const Node& node, int64_t, InferArgs inputs) {
  const Dims& x = inputs[0].dims;
  OCTAVO_ASSIGN(const int64_t axis, NormalizeAxis(node.Int("axis", -1), static_cast<int64_t>(x.size())));
  for (size_t i = 1; i < inputs.size(); ++i) {
    if (inputs[i].present)
      OCTAVO_RETURN_IF_ERROR(CheckDims(inputs[i], {x[static_cast<size_t>(axis)]}, "scale or bias"));
  }
  return OneOutput(inputs[0].dtype, x);
}

Inferred InferFusedGroupNorm(const Node& node, int64_t, InferArgs inputs) {
  OCTAVO_RETURN_IF_ERROR(CheckRank(inputs[0], 2, "x"));
  const int64_t channels = inputs[0].dims[1];
  const int64_t groups = node.Int("num_groups", 0);
  if (groups < 1 || channels % groups != 0) {
    return InvalidArgument(std::to_string(channels) + " channels do not divide into " + std::to_string(groups) +
                           " groups");
  }
  for (const InferInput& input : inputs.subspan(1)) {
    if (!input.present || input.dims == Dims{channels}) continue;
    OCTAVO_RETURN_IF_ERROR(CheckBroadcastsTo(input.dims, {inputs[0].dims[0], channels}, "scale or bias"));
    if (input.dims.empty() || input.dims.back() != channels)
      return InvalidArgument("scale or bias lacks channels: " + ToString(input.dims));
  }
  return OneOutput(inputs[0].dtype, inputs[0].dims);
}

Inferred InferFusedAttention(const Node&, int64_t, InferArgs inputs) {
  OCTAVO_ASSIGN(Dims dims, AttentionBatch(inputs));
  const int64_t queries = FromEnd(inputs[0], 2);
  const int64_t keys = FromEnd(inputs[1], 2);
  if (FromEnd(inputs[0], 1) != FromEnd(inputs[1], 1) || FromEnd(inputs[2], 2) != keys) return Mismatch(inputs);
  if (InputAt(inputs, 3).present) {
    Dims scores = dims;
    scores.insert(scores.end(), {queries, keys});
    OCTAVO_RETURN_IF_ERROR(CheckBroadcastsTo(inputs[3].dims, scores, "mask"));
  }
  dims.insert(dims.end(), {queries, FromEnd(inputs[2], 1)});
  return OneOutput(inputs[0].dtype, std::move(dims));
}

Inferred InferFusedLinearAttention(const Node&, int64_t, InferArgs inputs) {
  OCTAVO_ASSIGN(Dims dims, AttentionBatch(inputs));
  if (FromEnd(inputs[0], 2) != FromEnd(inputs[1], 2) || FromEnd(inputs[1], 1) != FromEnd(inputs[2], 1)) {
    return Mismatch(inputs);
  }
  dims.insert(dims.end(), {FromEnd(inputs[2], 2), FromEnd(inputs[0], 1)});
  return OneOutput(inputs[0].dtype, std::move(dims));
}

Inferred InferRoundTo(const Node& node, int64_t, InferArgs inputs) {
  if (RoundedTo(node) == DType::kUndefined) return InvalidArgument("it rounds to neither bfloat16 nor float16");
  if (inputs[0].dtype != DType::kFloat32) return InvalidArgument("its input is not float32");
  return OneOutput(DType::kFloat32, inputs[0].dims);
}

}  // namespace octavo
