// What a runtime will make of a quantized model, before anyone builds an engine: fusions lost, build errors, layers
// that stay float in silence. The rules are the runtimes' documented ones, held as data; docs/lint.md lists them.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "octavo/calibration_cache.h"
#include "octavo/graph.h"
#include "octavo/stats.h"
#include "octavo/status.h"
#include "octavo/tensor.h"

namespace octavo {

enum class LintSeverity : uint8_t { kOff, kNote, kWarning, kError };  // in rising order; kOff: no rule of this target

// "off", "note", "warning", "error".
std::string_view NameOf(LintSeverity severity);

// What happens at the target.
enum class LintEffect : uint8_t {
  kBuildError,    // no engine or session
  kWrongResult,   // it runs and computes something else
  kFusionLost,    // Q and DQ stay layers of their own, which cost time
  kSilentFloat,   // what looks quantized runs in float
  kSlower,        // INT8 at less than its speed, perhaps slower than FP16
  kAccuracyLost,  // rounded more often than need be
  kIgnored,       // a setting that nobody reads
  kOverflow,      // beyond what FP16 holds
  kUnknown,       // rules that could not be asked
};

// "build error", "fusion lost", ...
std::string_view NameOf(LintEffect effect);

struct LintRuleInfo {
  std::string_view id;  // "zero-point"
  LintEffect effect = LintEffect::kUnknown;
  LintSeverity tensorrt = LintSeverity::kOff, onnxruntime = LintSeverity::kOff, openvino = LintSeverity::kOff;
  // Where it is another one there than `effect`.
  std::optional<LintEffect> onnxruntime_effect{}, openvino_effect{};
  std::string_view title;   // what is wrong, in a few words
  std::string_view mend;    // what to do about it
  std::string_view source;  // where the runtime's rule is written down
  bool fixable = false;     // FixLint mends some of what it finds

  LintSeverity SeverityFor(std::string_view target) const;
  LintEffect EffectAt(std::string_view target) const;
};

// In the order in which they are checked.
std::vector<LintRuleInfo> LintRules();
// "tensorrt", "onnxruntime", "openvino".
std::span<const std::string_view> LintTargets();

struct LintFinding {
  std::string rule;
  LintSeverity severity = LintSeverity::kNote;
  LintEffect effect = LintEffect::kUnknown;
  std::string node, op;           // "" where it is about a file beside the model
  std::string tensor;             // "" where it is about a node alone
  std::vector<std::string> more;  // further nodes, tensors or entries of the same finding
  std::string why;
  std::string mend;
  bool fixable = false;  // FixLint mends this one
};

struct LintOptions {
  std::string target = "tensorrt";
  std::vector<std::string> disabled;       // rules
  std::map<std::string, Dims> input_dims;  // of dynamic inputs; see ChooseInputDims
  std::optional<CalibrationCache> cache;   // TensorRT's, to go with the model
  std::string layer_precisions;            // trtexec's --layerPrecisions; "": none
  std::string tensorrt_version = "8.6";    // whose rules for names in layer_precisions
  const Stats* stats = nullptr;            // of the float model: what FP16 would not hold
};

// In execution order within a rule, rules in LintRules' order. Deterministic; hostile graphs are findings or errors.
// Shapes are those of `input_dims`; where the model cannot be bound to shapes, rules that need some find nothing, and
// a finding says so. Errors: kInvalidArgument for an unknown target or rule, settings of another target's,
// layer_precisions that cannot be read, statistics of which no tensor is in the graph; kInternal for a graph that
// Verify refuses.
Result<std::vector<LintFinding>> Lint(const Graph& graph, const LintOptions& options = {});

// Findings of one model, of rules in LintRules, as a SARIF 2.1.0 document: nodes and tensors are logical locations.
// Bytes of names that are no UTF-8 are replaced.
std::string FormatSarif(const std::string& model, const std::vector<LintFinding>& findings);

// Mends, in place, what can be mended without changing what the model computes (docs/lint.md says how exactly), of
// rules that are on. Returns what was mended. Errors: those of Lint.
Result<std::vector<LintFinding>> FixLint(Graph& graph, const LintOptions& options = {});

}  // namespace octavo
