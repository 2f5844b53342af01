// What --layerPrecisions asks for -> the policy of each node.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "base/quote.h"
#include "graph/half_ops.h"
#include "graph/op_table.h"
#include "octavo/half_safety.h"
#include "octavo/tensorrt.h"
#include "quantize/keep_float.h"
#include "targets/layer_precisions.h"

namespace octavo {
namespace {

// Sums over channels or tokens, which float16 cannot hold.
constexpr std::string_view kWidePatterns[] = {"layer-norm", "group-norm", "linear-attention"};

bool IsContraction(const Node& node) {
  const OpTraits* traits = FindOp(node.domain, node.op);
  return traits != nullptr && traits->quantizable_inputs != 0;
}

class LayerPlanner {
 public:
  LayerPlanner(const Graph& model, const Graph& prepared, const TensorRtVersion& version, Policy& policy)
      : prepared_(prepared), version_(version), policy_(policy) {
    for (const Node& node : prepared.nodes) {
      if (!node.removed) prepared_names_.insert(node.name);
    }
    for (const Node& node : prepared.nodes) {
      if (!node.removed) layers_.push_back({node.name, &node});
    }
    for (const Node& node : model.nodes) {
      if (!node.removed && prepared_names_.count(node.name) == 0) layers_.push_back({node.name, nullptr});
    }
    for (const Layer& layer : layers_) names_.push_back(layer.name);
  }

  Result<LayerPlan> Run(const LayerConstraints& constraints) {
    for (const std::string_view pattern : kWidePatterns) {
      OCTAVO_ASSIGN(const std::set<std::string> nodes, NodesFusedBy(prepared_, pattern));
      for (const std::string& name : nodes) wide_.emplace(name, pattern);
    }
    auto precisions = ParseLayerPrecisions(constraints.precisions);
    if (!precisions.ok()) return precisions.status().WithPrefix("layer precisions: ");
    auto types = ParseLayerOutputTypes(constraints.output_types);
    if (!types.ok()) return types.status().WithPrefix("layer output types: ");
    ApplyPrecisions(*precisions);
    ApplyOutputTypes(*types);
    if (constraints.half_rest) FindRest();
    return std::move(plan_);
  }

 private:
  struct Layer {
    std::string name;
    const Node* node;  // null: folded away by preparing
  };

  template <typename... Args>
  void Note(fmt::format_string<Args...> format, Args&&... args) {
    plan_.notes.push_back(fmt::format(format, std::forward<Args>(args)...));
  }

  void ApplyPrecisions(const std::vector<LayerTypes>& entries) {
    const LayerMatches matches = MatchLayers(entries, names_, version_);
    ReportMatches("layer precision", entries, matches);
    std::map<size_t, size_t> by_pattern;
    size_t kept_wide = 0;
    for (size_t n = 0; n < layers_.size(); ++n) {
      if (matches.entry_of[n] < 0) continue;
      const LayerTypes& entry = entries[static_cast<size_t>(matches.entry_of[n])];
      const bool is_exact = entry.layer == layers_[n].name;
      if (!is_exact) ++by_pattern[static_cast<size_t>(matches.entry_of[n])];
      if (layers_[n].node == nullptr) {
        if (is_exact) Note("{} is folded into its neighbours, whose precision it has", Quote(entry.layer));
      } else {
        kept_wide += Apply(*layers_[n].node, entry.types.front(), is_exact) ? 1 : 0;
      }
    }
    for (const auto& [e, count] : by_pattern) {
      if (entries[e].layer != "*") Note("layer precision {} matches {} nodes", Quote(entries[e].layer), count);
    }
    if (kept_wide > 0) {
      Note("{} nodes of LayerNorm, GroupNorm or linear attention stay fp32: float16 overflows in their sums",
           kept_wide);
    }
  }

  void ReportMatches(std::string_view what, const std::vector<LayerTypes>& entries, const LayerMatches& matches) {
    for (const size_t e : matches.unmatched) {
      const std::string& layer = entries[e].layer;
      std::string why;
      if (layer.find('*') != std::string::npos && layer != "*" && !version_.TakesWildcards()) {
        why = fmt::format(": TensorRT {} takes '*' alone as a wildcard, from 9.1 on names may hold one",
                          version_.ToString());
      } else if (layer.find(" + ") != std::string::npos) {
        why = ": names of an engine's fused layers are no keys, those of the model's nodes are";
      }
      Note("{} {} matches no node{}", what, Quote(layer), why);
    }
    for (const size_t e : matches.overridden) {
      Note("{} {} comes again later, which is what counts", what, Quote(entries[e].layer));
    }
    for (const auto& ambiguity : matches.ambiguous) {
      std::string patterns;
      for (const size_t e : ambiguity.entries) patterns += (patterns.empty() ? "" : ", ") + Quote(entries[e].layer);
      Note("{} matches {}, which ask for different types: trtexec takes any of them, here the longest counts",
           Quote(names_[ambiguity.layer]), patterns);
    }
  }

  // Whether the node stays float32 although float16 was asked for.
  bool Apply(const Node& node, DType type, bool is_exact) {
    const std::string asked = fmt::format("asked to be {}", LayerTypeName(type));
    if (!MakesFloat(node)) {
      if (is_exact) Note("{} makes no floats: {} does not apply", Quote(node.name), LayerTypeName(type));
      return false;
    }
    switch (type) {
      case DType::kFloat32:
        policy_.layers[node.name] = {DType::kFloat32, asked};
        return false;
      case DType::kFloat16:
        return ApplyHalf(node, asked, is_exact);
      case DType::kInt8:
        if (IsContraction(node)) {
          policy_.layers[node.name] = {DType::kInt8, asked};
        } else if (is_exact) {
          Note("{} is {}: whether it runs in INT8 follows from the Q/DQ around it", Quote(node.name), node.op);
        }
        return false;
      default:
        if (is_exact) Note("{}: {} is not written, the node stays as it is", Quote(node.name), LayerTypeName(type));
        return false;
    }
  }

