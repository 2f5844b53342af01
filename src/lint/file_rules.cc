// Files and settings that go with a model: a calibration cache, layer precisions, statistics; and the model's shapes.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "base/quote.h"
#include "graph/op_table.h"
#include "graph/quantization.h"
#include "lint/rule.h"
#include "octavo/half_safety.h"
#include "octavo/quantize.h"
#include "targets/layer_precisions.h"

namespace octavo {
namespace {

constexpr LintSeverity kNote = LintSeverity::kNote, kWarning = LintSeverity::kWarning, kError = LintSeverity::kError;

// TensorRT's own names for what its parser adds: "(Unnamed Layer* 3) [Constant]_output".
bool IsUnnamed(std::string_view name) { return name.starts_with("(Unnamed Layer*"); }

// The float activations that an implicitly quantized network wants scales for. Where the model cannot be prepared:
// every float activation.
std::vector<std::string> WantedTensors(const LintContext& context) {
  const auto prepared = PrepareForQuantization(context.graph, context.options.input_dims);
  if (prepared.ok()) {
    auto tensors = QuantizableTensors(*prepared);
    if (tensors.ok()) return *std::move(tensors);
  }
  std::vector<std::string> tensors;
  for (size_t v = 0; v < context.graph.values.size(); ++v) {
    if (context.quantized.IsFloatActivation(static_cast<ValueId>(v))) tensors.push_back(context.graph.values[v].name);
  }
  return tensors;
}

struct CacheNames {
  std::set<std::string_view> values;      // of the graph
  std::vector<std::string> known, extra;  // of the cache, without TensorRT's own
};

CacheNames CompareNames(const LintContext& context) {
  CacheNames names;
  for (const Value& value : context.graph.values) names.values.insert(value.name);
  for (const auto& [name, scale] : context.options.cache->scales) {
    if (!IsUnnamed(name)) (names.values.count(name) > 0 ? names.known : names.extra).push_back(name);
  }
  return names;
}

bool IsForeign(const CacheNames& names) { return names.known.size() < names.extra.size() || names.known.empty(); }

bool IsAsked(const LintContext& context) {
  return context.options.cache.has_value() && !context.quantized.is_quantized();
}

void CheckCacheIgnored(const LintContext& context, LintReporter& reporter) {
  if (!context.options.cache || !context.quantized.is_quantized()) return;
  reporter.Add(kNoNode, kNoValue,
               fmt::format("the model has {} Q and DQ nodes; its scales are read, the cache's {} are not",
                           context.quantized.quantizes().size() + context.quantized.dequantizes().size(),
                           context.options.cache->scales.size()));
}

void CheckCacheForeign(const LintContext& context, LintReporter& reporter) {
  if (!IsAsked(context)) return;
  const CacheNames names = CompareNames(context);
  if (!IsForeign(names)) return;
  reporter
      .Add(kNoNode, kNoValue,
           fmt::format("{} of the {} tensors that it names are in the model", names.known.size(),
                       names.known.size() + names.extra.size()))
      .more = names.extra;
}

void CheckCacheMissing(const LintContext& context, LintReporter& reporter) {
  if (!IsAsked(context) || IsForeign(CompareNames(context))) return;
  std::vector<std::string> missing;
  for (std::string& name : WantedTensors(context)) {
    if (context.options.cache->scales.count(name) == 0) missing.push_back(std::move(name));
  }
  if (missing.empty()) return;
  LintFinding& finding = reporter.Add(
      kNoNode, context.graph.Find(missing[0]),
      fmt::format(
          "{} activations have no scale: layers that read or make them fall back to FP16 or FP32 (\"Missing scale "
          "and zero-point for tensor\")",
          missing.size()));
  finding.more.assign(missing.begin() + 1, missing.end());
}

void CheckCacheExtra(const LintContext& context, LintReporter& reporter) {
  if (!IsAsked(context)) return;
  const CacheNames names = CompareNames(context);
  if (IsForeign(names) || names.extra.empty()) return;
  LintFinding& finding =
      reporter.Add(kNoNode, kNoValue, fmt::format("the model has no such tensor: {} names", names.extra.size()));
  finding.tensor = names.extra[0];
  finding.more.assign(names.extra.begin() + 1, names.extra.end());
}

// ---- layer precisions ----

struct Overrides {
  std::vector<LayerTypes> entries;
  std::vector<NodeId> nodes;  // by layer
  LayerMatches matches;
};

// The driver has parsed both before: nothing can fail here.
Overrides ReadOverrides(const LintContext& context) {
  Overrides overrides;
  auto entries = ParseLayerPrecisions(context.options.layer_precisions);
  const auto version = ParseTensorRtVersion(context.options.tensorrt_version);
  if (!entries.ok() || !version.ok()) return overrides;
  overrides.entries = *std::move(entries);
  std::vector<std::string> names;
  for (size_t n = 0; n < context.graph.nodes.size(); ++n) {
    if (context.graph.nodes[n].removed) continue;
    names.push_back(context.graph.nodes[n].name);
    overrides.nodes.push_back(static_cast<NodeId>(n));
  }
  overrides.matches = MatchLayers(overrides.entries, names, *version);
  return overrides;
}

std::string WhyUnmatched(const LintContext& context, const std::string& name) {
  if (context.graph.Find(name) != kNoValue) return "it is the name of a tensor, not of a node";
  if (name.find(" + ") != std::string::npos || name.find("ForeignNode") != std::string::npos ||
      name.find("PWN(") != std::string::npos) {
    return "it is the name of a fused layer of an engine; only layers before fusion have precisions";
  }
  if (name.find('*') != std::string::npos && name != "*") {
    const auto version = ParseTensorRtVersion(context.options.tensorrt_version);
    if (version.ok() && !version->TakesWildcards()) {
      return fmt::format("TensorRT {} takes '*' alone for all layers; patterns begin with 9.1", version->ToString());
    }
    return "no node matches the pattern";
  }
  return "no node has this name";
}

void CheckOverridesIgnored(const LintContext& context, LintReporter& reporter) {
  if (context.options.layer_precisions.empty() || !context.quantized.is_quantized()) return;
  reporter.Add(kNoNode, kNoValue, "the model has Q/DQ nodes, which state where INT8 begins and ends");
}

void CheckOverridesUnmatched(const LintContext& context, LintReporter& reporter) {
  const Overrides overrides = ReadOverrides(context);
  for (const size_t e : overrides.matches.unmatched) {
    const std::string& name = overrides.entries[e].layer;
    LintFinding& finding = reporter.Add(kNoNode, kNoValue, WhyUnmatched(context, name));
    finding.node = name;
  }
}

void CheckOverridesReplaced(const LintContext& context, LintReporter& reporter) {
  const Overrides overrides = ReadOverrides(context);
  for (const size_t e : overrides.matches.overridden) {
    LintFinding& finding =
        reporter.Add(kNoNode, kNoValue, fmt::format("entry {} is followed by one of the same name", e + 1));
    finding.node = overrides.entries[e].layer;
  }
  for (const LayerMatches::Ambiguity& ambiguity : overrides.matches.ambiguous) {
    LintFinding& finding =
        reporter.Add(overrides.nodes[ambiguity.layer], kNoValue,
                     "patterns that ask for different precisions match it, and which counts is chance");
    for (const size_t e : ambiguity.entries) finding.more.push_back(overrides.entries[e].layer);
  }
}

// What a node is joined to as its activation, normalization or bias; kNoValue for other nodes.
ValueId JoinedTo(const LintContext& context, const Node& node) {
  if (node.Is("Add")) return context.quantized.OperandBesideConstant(node);
  const bool joins = node.Is("BatchNormalization") || node.Is("Relu") || node.Is("LeakyRelu") || node.Is("Clip");
  return joins ? node.input(0) : kNoValue;
}

// The contraction that `node` fuses with; kNoNode where it fuses with none.
NodeId JoinedContraction(const LintContext& context, const Node& node) {
  constexpr int kLongest = 4;  // bias, normalization, activation
  const Node* at = &node;
  for (int step = 0; step < kLongest && at != nullptr; ++step) {
    const ValueId before = JoinedTo(context, *at);
    if (before == kNoValue || context.quantized.readers(before).size() != 1 || context.quantized.IsOutput(before))
      break;
    const NodeId producer = context.quantized.ProducerId(before);
    if (producer != kNoNode && context.quantized.IsContraction(producer)) return producer;
    at = context.quantized.Producer(before);
  }
  return kNoNode;
}

void CheckOverridesFused(const LintContext& context, LintReporter& reporter) {
  const Overrides overrides = ReadOverrides(context);
  std::vector<int> entry_of_node(context.graph.nodes.size(), -1);
  for (size_t layer = 0; layer < overrides.nodes.size(); ++layer) {
    entry_of_node[static_cast<size_t>(overrides.nodes[layer])] = overrides.matches.entry_of[layer];
  }
  for (const NodeId id : overrides.nodes) {
    const int entry = entry_of_node[static_cast<size_t>(id)];
    if (entry < 0 || overrides.entries[static_cast<size_t>(entry)].layer == "*") continue;
    const NodeId contraction = JoinedContraction(context, context.graph.node(id));
    if (contraction == kNoNode) continue;
    const int other = entry_of_node[static_cast<size_t>(contraction)];
    const auto types = [&](int e) { return overrides.entries[static_cast<size_t>(e)].types; };
    if (other >= 0 && types(other) == types(entry)) continue;
    reporter.Add(
        id, kNoValue,
        fmt::format("it is fused into {}, which is told {}", context.graph.Describe(context.graph.node(contraction)),
                    other < 0 ? "nothing" : "another precision"));
  }
}

// ---- statistics, shapes ----

// Where the graph itself says what is float16, by Casts, the rest of it computes in float32 and cannot overflow. Where
// it says nothing of the kind, whoever builds it may take float16 anywhere.
bool MayBeHalf(const LintContext& context, ValueId value, bool is_typed) {
  if (!is_typed) return true;
  const auto is_half = [&](ValueId id) { return id != kNoValue && context.graph.value(id).dtype == DType::kFloat16; };
  const Node* producer = context.quantized.Producer(value);
  if (is_half(value) || (producer != nullptr && producer->Is("Cast") && is_half(producer->input(0)))) return true;
  const std::vector<NodeId>& readers = context.quantized.readers(value);
  return std::any_of(readers.begin(), readers.end(), [&](NodeId id) {
    const Node& reader = context.graph.node(id);
    return reader.Is("Cast") && is_half(reader.output(0));
  });
}

float LargestMagnitude(const Tensor& tensor) {
  float largest = 0;
  for (const float v : tensor.values<float>()) largest = std::max(largest, std::abs(v));
  return largest;
}

void CheckOverflow(const LintContext& context, LintReporter& reporter) {
  if (context.options.stats == nullptr) return;
  const auto& values = context.graph.values;
  const bool is_typed =
      std::any_of(values.begin(), values.end(), [](const Value& v) { return v.dtype == DType::kFloat16; });
  for (size_t v = 0; v < values.size(); ++v) {
    const auto id = static_cast<ValueId>(v);
    const Value& value = values[v];
    if (!MayBeHalf(context, id, is_typed)) continue;
    if (value.is_constant() && value.dtype == DType::kFloat32) {
      // Scales and what DequantizeLinear gives stay what they are; infinity is meant.
      const bool is_read =
          std::any_of(context.quantized.readers(id).begin(), context.quantized.readers(id).end(), [&](NodeId reader) {
            const Node& node = context.graph.node(reader);
            return !IsQuantize(node) && !IsDequantize(node);
          });
      const float largest = is_read ? LargestMagnitude(value.constant) : 0;
      if (largest <= kLargestFloat16 || std::isinf(largest)) continue;
      reporter.Add(context.quantized.readers(id)[0], id, fmt::format("it is a constant that reaches {}", largest));
      continue;
    }
    const auto found = context.options.stats->tensors.find(value.name);
    if (found != context.options.stats->tensors.end()) {
      const float largest = std::max(std::abs(found->second.min), std::abs(found->second.max));
      if (largest <= kLargestFloat16) continue;
      reporter.Add(context.quantized.ProducerId(id), id, fmt::format("calibration saw {}", largest));
      continue;
    }
    // Sums over tokens, of linear attention above all, are what overflows first.
    const Node* producer = context.quantized.Producer(id);
    const bool is_sum = producer != nullptr && producer->Is("MatMul") &&
                        !context.quantized.IsConstantMade(producer->input(0)) &&
                        !context.quantized.IsConstantMade(producer->input(1));
    if (is_sum)
      reporter.Add(context.quantized.ProducerId(id), id, "calibration did not see this product of activations");
  }
}

// One finding per op.
void CheckUnknownOps(const LintContext& context, LintReporter& reporter) {
  std::map<std::string, std::vector<NodeId>> by_op;
  for (size_t n = 0; n < context.graph.nodes.size(); ++n) {
    const Node& node = context.graph.nodes[n];
    if (node.removed || FindOp(node.domain, node.op) != nullptr) continue;
    by_op[node.domain.empty() ? node.op : node.domain + "." + node.op].push_back(static_cast<NodeId>(n));
  }
  for (const auto& [op, nodes] : by_op) {
    LintFinding& finding = reporter.Add(
        nodes[0], context.graph.node(nodes[0]).output(0),
        fmt::format("{} is not among the ops that Octavo knows: Q and DQ on its tensors are looked at, what "
                    "it does with them is not",
                    op));
    for (size_t i = 1; i < nodes.size(); ++i) finding.more.push_back(context.graph.node(nodes[i]).name);
  }
}

void CheckShapes(const LintContext& context, LintReporter& reporter) {
  if (context.quantized.shape_error().empty()) return;
  reporter.Add(kNoNode, kNoValue, context.quantized.shape_error());
}

constexpr LintRule kRules[] = {
    {{.id = "cache-ignored",
      .effect = LintEffect::kIgnored,
      .tensorrt = kWarning,
      .title = "a calibration cache beside Q/DQ",
      .mend = "give the float model with the cache, or the Q/DQ model without",
      .source = "TensorRT's developer guide, Explicit Quantization: calibration and dynamic ranges are of implicit "
                "quantization only"},
     CheckCacheIgnored},
    {{.id = "cache-foreign",
      .effect = LintEffect::kSilentFloat,
      .tensorrt = kError,
      .title = "a calibration cache of another model",
      .mend = "calibrate this model; a cache names tensors, and another export names them otherwise",
      .source =
          "TensorRT's developer guide, Post-Training Quantization Using Calibration: a cache belongs to a network"},
     CheckCacheForeign},
    {{.id = "cache-missing",
      .effect = LintEffect::kSilentFloat,
      .tensorrt = kWarning,
      .title = "activations that the calibration cache lacks",
      .mend = "calibrate again with all tensors (octavo quantize --calibration-cache writes every one)",
      .source = "TensorRT's builder: \"Missing scale and zero-point for tensor ..., expect fall back to non-int8 "
                "implementation\"; TensorRT#2048, TensorRT#4068"},
     CheckCacheMissing},
    {{.id = "cache-extra",
      .effect = LintEffect::kIgnored,
      .tensorrt = kNote,
      .title = "a calibration cache that names what the model lacks",
      .mend = "nothing needs to be done, unless one of them was meant for a tensor that lacks a scale",
      .source = "TensorRT's calibration cache: entries are looked up by name"},
     CheckCacheExtra},
    {{.id = "override-ignored",
      .effect = LintEffect::kIgnored,
      .tensorrt = kWarning,
      .title = "layer precisions beside Q/DQ",
      .mend = "move the precision into the graph: octavo quantize --keep-float, --fp16, --bf16",
      .source = "TensorRT's developer guide, Explicit Quantization: precision-control flags are not to be specified"},
     CheckOverridesIgnored},
    {{.id = "override-unmatched",
      .effect = LintEffect::kIgnored,
      .tensorrt = kWarning,
      .title = "a layer precision that matches no node",
      .mend = "name a node of the ONNX model",
      .source = "trtexec reads --layerPrecisions by the names of network layers, which are those of ONNX nodes, and "
                "passes over others; TensorRT#3889, TensorRT#4505"},
     CheckOverridesUnmatched},
    {{.id = "override-replaced",
      .effect = LintEffect::kIgnored,
      .tensorrt = kWarning,
      .title = "layer precisions that contradict each other",
      .mend = "leave one entry per layer",
      .source = "trtexec keeps --layerPrecisions in a hash table by name"},
     CheckOverridesReplaced},
    {{.id = "override-fused",
      .effect = LintEffect::kIgnored,
      .tensorrt = kWarning,
      .title = "a layer precision of a node that a fusion removes",
      .mend = "give the contraction the same precision",
      .source =
          "TensorRT's developer guide, Explicit vs Implicit Quantization: a layer that is fused loses its precision; "
          "TensorRT#3224"},
     CheckOverridesFused},
    {{.id = "fp16-overflow",
      .effect = LintEffect::kOverflow,
      .tensorrt = kWarning,
      .onnxruntime = kWarning,
      .openvino = kWarning,
      .title = "a value beyond 65504 where FP16 may be taken",
      .mend = "octavo check-fp16 rescales the sums of linear attention and names what must stay FP32",
      .source = "IEEE 754 binary16: the largest finite number is 65504"},
     CheckOverflow},
    {{.id = "unknown-op",
      .effect = LintEffect::kUnknown,
      .tensorrt = kNote,
      .onnxruntime = kNote,
      .openvino = kNote,
      .title = "an op that is not looked into",
      .mend = "nothing, if the runtime has it; ask it, where the op is not ONNX's (TensorRT: a plugin)",
      .source = "docs/ops.md lists the ops that Octavo knows"},
     CheckUnknownOps},
    {{.id = "unknown-shapes",
      .effect = LintEffect::kUnknown,
      .tensorrt = kNote,
      .onnxruntime = kNote,
      .openvino = kNote,
      .title = "shapes that could not be inferred",
      .mend = "mend what the message names, or give --input-shape; rules that need shapes found nothing behind it",
      .source = "ONNX, shape inference"},
     CheckShapes},
};

}  // namespace

std::span<const LintRule> FileRules() { return kRules; }

}  // namespace octavo
