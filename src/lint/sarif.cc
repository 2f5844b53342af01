// Findings as SARIF 2.1.0, which code hosts and editors show.
#include <fmt/format.h>

#include <map>

#include "base/json_object.h"
#include "octavo/lint.h"
#include "octavo/version.h"

namespace octavo {
namespace {

constexpr char kSchema[] = "https://json.schemastore.org/sarif-2.1.0.json";

// SARIF's words are ours.
std::string LevelOf(LintSeverity severity) {
  return severity == LintSeverity::kOff ? "none" : std::string(NameOf(severity));
}

Json RuleDocument(const LintRuleInfo& rule) {
  return {
      {"id", std::string(rule.id)},
      {"shortDescription", {{"text", std::string(rule.title)}}},
      {"fullDescription", {{"text", fmt::format("{}: {}. Source: {}", NameOf(rule.effect), rule.title, rule.source)}}},
      {"help", {{"text", std::string(rule.mend)}}}};
}

Json LogicalLocations(const LintFinding& finding) {
  Json locations = Json::array();
  if (!finding.node.empty()) {
    locations.push_back({{"name", finding.node}, {"fullyQualifiedName", finding.node}, {"kind", "function"}});
  }
  if (!finding.tensor.empty()) {
    locations.push_back({{"name", finding.tensor}, {"fullyQualifiedName", finding.tensor}, {"kind", "variable"}});
  }
  return locations;
}

Json ResultDocument(const std::string& uri, const LintFinding& finding, size_t rule_index) {
  Json location = {{"physicalLocation", {{"artifactLocation", {{"uri", uri}, {"index", 0}}}}}};
  if (Json logical = LogicalLocations(finding); !logical.empty()) location["logicalLocations"] = std::move(logical);
  Json properties = {{"effect", std::string(NameOf(finding.effect))}, {"fixable", finding.fixable}};
  if (!finding.more.empty()) properties["more"] = finding.more;
  return {{"ruleId", finding.rule},
          {"ruleIndex", rule_index},
          {"level", LevelOf(finding.severity)},
          {"message", {{"text", fmt::format("{}: {}. {}", NameOf(finding.effect), finding.why, finding.mend)}}},
          {"locations", Json::array({location})},
          {"properties", properties}};
}

// `path` as a URI reference: what URIs do not take is escaped. Absolute paths become file:// URIs.
std::string UriOf(const std::string& path) {
  constexpr std::string_view kPlain = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~/";
  std::string uri = path.starts_with('/') ? "file://" : "";
  for (const char c : path) {
    if (kPlain.find(c) != std::string_view::npos) {
      uri += c;
    } else {
      uri += fmt::format("%{:02X}", static_cast<unsigned char>(c));
    }
  }
  return uri;
}

}  // namespace

std::string FormatSarif(const std::string& model, const std::vector<LintFinding>& findings) {
  const std::string uri = UriOf(model);
  Json rules = Json::array(), results = Json::array();
  std::map<std::string, size_t, std::less<>> index;
  for (const LintRuleInfo& rule : LintRules()) {
    index.emplace(rule.id, index.size());
    rules.push_back(RuleDocument(rule));
  }
  for (const LintFinding& finding : findings) results.push_back(ResultDocument(uri, finding, index.at(finding.rule)));
  const Json driver = {{"name", "octavo"}, {"version", kVersion}, {"rules", rules}};
  const Json run = {{"tool", {{"driver", driver}}},
                    {"artifacts", Json::array({Json{{"location", {{"uri", uri}}}}})},
                    {"results", results}};
  const Json document = {{"$schema", kSchema}, {"version", "2.1.0"}, {"runs", Json::array({run})}};
  // Names from a model's file may not be UTF-8; what is not is replaced.
  return document.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace octavo
