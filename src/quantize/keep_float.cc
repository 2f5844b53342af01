#include "quantize/keep_float.h"

#include <algorithm>
#include <map>
#include <set>

#include "base/quote.h"
#include "graph/op_table.h"
#include "octavo/passes.h"
#include "octavo/quantize.h"

namespace octavo {
namespace {

// A pattern that a pass finds: the nodes that it fuses are the pattern's.
struct PassPattern {
  std::string_view name, pass;
};
constexpr PassPattern kPassPatterns[] = {{"attention", "softmax-attention"}, {"linear-attention", "linear-attention"}};
constexpr std::string_view kDepthwise = "depthwise";

// Passes that bring attention into the form that its own pass matches.
constexpr std::string_view kCleaning[] = {"constant-fold", "identity-clean", "transpose-reshape-clean", "dead-code"};

bool IsCleaning(std::string_view pass) {
  return std::find(std::begin(kCleaning), std::end(kCleaning), pass) != std::end(kCleaning);
}

// Names of nodes and their ops, after cleaning and, where it is named, one more pass.
Result<std::map<std::string, std::string>> NodesAfter(Graph graph, std::string_view pass) {
  PassOptions options;
  for (const std::string_view name : PassNames()) {
    if (name != pass && !IsCleaning(name)) options.disabled.emplace_back(name);
  }
  OCTAVO_RETURN_IF_ERROR(RunPasses(graph, options).status());
  std::map<std::string, std::string> nodes;
  for (const Node& node : graph.nodes) nodes[node.name] = node.op;
  return nodes;
}

bool IsDepthwise(const Graph& graph, const Node& node) {
  const int64_t group = node.Int("group", 1);
  if (node.op != "Conv" || group == 1) return false;
  const Dims& dims = graph.value(node.input(0)).dims;
  return dims.size() > 1 && dims[1] == group;
}

// Matching nodes of one entry.
Result<std::vector<NodeId>> MatchingNodes(const Graph& graph, const std::string& entry) {
  std::set<std::string> fused;
  for (const auto& [name, pass] : kPassPatterns) {
    if (name != entry) continue;
    OCTAVO_ASSIGN(fused, NodesFusedBy(graph, pass));
  }
  std::vector<NodeId> matching;
  for (size_t n = 0; n < graph.nodes.size(); ++n) {
    const Node& node = graph.nodes[n];
    if (node.removed) continue;
    const bool matches = node.name == entry || node.op == entry || MatchesGlob(entry, node.name) ||
                         fused.count(node.name) > 0 || (entry == kDepthwise && IsDepthwise(graph, node));
    if (matches) matching.push_back(static_cast<NodeId>(n));
  }
  return matching;
}

// Up to three names of nodes that contain the entry's longest part without wildcards.
std::string Suggestions(const Graph& graph, const std::string& entry) {
  std::string longest, part;
  for (const char c : entry + "*") {
    if (c != '*' && c != '?') {
      part += c;
      continue;
    }
    if (part.size() > longest.size()) longest = part;
    part.clear();
  }
  const std::string last =
      longest.substr(longest.find_last_of('/') == std::string::npos ? 0 : longest.find_last_of('/') + 1);
  std::string list;
  int found = 0;
  for (const Node& node : graph.nodes) {
    if (node.removed || last.empty() || node.name.find(last) == std::string::npos || found == 3) continue;
    list += (found++ == 0 ? "; there are " : ", ") + Quote(node.name);
  }
  return list;
}

}  // namespace

Result<std::set<std::string>> NodesFusedBy(const Graph& prepared, std::string_view pass) {
  OCTAVO_ASSIGN(const auto before, NodesAfter(prepared, ""));
  OCTAVO_ASSIGN(const auto after, NodesAfter(prepared, pass));
  std::set<std::string> fused;
  for (const auto& [name, op] : before) {
    const auto found = after.find(name);
    if (found == after.end() || found->second != op) fused.insert(name);
  }
  return fused;
}

bool MatchesGlob(std::string_view pattern, std::string_view text) {
  // The last '*' and where its text ends: going back to it once per character keeps this quadratic at worst.
  size_t p = 0, t = 0, star = std::string_view::npos, resume = 0;
  while (t < text.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      resume = t;
    } else if (p < pattern.size() && (pattern[p] == '?' || pattern[p] == text[t])) {
      ++p;
      ++t;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      t = ++resume;
    } else {
      return false;
    }
  }
  while (p < pattern.size() && pattern[p] == '*') ++p;
  return p == pattern.size();
}

