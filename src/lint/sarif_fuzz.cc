// Names of any bytes in findings: the document is JSON, and names that are UTF-8 come back as they were.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "base/json_object.h"
#include "octavo/lint.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  // A line each: the model, then node and tensor of a finding and what else is named.
  std::vector<std::string> lines(1);
  for (const char c : std::string(reinterpret_cast<const char*>(data), size)) {
    if (c == '\n') {
      lines.emplace_back();
    } else {
      lines.back() += c;
    }
  }
  lines.resize(5);
  octavo::LintFinding finding;
  finding.rule = octavo::LintRules()[size % octavo::LintRules().size()].id;
  finding.node = lines[1];
  finding.tensor = lines[2];
  finding.more = {lines[3]};
  finding.why = lines[4];
  const octavo::Json document = octavo::Json::parse(octavo::FormatSarif(lines[0], {finding}), nullptr, false);
  if (document.is_discarded()) std::abort();
  const octavo::Json& location = document["runs"][0]["results"][0]["locations"][0];
  for (const unsigned char c : location["physicalLocation"]["artifactLocation"]["uri"].get<std::string>()) {
    if (c <= 0x20 || c >= 0x7f) std::abort();
  }
  if (finding.node.empty() || !location.contains("logicalLocations")) return 0;
  const std::string name = location["logicalLocations"][0]["fullyQualifiedName"].get<std::string>();
  // What was replaced holds U+FFFD.
  if (name != finding.node && name.find("\xEF\xBF\xBD") == std::string::npos) std::abort();
  return 0;
}
