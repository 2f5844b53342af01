// Equal nodes on equal inputs become one; equal small constants become one first.
#include <cstring>
#include <string>
#include <string_view>
#include <type_traits>
#include <unordered_map>

#include "passes/rewriter.h"
#include "passes/rewrites.h"

namespace octavo {
namespace {

// Larger constants are weights: comparing them costs more than the rare duplicate saves.
constexpr size_t kMaxConstantBytes = 4096;

void Append(std::string& key, const void* data, size_t bytes) { key.append(static_cast<const char*>(data), bytes); }

void AppendInt(std::string& key, int64_t value) { Append(key, &value, sizeof(value)); }

void AppendText(std::string& key, std::string_view text) {
  AppendInt(key, static_cast<int64_t>(text.size()));
  key += text;
}

void AppendTensor(std::string& key, const Tensor& tensor) {
  AppendInt(key, static_cast<int64_t>(tensor.dtype()));
  AppendInt(key, tensor.rank());
  for (const int64_t dim : tensor.dims()) AppendInt(key, dim);
  Append(key, tensor.data(), tensor.bytes());
}

void AppendAttribute(std::string& key, const Attribute& attribute) {
  AppendInt(key, static_cast<int64_t>(attribute.index()));
  std::visit(
      [&](const auto& value) {
        using T = std::decay_t<decltype(value)>;
        if constexpr (std::is_same_v<T, Tensor>) {
          AppendTensor(key, value);
        } else if constexpr (std::is_same_v<T, std::string>) {
          AppendText(key, value);
        } else if constexpr (std::is_same_v<T, std::vector<std::string>>) {
          AppendInt(key, static_cast<int64_t>(value.size()));
          for (const std::string& text : value) AppendText(key, text);
        } else if constexpr (std::is_arithmetic_v<T>) {
          Append(key, &value, sizeof(value));
        } else {
          AppendInt(key, static_cast<int64_t>(value.size()));
          Append(key, value.data(), value.size() * sizeof(value[0]));
        }
      },
      attribute);
}

std::string KeyOf(const Node& node) {
  std::string key;
  AppendText(key, node.domain);
  AppendText(key, node.op);
  AppendInt(key, static_cast<int64_t>(node.inputs.size()));
  for (const ValueId input : node.inputs) AppendInt(key, input);
  for (const ValueId output : node.outputs) AppendInt(key, output == kNoValue);
  for (const auto& [name, attribute] : node.attributes) {
    AppendText(key, name);
    AppendAttribute(key, attribute);
  }
  return key;
}

bool IsRandom(const Node& node) {
  return node.op.starts_with("Random") || node.op == "Bernoulli" || node.op == "Multinomial";
}

int MergeConstants(Graph& graph, Rewriter& rewriter) {
  std::unordered_map<std::string, ValueId> seen;
  int merged = 0;
  for (size_t v = 0; v < graph.values.size(); ++v) {
    const Tensor& constant = graph.values[v].constant;
    const auto id = static_cast<ValueId>(v);
    if (!constant.defined() || constant.bytes() > kMaxConstantBytes || rewriter.Readers(id).empty()) continue;
    std::string key;
    AppendTensor(key, constant);
    const auto [it, is_new] = seen.emplace(std::move(key), id);
    if (is_new) continue;
    const std::vector<NodeId> readers = rewriter.Readers(id);
    for (const NodeId reader : readers) {
      for (size_t i = 0; i < graph.node(reader).inputs.size(); ++i) {
        if (graph.node(reader).inputs[i] == id) rewriter.SetInput(reader, i, it->second);
      }
    }
    ++merged;
  }
  return merged;
}

}  // namespace

int MergeCommonSubexpressions(Graph& graph) {
  Rewriter rewriter(graph);
  int rewrites = MergeConstants(graph, rewriter);
  std::unordered_map<std::string, NodeId> seen;
  for (NodeId id = 0; id < rewriter.node_count(); ++id) {
    const Node& node = graph.node(id);
    if (node.removed || node.inputs.empty() || IsRandom(node)) continue;
    const auto [it, is_new] = seen.emplace(KeyOf(node), id);
    if (is_new || graph.node(it->second).removed) {
      it->second = id;
      continue;
    }
    const std::vector<ValueId> replacements = graph.node(it->second).outputs;
    if (rewriter.Bypass(id, replacements)) ++rewrites;
  }
  return rewrites;
}

}  // namespace octavo
