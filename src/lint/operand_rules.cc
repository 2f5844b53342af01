// What contractions read and make: operands that are float beside quantized ones, integer biases, sizes too small.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <optional>

#include "base/quote.h"
#include "graph/quantization.h"
#include "lint/mends.h"
#include "lint/rule.h"

namespace octavo {
namespace {

constexpr LintSeverity kNote = LintSeverity::kNote, kWarning = LintSeverity::kWarning, kError = LintSeverity::kError;

void CheckFloatOperand(const LintContext& context, LintReporter& reporter) {
  for (size_t n = 0; n < context.graph.nodes.size(); ++n) {
    const auto id = static_cast<NodeId>(n);
    const Node& node = context.graph.nodes[n];
    if (node.removed || !context.quantized.IsContraction(id) || context.quantized.IsQuantizedContraction(id)) continue;
    ValueId narrow = kNoValue, wide = kNoValue;
    for (const size_t i : context.quantized.Operands(id)) {
      const bool is_quantized = context.quantized.DequantizeBehind(node.inputs[i]) != kNoNode;
      (is_quantized ? narrow : wide) = node.inputs[i];
    }
    if (narrow == kNoValue || wide == kNoValue) continue;
    // ONNX Runtime has products of floats with 8-bit weights.
    const bool weights_alone = context.quantized.IsConstantMade(narrow) && !context.quantized.IsConstantMade(wide);
    if (weights_alone && node.Is("MatMul") && context.quantized.target().name == "onnxruntime") continue;
    reporter.Add(id, wide,
                 fmt::format("{} is float, {} is quantized", Quote(context.graph.value(wide).name),
                             Quote(context.graph.value(narrow).name)));
  }
}

void CheckIntegerBias(const LintContext& context, LintReporter& reporter) {
  for (const NodeId id : context.quantized.dequantizes()) {
    if (context.quantized.Parameters(id).dtype != DType::kInt32) continue;
    reporter.Add(id, context.graph.node(id).input(0), "it dequantizes int32").fixable =
        IsFoldableBias(context.quantized, id);
  }
}

void CheckIntegerOps(const LintContext& context, LintReporter& reporter) {
  constexpr std::array<std::string_view, 5> kOps = {"ConvInteger", "DynamicQuantizeLinear", "MatMulInteger",
                                                    "QLinearConv", "QLinearMatMul"};
  for (size_t n = 0; n < context.graph.nodes.size(); ++n) {
    const Node& node = context.graph.nodes[n];
    if (node.removed || !node.domain.empty() || std::find(kOps.begin(), kOps.end(), node.op) == kOps.end()) continue;
    reporter.Add(static_cast<NodeId>(n), node.output(0), "TensorRT's parser has no " + node.op);
  }
}

struct FloatRange {
  float low, high;
};

// What `activation` lets pass; nothing for ops that are no bounds.
std::optional<FloatRange> Bounds(const Graph& graph, const Node& activation) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  if (activation.Is("Relu")) return FloatRange{0, kInfinity};
  if (!activation.Is("Clip")) return std::nullopt;
  FloatRange range{-kInfinity, kInfinity};
  for (size_t i = 1; i <= 2; ++i) {
    if (!activation.has_input(i)) continue;
    const Value& bound = graph.value(activation.input(i));
    const auto value = bound.is_constant() ? ToFloats(bound.constant) : Result<std::vector<float>>(NotFound(""));
    if (!value.ok() || value->size() != 1) return std::nullopt;
    (i == 1 ? range.low : range.high) = (*value)[0];
  }
  return range;
}

bool Covers(const FloatRange& range, const WrittenParameters& q) {
  if (q.scales.size() != 1 || (q.has_zero_point && q.zero_points.size() != 1)) return false;
  const bool is_signed = q.dtype == DType::kInt8;
  const int zero_point = q.zero_points.empty() ? 0 : q.zero_points[0];
  const float low = q.scales[0] * static_cast<float>((is_signed ? -128 : 0) - zero_point);
  const float high = q.scales[0] * static_cast<float>((is_signed ? 127 : 255) - zero_point);
  return range.low <= low && range.high >= high;
}

// How many such ops are looked through; exports have one to three in a row.
constexpr int kMaxSteps = 8;

// Ops that ONNX Runtime's QDQPropagationTransformer moves a Q back through.
bool LetsQuantizePass(const Node& node) {
  constexpr std::array<std::string_view, 6> kOps = {"MaxPool", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze"};
  return node.domain.empty() && std::find(kOps.begin(), kOps.end(), node.op) != kOps.end();
}

// The constant vector added to a MatMul's result that ONNX Runtime's optimizer makes a Gemm's bias of: of as many
// elements as columns, and beyond matrices of one axis where all sizes are known. The Add's result; else kNoValue.
ValueId FusedSum(const LintContext& context, const Node& matmul) {
  const ValueId product = matmul.output(0);
  const auto& graph = context.graph;
  if (product == kNoValue || context.quantized.readers(product).size() != 1 || context.quantized.IsOutput(product)) {
    return kNoValue;
  }
  const Node& add = graph.node(context.quantized.readers(product)[0]);
  if (!add.Is("Add") || context.quantized.OperandBesideConstant(add) != product) return kNoValue;
  const ValueId bias = add.input(add.input(0) == product ? 1 : 0);
  const Dims *dims = context.quantized.StaticDims(product), *vector = context.quantized.StaticDims(bias);
  if (dims == nullptr || vector == nullptr || dims->size() < 2 || vector->empty()) return kNoValue;
  const bool sizes_known = std::all_of(graph.inputs.begin(), graph.inputs.end(),
                                       [&](ValueId input) { return graph.value(input).has_static_shape(); });
  const bool fits =
      vector->back() == dims->back() && (dims->size() == 2 ? vector->size() <= 2 : vector->size() == 1 && sizes_known);
  return fits ? add.output(0) : kNoValue;
}

// What must have a Q alone behind it, lest the product runs in float; kNoValue where nothing must.
ValueId ResultToQuantize(const LintContext& context, const Node& node) {
  if (node.Is("Conv")) return node.output(0);
  if (node.Is("MatMul")) return FusedSum(context, node);
  if (!node.Is("Gemm") || !node.has_input(2)) return kNoValue;
  const Node* bias = context.quantized.Producer(node.input(2));
  const bool is_integer = bias != nullptr && IsDequantize(*bias) && node.Float("beta", 1) == 1;
  return is_integer ? kNoValue : node.output(0);
}

// Conv becomes QLinearConv together with a Q alone behind it; MatMul and Gemm need one only for a float bias.
void CheckFloatResult(const LintContext& context, LintReporter& reporter) {
  for (size_t n = 0; n < context.graph.nodes.size(); ++n) {
    const auto id = static_cast<NodeId>(n);
    const Node& node = context.graph.nodes[n];
    if (node.removed || !context.quantized.IsQuantizedContraction(id)) continue;
    ValueId result = ResultToQuantize(context, node);
    if (result == kNoValue) continue;
    const ValueId made = result;
    std::optional<FloatRange> bounds;
    const auto only_reader = [&]() -> const Node* {
      const bool one =
          result != kNoValue && context.quantized.readers(result).size() == 1 && !context.quantized.IsOutput(result);
      return one ? &context.graph.node(context.quantized.readers(result)[0]) : nullptr;
    };
    const Node* reader = only_reader();
    // The Gemm that is made of a MatMul stands between Reshapes beyond matrices: no Relu or Clip joins it there.
    const bool joins = !node.Is("MatMul") || context.quantized.Rank(made) == 2;
    if (joins && reader != nullptr && (bounds = Bounds(context.graph, *reader))) {
      result = reader->output(0);
      reader = only_reader();
    }
    for (int step = 0; step < kMaxSteps && reader != nullptr && LetsQuantizePass(*reader); ++step) {
      result = reader->output(0);
      reader = only_reader();
    }
    if (reader != nullptr && IsQuantize(*reader)) {
      const WrittenParameters& parameters = context.quantized.Parameters(context.quantized.readers(result)[0]);
      if (!parameters.per_channel() && (!bounds || Covers(*bounds, parameters))) continue;
    }
    const Node* first =
        context.quantized.readers(made).empty() ? nullptr : &context.graph.node(context.quantized.readers(made)[0]);
    const std::string what = made == node.output(0) ? "its result " : "its bias makes it a Gemm, whose result ";
    reporter.Add(id, made,
                 first == nullptr ? what + "is an output, in float"
                                  : what + "goes to " + context.graph.Describe(*first) + ", not to a Q alone");
  }
}

// How many nodes and outputs read what a Q's DQs give.
size_t CountReaders(const LintContext& context, const Node& quantize) {
  size_t count = 0;
  for (const NodeId id : context.quantized.readers(quantize.output(0))) {
    const Node& node = context.graph.node(id);
    if (!IsDequantize(node) || node.output(0) == kNoValue) continue;
    count += context.quantized.readers(node.output(0)).size() + (context.quantized.IsOutput(node.output(0)) ? 1 : 0);
  }
  return count;
}

// ONNX Runtime turns int8 pairs into uint8 ones on x86, but only pairs of one reader; a product between one that is
// turned and one that is not does not fuse.
void CheckSharedInt8(const LintContext& context, LintReporter& reporter) {
  for (size_t n = 0; n < context.graph.nodes.size(); ++n) {
    const auto id = static_cast<NodeId>(n);
    const Node& node = context.graph.nodes[n];
    if (node.removed || !context.quantized.IsQuantizedContraction(id) || node.Is("ConvTranspose")) continue;
    ValueId shared = kNoValue;
    for (const size_t i : context.quantized.Operands(id)) {
      const Node* dequantize = context.quantized.Producer(node.inputs[i]);
      const Node* quantize = dequantize == nullptr || !IsDequantize(*dequantize)
                                 ? nullptr
                                 : context.quantized.Producer(dequantize->input(0));
      const bool of_activation =
          quantize != nullptr && IsQuantize(*quantize) &&
          context.quantized.Parameters(context.quantized.ProducerId(dequantize->input(0))).dtype == DType::kInt8;
      if (of_activation && CountReaders(context, *quantize) > 1) shared = quantize->input(0);
    }
    if (node.output(0) != kNoValue && context.quantized.readers(node.output(0)).size() == 1) {
      const NodeId behind = context.quantized.readers(node.output(0))[0];
      const Node& quantize = context.graph.node(behind);
      if (IsQuantize(quantize) && context.quantized.Parameters(behind).dtype == DType::kInt8 &&
          CountReaders(context, quantize) > 1) {
        shared = node.output(0);
      }
    }
    if (shared == kNoValue) continue;
    reporter.Add(id, shared,
                 "it reads or makes " + Quote(context.graph.value(shared).name) + ", int8 with several readers");
  }
}

void CheckNoInt8Form(const LintContext& context, LintReporter& reporter) {
  for (size_t n = 0; n < context.graph.nodes.size(); ++n) {
    const auto id = static_cast<NodeId>(n);
    const Node& node = context.graph.nodes[n];
    // To the target's table it is no contraction: nobody asks whether it is a quantized one.
    if (node.removed || !node.Is("ConvTranspose") || !node.has_input(0) || !node.has_input(1)) continue;
    const auto is_quantized = [&](ValueId operand) { return context.quantized.DequantizeBehind(operand) != kNoNode; };
    if (!is_quantized(node.input(0)) || !is_quantized(node.input(1))) continue;
    reporter.Add(id, node.output(0), "ConvTranspose has no form on integers there");
  }
}

struct GemmSize {
  int64_t k = 0, n = 0;
};

// Of a product whose sizes are known: MatMul, Gemm, a 1x1 convolution of one group.
std::optional<GemmSize> SizeOfGemm(const LintContext& context, NodeId id) {
  const Node& node = context.graph.node(id);
  const Dims* dims = context.quantized.StaticDims(node.input(1));
  if (dims == nullptr || dims->size() < 2) return std::nullopt;
  const int64_t rows = (*dims)[dims->size() - 2], columns = (*dims)[dims->size() - 1];
  if (node.Is("MatMul")) return GemmSize{rows, columns};
  if (node.Is("Gemm")) return node.Int("transB", 0) != 0 ? GemmSize{columns, rows} : GemmSize{rows, columns};
  const bool pointwise = std::all_of(dims->begin() + 2, dims->end(), [](int64_t size) { return size == 1; });
  if (node.Is("Conv") && node.Int("group", 1) == 1 && pointwise) return GemmSize{(*dims)[1], (*dims)[0]};
  return std::nullopt;
}

template <typename Wrong>
void CheckGemms(const LintContext& context, LintReporter& reporter, Wrong wrong) {
  for (size_t n = 0; n < context.graph.nodes.size(); ++n) {
    const auto id = static_cast<NodeId>(n);
    if (context.graph.nodes[n].removed || !context.quantized.IsQuantizedContraction(id)) continue;
    const auto size = SizeOfGemm(context, id);
    if (!size || !wrong(*size)) continue;
    reporter.Add(id, context.graph.nodes[n].output(0),
                 fmt::format("it multiplies with K = {} and N = {}", size->k, size->n));
  }
}

bool IsSmall(const GemmSize& size) { return size.k < 16 || size.n < 16; }

void CheckSmallGemm(const LintContext& context, LintReporter& reporter) { CheckGemms(context, reporter, IsSmall); }

void CheckUnalignedGemm(const LintContext& context, LintReporter& reporter) {
  CheckGemms(context, reporter,
             [](const GemmSize& size) { return !IsSmall(size) && (size.k % 16 != 0 || size.n % 16 != 0); });
}

// VPMADDUBSW adds two products into 16 bits: 2 * 255 * 64 still fits.
constexpr int kLargestSafeWeight = 64;

bool HasLargeWeights(const LintContext& context, ValueId operand) {
  const NodeId id = context.quantized.DequantizeBehind(operand);
  const Value& integers = context.graph.value(context.graph.node(id).input(0));
  if (!integers.is_constant() || integers.constant.dtype() != DType::kInt8) return false;
  const auto values = integers.constant.values<int8_t>();
  return std::any_of(values.begin(), values.end(), [](int q) { return std::abs(q) > kLargestSafeWeight; });
}

void CheckSaturation(const LintContext& context, LintReporter& reporter) {
  LintFinding* finding = nullptr;
  for (size_t n = 0; n < context.graph.nodes.size(); ++n) {
    const auto id = static_cast<NodeId>(n);
    const Node& node = context.graph.nodes[n];
    // ConvTranspose is computed in float.
    if (node.removed || node.Is("ConvTranspose") || !context.quantized.IsQuantizedContraction(id)) continue;
    const NodeId activation = context.quantized.DequantizeBehind(node.input(0));
    if (!node.has_input(1) || activation == kNoNode) continue;
    if (context.quantized.Parameters(activation).dtype != DType::kUInt8 || !HasLargeWeights(context, node.input(1)))
      continue;
    if (finding == nullptr) {
      finding = &reporter.Add(id, node.input(1), "uint8 activations meet int8 weights beyond 64 steps");
    } else {
      finding->more.push_back(node.name);
    }
  }
}

constexpr LintRule kRules[] = {
    {{.id = "float-operand",
      .effect = LintEffect::kSilentFloat,
      .tensorrt = kWarning,
      .onnxruntime = kWarning,
      .openvino = kWarning,
      .title = "a product of a quantized tensor with one that is float",
      .mend = "quantize all operands, or none",
      .source = "TensorRT's developer guide, Q/DQ Layer-Placement Recommendations: quantize all inputs of weighted "
                "operations; ONNX Runtime 1.32 and OpenVINO 2026.4 multiply in float (measured)"},
     CheckFloatOperand},
    {{.id = "int32-bias",
      .effect = LintEffect::kBuildError,
      .tensorrt = kError,
      .title = "a bias in int32 behind a DQ",
      .mend = "keep biases float (ONNX Runtime's quantizer: QuantizeBias False); --fix makes them float, to the bit",
      .source = "TensorRT's builder: a DequantizeLinear's input must be FP8, FP4, INT4 or INT8; RT-DETR#343",
      .fixable = true},
     CheckIntegerBias},
    {{.id = "integer-op",
      .effect = LintEffect::kBuildError,
      .tensorrt = kError,
      .title = "an op that computes on integers",
      .mend = "export in the Q/DQ format (ONNX Runtime's quantizer: QuantFormat.QDQ; no dynamic quantization)",
      .source = "onnx-tensorrt, docs/operators.md: ConvInteger, MatMulInteger, QLinearConv, QLinearMatMul and "
                "DynamicQuantizeLinear are not supported"},
     CheckIntegerOps},
    {{.id = "float-result",
      .effect = LintEffect::kSilentFloat,
      .onnxruntime = kWarning,
      .title = "a Conv, or a product with a float bias, with no Q alone behind it",
      .mend = "quantize its result, behind a Relu or Clip that the Q's range covers; or leave the layer float; a bias "
              "may be an Add of its own of two axes instead (octavo quantize --target onnxruntime does both)",
      .source =
          "ONNX Runtime's QDQ selectors, ConvNodeGroupSelector and GemmNodeGroupSelector, and its MatMulAddFusion "
          "before them; 1.32 leaves such a Conv, Gemm or MatMul in float (measured)"},
     CheckFloatResult},
    {{.id = "shared-int8",
      .effect = LintEffect::kSilentFloat,
      .onnxruntime = kWarning,
      .title = "int8 activations with several readers",
      .mend = "quantize activations to uint8 (octavo quantize --target onnxruntime)",
      .source = "ONNX Runtime's QDQS8ToU8Transformer turns pairs of one reader alone; 1.32 leaves the Conv or MatMul "
                "between in float (measured, x86)"},
     CheckSharedInt8},
    {{.id = "no-int8-form",
      .effect = LintEffect::kSilentFloat,
      .onnxruntime = kWarning,
      .title = "a quantized op that has no INT8 form",
      .mend = "leave it float: octavo quantize --keep-float NODE",
      .source = "ONNX Runtime's QDQ selectors have none for ConvTranspose on CPUs; 1.32 runs it in float (measured)"},
     CheckNoInt8Form},
    {{.id = "small-gemm",
      .effect = LintEffect::kSlower,
      .tensorrt = kWarning,
      .title = "a product with K or N below 16 in INT8",
      .mend = "leave it float: octavo quantize --keep-float NODE",
      .source = "Model-Optimizer's ONNX quantization leaves MatMul and Gemm with K or N below 16 out for speed"},
     CheckSmallGemm},
    {{.id = "unaligned-gemm",
      .effect = LintEffect::kSlower,
      .tensorrt = kNote,
      .title = "a product whose K or N is no multiple of 16",
      .mend = "pad the channels, or measure the layer in FP16, too",
      .source = "TensorRT's developer guide, Optimizing for Tensor Cores: INT8 rows of multiples of 16 elements"},
     CheckUnalignedGemm},
    {{.id = "saturating-sums",
      .effect = LintEffect::kWrongResult,
      .onnxruntime = kNote,
      .title = "uint8 times int8 on CPUs without VNNI",
      .mend = "for such CPUs: weights of 7 bits (reduce_range), or uint8 weights; nothing to do for others",
      .source =
          "ONNX Runtime's quantization guide, When and why do I need to try U8U8; VPMADDUBSW saturates at 16 bits"},
     CheckSaturation},
};

}  // namespace

std::span<const LintRule> OperandRules() { return kRules; }

}  // namespace octavo
