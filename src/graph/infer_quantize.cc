#include "graph/infer_dims.h"
#include "graph/infer_rules.h"

namespace octavo {
namespace {

bool IsQuantizedType(DType dtype) {
  return dtype == DType::kInt8 || dtype == DType::kUInt8 || dtype == DType::kInt16 || dtype == DType::kUInt16;
}

bool IsFloatType(DType dtype) {
  return dtype == DType::kFloat32 || dtype == DType::kFloat16 || dtype == DType::kBFloat16;
}

// A scale is one number, or one per slice along `axis`; the zero point has its shape.
Status CheckScale(const Node& node, InferArgs inputs) {
  const Dims& dims = inputs[1].dims;
  if (node.Int("block_size", 0) != 0 || dims.size() > 1) {
    return Unsupported("its scale is blocked; Octavo takes one scale per tensor or per slice of one axis");
  }
  if (!IsFloatType(inputs[1].dtype)) {
    return InvalidArgument("its scale is " + std::string(NameOf(inputs[1].dtype)) + ", not a float");
  }
  const InferInput& zero_point = InputAt(inputs, 2);
  // A scalar and a vector of one say the same.
  const bool both_single = zero_point.present && ElementCount(zero_point.dims) == 1 && ElementCount(dims) == 1;
  if (zero_point.present && !both_single && zero_point.dims != dims) {
    return InvalidArgument("its zero point has shape " + ToString(zero_point.dims) + ", its scale " + ToString(dims));
  }
  if (dims.empty() || dims[0] == 1) return {};
  OCTAVO_ASSIGN(const int64_t axis, NormalizeAxis(node.Int("axis", 1), static_cast<int64_t>(inputs[0].dims.size())));
  const int64_t size = inputs[0].dims[static_cast<size_t>(axis)];
  if (size == dims[0]) return {};
  return InvalidArgument("it has " + std::to_string(dims[0]) + " scales for axis " + std::to_string(axis) +
                         ", which has " + std::to_string(size) + " slices");
}

}  // namespace

Inferred InferQuantizeLinear(const Node& node, int64_t, InferArgs inputs) {
  OCTAVO_RETURN_IF_ERROR(CheckScale(node, inputs));
  const DType from = inputs[0].dtype;
  if (!IsFloatType(from) && from != DType::kInt32) {
    return InvalidArgument("its input is " + std::string(NameOf(from)) + ", not a float");
  }
  DType to = DType::kUInt8;
  if (const int64_t number = node.Int("output_dtype", 0); number != 0) {
    const std::optional<DType> named = DTypeFromOnnx(number);
    if (!named)
      return Unsupported("it quantizes to ONNX type " + std::to_string(number) + ", which Octavo does not have");
    to = *named;
  }
  if (const InferInput& zero_point = InputAt(inputs, 2); zero_point.present) to = zero_point.dtype;
  if (!IsQuantizedType(to)) {
    return Unsupported("it quantizes to " + std::string(NameOf(to)) + "; Octavo quantizes to 8 or 16 bits");
  }
  return OneOutput(to, inputs[0].dims);
}

Inferred InferDequantizeLinear(const Node& node, int64_t, InferArgs inputs) {
  OCTAVO_RETURN_IF_ERROR(CheckScale(node, inputs));
  const DType from = inputs[0].dtype;
  if (!IsQuantizedType(from) && from != DType::kInt32) {
    return InvalidArgument("its input is " + std::string(NameOf(from)) + ", not a quantized integer");
  }
  const InferInput& zero_point = InputAt(inputs, 2);
  if (zero_point.present && zero_point.dtype != from) {
    return InvalidArgument("its zero point is " + std::string(NameOf(zero_point.dtype)) + ", its input " +
                           std::string(NameOf(from)));
  }
  return OneOutput(inputs[1].dtype, inputs[0].dims);
}

Inferred InferDynamicQuantizeLinear(const Node&, int64_t, InferArgs inputs) {
  if (inputs[0].dtype != DType::kFloat32) return InvalidArgument("its input must be float32");
  std::vector<InferOutput> outputs(3);
  outputs[0] = {DType::kUInt8, inputs[0].dims};
  outputs[1] = {DType::kFloat32, {}};
  outputs[2] = {DType::kUInt8, {}};
  return outputs;
}

}  // namespace octavo
