// Products of quantized integers, and what surrounds them.
#include "graph/infer_dims.h"
#include "graph/infer_rules.h"

namespace octavo {
namespace {

Status CheckBytes(const InferInput& input, std::string_view name) {
  if (input.dtype == DType::kInt8 || input.dtype == DType::kUInt8) return {};
  return InvalidArgument("input '" + std::string(name) + "' is " + std::string(NameOf(input.dtype)) +
                         ", not int8 or uint8");
}

// A zero point or scale: one number, or (where `count` is not 0) one per row, column or output channel.
Status CheckParameter(const InferInput& input, int64_t count, std::string_view name) {
  if (!input.present || ElementCount(input.dims) == 1) return {};
  if (count != 0 && input.dims == Dims{count}) return {};
  return Unsupported(
      "input '" + std::string(name) + "' has shape " + ToString(input.dims) + "; " +
      (count != 0 ? "one number or " + std::to_string(count) + " are supported" : "one number is supported"));
}

// Zero points have the type of what they belong to.
Status CheckZeroPoint(const InferInput& zero_point, const InferInput& of, int64_t count, std::string_view name) {
  if (zero_point.present && zero_point.dtype != of.dtype) {
    return InvalidArgument("input '" + std::string(name) + "' is " + std::string(NameOf(zero_point.dtype)) + ", not " +
                           std::string(NameOf(of.dtype)));
  }
  return CheckParameter(zero_point, count, name);
}

Status CheckScale(const InferInput& scale, int64_t count, std::string_view name) {
  if (scale.dtype != DType::kFloat32 && scale.dtype != DType::kFloat16 && scale.dtype != DType::kBFloat16) {
    return InvalidArgument("input '" + std::string(name) + "' is " + std::string(NameOf(scale.dtype)) +
                           ", not a float");
  }
  return CheckParameter(scale, count, name);
}

// MatMul's shape; its operands may differ in type.
Result<Dims> ProductDims(const Node& node, int64_t opset, const InferInput& a, const InferInput& b) {
  std::vector<InferInput> operands = {a, b};
  operands[1].dtype = a.dtype;
  OCTAVO_ASSIGN(auto outputs, InferMatMul(node, opset, operands));
  return outputs[0].dims;
}

Result<Dims> ConvolutionDims(const Node& node, int64_t opset, const InferInput& x, const InferInput& w) {
  std::vector<InferInput> operands = {x, w};
  operands[1].dtype = x.dtype;
  OCTAVO_ASSIGN(auto outputs, InferConv(node, opset, operands));
  return outputs[0].dims;
}

int64_t RowsOf(const InferInput& a) { return a.dims.size() > 1 ? a.dims[a.dims.size() - 2] : 0; }
int64_t ColumnsOf(const InferInput& b) { return b.dims.size() > 1 ? b.dims.back() : 0; }

}  // namespace

Inferred InferMatMulInteger(const Node& node, int64_t opset, InferArgs inputs) {
  OCTAVO_RETURN_IF_ERROR(CheckBytes(inputs[0], "A"));
  OCTAVO_RETURN_IF_ERROR(CheckBytes(inputs[1], "B"));
  OCTAVO_RETURN_IF_ERROR(CheckZeroPoint(InputAt(inputs, 2), inputs[0], RowsOf(inputs[0]), "a_zero_point"));
  OCTAVO_RETURN_IF_ERROR(CheckZeroPoint(InputAt(inputs, 3), inputs[1], ColumnsOf(inputs[1]), "b_zero_point"));
  OCTAVO_ASSIGN(Dims dims, ProductDims(node, opset, inputs[0], inputs[1]));
  return OneOutput(DType::kInt32, std::move(dims));
}

Inferred InferQLinearMatMul(const Node& node, int64_t opset, InferArgs inputs) {
  OCTAVO_RETURN_IF_ERROR(CheckBytes(inputs[0], "a"));
  OCTAVO_RETURN_IF_ERROR(CheckScale(inputs[1], RowsOf(inputs[0]), "a_scale"));
  OCTAVO_RETURN_IF_ERROR(CheckZeroPoint(inputs[2], inputs[0], RowsOf(inputs[0]), "a_zero_point"));
  OCTAVO_RETURN_IF_ERROR(CheckBytes(inputs[3], "b"));
  OCTAVO_RETURN_IF_ERROR(CheckScale(inputs[4], ColumnsOf(inputs[3]), "b_scale"));
  OCTAVO_RETURN_IF_ERROR(CheckZeroPoint(inputs[5], inputs[3], ColumnsOf(inputs[3]), "b_zero_point"));
  OCTAVO_RETURN_IF_ERROR(CheckScale(inputs[6], 0, "y_scale"));
  OCTAVO_RETURN_IF_ERROR(CheckBytes(inputs[7], "y_zero_point"));
  OCTAVO_RETURN_IF_ERROR(CheckParameter(inputs[7], 0, "y_zero_point"));
  OCTAVO_ASSIGN(Dims dims, ProductDims(node, opset, inputs[0], inputs[3]));
  return OneOutput(inputs[7].dtype, std::move(dims));
}

Inferred InferConvInteger(const Node& node, int64_t opset, InferArgs inputs) {
  OCTAVO_RETURN_IF_ERROR(CheckBytes(inputs[0], "x"));
  OCTAVO_RETURN_IF_ERROR(CheckBytes(inputs[1], "w"));
  OCTAVO_ASSIGN(Dims dims, ConvolutionDims(node, opset, inputs[0], inputs[1]));
  OCTAVO_RETURN_IF_ERROR(CheckZeroPoint(InputAt(inputs, 2), inputs[0], 0, "x_zero_point"));
  OCTAVO_RETURN_IF_ERROR(CheckZeroPoint(InputAt(inputs, 3), inputs[1], dims[1], "w_zero_point"));
  return OneOutput(DType::kInt32, std::move(dims));
}

Inferred InferQLinearConv(const Node& node, int64_t opset, InferArgs inputs) {
  OCTAVO_RETURN_IF_ERROR(CheckBytes(inputs[0], "x"));
  OCTAVO_RETURN_IF_ERROR(CheckScale(inputs[1], 0, "x_scale"));
  OCTAVO_RETURN_IF_ERROR(CheckZeroPoint(inputs[2], inputs[0], 0, "x_zero_point"));
  OCTAVO_RETURN_IF_ERROR(CheckBytes(inputs[3], "w"));
  OCTAVO_ASSIGN(Dims dims, ConvolutionDims(node, opset, inputs[0], inputs[3]));
  OCTAVO_RETURN_IF_ERROR(CheckScale(inputs[4], dims[1], "w_scale"));
  OCTAVO_RETURN_IF_ERROR(CheckZeroPoint(inputs[5], inputs[3], dims[1], "w_zero_point"));
  OCTAVO_RETURN_IF_ERROR(CheckScale(inputs[6], 0, "y_scale"));
  OCTAVO_RETURN_IF_ERROR(CheckBytes(inputs[7], "y_zero_point"));
  OCTAVO_RETURN_IF_ERROR(CheckParameter(inputs[7], 0, "y_zero_point"));
  if (const InferInput& bias = InputAt(inputs, 8); bias.present) {
    OCTAVO_RETURN_IF_ERROR(CheckDims(bias, {dims[1]}, "B"));
    if (bias.dtype != DType::kInt32) return InvalidArgument("its bias must be int32");
  }
  return OneOutput(inputs[7].dtype, std::move(dims));
}

}  // namespace octavo
