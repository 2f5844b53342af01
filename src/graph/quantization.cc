#include "graph/quantization.h"

#include <fmt/format.h>

#include <cfloat>

#include "graph/op_table.h"

namespace octavo {
namespace {

struct IntegerRange {
  int32_t low = 0, high = 0;
};

IntegerRange RangeOf(DType dtype) {
  switch (dtype) {
    case DType::kInt8:
      return {-128, 127};
    case DType::kUInt8:
      return {0, 255};
    case DType::kInt16:
      return {-32768, 32767};
    case DType::kUInt16:
      return {0, 65535};
    default:
      return {};
  }
}

int32_t IntegerAt(const Tensor& tensor, size_t i) {
  switch (tensor.dtype()) {
    case DType::kInt8:
      return tensor.values<int8_t>()[i];
    case DType::kUInt8:
      return tensor.values<uint8_t>()[i];
    case DType::kInt16:
      return tensor.values<int16_t>()[i];
    case DType::kUInt16:
      return tensor.values<uint16_t>()[i];
    case DType::kInt32:
      return tensor.values<int32_t>()[i];
    default:
      return 0;
  }
}

bool ReadsAsMultiplicand(const Graph& graph, const std::vector<std::vector<NodeId>>& uses, ValueId value, int depth) {
  constexpr int kMaxViews = 8;
  for (const NodeId id : uses[static_cast<size_t>(value)]) {
    const Node& node = graph.node(id);
    const OpTraits* traits = FindOp(node.domain, node.op);
    if (traits == nullptr) continue;
    if (traits->op_class == OpClass::kContraction) {
      for (size_t i = 0; i < node.inputs.size() && i < 32; ++i) {
        if (node.inputs[i] == value && (traits->quantizable_inputs >> i & 1u) != 0) return true;
      }
    } else if (traits->op_class == OpClass::kView && depth < kMaxViews && node.outputs.size() == 1) {
      if (ReadsAsMultiplicand(graph, uses, node.output(0), depth + 1)) return true;
    }
  }
  return false;
}

}  // namespace

bool IsUsableScale(float scale) { return scale >= FLT_MIN && scale <= 1.0f / FLT_MIN; }

Status CheckScale(float scale) {
  if (IsUsableScale(scale)) return {};
  return InvalidArgument(
      fmt::format("its scale is {}; scales must be positive normal numbers of at most 2^126", scale));
}

Status CheckQuantizeParams(const QuantizeParams& params) {
  for (const float scale : params.scales) OCTAVO_RETURN_IF_ERROR(CheckScale(scale));
  const IntegerRange range = RangeOf(params.dtype);
  for (const int32_t zero_point : params.zero_points) {
    if (zero_point >= range.low && zero_point <= range.high) continue;
    return InvalidArgument(
        fmt::format("its zero point is {}, out of the range of {}", zero_point, NameOf(params.dtype)));
  }
  return {};
}

Result<QuantizeParams> MakeQuantizeParams(const Node& node, int64_t rank, DType dtype, const Tensor& scale,
                                          const Tensor& zero_point) {
  QuantizeParams params;
  OCTAVO_ASSIGN(params.scales, ToFloats(scale));
  if (params.scales.empty()) return InvalidArgument("it has no scale");
  params.dtype = dtype;
  params.zero_points.assign(params.scales.size(), 0);
  if (zero_point.defined()) {
    if (zero_point.size() != scale.size()) return InvalidArgument("it has not as many zero points as scales");
    for (size_t i = 0; i < params.zero_points.size(); ++i) params.zero_points[i] = IntegerAt(zero_point, i);
  }
  params.axis = node.Int("axis", 1);
  if (params.axis < 0) params.axis += rank;
  if (!params.per_tensor() && (params.axis < 0 || params.axis >= rank)) {
    return InvalidArgument(fmt::format("its axis is {}, its input has rank {}", node.Int("axis", 1), rank));
  }
  OCTAVO_RETURN_IF_ERROR(CheckQuantizeParams(params));
  return params;
}

bool IsQuantize(const Node& node) { return node.Is("QuantizeLinear"); }
bool IsDequantize(const Node& node) { return node.Is("DequantizeLinear"); }

Result<QuantizeParams> QuantizeParamsOf(const Graph& graph, const Node& node) {
  const Value& scale = graph.value(node.input(1));
  if (!scale.is_constant()) return Unsupported("its scale is computed, not constant");
  Tensor zero_point;
  if (node.has_input(2)) {
    if (!graph.value(node.input(2)).is_constant()) return Unsupported("its zero point is computed, not constant");
    zero_point = graph.value(node.input(2)).constant;
  }
  const ValueId integers = IsQuantize(node) ? node.output(0) : node.input(0);
  const Value& value = graph.value(integers);
  return MakeQuantizeParams(node, static_cast<int64_t>(value.dims.size()), value.dtype, scale.constant, zero_point);
}

bool UndoesQuantize(const Graph& graph, const Node& quantize, const Node& dequantize) {
  const Result<QuantizeParams> to = QuantizeParamsOf(graph, quantize), from = QuantizeParamsOf(graph, dequantize);
  return to.ok() && from.ok() && to->per_tensor() && SizeOf(to->dtype) == 1 && to->dtype == from->dtype &&
         to->scales == from->scales && to->zero_points == from->zero_points;
}

bool IsWeightDequantize(const Graph& graph, const Node& node, const std::vector<std::vector<NodeId>>& uses) {
  if (!IsDequantize(node) || node.output(0) == kNoValue) return false;
  const Value& integers = graph.value(node.input(0));
  return integers.is_constant() && SizeOf(integers.constant.dtype()) == 1 &&
         ReadsAsMultiplicand(graph, uses, node.output(0), 0);
}

}  // namespace octavo
