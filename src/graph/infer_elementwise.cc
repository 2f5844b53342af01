#include "graph/infer_dims.h"
#include "graph/infer_rules.h"

namespace octavo {
namespace {

Result<Dims> BroadcastAll(InferArgs inputs) {
  Dims dims;
  for (const InferInput& input : inputs) {
    OCTAVO_ASSIGN(dims, Broadcast(dims, input.dims));
  }
  return dims;
}

Status CheckBool(InferArgs inputs) {
  for (const InferInput& input : inputs) {
    if (input.dtype == DType::kBool) continue;
    return InvalidArgument("its inputs must be bool, not " + std::string(NameOf(input.dtype)));
  }
  return {};
}

}  // namespace

Inferred InferUnary(const Node&, int64_t, InferArgs inputs) { return OneOutput(inputs[0].dtype, inputs[0].dims); }

Inferred InferBroadcast(const Node&, int64_t, InferArgs inputs) {
  OCTAVO_RETURN_IF_ERROR(CheckSameDType(inputs));
  OCTAVO_ASSIGN(Dims dims, BroadcastAll(inputs));
  return OneOutput(inputs[0].dtype, std::move(dims));
}

Inferred InferPow(const Node&, int64_t, InferArgs inputs) {
  OCTAVO_ASSIGN(Dims dims, BroadcastAll(inputs));
  return OneOutput(inputs[0].dtype, std::move(dims));
}

Inferred InferLogic(const Node&, int64_t, InferArgs inputs) {
  OCTAVO_RETURN_IF_ERROR(CheckBool(inputs));
  OCTAVO_ASSIGN(Dims dims, BroadcastAll(inputs));
  return OneOutput(DType::kBool, std::move(dims));
}

Inferred InferCompare(const Node&, int64_t, InferArgs inputs) {
  OCTAVO_RETURN_IF_ERROR(CheckSameDType(inputs));
  OCTAVO_ASSIGN(Dims dims, BroadcastAll(inputs));
  return OneOutput(DType::kBool, std::move(dims));
}

Inferred InferClip(const Node&, int64_t, InferArgs inputs) {
  OCTAVO_RETURN_IF_ERROR(CheckSameDType(inputs));
  for (size_t i = 1; i < inputs.size(); ++i) {
    if (!inputs[i].present || ElementCount(inputs[i].dims) == 1) continue;
    return InvalidArgument("its bounds must be scalars, not of shape " + ToString(inputs[i].dims));
  }
  return OneOutput(inputs[0].dtype, inputs[0].dims);
}

Inferred InferWhere(const Node&, int64_t, InferArgs inputs) {
  OCTAVO_RETURN_IF_ERROR(CheckBool(inputs.first(1)));
  OCTAVO_RETURN_IF_ERROR(CheckSameDType(inputs, 1));
  OCTAVO_ASSIGN(Dims dims, BroadcastAll(inputs));
  return OneOutput(inputs[1].dtype, std::move(dims));
}

Inferred InferCast(const Node& node, int64_t, InferArgs inputs) {
  const int64_t number = node.Int("to", 0);
  const std::optional<DType> to = DTypeFromOnnx(number);
  if (!to) return Unsupported("it casts to ONNX type " + std::to_string(number) + ", which Octavo does not have");
  return OneOutput(*to, inputs[0].dims);
}

Inferred InferCastLike(const Node&, int64_t, InferArgs inputs) { return OneOutput(inputs[1].dtype, inputs[0].dims); }

Inferred InferFloatTest(const Node&, int64_t, InferArgs inputs) { return OneOutput(DType::kBool, inputs[0].dims); }

Inferred InferPRelu(const Node&, int64_t, InferArgs inputs) {
  OCTAVO_RETURN_IF_ERROR(CheckSameDType(inputs));
  OCTAVO_RETURN_IF_ERROR(CheckBroadcastsTo(inputs[1].dims, inputs[0].dims, "slope"));
  return OneOutput(inputs[0].dtype, inputs[0].dims);
}

Inferred InferDropout(const Node&, int64_t opset, InferArgs inputs) {
  const InferInput& training = InputAt(inputs, 2);
  if (training.present) {
    if (training.constant == nullptr) return Unsupported("its training_mode is not known before the model runs");
    OCTAVO_ASSIGN(const std::vector<int64_t> on, ToInt64s(*training.constant));
    if (on.size() != 1) return InvalidArgument("its training_mode must be a scalar");
    if (on[0] != 0) return Unsupported("it is in training mode; export the model for inference");
  }
  std::vector<InferOutput> outputs(2);
  outputs[0] = {inputs[0].dtype, inputs[0].dims};
  outputs[1] = {opset >= 10 ? DType::kBool : inputs[0].dtype, inputs[0].dims};
  return outputs;
}

}  // namespace octavo
