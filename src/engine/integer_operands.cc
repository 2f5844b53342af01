#include "engine/integer_operands.h"

#include <fmt/format.h>

#include "engine/fusion.h"

namespace octavo {

namespace {

// The DequantizeLinear behind an input.
Result<const Node*> DequantizeOf(const Graph& graph, const Node& anchor, size_t input) {
  const NodeId producer = graph.value(anchor.input(input)).producer;
  if (producer == kNoNode || !IsDequantize(graph.node(producer))) {
    return Unsupported(fmt::format("its input {} is not dequantized from 8 bits", input));
  }
  return &graph.node(producer);
}

// A bad scale is the DequantizeLinear's mistake, not its reader's.
Result<QuantizeParams> ParamsOf(const Graph& graph, const Node& dequantize) {
  Result<QuantizeParams> params = QuantizeParamsOf(graph, dequantize);
  if (params.ok() || params.status().code() == ErrorCode::kUnsupported) return params;
  return params.status().WithPrefix(graph.Describe(dequantize) + ": ");
}

Result<QuantizeParams> ActivationParams(const Graph& graph, const Node& dequantize) {
  OCTAVO_ASSIGN(QuantizeParams params, ParamsOf(graph, dequantize));
  if (!params.per_tensor()) return Unsupported("its activations have a scale per channel");
  if (params.dtype != DType::kUInt8) {
    return Unsupported(fmt::format("its activations are {}, and not only its like reads them", NameOf(params.dtype)));
  }
  return params;
}

// How the weights of an op lie.
struct WeightLayout {
  int64_t channel_axis = 0;  // of output channels
  bool matrix = false;       // rank 2, to be brought to (N, K)
};

Result<WeightLayout> LayoutOf(const Node& anchor, const Dims& dims) {
  if (anchor.op == "Conv") return WeightLayout{0, false};
  if (anchor.op == "ConvTranspose") {
    if (anchor.Int("group", 1) != 1) return Unsupported("transposed convolutions in groups run in float");
    return WeightLayout{1, false};
  }
  if (dims.size() != 2) return Unsupported("a batch of constant matrices runs in float");
  if (anchor.op == "Gemm") {
    if (!IsPlainGemm(anchor)) return Unsupported("a Gemm with alpha, beta or transA runs in float");
    return WeightLayout{anchor.Int("transB", 0) != 0 ? 0 : 1, true};
  }
  return WeightLayout{1, true};
}

int32_t WeightAt(const Tensor& tensor, size_t i) {
  return tensor.dtype() == DType::kInt8 ? int32_t{tensor.values<int8_t>()[i]} : int32_t{tensor.values<uint8_t>()[i]};
}

Status ReadWeights(const Graph& graph, const Node& anchor, const Node& dequantize, IntegerOperands& operands) {
  const Value& value = graph.value(dequantize.input(0));
  const Tensor& tensor = value.constant;
  OCTAVO_ASSIGN(const WeightLayout layout, LayoutOf(anchor, tensor.dims()));
  OCTAVO_ASSIGN(const QuantizeParams params, ParamsOf(graph, dequantize));
  if (!params.per_tensor() && params.axis != layout.channel_axis) {
    return Unsupported(fmt::format("its weights have scales along axis {}, not along output channels", params.axis));
  }
  const Dims& dims = tensor.dims();
  const int64_t channels = dims[static_cast<size_t>(layout.channel_axis)];
  const bool transpose = layout.matrix && layout.channel_axis == 1;
  operands.weights.dims = transpose ? Dims{dims[1], dims[0]} : dims;
  operands.weights.values.resize(static_cast<size_t>(tensor.size()));
  int64_t inner = 1;  // elements between neighbours along the channel axis
  for (size_t d = static_cast<size_t>(layout.channel_axis) + 1; d < dims.size(); ++d) inner *= dims[d];
  for (int64_t i = 0; i < tensor.size(); ++i) {
    const int64_t channel = i / inner % channels;
    const int32_t zero = params.zero_points[params.per_tensor() ? 0 : static_cast<size_t>(channel)];
    const int64_t to = transpose ? channel * dims[0] + i / channels : i;
    operands.weights.values[static_cast<size_t>(to)] =
        static_cast<int16_t>(WeightAt(tensor, static_cast<size_t>(i)) - zero);
  }
  operands.weight_scales.resize(static_cast<size_t>(channels));
  for (size_t c = 0; c < operands.weight_scales.size(); ++c)
    operands.weight_scales[c] = params.scales[params.per_tensor() ? 0 : c];
  return {};
}

}  // namespace

Result<IntegerOperands> ReadIntegerOperands(const Graph& graph, const Node& anchor) {
  IntegerOperands operands;
  OCTAVO_ASSIGN(const Node* src, DequantizeOf(graph, anchor, 0));
  OCTAVO_ASSIGN(const Node* other, DequantizeOf(graph, anchor, 1));
  if (graph.value(src->input(0)).is_constant()) return Unsupported("its input 0 is constant");
  operands.src = src->input(0);
  OCTAVO_ASSIGN(operands.src_params, ActivationParams(graph, *src));
  const Value& weights = graph.value(other->input(0));
  if (weights.is_constant()) {
    if (SizeOf(weights.dtype) != 1) return Unsupported("its weights are wider than 8 bits");
    OCTAVO_RETURN_IF_ERROR(ReadWeights(graph, anchor, *other, operands));
    return operands;
  }
  if (anchor.op != "MatMul") return Unsupported("its weights are not constant");
  operands.other = other->input(0);
  OCTAVO_ASSIGN(operands.other_params, ActivationParams(graph, *other));
  return operands;
}

Result<DequantizedBytes> ReadDequantizedBytes(const Graph& graph, const Node& reader, size_t input) {
  OCTAVO_ASSIGN(const Node* dequantize, DequantizeOf(graph, reader, input));
  OCTAVO_ASSIGN(QuantizeParams params, ParamsOf(graph, *dequantize));
  if (!params.per_tensor()) return Unsupported(fmt::format("its input {} has a scale per channel", input));
  if (SizeOf(params.dtype) != 1) return Unsupported(fmt::format("its input {} is wider than 8 bits", input));
  return DequantizedBytes{dequantize->input(0), std::move(params)};
}

}  // namespace octavo
