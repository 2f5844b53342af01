#include "lint/mends.h"

#include <algorithm>

#include "graph/op_table.h"
#include "graph/quantization.h"

namespace octavo {
namespace {

// The output channels' axis of input 1 of `node`; nothing where it has none.
std::optional<int64_t> ChannelAxis(const Node& node, int64_t rank) {
  const OpTraits* traits = FindOp(node.domain, node.op);
  if (traits == nullptr || traits->quantizable_inputs == 0 || rank < 2 || node.Is("Einsum")) return std::nullopt;
  if (node.Int("transB", 0) != 0) return 0;
  return traits->weight_axis < 0 ? traits->weight_axis + rank : traits->weight_axis;
}

// Where axis `axis` of a Transpose's output lies in its input.
std::optional<int64_t> BeforeTranspose(const Node& transpose, int64_t axis, int64_t rank) {
  const std::vector<int64_t> perm = transpose.Ints("perm");
  if (perm.empty()) return rank - 1 - axis;
  if (static_cast<int64_t>(perm.size()) != rank || axis >= rank) return std::nullopt;
  const int64_t before = perm[static_cast<size_t>(axis)];
  if (before < 0 || before >= rank) return std::nullopt;
  return before;
}

bool AllReadersDequantize(const QuantizedGraph& quantized, ValueId integers, int32_t zero_point) {
  if (quantized.IsOutput(integers)) return false;
  const Graph& graph = quantized.graph();
  return std::all_of(quantized.readers(integers).begin(), quantized.readers(integers).end(), [&](NodeId reader) {
    const WrittenParameters& parameters = quantized.Parameters(reader);
    return IsDequantize(graph.node(reader)) && graph.node(reader).input(0) == integers && parameters.constant &&
           !parameters.zero_points.empty() &&
           std::all_of(parameters.zero_points.begin(), parameters.zero_points.end(),
                       [&](int32_t z) { return z == zero_point; });
  });
}

bool StayWithinInt8(const Tensor& integers, int32_t shift) {
  const auto fits = [&](auto values) {
    return std::all_of(values.begin(), values.end(), [&](int32_t q) { return q - shift >= -128 && q - shift <= 127; });
  };
  if (integers.dtype() == DType::kInt8) return fits(integers.values<int8_t>());
  return integers.dtype() == DType::kUInt8 && fits(integers.values<uint8_t>());
}

}  // namespace

std::optional<WrongAxis> WrongAxisOf(const QuantizedGraph& quantized, NodeId dequantize) {
  const Graph& graph = quantized.graph();
  const Node& node = graph.node(dequantize);
  const WrittenParameters& parameters = quantized.Parameters(dequantize);
  const Dims* dims = quantized.StaticDims(node.input(0));
  if (!parameters.per_channel() || !quantized.IsOfWeights(dequantize) || dims == nullptr) return std::nullopt;
  const auto rank = static_cast<int64_t>(dims->size());
  const int64_t written = parameters.axis < 0 ? parameters.axis + rank : parameters.axis;
  // Directly, or through one Transpose.
  ValueId weights = node.output(0);
  const Node* transpose = nullptr;
  if (quantized.readers(weights).size() == 1) {
    const Node& reader = graph.node(quantized.readers(weights)[0]);
    if (reader.Is("Transpose") && reader.output(0) != kNoValue) {
      transpose = &reader;
      weights = reader.output(0);
    }
  }
  for (const NodeId id : quantized.readers(weights)) {
    const Node& reader = graph.node(id);
    if (reader.input(1) != weights || reader.input(0) == weights) continue;
    auto expected = ChannelAxis(reader, rank);
    if (expected && transpose != nullptr) expected = BeforeTranspose(*transpose, *expected, rank);
    if (!expected || *expected >= rank || *expected == written) continue;
    const bool fits_written =
        written >= 0 && written < rank && (*dims)[static_cast<size_t>(written)] == parameters.scale_count;
    return WrongAxis{id, *expected, !fits_written && (*dims)[static_cast<size_t>(*expected)] == parameters.scale_count};
  }
  return std::nullopt;
}

std::optional<int32_t> ShiftOf(const QuantizedGraph& quantized, NodeId id) {
  const Graph& graph = quantized.graph();
  const Node& node = graph.node(id);
  const WrittenParameters& parameters = quantized.Parameters(id);
  if (!parameters.constant || parameters.zero_points.empty()) return std::nullopt;
  if (parameters.dtype != DType::kUInt8 && parameters.dtype != DType::kInt8) return std::nullopt;
  const int32_t shift = parameters.zero_points[0];
  if (std::any_of(parameters.zero_points.begin(), parameters.zero_points.end(),
                  [&](int32_t z) { return z != shift; })) {
    return std::nullopt;
  }
  const ValueId integers = IsQuantize(node) ? node.output(0) : node.input(0);
  if (!AllReadersDequantize(quantized, integers, shift)) return std::nullopt;
  const Value& value = graph.value(integers);
  if (value.is_constant()) {
    return StayWithinInt8(value.constant, shift) ? std::optional(shift) : std::nullopt;
  }
  const Node* quantize = quantized.Producer(integers);
  // Other ranges would saturate elsewhere.
  if (quantize == nullptr || !IsQuantize(*quantize) || parameters.dtype != DType::kUInt8 || shift != 128) {
    return std::nullopt;
  }
  const WrittenParameters& made = quantized.Parameters(quantized.ProducerId(integers));
  const bool same =
      made.constant && !made.zero_points.empty() &&
      std::all_of(made.zero_points.begin(), made.zero_points.end(), [&](int32_t z) { return z == shift; });
  return same ? std::optional(shift) : std::nullopt;
}

bool IsRedundantQuantize(const QuantizedGraph& quantized, NodeId quantize) {
  const Node& node = quantized.graph().node(quantize);
  const Node* before = quantized.Producer(node.input(0));
  if (before == nullptr || !IsDequantize(*before)) return false;
  const NodeId dequantize = quantized.ProducerId(node.input(0));
  const WrittenParameters& parameters = quantized.Parameters(quantize);
  // Scales that are no numbers give back nothing.
  const bool sound = !parameters.scales.empty() && std::all_of(parameters.scales.begin(), parameters.scales.end(),
                                                               [](float scale) { return IsUsableScale(scale); });
  return sound && AreEqual(quantized.Parameters(dequantize), parameters, quantized.Rank(node.input(0)));
}

bool IsFoldableBias(const QuantizedGraph& quantized, NodeId dequantize) {
  const Graph& graph = quantized.graph();
  const Node& node = graph.node(dequantize);
  const Value& integers = graph.value(node.input(0));
  const WrittenParameters& parameters = quantized.Parameters(dequantize);
  if (!integers.is_constant() || integers.constant.dtype() != DType::kInt32 || !parameters.constant ||
      quantized.IsOutput(node.output(0))) {
    return false;
  }
  if (graph.value(node.input(1)).constant.dtype() != DType::kFloat32 || parameters.has_nonzero_zero_point())
    return false;
  const auto count = static_cast<int64_t>(parameters.scales.size());
  return count == 1 || (integers.constant.rank() == 1 && count == integers.constant.size());
}

}  // namespace octavo
