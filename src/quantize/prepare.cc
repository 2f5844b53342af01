#include <algorithm>
#include <bit>
#include <cstring>
#include <set>
#include <span>
#include <string_view>
#include <type_traits>

#include "base/quote.h"
#include "graph/shape_inference.h"
#include "octavo/inspect.h"
#include "octavo/passes.h"
#include "octavo/quantize.h"

namespace octavo {
namespace {

// Passes that make standard ops of any opset and bring weights into the form that is quantized: affine maps in weights,
// padding in convolutions, products as MatMul (no target multiplies Einsum's operands in INT8).
constexpr std::string_view kPreparing[] = {"constant-fold",   "identity-clean",   "common-subexpression", "dead-code",
                                           "batch-norm-fold", "einsum-to-matmul", "pad-into-conv",        "conv-mul"};

// Passes whose patterns are one step on every target, so that nothing inside them is quantized; and the cleaning that
// brings their patterns into a regular form.
constexpr std::string_view kWholePatterns[] = {
    "identity-clean", "transpose-reshape-clean", "dead-code", "gelu", "silu", "hard-swish", "layer-norm", "group-norm"};

// Options under which only the passes `wanted` run.
PassOptions Only(std::span<const std::string_view> wanted) {
  PassOptions options;
  for (const std::string_view name : PassNames()) {
    if (std::find(wanted.begin(), wanted.end(), name) == wanted.end()) options.disabled.emplace_back(name);
  }
  return options;
}

Status CheckNotQuantized(const Graph& model) {
  for (const Node& node : model.nodes) {
    const bool quantized =
        node.op == "QuantizeLinear" || node.op == "DequantizeLinear" || node.op.starts_with("QLinear");
    if (node.removed || !quantized) continue;
    return InvalidArgument("the model is quantized already: it holds " + model.Describe(node) +
                           "; give the float model it was made from")
        .WithPrefix(model.source.empty() ? "" : model.source + ": ");
  }
  return {};
}

// 128 bits from two lanes of multiply-and-rotate over 8-byte words: weights of hundreds of megabytes take a fraction of
// a second. It tells models apart; it is no defence against one that was made to collide.
class Fingerprint {
 public:
  void AddWord(uint64_t word) {
    a_ = std::rotl(a_ ^ word, 29) * 0x9E3779B97F4A7C15ULL;
    b_ = std::rotl(b_ + word, 37) * 0xC2B2AE3D27D4EB4FULL + 1;
  }
  void AddBytes(const void* data, size_t size) {
    AddWord(size);
    const auto* bytes = static_cast<const unsigned char*>(data);
    for (; size >= 8; bytes += 8, size -= 8) {
      uint64_t word = 0;
      std::memcpy(&word, bytes, 8);
      AddWord(word);
    }
    uint64_t last = 0;
    if (size > 0) std::memcpy(&last, bytes, size);
    AddWord(last);
  }
  void AddText(std::string_view text) { AddBytes(text.data(), text.size()); }
  void AddTensor(const Tensor& tensor) {
    AddWord(static_cast<uint64_t>(tensor.dtype()));
    AddList(tensor.dims());
    AddBytes(tensor.data(), tensor.bytes());
  }
  template <typename T>
  void AddList(const std::vector<T>& values) {
    AddBytes(values.data(), values.size() * sizeof(T));
  }
  void AddList(const std::vector<std::string>& values) {
    AddWord(values.size());
    for (const std::string& value : values) AddText(value);
  }
  void Add(const Attribute& attribute) {
    AddWord(attribute.index());
    std::visit(
        [&](const auto& value) {
          using T = std::decay_t<decltype(value)>;
          if constexpr (std::is_same_v<T, Tensor>) {
            AddTensor(value);
          } else if constexpr (std::is_same_v<T, std::string>) {
            AddText(value);
          } else if constexpr (std::is_arithmetic_v<T>) {
            AddBytes(&value, sizeof(value));
          } else {
            AddList(value);
          }
        },
        attribute);
  }
  std::string Hex() const {
    constexpr char kDigits[] = "0123456789abcdef";
    std::string text;
    for (const uint64_t lane : {Mix(a_ ^ b_), Mix(b_)}) {
      for (int shift = 60; shift >= 0; shift -= 4) text += kDigits[lane >> shift & 15];
    }
    return text;
  }

