// Findings as SARIF 2.1.0, which code hosts and editors show.
#pragma once

#include <string>
#include <vector>

#include "console.h"
#include "octavo/lint.h"

namespace octavo::cli {

// Of one model, as a document with one run.
Json ToSarif(const std::string& model, const std::vector<LintFinding>& findings);

// `path` as a URI reference: what URIs do not take is escaped. Absolute paths become file:// URIs.
std::string UriOf(const std::string& path);

}  // namespace octavo::cli
