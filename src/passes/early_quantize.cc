// QuantizeLinear per tensor, and a Mul by a scalar before it, behind nodes that only move elements  ->  the same before
// them, where what makes the value can quantize on the way:
//   Q(move(x))                          ->  move(Q(x))
//   Q(move(x) * s)                      ->  move(Q(x * s))
//   Q(contraction * s)                  ->  Q(contraction * a factor per channel), which the contraction does
//   Q_i(Split(x)_i * s_i) for every i   ->  Split(Q(x * s)) with a factor, scale and zero point per channel.
// Every element is multiplied and rounded as before.
#include <algorithm>
#include <array>
#include <string_view>

#include "graph/quantization.h"
#include "passes/rewriter.h"
#include "passes/rewrites.h"

namespace octavo {
namespace {

bool MovesElements(const Node& node) {
  constexpr std::array<std::string_view, 5> kMoves = {"Flatten", "Reshape", "Squeeze", "Transpose", "Unsqueeze"};
  return node.domain.empty() && std::find(kMoves.begin(), kMoves.end(), node.op) != kMoves.end();
}

// The node behind `value` that moves elements of a computed float32 value; kNoNode for others.
NodeId MoveBehind(const Rewriter& rewriter, ValueId value) {
  const Node* move = rewriter.Producer(value);
  if (move == nullptr || rewriter.IsOutput(value) || !MovesElements(*move)) return kNoNode;
  const ValueId from = move->input(0);
  if (rewriter.value(from).is_constant() || !IsFloat32(rewriter.graph(), from)) return kNoNode;
  return rewriter.ProducerId(value);
}

bool IsByteQuantize(const Rewriter& rewriter, const Node& node) {
  if (node.removed || !IsQuantize(node) || SizeOf(rewriter.value(node.output(0)).dtype) != 1) return false;
  const Result<QuantizeParams> params = QuantizeParamsOf(rewriter.graph(), node);
  return params.ok() && params->per_tensor();
}

// `node` computes on what `move` moves, and becomes the move: the same inputs but for the first.
void Exchange(Rewriter& rewriter, NodeId node, NodeId move, size_t operand) {
  const Node first = rewriter.graph().node(node), second = rewriter.graph().node(move);
  std::vector<ValueId> inputs = first.inputs;
  inputs[operand] = second.input(0);
  const ValueId early =
      rewriter.AddNode(first.name + "/early", first.domain, first.op, std::move(inputs),
                       rewriter.value(first.output(0)).dtype, rewriter.dims(second.input(0)), first.attributes);
  inputs = second.inputs;
  inputs[0] = early;
  rewriter.Become(node, second.domain, second.op, std::move(inputs), second.attributes);
}

bool QuantizeBeforeMove(Rewriter& rewriter, NodeId id) {
  if (!IsByteQuantize(rewriter, rewriter.graph().node(id))) return false;
  const NodeId move = MoveBehind(rewriter, rewriter.graph().node(id).input(0));
  if (move == kNoNode) return false;
  Exchange(rewriter, id, move, 0);
  return true;
}

// Which operand of a Mul a scalar constant multiplies; the Mul has the shape of that operand.
std::optional<size_t> ScaledOperand(const Rewriter& rewriter, const Node& mul) {
  if (mul.removed || !mul.Is("Mul") || mul.inputs.size() != 2) return std::nullopt;
  for (const size_t i : {0u, 1u}) {
    const Value &factor = rewriter.value(mul.input(1 - i)), &operand = rewriter.value(mul.input(i));
    if (!factor.is_constant() || factor.dtype != DType::kFloat32 || ElementCount(factor.dims) != 1) continue;
    if (operand.is_constant() || operand.dims != rewriter.dims(mul.output(0))) continue;
    return i;
  }
  return std::nullopt;
}

bool IsOnlyQuantized(const Rewriter& rewriter, ValueId value) {
  const std::vector<NodeId>& readers = rewriter.Readers(value);
  return !readers.empty() && !rewriter.IsOutput(value) && std::all_of(readers.begin(), readers.end(), [&](NodeId id) {
    return IsByteQuantize(rewriter, rewriter.graph().node(id));
  });
}

bool ScaleBeforeMove(Rewriter& rewriter, NodeId id) {
  const Node& mul = rewriter.graph().node(id);
  const std::optional<size_t> operand = ScaledOperand(rewriter, mul);
  if (!operand || !IsOnlyQuantized(rewriter, mul.output(0))) return false;
  const ValueId moved = mul.input(*operand);
  const NodeId move = MoveBehind(rewriter, moved);
  if (move == kNoNode || rewriter.OnlyReader(moved) != id) return false;
  // A scalar of more dimensions than what is moved would add some.
  if (rewriter.dims(mul.input(1 - *operand)).size() > rewriter.dims(rewriter.graph().node(move).input(0)).size()) {
    return false;
  }
  Exchange(rewriter, id, move, *operand);
  return true;
}

// A QuantizeLinear of one part of a Split, perhaps behind a Mul by a scalar.
struct QuantizedPart {
  NodeId quantize = kNoNode;
  float factor = 1, scale = 1;
  int32_t zero_point = 0;
};
std::optional<QuantizedPart> ReadPart(const Rewriter& rewriter, ValueId value) {
  const Graph& graph = rewriter.graph();
  QuantizedPart part;
  NodeId reader = rewriter.OnlyReader(value);
  if (reader == kNoNode) return std::nullopt;
  if (const std::optional<size_t> operand = ScaledOperand(rewriter, graph.node(reader))) {
    const Node& mul = graph.node(reader);
    part.factor = graph.value(mul.input(1 - *operand)).constant.values<float>()[0];
    reader = rewriter.OnlyReader(mul.output(0));
    if (reader == kNoNode) return std::nullopt;
  }
  if (!IsByteQuantize(rewriter, graph.node(reader)) || rewriter.IsOutput(graph.node(reader).output(0))) {
    return std::nullopt;
  }
  const Result<QuantizeParams> params = QuantizeParamsOf(graph, graph.node(reader));
  part.quantize = reader;
  part.scale = params->scales[0];
  part.zero_point = params->zero_points[0];
  return part;
}

// A contraction, perhaps with a bias behind it, that makes `value`; the axis of its channels.
std::optional<size_t> ChannelAxis(const Rewriter& rewriter, ValueId value) {
  const Node* anchor = rewriter.Producer(value);
  if (anchor != nullptr && anchor->Is("Add")) {
    const Node* product = rewriter.Producer(anchor->input(0), "MatMul");
    anchor = product != nullptr ? product : rewriter.Producer(anchor->input(1), "MatMul");
  }
  if (anchor == nullptr || !anchor->domain.empty()) return std::nullopt;
  const size_t rank = rewriter.dims(value).size();
  if (rank > 1 && (anchor->Is("Conv") || anchor->Is("ConvTranspose"))) return 1;
  if (rank > 0 && (anchor->Is("MatMul") || anchor->Is("Gemm"))) return rank - 1;
  return std::nullopt;
}

Dims PerChannel(const Dims& dims, size_t axis) {
  Dims result(dims.size(), 1);
  result[axis] = dims[axis];
  return result;
}

// A contraction and the axis of its channels.
struct Channels {
  ValueId value = kNoValue;
  size_t axis = 0;
};

int64_t InnerCount(const Dims& dims, size_t axis) {
  int64_t count = 1;
  for (size_t d = axis + 1; d < dims.size(); ++d) count *= dims[d];
  return count;
}

// The contraction that makes `value` up to one Reshape, where an entry of `axis` is one or several of its channels.
std::optional<Channels> ChannelsBehind(const Rewriter& rewriter, ValueId value, size_t axis) {
  const Dims& dims = rewriter.dims(value);
  Channels channels{value, axis};
  const Node* producer = rewriter.Producer(value);
  if (producer != nullptr && producer->Is("Reshape") && rewriter.OnlyReader(value) != kNoNode) {
    channels.value = producer->input(0);
    producer = rewriter.Producer(channels.value);
  }
  const std::optional<size_t> channel_axis = ChannelAxis(rewriter, channels.value);
  if (!channel_axis || rewriter.OnlyReader(channels.value) == kNoNode) return std::nullopt;
  channels.axis = *channel_axis;
  const Dims& made = rewriter.dims(channels.value);
  const int64_t inner = InnerCount(dims, axis), channel_inner = InnerCount(made, channels.axis);
  if (ElementCount(dims) == 0 || inner % channel_inner != 0) return std::nullopt;
  if (made[channels.axis] * channel_inner % (dims[axis] * inner) != 0) return std::nullopt;
  return channels;
}

bool ScaleChannels(Rewriter& rewriter, NodeId id) {
  const Node& mul = rewriter.graph().node(id);
  const std::optional<size_t> operand = ScaledOperand(rewriter, mul);
  if (!operand || !IsOnlyQuantized(rewriter, mul.output(0))) return false;
  const ValueId value = mul.input(*operand), scalar = mul.input(1 - *operand);
  const std::optional<size_t> axis = ChannelAxis(rewriter, value);
  if (!axis || rewriter.OnlyReader(value) != id || rewriter.dims(value)[*axis] < 2) return false;
  const Dims dims = PerChannel(rewriter.dims(value), *axis);
  const float factor = rewriter.value(scalar).constant.values<float>()[0];
  const std::vector<float> factors(static_cast<size_t>(ElementCount(dims)), factor);
  const std::string name = mul.name + "/factors";
  rewriter.SetInput(id, 1 - *operand, rewriter.AddConstant(name, Tensor::FromVector<float>(dims, factors)));
  return true;
}

bool QuantizeBeforeSplit(Rewriter& rewriter, NodeId id) {
  Graph& graph = rewriter.graph();
  const Node split = graph.node(id);
  if (split.removed || !split.Is("Split") || !IsFloat32(graph, split.input(0))) return false;
  const Dims dims = rewriter.dims(split.input(0));
  const int64_t axis = WrapAxis(split.Int("axis", 0), static_cast<int64_t>(dims.size()));
  if (axis < 0 || split.outputs.size() < 2) return false;
  std::vector<float> factors, scales;
  std::vector<int32_t> zero_points;
  std::vector<ValueId> results;
  DType dtype = DType::kUndefined;
  bool scaled = false;
  for (const ValueId output : split.outputs) {
    if (output == kNoValue || rewriter.IsOutput(output)) return false;
    const std::optional<QuantizedPart> part = ReadPart(rewriter, output);
    if (!part) return false;
    const ValueId result = graph.node(part->quantize).output(0);
    if (dtype != DType::kUndefined && dtype != rewriter.value(result).dtype) return false;
    dtype = rewriter.value(result).dtype;
    const auto count = static_cast<size_t>(rewriter.dims(output)[static_cast<size_t>(axis)]);
    factors.insert(factors.end(), count, part->factor);
    scales.insert(scales.end(), count, part->scale);
    zero_points.insert(zero_points.end(), count, part->zero_point);
    scaled |= part->factor != 1.0f;
    results.push_back(result);
  }
  const std::optional<Channels> channels = ChannelsBehind(rewriter, split.input(0), static_cast<size_t>(axis));
  if (!channels) return false;
  const Dims made = rewriter.dims(channels->value);
  const int64_t count = made[channels->axis], inner = InnerCount(dims, static_cast<size_t>(axis));
  const int64_t channel_inner = InnerCount(made, channels->axis), parts = dims[static_cast<size_t>(axis)];
  std::vector<float> channel_factors, channel_scales;
  std::vector<uint8_t> channel_zeros;
  for (int64_t c = 0; c < count; ++c) {
    const auto i = static_cast<size_t>(c * channel_inner / inner % parts);
    channel_factors.push_back(factors[i]);
    channel_scales.push_back(scales[i]);
    channel_zeros.push_back(static_cast<uint8_t>(zero_points[i]));
  }
  ValueId value = channels->value;
  const std::string name = split.name;
  if (scaled) {
    const ValueId factor = rewriter.AddConstant(
        name + "/factors", Tensor::FromVector<float>(PerChannel(made, channels->axis), channel_factors));
    value = rewriter.AddNode(name + "/scaled", "", "Mul", {value, factor}, DType::kFloat32, made);
  }
  const ValueId scale = rewriter.AddConstant(name + "/scales", Tensor::FromVector<float>({count}, channel_scales));
  std::vector<int8_t> signed_zeros(channel_zeros.begin(), channel_zeros.end());
  const ValueId zero = rewriter.AddConstant(
      name + "/zero_points", dtype == DType::kInt8 ? Tensor::FromVector<int8_t>({count}, signed_zeros)
                                                   : Tensor::FromVector<uint8_t>({count}, channel_zeros));
  ValueId quantized = rewriter.AddNode(name + "/early", "", "QuantizeLinear", {value, scale, zero}, dtype, made,
                                       {{"axis", static_cast<int64_t>(channels->axis)}});
  if (made != dims) {
    const ValueId shape = rewriter.AddConstant(name + "/shape", Int64Constant(dims));
    quantized = rewriter.AddNode(name + "/reshaped", "", "Reshape", {quantized, shape}, dtype, dims);
  }
  rewriter.AddSplit(name, quantized, results, axis);
  return true;
}

}  // namespace

int QuantizeEarly(Graph& graph) {
  Rewriter rewriter(graph);
  int rewrites = 0;
  // Each pass over the nodes moves by one step at least; what it adds comes behind and has its turn, too.
  for (bool moved = true; moved;) {
    moved = false;
    for (NodeId id = 0; id < rewriter.node_count(); ++id) {
      if (QuantizeBeforeMove(rewriter, id) || ScaleBeforeMove(rewriter, id) || QuantizeBeforeSplit(rewriter, id) ||
          ScaleChannels(rewriter, id)) {
        ++rewrites;
        moved = true;
      }
    }
  }
  return rewrites;
}

}  // namespace octavo