 private:
  // SplitMix64's finish.
  static uint64_t Mix(uint64_t x) {
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ULL;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBULL;
    return x ^ (x >> 31);
  }
  uint64_t a_ = 0x243F6A8885A308D3ULL, b_ = 0x13198A2E03707344ULL;
};

void AddValue(const Graph& graph, ValueId id, Fingerprint& fingerprint) {
  if (id == kNoValue) return fingerprint.AddWord(0);
  const Value& value = graph.value(id);
  fingerprint.AddWord(1);
  fingerprint.AddText(value.name);
  fingerprint.AddWord(static_cast<uint64_t>(value.dtype));
  fingerprint.AddList(value.dims);
}

bool IsFloatActivation(const Graph& graph, ValueId id) {
  return id != kNoValue && graph.value(id).dtype == DType::kFloat32 && !graph.value(id).is_constant() &&
         ElementCount(graph.value(id).dims) > 0;
}

}  // namespace

Result<Graph> PrepareForQuantization(Graph model, const std::map<std::string, Dims>& input_dims) {
  OCTAVO_RETURN_IF_ERROR(CheckNotQuantized(model));
  OCTAVO_ASSIGN(const auto dims, ChooseInputDims(model, input_dims, nullptr));
  OCTAVO_RETURN_IF_ERROR(BindShapes(model, dims));
  OCTAVO_RETURN_IF_ERROR(RunPasses(model, Only(kPreparing)).status());
  return model;
}

Result<std::vector<std::string>> QuantizableTensors(const Graph& prepared) {
  Graph fused = prepared;
  OCTAVO_RETURN_IF_ERROR(RunPasses(fused, Only(kWholePatterns)).status());
  std::set<std::string_view> kept;
  for (const Value& value : fused.values) kept.insert(value.name);
  std::vector<std::string> tensors;
  const auto add = [&](ValueId id) {
    if (IsFloatActivation(prepared, id) && kept.count(prepared.value(id).name) > 0) {
      tensors.push_back(prepared.value(id).name);
    }
  };
  for (const ValueId id : prepared.inputs) add(id);
  for (const Node& node : prepared.nodes) {
    if (node.removed) continue;
    for (const ValueId id : node.outputs) add(id);
  }
  return tensors;
}

std::string ModelFingerprint(const Graph& prepared) {
  Fingerprint fingerprint;
  for (const auto& [domain, version] : prepared.opsets) {
    fingerprint.AddText(domain);
    fingerprint.AddWord(static_cast<uint64_t>(version));
  }
  for (const std::vector<ValueId>* list : {&prepared.inputs, &prepared.outputs}) {
    fingerprint.AddWord(list->size());
    for (const ValueId id : *list) AddValue(prepared, id, fingerprint);
  }
  std::set<ValueId> constants;
  for (const Node& node : prepared.nodes) {
    if (node.removed) continue;
    fingerprint.AddText(node.name);
    fingerprint.AddText(node.domain);
    fingerprint.AddText(node.op);
    fingerprint.AddWord(node.inputs.size());
    for (const ValueId id : node.inputs) {
      AddValue(prepared, id, fingerprint);
      if (id != kNoValue && prepared.value(id).is_constant() && constants.insert(id).second) {
        fingerprint.AddTensor(prepared.value(id).constant);
      }
    }
    fingerprint.AddWord(node.outputs.size());
    for (const ValueId id : node.outputs) AddValue(prepared, id, fingerprint);
    for (const auto& [name, attribute] : node.attributes) {
      fingerprint.AddText(name);
      fingerprint.Add(attribute);
    }
  }
  return fingerprint.Hex();
}

}  // namespace octavo
