#include "octavo/lint.h"

#include <algorithm>
#include <map>
#include <memory>

#include "command.h"
#include "console.h"
#include "engine_flags.h"
#include "model_files.h"
#include "octavo/onnx.h"

namespace octavo::cli {
namespace {

constexpr size_t kShownPerRule = 5, kShownMore = 5;

struct LintFlags {
  std::string model, cache, stats, output, sarif;
  std::vector<std::string> input_shapes;
  std::string fail_on = "error";
  bool fix = false, all = false, list = false, markdown = false;
  LintOptions options;
  Report report;
};

std::string EffectsOf(const LintRuleInfo& rule) {
  std::string text(NameOf(rule.effect));
  if (rule.onnxruntime_effect) text += fmt::format("; ONNX Runtime: {}", NameOf(*rule.onnxruntime_effect));
  if (rule.openvino_effect) text += fmt::format("; OpenVINO: {}", NameOf(*rule.openvino_effect));
  return text;
}

void PrintMarkdown() {
  fmt::print("| rule | what is wrong | what happens | TensorRT | ONNX Runtime | OpenVINO | mend | source |\n");
  fmt::print("|---|---|---|---|---|---|---|---|\n");
  for (const LintRuleInfo& rule : LintRules()) {
    const auto cell = [](LintSeverity severity) { return severity == LintSeverity::kOff ? "" : NameOf(severity); };
    fmt::print("| `{}`{} | {} | {} | {} | {} | {} | {} | {} |\n", rule.id, rule.fixable ? " (fix)" : "", rule.title,
               EffectsOf(rule), cell(rule.tensorrt), cell(rule.onnxruntime), cell(rule.openvino), rule.mend,
               rule.source);
  }
}

ExitCode ListRules(const LintFlags& flags) {
  if (flags.markdown) {
    PrintMarkdown();
    return kDone;
  }
  Table table("llllll", {"rule", "tensorrt", "onnxruntime", "openvino", "what happens", "what is wrong"});
  for (const LintRuleInfo& rule : LintRules()) {
    table.AddRow({std::string(rule.id), std::string(NameOf(rule.tensorrt)), std::string(NameOf(rule.onnxruntime)),
                  std::string(NameOf(rule.openvino)), std::string(NameOf(rule.effect)), std::string(rule.title)});
  }
  table.Print(stdout);
  return kDone;
}

// Names come from files: no escape sequence of theirs reaches the terminal.
std::string Plain(const std::string& name) {
  std::string plain = name.substr(0, 200);
  std::replace_if(
      plain.begin(), plain.end(), [](unsigned char c) { return c < 0x20 || c == 0x7f; }, '?');
  return plain.size() < name.size() ? plain + "..." : plain;
}

std::string WhereOf(const LintFinding& finding) {
  std::string where = Plain(finding.node);
  if (!finding.op.empty()) where += fmt::format(" ({})", finding.op);
  if (!finding.tensor.empty()) where += fmt::format("{}tensor {}", where.empty() ? "" : ", ", Plain(finding.tensor));
  return where;
}

void PrintFinding(const LintFlags& flags, const LintFinding& finding) {
  const std::string where = WhereOf(finding);
  flags.report.Print("  {}{}{}\n", where, where.empty() ? "" : ": ", Plain(finding.why));
  if (finding.more.empty()) return;
  std::string more;
  const size_t shown = flags.all ? finding.more.size() : std::min(finding.more.size(), kShownMore);
  for (size_t i = 0; i < shown; ++i) more += (i == 0 ? "" : ", ") + Plain(finding.more[i]);
  if (shown < finding.more.size()) more += fmt::format(" and {} more", finding.more.size() - shown);
  flags.report.Print("    also: {}\n", more);
}

// By rule, errors first.
void PrintFindings(const LintFlags& flags, const std::vector<LintFinding>& findings) {
  std::vector<std::string> rules;
  for (const LintSeverity severity : {LintSeverity::kError, LintSeverity::kWarning, LintSeverity::kNote}) {
    for (const LintFinding& finding : findings) {
      if (finding.severity == severity && std::find(rules.begin(), rules.end(), finding.rule) == rules.end())
        rules.push_back(finding.rule);
    }
  }
  const std::vector<LintRuleInfo> infos = LintRules();
  for (const std::string& id : rules) {
    const auto info = std::find_if(infos.begin(), infos.end(), [&](const LintRuleInfo& rule) { return rule.id == id; });
    std::vector<const LintFinding*> of_rule;
    for (const LintFinding& finding : findings) {
      if (finding.rule == id) of_rule.push_back(&finding);
    }
    flags.report.Print("{} {}: {}; {}\n", NameOf(of_rule[0]->severity), id, NameOf(of_rule[0]->effect), info->title);
    const size_t shown = flags.all ? of_rule.size() : std::min(of_rule.size(), kShownPerRule);
    for (size_t i = 0; i < shown; ++i) PrintFinding(flags, *of_rule[i]);
    if (shown < of_rule.size()) flags.report.Print("  and {} more; --all shows them\n", of_rule.size() - shown);
    flags.report.Print("  mend: {}\n", info->mend);
  }
}

size_t CountOf(const std::vector<LintFinding>& findings, LintSeverity severity) {
  return static_cast<size_t>(std::count_if(findings.begin(), findings.end(),
                                           [&](const LintFinding& finding) { return finding.severity == severity; }));
}

Json ToJson(const LintFinding& finding) {
  return {{"rule", finding.rule},
          {"severity", std::string(NameOf(finding.severity))},
          {"effect", std::string(NameOf(finding.effect))},
          {"node", finding.node},
          {"op", finding.op},
          {"tensor", finding.tensor},
          {"more", finding.more},
          {"why", finding.why},
          {"mend", finding.mend},
          {"fixable", finding.fixable}};
}

Json ToJson(const std::vector<LintFinding>& findings) {
  Json list = Json::array();
  for (const LintFinding& finding : findings) list.push_back(ToJson(finding));
  return list;
}

Status WriteSarif(const LintFlags& flags, const std::vector<LintFinding>& findings) {
  if (flags.sarif.empty()) return {};
  return WriteTextFile(FormatSarif(flags.model, findings), flags.sarif);
}

ExitCode ExitCodeOf(const LintFlags& flags, const std::vector<LintFinding>& findings) {
  static const std::map<std::string, LintSeverity> kLevels = {
      {"error", LintSeverity::kError}, {"warning", LintSeverity::kWarning}, {"note", LintSeverity::kNote}};
  const auto level = kLevels.find(flags.fail_on);
  if (level == kLevels.end()) return kDone;
  const bool found = std::any_of(findings.begin(), findings.end(),
                                 [&](const LintFinding& finding) { return finding.severity >= level->second; });
  return found ? kFindings : kDone;
}

Result<ExitCode> RunLint(LintFlags flags) {
  if (flags.list) return ListRules(flags);
  if (flags.model.empty()) return InvalidArgument("a model is missing (see 'octavo lint --help')");
  if (flags.fix != !flags.output.empty()) return InvalidArgument("--fix and --output go together");
  if (flags.sarif == "-" && flags.report.takes_standard_output()) {
    return InvalidArgument("--json and --sarif cannot both have standard output");
  }
  if (flags.sarif == "-") flags.report.YieldStandardOutput();
  LintOptions options = flags.options;
  // Mended models are saved: all of such a model has to be understood.
  OCTAVO_ASSIGN(Graph graph, LoadOnnx(flags.model, {.any_op = !flags.fix}));
  OCTAVO_ASSIGN(options.input_dims, ParseInputShapes(flags.input_shapes, InputValues(graph)));
  if (!flags.cache.empty()) {
    OCTAVO_ASSIGN(options.cache, LoadCalibrationCache(flags.cache));
  }
  Stats stats;
  if (!flags.stats.empty()) {
    OCTAVO_ASSIGN(stats, LoadStats(flags.stats));
    options.stats = &stats;
  }
  std::vector<LintFinding> fixed;
  if (flags.fix) {
    auto mended = FixLint(graph, options);
    if (!mended.ok()) return InModel(mended.status(), flags.model);
    fixed = *std::move(mended);
    OCTAVO_RETURN_IF_ERROR(SaveOnnx(graph, flags.output));
  }
  auto linted = Lint(graph, options);
  if (!linted.ok()) return InModel(linted.status(), flags.model);
  const std::vector<LintFinding>& findings = *linted;
  PrintFindings(flags, findings);
  const size_t errors = CountOf(findings, LintSeverity::kError), warnings = CountOf(findings, LintSeverity::kWarning),
               notes = CountOf(findings, LintSeverity::kNote);
  if (flags.fix) flags.report.Print("{}: {} findings mended\n", flags.output, fixed.size());
  flags.report.Print("{} for {}: {} errors, {} warnings, {} notes\n", flags.fix ? flags.output : flags.model,
                     options.target, errors, warnings, notes);
  OCTAVO_RETURN_IF_ERROR(WriteSarif(flags, findings));
  OCTAVO_RETURN_IF_ERROR(flags.report.WriteJson({{"model", flags.model},
                                                 {"target", options.target},
                                                 {"output", flags.output.empty() ? Json() : Json(flags.output)},
                                                 {"errors", errors},
                                                 {"warnings", warnings},
                                                 {"notes", notes},
                                                 {"findings", ToJson(findings)},
                                                 {"fixed", ToJson(fixed)}}));
  return ExitCodeOf(flags, findings);
}

}  // namespace

void AddLintCommand(CLI::App& app, Action& action) {
  CLI::App* command = AddSubcommand(
      app, "lint",
      "Say what a runtime will make of a quantized model, by its documented rules: errors, fusions lost, layers that "
      "stay float; exit code 1: errors found",
      {"octavo lint model.int8.onnx --target tensorrt", "octavo lint model.int8.onnx --target onnxruntime --json -",
       "octavo lint model.int8.onnx --fix -o mended.onnx --fail-on warning",
       "octavo lint model.onnx --calibration-cache model.cache --layer-precisions 'head:fp32,*:fp16'",
       "octavo lint model.int8.onnx --stats model.stats --sarif lint.sarif", "octavo lint --rules"});
  auto flags = std::make_shared<LintFlags>();
  command->add_option("MODEL", flags->model, "ONNX file");
  command->add_option("--target", flags->options.target, "Whose rules: tensorrt (default), onnxruntime, openvino")
      ->type_name("TARGET");
  command->add_option("--disable", flags->options.disabled, "Leave a rule out; repeatable")
      ->type_name("RULE")
      ->allow_extra_args(false);
  command->add_option("--calibration-cache", flags->cache, "TensorRT's calibration cache that goes with the model")
      ->type_name("FILE");
  command
      ->add_option("--layer-precisions", flags->options.layer_precisions,
                   "trtexec's --layerPrecisions that goes with the model")
      ->type_name("NAME:TYPE,...");
  command
      ->add_option("--tensorrt-version", flags->options.tensorrt_version,
                   "Whose rules for names in --layer-precisions (default: 8.6)")
      ->type_name("VERSION");
  command->add_option("--stats", flags->stats, "Statistics of 'octavo calibrate': what FP16 would not hold")
      ->type_name("FILE");
  AddRepeatable(*command, "--input-shape", flags->input_shapes, "Sizes of an input that is dynamic; repeatable")
      ->type_name("NAME=1x3x512x512");
  command->add_flag("--fix", flags->fix, "Mend what can be mended without changing what the model computes");
  command->add_option("-o,--output", flags->output, "File for the model that --fix mends")->type_name("OUT.onnx");
  command
      ->add_option("--fail-on", flags->fail_on,
                   "Exit code 1 from this severity on: error (default), warning, note, never")
      ->type_name("LEVEL")
      ->check(CLI::IsMember({"error", "warning", "note", "never"}));
  command->add_option("--sarif", flags->sarif, "Write the findings as SARIF 2.1.0 to FILE; '-' is standard output")
      ->type_name("FILE|-");
  command->add_flag("--all", flags->all, "Show every finding, not the first few of each rule");
  command->add_flag("--rules", flags->list, "List the rules");
  command->add_flag("--markdown", flags->markdown, "With --rules: as the table of docs/lint.md")->group("");
  flags->report.AddFlag(*command);
  command->callback([=, &action] { action = [=] { return RunLint(*flags); }; });
}

}  // namespace octavo::cli
