#include "octavo/lint.h"

#include <algorithm>
#include <array>

#include "base/quote.h"
#include "lint/rule.h"
#include "targets/layer_precisions.h"

namespace octavo {
namespace {

constexpr std::array<std::string_view, 3> kTargets = {"tensorrt", "onnxruntime", "openvino"};

std::vector<const LintRule*> AllRules() {
  std::vector<const LintRule*> rules;
  for (const auto& family :
       {ScaleRules(), AxisRules(), PairRules(), OperandRules(), PlacementRules(), AttentionRules(), FileRules()}) {
    for (const LintRule& rule : family) rules.push_back(&rule);
  }
  return rules;
}

Status CheckRules(const std::vector<std::string>& disabled) {
  const std::vector<const LintRule*> rules = AllRules();
  for (const std::string& id : disabled) {
    const bool known =
        std::any_of(rules.begin(), rules.end(), [&](const LintRule* rule) { return rule->info.id == id; });
    if (!known) return InvalidArgument(Quote(id) + " is no rule; 'octavo lint --rules' lists them");
  }
  return {};
}

Status CheckStats(const Graph& graph, const Stats* stats) {
  if (stats == nullptr) return {};
  const bool known = std::any_of(graph.values.begin(), graph.values.end(),
                                 [&](const Value& value) { return stats->tensors.count(value.name) > 0; });
  return known ? Status() : InvalidArgument("the statistics are of another model: it has none of their tensors");
}

}  // namespace

std::string_view NameOf(LintSeverity severity) {
  switch (severity) {
    case LintSeverity::kOff:
      return "off";
    case LintSeverity::kNote:
      return "note";
    case LintSeverity::kWarning:
      return "warning";
    case LintSeverity::kError:
      return "error";
  }
  return "";
}

std::string_view NameOf(LintEffect effect) {
  switch (effect) {
    case LintEffect::kBuildError:
      return "build error";
    case LintEffect::kWrongResult:
      return "wrong result";
    case LintEffect::kFusionLost:
      return "fusion lost";
    case LintEffect::kSilentFloat:
      return "silent float";
    case LintEffect::kSlower:
      return "slower than FP16";
    case LintEffect::kAccuracyLost:
      return "accuracy lost";
    case LintEffect::kIgnored:
      return "ignored";
    case LintEffect::kOverflow:
      return "FP16 overflow";
    case LintEffect::kUnknown:
      return "not checked";
  }
  return "";
}

LintSeverity LintRuleInfo::SeverityFor(std::string_view target) const {
  if (target == "tensorrt") return tensorrt;
  if (target == "onnxruntime") return onnxruntime;
  return target == "openvino" ? openvino : LintSeverity::kOff;
}

LintEffect LintRuleInfo::EffectAt(std::string_view target) const {
  if (target == "onnxruntime") return onnxruntime_effect.value_or(effect);
  return target == "openvino" ? openvino_effect.value_or(effect) : effect;
}

std::vector<LintRuleInfo> LintRules() {
  std::vector<LintRuleInfo> infos;
  for (const LintRule* rule : AllRules()) infos.push_back(rule->info);
  return infos;
}

std::span<const std::string_view> LintTargets() { return kTargets; }

Status CheckLintOptions(const Graph& graph, const LintOptions& options) {
  if (std::find(kTargets.begin(), kTargets.end(), options.target) == kTargets.end()) {
    return InvalidArgument(Quote(options.target) + " has no rules: tensorrt, onnxruntime, openvino");
  }
  OCTAVO_RETURN_IF_ERROR(CheckRules(options.disabled));
  if (options.target != "tensorrt" && (options.cache || !options.layer_precisions.empty())) {
    return InvalidArgument("calibration caches and layer precisions are TensorRT's, not " + options.target + "'s");
  }
  OCTAVO_RETURN_IF_ERROR(ParseTensorRtVersion(options.tensorrt_version).status());
  OCTAVO_RETURN_IF_ERROR(ParseLayerPrecisions(options.layer_precisions).status().WithPrefix("layer precisions: "));
  OCTAVO_RETURN_IF_ERROR(CheckStats(graph, options.stats));
  return Verify(graph);
}

Result<std::vector<LintFinding>> Lint(const Graph& graph, const LintOptions& options) {
  OCTAVO_RETURN_IF_ERROR(CheckLintOptions(graph, options));
  OCTAVO_ASSIGN(const Target* target, FindTarget(options.target));
  const QuantizedGraph quantized(graph, *target, options.input_dims);
  const LintContext context{quantized, graph, options};
  std::vector<LintFinding> findings;
  for (const LintRule* rule : AllRules()) {
    const auto& disabled = options.disabled;
    if (rule->info.SeverityFor(options.target) == LintSeverity::kOff ||
        std::find(disabled.begin(), disabled.end(), rule->info.id) != disabled.end()) {
      continue;
    }
    LintReporter reporter(graph, rule->info, options.target, findings);
    rule->check(context, reporter);
  }
  return findings;
}

}  // namespace octavo