std::vector<std::string_view> KeepFloatPatterns() {
  std::vector<std::string_view> names;
  for (const PassPattern& pattern : kPassPatterns) names.push_back(pattern.name);
  names.push_back(kDepthwise);
  return names;
}

namespace {

// Adds the nodes that `entries` match to `kept`; `option` is what the user calls the list.
Status Keep(const Graph& prepared, const std::vector<std::string>& entries, std::string_view option, DType precision,
            KeepFloat& kept) {
  for (const std::string& entry : entries) {
    OCTAVO_ASSIGN(const std::vector<NodeId> matching, MatchingNodes(prepared, entry));
    if (matching.empty()) {
      return InvalidArgument(std::string(option) + " " + Quote(entry) + " matches no node, op or pattern" +
                             Suggestions(prepared, entry));
    }
    bool idle = true;
    for (const NodeId id : matching) {
      const OpTraits* traits = FindOp(prepared.node(id).domain, prepared.node(id).op);
      idle &= traits == nullptr || traits->quantizable_inputs == 0;
      std::string& reason = kept.reasons[static_cast<size_t>(id)];
      if (reason.empty()) reason = "kept float by " + Quote(entry);
      if (precision == DType::kFloat32) continue;
      DType& stated = kept.precisions[static_cast<size_t>(id)];
      if (stated != DType::kFloat32 && stated != precision) {
        return InvalidArgument(prepared.Describe(prepared.node(id)) + " cannot be both bf16 and fp16");
      }
      stated = precision;
    }
    if (idle) kept.idle.push_back(entry);
  }
  return {};
}

Status KeepLayers(const Graph& prepared, const std::map<std::string, LayerPolicy>& layers, KeepFloat& kept) {
  size_t found = 0;
  for (size_t n = 0; n < prepared.nodes.size(); ++n) {
    const auto layer = prepared.nodes[n].removed ? layers.end() : layers.find(prepared.nodes[n].name);
    if (layer == layers.end()) continue;
    ++found;
    const bool is_int8 = layer->second.precision == DType::kInt8;
    kept.reasons[n] = is_int8 ? "" : layer->second.reason;
    kept.precisions[n] = is_int8 ? DType::kFloat32 : layer->second.precision;
    if (is_int8) kept.int8.push_back(static_cast<NodeId>(n));
  }
  return found == layers.size() ? Status() : InvalidArgument("a layer of the policy is no node of the model");
}

}  // namespace

Result<KeepFloat> ResolveFloatNodes(const Graph& prepared, const Policy& policy) {
  KeepFloat kept;
  kept.reasons.resize(prepared.nodes.size());
  kept.precisions.assign(prepared.nodes.size(), DType::kFloat32);
  OCTAVO_RETURN_IF_ERROR(Keep(prepared, policy.keep_float, "keep-float", DType::kFloat32, kept));
  OCTAVO_RETURN_IF_ERROR(Keep(prepared, policy.bfloat16, "bf16", DType::kBFloat16, kept));
  OCTAVO_RETURN_IF_ERROR(Keep(prepared, policy.float16, "fp16", DType::kFloat16, kept));
  OCTAVO_RETURN_IF_ERROR(KeepLayers(prepared, policy.layers, kept));
  return kept;
}

Result<KeepFloat> ResolveKeepFloat(const Graph& prepared, const std::vector<std::string>& entries) {
  Policy policy;
  policy.keep_float = entries;
  return ResolveFloatNodes(prepared, policy);
}

}  // namespace octavo
