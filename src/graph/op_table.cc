#include "graph/op_table.h"

#include <algorithm>
#include <array>
#include <map>
#include <string>

#include "base/quote.h"
#include "base/rank.h"
#include "graph/infer_contraction.h"
#include "graph/infer_rules.h"

namespace octavo {
namespace {

constexpr int kMany = -1;
constexpr uint32_t kFirstTwo = 0b11;
constexpr uint32_t kFirstThree = 0b111;

constexpr OpClass kElementwise = OpClass::kElementwise;
constexpr OpClass kView = OpClass::kView;
constexpr OpClass kContraction = OpClass::kContraction;
constexpr OpClass kReduction = OpClass::kReduction;
constexpr OpClass kOther = OpClass::kOther;

// The row of an op that needs the values of `inputs` (a bit each) when shapes are bound.
constexpr OpTraits ByValue(OpTraits row, uint32_t inputs) {
  row.value_inputs = inputs;
  return row;
}

// Ops of ai.onnx. `since` is the first opset whose semantics are implemented; Gelu, HardSwish, Mish,
// LayerNormalization and GroupNormalization are taken in graphs of any opset, since passes make some of them.
constexpr OpTraits kOnnxOps[] = {
    {"", "Abs", 6, 1, 1, kElementwise, InferUnary},
    {"", "Acos", 7, 1, 1, kElementwise, InferUnary},
    {"", "Acosh", 9, 1, 1, kElementwise, InferUnary},
    {"", "Add", 7, 2, 2, kElementwise, InferBroadcast},
    ByValue({"", "AffineGrid", 20, 2, 2, kOther, InferAffineGrid}, 0b10),
    {"", "And", 7, 2, 2, kElementwise, InferLogic},
    {"", "ArgMax", 1, 1, 1, kReduction, InferArgMax},
    {"", "ArgMin", 1, 1, 1, kReduction, InferArgMax},
    {"", "Asin", 7, 1, 1, kElementwise, InferUnary},
    {"", "Asinh", 9, 1, 1, kElementwise, InferUnary},
    {"", "Atan", 7, 1, 1, kElementwise, InferUnary},
    {"", "Atanh", 9, 1, 1, kElementwise, InferUnary},
    {"", "AveragePool", 7, 1, 1, kReduction, InferAveragePool},
    {"", "BatchNormalization", 9, 5, 5, kReduction, InferBatchNormalization},
    {"", "BitShift", 11, 2, 2, kElementwise, InferBroadcast},
    {"", "BitwiseAnd", 18, 2, 2, kElementwise, InferBroadcast},
    {"", "BitwiseNot", 18, 1, 1, kElementwise, InferUnary},
    {"", "BitwiseOr", 18, 2, 2, kElementwise, InferBroadcast},
    {"", "BitwiseXor", 18, 2, 2, kElementwise, InferBroadcast},
    ByValue({"", "BlackmanWindow", 17, 1, 1, kOther, InferSignalWindow}, 0b1),
    {"", "Cast", 6, 1, 1, kElementwise, InferCast},
    {"", "CastLike", 15, 2, 2, kElementwise, InferCastLike},
    {"", "Ceil", 6, 1, 1, kElementwise, InferUnary},
    {"", "Celu", 12, 1, 1, kElementwise, InferUnary},
    ByValue({"", "CenterCropPad", 18, 2, 2, kOther, InferCenterCropPad}, 0b10),
    {"", "Clip", 6, 1, 3, kElementwise, InferClip},
    ByValue({"", "Col2Im", 18, 3, 3, kOther, InferCol2Im}, 0b110),
    ByValue({"", "Compress", 9, 2, 2, kOther, InferCompress}, 0b10),
    {"", "Concat", 4, 1, kMany, kView, InferConcat},
    ByValue({"", "ConstantOfShape", 9, 1, 1, kOther, InferConstantOfShape}, 0b1),
    {"", "Conv", 1, 2, 3, kContraction, InferConv, kFirstTwo, 0},
    {"", "ConvInteger", 10, 2, 4, kOther, InferConvInteger},
    {"", "ConvTranspose", 1, 2, 3, kContraction, InferConvTranspose, kFirstTwo, 1},
    {"", "Cos", 7, 1, 1, kElementwise, InferUnary},
    {"", "Cosh", 9, 1, 1, kElementwise, InferUnary},
    ByValue({"", "CumSum", 11, 2, 2, kOther, InferCumSum}, 0b10),
    ByValue({"", "DFT", 17, 1, 3, kOther, InferDft}, 0b110),
    {"", "DeformConv", 19, 3, 5, kOther, InferDeformConv},
    {"", "DepthToSpace", 1, 1, 1, kView, InferDepthToSpace},
    {"", "DequantizeLinear", 10, 2, 3, kElementwise, InferDequantizeLinear},
    {"", "Det", 11, 1, 1, kOther, InferDet},
    {"", "Div", 7, 2, 2, kElementwise, InferBroadcast},
    ByValue({"", "Dropout", 7, 1, 3, kElementwise, InferDropout}, 0b100),
    {"", "DynamicQuantizeLinear", 11, 1, 1, kOther, InferDynamicQuantizeLinear},
    {"", "Einsum", 12, 1, kMany, kContraction, InferEinsum, kFirstTwo, -1},
    {"", "Elu", 6, 1, 1, kElementwise, InferUnary},
    {"", "Equal", 7, 2, 2, kElementwise, InferCompare},
    {"", "Erf", 9, 1, 1, kElementwise, InferUnary},
    {"", "Exp", 6, 1, 1, kElementwise, InferUnary},
    ByValue({"", "Expand", 8, 2, 2, kView, InferExpand}, 0b10),
    {"", "EyeLike", 9, 1, 1, kOther, InferEyeLike},
    {"", "Flatten", 1, 1, 1, kView, InferFlatten},
    {"", "Floor", 6, 1, 1, kElementwise, InferUnary},
    {"", "Gather", 1, 2, 2, kView, InferGather},
    {"", "GatherElements", 11, 2, 2, kView, InferGatherElements},
    {"", "GatherND", 11, 2, 2, kView, InferGatherNd},
    {"", "Gelu", 1, 1, 1, kElementwise, InferUnary},
    {"", "Gemm", 7, 2, 3, kContraction, InferGemm, kFirstTwo, -1},
    {"", "GlobalAveragePool", 1, 1, 1, kReduction, InferGlobalPool},
    {"", "GlobalLpPool", 2, 1, 1, kReduction, InferGlobalPool},
    {"", "GlobalMaxPool", 1, 1, 1, kReduction, InferGlobalPool},
    {"", "Greater", 7, 2, 2, kElementwise, InferCompare},
    {"", "GreaterOrEqual", 12, 2, 2, kElementwise, InferCompare},
    {"", "GridSample", 16, 2, 2, kOther, InferGridSample},
    {"", "GroupNormalization", 1, 3, 3, kReduction, InferGroupNormalization},
    ByValue({"", "HammingWindow", 17, 1, 1, kOther, InferSignalWindow}, 0b1),
    ByValue({"", "HannWindow", 17, 1, 1, kOther, InferSignalWindow}, 0b1),
    {"", "HardSigmoid", 6, 1, 1, kElementwise, InferUnary},
    {"", "HardSwish", 1, 1, 1, kElementwise, InferUnary},
    {"", "Hardmax", 1, 1, 1, kReduction, InferSoftmax},
    {"", "Identity", 1, 1, 1, kView, InferUnary},
    {"", "InstanceNormalization", 6, 3, 3, kReduction, InferInstanceNormalization},
    {"", "IsInf", 10, 1, 1, kElementwise, InferFloatTest},
    {"", "IsNaN", 9, 1, 1, kElementwise, InferFloatTest},
    {"", "LRN", 1, 1, 1, kReduction, InferLrn},
    {"", "LayerNormalization", 1, 2, 3, kReduction, InferLayerNormalization},
    {"", "LeakyRelu", 6, 1, 1, kElementwise, InferUnary},
    {"", "Less", 7, 2, 2, kElementwise, InferCompare},
    {"", "LessOrEqual", 12, 2, 2, kElementwise, InferCompare},
    {"", "Log", 6, 1, 1, kElementwise, InferUnary},
    {"", "LogSoftmax", 1, 1, 1, kReduction, InferSoftmax},
    {"", "LpNormalization", 1, 1, 1, kReduction, InferLpNormalization},
    {"", "LpPool", 2, 1, 1, kReduction, InferLpPool},
    {"", "MatMul", 1, 2, 2, kContraction, InferMatMul, kFirstTwo, -1},
    {"", "MatMulInteger", 10, 2, 4, kOther, InferMatMulInteger},
    {"", "Max", 8, 1, kMany, kElementwise, InferBroadcast},
    {"", "MaxPool", 1, 1, 1, kReduction, InferMaxPool},
    ByValue({"", "MaxUnpool", 9, 2, 3, kOther, InferMaxUnpool}, 0b100),
    {"", "Mean", 8, 1, kMany, kElementwise, InferBroadcast},
    {"", "MeanVarianceNormalization", 9, 1, 1, kReduction, InferMeanVariance},
    ByValue({"", "MelWeightMatrix", 17, 5, 5, kOther, InferMelWeightMatrix}, 0b11),
    {"", "Min", 8, 1, kMany, kElementwise, InferBroadcast},
    {"", "Mish", 1, 1, 1, kElementwise, InferUnary},
    {"", "Mod", 10, 2, 2, kElementwise, InferBroadcast},
    {"", "Mul", 7, 2, 2, kElementwise, InferBroadcast},
    {"", "Neg", 6, 1, 1, kElementwise, InferUnary},
    {"", "NegativeLogLikelihoodLoss", 12, 2, 3, kOther, InferLogLikelihoodLoss},
    ByValue({"", "NonMaxSuppression", 10, 2, 5, kOther, InferNonMaxSuppression}, 0b11111),
    ByValue({"", "NonZero", 9, 1, 1, kOther, InferNonZero}, 0b1),
    {"", "Not", 1, 1, 1, kElementwise, InferLogic},
    ByValue({"", "OneHot", 9, 3, 3, kOther, InferOneHot}, 0b10),
    {"", "Or", 7, 2, 2, kElementwise, InferLogic},
    {"", "PRelu", 7, 2, 2, kElementwise, InferPRelu},
    ByValue({"", "Pad", 2, 1, 4, kView, InferPad}, 0b1010),
    {"", "Pow", 7, 2, 2, kElementwise, InferPow},
    {"", "QLinearConv", 10, 8, 9, kOther, InferQLinearConv},
    {"", "QLinearMatMul", 10, 8, 8, kOther, InferQLinearMatMul},
    {"", "QuantizeLinear", 10, 2, 3, kElementwise, InferQuantizeLinear},
    ByValue({"", "Range", 11, 3, 3, kOther, InferRange}, 0b111),
    {"", "Reciprocal", 6, 1, 1, kElementwise, InferUnary},
    ByValue({"", "ReduceL1", 1, 1, 2, kReduction, InferReduce}, 0b10),
    ByValue({"", "ReduceL2", 1, 1, 2, kReduction, InferReduce}, 0b10),
    ByValue({"", "ReduceLogSum", 1, 1, 2, kReduction, InferReduce}, 0b10),
    ByValue({"", "ReduceLogSumExp", 1, 1, 2, kReduction, InferReduce}, 0b10),
    ByValue({"", "ReduceMax", 1, 1, 2, kReduction, InferReduce}, 0b10),
    ByValue({"", "ReduceMean", 1, 1, 2, kReduction, InferReduce}, 0b10),
    ByValue({"", "ReduceMin", 1, 1, 2, kReduction, InferReduce}, 0b10),
    ByValue({"", "ReduceProd", 1, 1, 2, kReduction, InferReduce}, 0b10),
    ByValue({"", "ReduceSum", 1, 1, 2, kReduction, InferReduce}, 0b10),
    ByValue({"", "ReduceSumSquare", 1, 1, 2, kReduction, InferReduce}, 0b10),
    {"", "Relu", 6, 1, 1, kElementwise, InferUnary},
    ByValue({"", "Reshape", 1, 1, 2, kView, InferReshape}, 0b10),
    ByValue({"", "Resize", 11, 1, 4, kOther, InferResize}, 0b1110),
    {"", "ReverseSequence", 10, 2, 2, kOther, InferReverseSequence},
    {"", "RoiAlign", 10, 3, 3, kOther, InferRoiAlign},
    {"", "Round", 11, 1, 1, kElementwise, InferUnary},
    ByValue({"", "STFT", 17, 2, 4, kOther, InferStft}, 0b1010),
    {"", "Scatter", 9, 3, 3, kOther, InferScatterElements},
    {"", "ScatterElements", 11, 3, 3, kOther, InferScatterElements},
    {"", "ScatterND", 11, 3, 3, kOther, InferScatterNd},
    {"", "Selu", 6, 1, 1, kElementwise, InferUnary},
    {"", "Shape", 1, 1, 1, kOther, InferShape},
    {"", "Shrink", 9, 1, 1, kElementwise, InferUnary},
    {"", "Sigmoid", 6, 1, 1, kElementwise, InferUnary},
    {"", "Sign", 9, 1, 1, kElementwise, InferUnary},
    {"", "Sin", 7, 1, 1, kElementwise, InferUnary},
    {"", "Sinh", 9, 1, 1, kElementwise, InferUnary},
    {"", "Size", 1, 1, 1, kOther, InferSize},
    ByValue({"", "Slice", 1, 1, 5, kView, InferSlice}, 0b11110),
    {"", "Softmax", 1, 1, 1, kReduction, InferSoftmax},
    {"", "SoftmaxCrossEntropyLoss", 12, 2, 3, kOther, InferCrossEntropyLoss},
    {"", "Softplus", 1, 1, 1, kElementwise, InferUnary},
    {"", "Softsign", 1, 1, 1, kElementwise, InferUnary},
    {"", "SpaceToDepth", 1, 1, 1, kView, InferSpaceToDepth},
    ByValue({"", "Split", 2, 1, 2, kView, InferSplit}, 0b10),
    {"", "Sqrt", 6, 1, 1, kElementwise, InferUnary},
    ByValue({"", "Squeeze", 1, 1, 2, kView, InferSqueeze}, 0b10),
    {"", "Sub", 7, 2, 2, kElementwise, InferBroadcast},
    {"", "Sum", 8, 1, kMany, kElementwise, InferBroadcast},
    {"", "Tan", 7, 1, 1, kElementwise, InferUnary},
    {"", "Tanh", 6, 1, 1, kElementwise, InferUnary},
    {"", "ThresholdedRelu", 10, 1, 1, kElementwise, InferUnary},
    ByValue({"", "Tile", 6, 2, 2, kView, InferTile}, 0b10),
    ByValue({"", "TopK", 1, 1, 2, kOther, InferTopK}, 0b10),
    {"", "Transpose", 1, 1, 1, kView, InferTranspose},
    {"", "Trilu", 14, 1, 2, kOther, InferTrilu},
    ByValue({"", "Unique", 11, 1, 1, kOther, InferUnique}, 0b1),
    ByValue({"", "Unsqueeze", 1, 1, 2, kView, InferUnsqueeze}, 0b10),
    ByValue({"", "Upsample", 7, 1, 2, kOther, InferResize}, 0b10),
    {"", "Where", 9, 3, 3, kElementwise, InferWhere},
    {"", "Xor", 7, 2, 2, kElementwise, InferLogic},
};

// Octavo's own ops, made by passes:
//   Silu {alpha: 1}                        x * sigmoid(alpha * x); alpha 1.702 is QuickGELU.
//   LayerNorm {axis, epsilon}              x, scale[C]?, bias[C]?: (x - mean) / sqrt(var + epsilon) * scale + bias,
//   with
//                                          mean and (biased) var over that one axis of C elements.
//   GroupNorm {num_groups, epsilon, activation: "none" | "silu"}
//                                          x (N, C, spatial...), scale and bias each [C] or [N, C] (N may be 1): mean
//                                          and var over (C / num_groups, spatial); the activation comes last.
//   Attention {scale, guarded: 0}          q (..., Nq, D), k (..., Nk, D), v (..., Nk, Dv), mask? that broadcasts to
//                                          (..., Nq, Nk): softmax(scale * q k^T + mask) v. guarded 1: where the softmax
//                                          is NaN (a query that may see no key at all), its row counts as zeros.
//   LinearAttention {epsilon}              q, k (..., D, N), v (..., Dv, N): (v relu(k)^T relu(q)) /
//                                          (sum over n of relu(k) . relu(q) + epsilon), of shape (..., Dv, N); the
//                                          division is per token.
//   RoundTo {to}                           float32 x rounded to bfloat16 or float16 (ONNX's numbers, as Cast's `to`)
//                                          and back: what a Cast to 16 bits and one back to float32 compute.
constexpr OpTraits kOctavoOps[] = {
    {kOctavoDomain, "Attention", 1, 3, 4, kContraction, InferFusedAttention, kFirstThree, 0},
    {kOctavoDomain, "GroupNorm", 1, 3, 3, kReduction, InferFusedGroupNorm},
    {kOctavoDomain, "LayerNorm", 1, 1, 3, kReduction, InferFusedLayerNorm},
    {kOctavoDomain, "LinearAttention", 1, 3, 3, kContraction, InferFusedLinearAttention, kFirstThree, 0},
    {kOctavoDomain, "RoundTo", 1, 1, 1, kElementwise, InferRoundTo},
    {kOctavoDomain, "Silu", 1, 1, 1, kElementwise, InferUnary},
};

constexpr size_t kOpCount = std::size(kOnnxOps) + std::size(kOctavoOps);

constexpr std::array<OpTraits, kOpCount> JoinOps() {
  std::array<OpTraits, kOpCount> all{};
  std::copy(std::begin(kOnnxOps), std::end(kOnnxOps), all.begin());
  std::copy(std::begin(kOctavoOps), std::end(kOctavoOps), all.begin() + std::size(kOnnxOps));
  return all;
}

constexpr std::array<OpTraits, kOpCount> kOps = JoinOps();

constexpr bool Precedes(const OpTraits& a, const OpTraits& b) {
  return a.domain != b.domain ? a.domain < b.domain : a.op < b.op;
}
static_assert(std::is_sorted(kOps.begin(), kOps.end(), Precedes), "FindOp searches by bisection");

Status CheckArity(const OpTraits& traits, std::span<const InferInput> inputs) {
  const auto count = static_cast<int>(inputs.size());
  const bool too_many = traits.max_inputs != kMany && count > traits.max_inputs;
  bool missing = count < traits.min_inputs;
  for (int i = 0; i < std::min(count, traits.max_inputs == kMany ? count : traits.min_inputs); ++i) {
    missing |= !inputs[static_cast<size_t>(i)].present;
  }
  if (!too_many && !missing) return {};
  return InvalidArgument("it has " + std::to_string(count) + " inputs" +
                         (missing
                              ? ", of which required ones are missing"
                              : "; " + std::string(traits.op) + " takes at most " + std::to_string(traits.max_inputs)));
}

// "Foo (3 nodes: 'a', 'b', 'c')", at most kNamed of them by name.
std::string ListNodes(const std::string& op, const std::vector<const Node*>& nodes) {
  constexpr size_t kNamed = 8;
  std::string text = op + " (" + std::to_string(nodes.size()) + (nodes.size() == 1 ? " node: " : " nodes: ");
  for (size_t i = 0; i < std::min(nodes.size(), kNamed); ++i) text += (i > 0 ? ", " : "") + Quote(nodes[i]->name);
  return text + (nodes.size() > kNamed ? ", ...)" : ")");
}

// What to call the op of a node that is not supported, or "" where it is.
std::string UnsupportedName(const Node& node, int64_t opset) {
  const OpTraits* traits = FindOp(node.domain, node.op);
  // Names come from the file: the quotes keep control characters out of the message, but read badly around an op.
  std::string quoted = Quote(node.domain.empty() ? node.op : node.domain + "." + node.op);
  std::string name = quoted.substr(1, quoted.size() - 2);
  if (traits == nullptr) return name;
  if (opset >= traits->since || traits->domain == kOctavoDomain) return {};
  return name + " of opset " + std::to_string(opset) + " (from " + std::to_string(traits->since) + " on it is)";
}

// Counts are reports, and their factors come from a file: they saturate.
int64_t Product(std::initializer_list<int64_t> factors) {
  int64_t product = 1;
  for (const int64_t factor : factors) {
    if (__builtin_mul_overflow(product, factor, &product)) return INT64_MAX;
  }
  return product;
}

int64_t CountEinsum(const Graph& graph, const Node& node) {
  std::vector<Dims> operands;
  for (const ValueId input : node.inputs) operands.push_back(graph.value(input).dims);
  const auto plan = ResolveEinsum(node.String("equation", ""), operands);
  if (!plan.ok() || operands.size() < 2) return 0;
  int64_t count = static_cast<int64_t>(operands.size()) - 1;
  for (const int64_t size : plan->sizes) count = Product({count, size});
  return count;
}

int64_t CountAttention(const Dims& q, const Dims& k, const Dims& out) {
  const int64_t rows = ElementCount({out.begin(), out.end() - 1});
  return Product({rows, k[k.size() - 2], q.back() + out.back()});
}

int64_t CountLinearAttention(const Dims& q, const Dims& k, const Dims& out) {
  const int64_t batch = ElementCount({out.begin(), out.end() - 2});
  const int64_t depth = q[q.size() - 2];
  const int64_t channels = out[out.size() - 2];
  // v relu(k)^T over the keys' tokens; its product with relu(q), and the divisor, over the queries'.
  const int64_t keys = Product({batch, depth, channels, k.back()});
  const int64_t queries = Product({batch, depth, channels + 1, out.back()});
  return keys > INT64_MAX - queries ? INT64_MAX : keys + queries;
}

}  // namespace

const OpTraits* FindOp(std::string_view domain, std::string_view op) {
  OpTraits wanted{};
  wanted.domain = domain == "ai.onnx" ? std::string_view() : domain;
  wanted.op = op;
  const auto* found = std::lower_bound(kOps.begin(), kOps.end(), wanted, Precedes);
  return found != kOps.end() && !Precedes(wanted, *found) ? found : nullptr;
}

std::span<const OpTraits> AllOps() { return kOps; }

Result<std::vector<InferOutput>> InferNode(const Node& node, int64_t opset, std::span<const InferInput> inputs) {
  const OpTraits* traits = FindOp(node.domain, node.op);
  if (traits == nullptr) return Unsupported("the op " + Quote(node.op) + " is not supported");
  OCTAVO_RETURN_IF_ERROR(CheckArity(*traits, inputs));
  // Only Split's outputs may all be left out; kernels count on the others' first one.
  if (!node.outputs.empty() && node.outputs[0] == kNoValue && traits->infer != InferSplit) {
    return InvalidArgument("its first output has no name");
  }
  for (const InferInput& input : inputs) {
    if (input.dims.size() > kMaxRank) return Unsupported("an input of rank " + std::to_string(input.dims.size()));
  }
  auto outputs = traits->infer(node, opset, inputs);
  if (!outputs.ok()) return outputs;
  if (node.outputs.size() > outputs->size()) {
    return Unsupported("it has " + std::to_string(node.outputs.size()) + " outputs; " +
                       std::to_string(outputs->size()) + " are supported");
  }
  for (const InferOutput& output : *outputs) {
    OCTAVO_RETURN_IF_ERROR(CheckedElementCount(output.dims).status());
    if (output.dims.size() > kMaxRank) return Unsupported("an output of rank " + std::to_string(output.dims.size()));
  }
  return outputs;
}

std::optional<DType> DTypeFromOnnx(int64_t number) {
  // TensorProto.DataType of the ONNX specification.
  switch (number) {
    case 1:
      return DType::kFloat32;
    case 2:
      return DType::kUInt8;
    case 3:
      return DType::kInt8;
    case 4:
      return DType::kUInt16;
    case 5:
      return DType::kInt16;
    case 6:
      return DType::kInt32;
    case 7:
      return DType::kInt64;
    case 9:
      return DType::kBool;
    case 10:
      return DType::kFloat16;
    case 11:
      return DType::kFloat64;
    case 12:
      return DType::kUInt32;
    case 13:
      return DType::kUInt64;
    case 16:
      return DType::kBFloat16;
    default:
      return std::nullopt;
  }
}

Status CheckSupported(const Graph& graph) {
  std::map<std::string, std::vector<const Node*>> offenders;
  for (const Node& node : graph.nodes) {
    if (node.removed) continue;
    const std::string name = UnsupportedName(node, graph.opset());
    if (!name.empty()) offenders[name].push_back(&node);
  }
  if (offenders.empty()) return {};
  std::string message = "ops that are not supported: ";
  for (const auto& [op, nodes] : offenders) message += (message.back() == ' ' ? "" : ", ") + ListNodes(op, nodes);
  return Unsupported(std::move(message));
}

int64_t CountMacs(const Graph& graph, const Node& node) {
  const OpTraits* traits = FindOp(node.domain, node.op);
  if (traits == nullptr || traits->op_class != OpClass::kContraction) return 0;
  if (node.op == "Einsum") return CountEinsum(graph, node);
  const Dims& a = graph.value(node.input(0)).dims;
  const Dims& b = graph.value(node.input(1)).dims;
  const Dims& out = graph.value(node.output(0)).dims;
  if (node.op == "Attention") return CountAttention(a, b, out);
  if (node.op == "LinearAttention") return CountLinearAttention(a, b, out);
  if (node.op == "MatMul") return Product({ElementCount(out), a.back()});
  if (node.op == "Gemm") return Product({ElementCount(out), a[node.Int("transA", 0) != 0 ? 0 : 1]});
  // Each output (of Conv) or input (of ConvTranspose) meets one kernel per channel of the other side's group.
  const int64_t per_element = ElementCount({b.begin() + 1, b.end()});
  return Product({ElementCount(node.op == "Conv" ? out : a), per_element});
}

}  // namespace octavo
