#include <algorithm>
#include <chrono>
#include <span>
#include <utility>

#include "octavo/passes.h"
#include "passes/rewrites.h"

namespace octavo {
namespace {

struct Pass {
  std::string_view name;
  int (*run)(Graph&);
};

// The order matters: cleaning makes patterns regular, SiLU is wanted by GroupNorm, fusing leaves new things to clean.
// A pass that is listed again runs again; reports add up under its name.
constexpr Pass kPasses[] = {
    {"constant-fold", FoldConstants},
    {"identity-clean", CleanIdentities},
    {"half-nodes", WidenHalfNodes},
    {"cast-pairs", JoinCastPairs},
    {"dequantize-weights", MoveViewsBeforeDequantize},
    {"unsigned-activations", MakeActivationsUnsigned},
    {"transpose-reshape-clean", CleanTransposesAndReshapes},
    {"common-subexpression", MergeCommonSubexpressions},
    {"dead-code", RemoveDeadCode},
    {"batch-norm-fold", FoldBatchNorm},
    {"gelu", RewriteGelu},
    {"silu", RewriteSilu},
    {"hard-swish", RewriteHardSwish},
    {"layer-norm", RewriteLayerNorm},
    {"group-norm", RewriteGroupNorm},
    {"modulation-fold", FoldModulation},
    {"einsum-to-matmul", RewriteEinsum},
    {"linear-attention", RewriteLinearAttention},
    {"softmax-attention", RewriteAttention},
    {"pad-into-conv", FoldPadIntoConv},
    {"conv-mul", FoldChannelAffine},
    {"qkv-merge", MergeSiblingMatMuls},
    {"early-quantize", QuantizeEarly},
    {"constant-fold", FoldConstants},
    {"transpose-reshape-clean", CleanTransposesAndReshapes},
    {"identity-clean", CleanIdentities},
    {"common-subexpression", MergeCommonSubexpressions},
    {"dead-code", RemoveDeadCode},
};

// Moves each node that passes appended right before its first reader, so that values live no longer than before.
void PlaceNewNodes(Graph& graph) {
  std::vector<Node> placed;
  placed.reserve(graph.nodes.size());
  std::vector<bool> seen(graph.nodes.size());
  std::vector<std::pair<NodeId, size_t>> stack;  // a node and the next input to look at
  for (size_t root = 0; root < graph.nodes.size(); ++root) {
    if (seen[root] || graph.nodes[root].removed) continue;
    seen[root] = true;
    stack.emplace_back(static_cast<NodeId>(root), 0);
    while (!stack.empty()) {
      auto& [id, next] = stack.back();
      Node& node = graph.node(id);
      if (next == node.inputs.size()) {
        placed.push_back(std::move(node));
        stack.pop_back();
        continue;
      }
      const ValueId input = node.inputs[next++];
      const NodeId producer = input == kNoValue ? kNoNode : graph.value(input).producer;
      if (producer == kNoNode || seen[static_cast<size_t>(producer)]) continue;
      seen[static_cast<size_t>(producer)] = true;
      stack.emplace_back(producer, 0);
    }
  }
  graph.nodes = std::move(placed);
}

Status VerifyShapes(const Graph& graph) {
  for (const Value& value : graph.values) {
    if (value.dtype != DType::kUndefined && value.has_static_shape()) continue;
    return InternalError("value '" + value.name + "' has no type or no static shape");
  }
  return {};
}

Status RunPass(const Pass& pass, Graph& graph, bool verify, PassReport& report) {
  const auto start = std::chrono::steady_clock::now();
  report.rewrites += pass.run(graph);
  PlaceNewNodes(graph);
  OCTAVO_RETURN_IF_ERROR(graph.Sort());
  graph.CompactValues();
  report.seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  if (!verify) return {};
  OCTAVO_RETURN_IF_ERROR(Verify(graph));
  return VerifyShapes(graph);
}

}  // namespace

std::vector<std::string_view> PassNames() {
  std::vector<std::string_view> names;
  for (const Pass& pass : kPasses) {
    if (std::find(names.begin(), names.end(), pass.name) == names.end()) names.push_back(pass.name);
  }
  return names;
}

Result<std::vector<PassReport>> RunPasses(Graph& graph, const PassOptions& options) {
  const std::vector<std::string_view> names = PassNames();
  for (const std::string& disabled : options.disabled) {
    if (std::find(names.begin(), names.end(), disabled) != names.end()) continue;
    std::string known;
    for (const std::string_view name : names) known += (known.empty() ? "" : ", ") + std::string(name);
    return InvalidArgument("there is no pass '" + disabled + "'; passes are: " + known);
  }
  if (const Status shapes = VerifyShapes(graph); options.verify && !shapes.ok()) {
    return InvalidArgument("passes need a graph with static shapes (BindShapes): " + shapes.message());
  }
  std::vector<PassReport> reports;
  for (const Pass& pass : kPasses) {
    if (std::find(options.disabled.begin(), options.disabled.end(), pass.name) != options.disabled.end()) continue;
    auto report =
        std::find_if(reports.begin(), reports.end(), [&](const PassReport& r) { return r.name == pass.name; });
    if (report == reports.end()) report = reports.insert(reports.end(), PassReport{.name = std::string(pass.name)});
    const Status status = RunPass(pass, graph, options.verify, *report);
    if (!status.ok())
      return InternalError("pass '" + std::string(pass.name) + "' broke the graph: " + status.message());
  }
  return reports;
}

}  // namespace octavo
