// report.json, what a run found, and report.html, one page that shows it. docs/report.md describes the format.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "console.h"
#include "octavo/status.h"

namespace octavo::cli {

inline constexpr int kReportFormat = 1;

// What `run` says of this process's command line; main calls it once.
void RememberCommandLine(int argc, char** argv);

// A report without subjects yet: format, command, version, machine, command line, time. `threads` 0: every core.
Json StartReport(std::string_view command, int threads, double seconds);

// The whole page, with nothing that it would load from elsewhere. `report` may hold any names.
std::string ReportPage(const Json& report);

// report.json and report.html in `folder`, which is made where it is not there. Errors: kIo naming the file.
Status WriteReport(const Json& report, const std::string& folder);

// A report from a file or from the folder that holds report.json. What comes back has the types that docs/report.md
// states wherever they are read; unknown keys stay. Errors: kNotFound, kBadFile naming the file and the key.
Result<Json> LoadReport(const std::string& path);

// --report DIR, --no-report.
struct ReportFlags {
  std::string folder;
  bool none = false;

  // `standard`: where the report goes without a flag, in words; "": nowhere.
  void AddTo(CLI::App& command, const std::string& standard);
  Status Check() const;
};

}  // namespace octavo::cli