  bool ApplyHalf(const Node& node, const std::string& asked, bool is_exact) {
    LayerPolicy layer{DType::kFloat32, asked};
    const auto wide = wide_.find(node.name);
    if (wide != wide_.end()) {
      layer.reason = fmt::format("{}, but float16 overflows in {}", asked, wide->second);
    } else if (!CanBeHalf(node)) {
      layer.reason = fmt::format("{}, but {} is not written so", asked, node.op);
      if (is_exact) Note("{} stays fp32: {} is not written in float16", Quote(node.name), node.op);
    } else if (!FitsHalf(node)) {
      layer.reason = asked + ", but its constants exceed 65504";
      Note("{} stays fp32: its constants exceed 65504", Quote(node.name));
    } else {
      layer.precision = DType::kFloat16;
    }
    policy_.layers[node.name] = std::move(layer);
    return wide != wide_.end();
  }

  bool MakesFloat(const Node& node) const {
    return std::any_of(node.outputs.begin(), node.outputs.end(),
                       [&](ValueId id) { return id != kNoValue && prepared_.value(id).dtype == DType::kFloat32; });
  }

  bool FitsHalf(const Node& node) const {
    return std::all_of(node.inputs.begin(), node.inputs.end(), [&](ValueId id) {
      if (id == kNoValue || prepared_.value(id).dtype != DType::kFloat32) return true;
      const Tensor& constant = prepared_.value(id).constant;
      if (!constant.defined()) return true;
      const auto values = constant.values<float>();
      return std::all_of(values.begin(), values.end(), [](float v) { return std::abs(v) <= kLargestFloat16; });
    });
  }

  // int8: a pair behind the node, for every reader. fp16: a node whose precision nobody states computes in float16.
  // fp32: what a float32 node gives anyway, and what readers of a float16 node see, to the bit.
  void ApplyOutputTypes(const std::vector<LayerTypes>& entries) {
    if (entries.empty()) return;
    const LayerMatches matches = MatchLayers(entries, names_, version_);
    ReportMatches("layer output type", entries, matches);
    std::vector<std::string> others;
    for (size_t n = 0; n < layers_.size(); ++n) {
      if (matches.entry_of[n] < 0 || layers_[n].node == nullptr || !MakesFloat(*layers_[n].node)) continue;
      const LayerTypes& entry = entries[static_cast<size_t>(matches.entry_of[n])];
      if (!ApplyOutputType(*layers_[n].node, entry.types.front(), entry.layer == layers_[n].name) ||
          entry.types.size() > 1) {
        others.push_back(layers_[n].name);
      }
    }
    if (others.empty()) return;
    constexpr size_t kNamed = 5;
    std::string names;
    for (size_t i = 0; i < std::min(others.size(), kNamed); ++i) names += (i > 0 ? ", " : "") + Quote(others[i]);
    if (others.size() > kNamed) names += ", ...";
    Note(
        "{} layer output types are not written, as their nodes compute in another float type or have several results: "
        "{}",
        others.size(), names);
  }

  bool ApplyOutputType(const Node& node, DType type, bool is_exact) {
    const auto layer = policy_.layers.find(node.name);
    switch (type) {
      case DType::kFloat32:
        return true;
      case DType::kInt8:
        policy_.int8_results.push_back(node.name);
        return true;
      case DType::kFloat16:
        if (layer != policy_.layers.end()) return layer->second.precision == DType::kFloat16;
        // An INT8 contraction gives float32, whose rounding to float16 its readers do without.
        if (IsContraction(node)) return false;
        ApplyHalf(node, "its result is asked to be fp16", is_exact);
        return policy_.layers.at(node.name).precision == DType::kFloat16;
      default:
        return false;
    }
  }

  void FindRest() {
    for (const Layer& layer : layers_) {
      if (layer.node == nullptr || !IsContraction(*layer.node) || policy_.layers.count(layer.name) > 0) continue;
      if (wide_.count(layer.name) > 0 || !CanBeHalf(*layer.node) || !FitsHalf(*layer.node)) continue;
      plan_.may_be_half.insert(layer.name);
    }
  }

  const Graph& prepared_;
  const TensorRtVersion version_;
  Policy& policy_;
  std::set<std::string> prepared_names_;
  std::vector<Layer> layers_;
  std::vector<std::string> names_;
  std::map<std::string, std::string_view> wide_;  // by node: the pattern that it is part of
  LayerPlan plan_;
};

}  // namespace

Result<LayerPlan> PlanLayers(const Graph& model, const Graph& prepared, const LayerConstraints& constraints,
                             Policy& policy) {
  OCTAVO_ASSIGN(const TensorRtVersion version, ParseTensorRtVersion(constraints.version));
  return LayerPlanner(model, prepared, version, policy).Run(constraints);
}

void NarrowTheRest(const LayerPlan& plan, Recipe& recipe) {
  for (FloatRecipe& node : recipe.float_nodes) {
    if (node.precision == DType::kFloat32 && plan.may_be_half.count(node.node) > 0) node.precision = DType::kFloat16;
  }
}

}  // namespace octavo
