// How the command line speaks: results on standard output, errors and warnings on standard error, JSON where asked.
#pragma once

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "octavo/status.h"

namespace octavo::cli {

// Keys stay in the order in which they are set.
using Json = nlohmann::ordered_json;

// --log json: what goes to standard error is one JSON object a line, and nothing else.
bool LogsJson();
void SetLogsJson(bool logs_json);
// One line of standard error.
void LogLine(const Json& object);

// "octavo: error: ..." on one line of standard error, whatever `message` holds.
void PrintError(const std::string& message);
void PrintWarning(const std::string& message);
// "octavo: ...": neither an error nor a warning.
void PrintNote(const std::string& message);

// Where a command's results go: human text to standard output, or to standard error when JSON has taken that.
class Report {
 public:
  // Adds --json FILE|- to the command.
  void AddFlag(CLI::App& command);
  // Text for people has no place among lines of JSON: with --log json it is dropped where it would meet them.
  std::FILE* stream() const;
  bool takes_standard_output() const { return json_ == "-"; }
  // Another document of the command's goes to standard output.
  void YieldStandardOutput() { yields_ = true; }
  bool wants_json() const { return !json_.empty(); }
  template <typename... Args>
  void Print(fmt::format_string<Args...> format, Args&&... args) const {
    fmt::print(stream(), format, std::forward<Args>(args)...);
  }
  // Writes `document` where --json says; nothing without the flag. Error: the file cannot be written.
  Status WriteJson(const Json& document) const;

 private:
  std::string json_;
  bool yields_ = false;
};

// Writes `document` to a file; '-' is standard output. Error: the file cannot be written.
Status WriteJsonFile(const Json& document, const std::string& path);
// `text` as it is; "-" is standard output.
Status WriteTextFile(const std::string& text, const std::string& path);

// Rows of text in columns. `alignment` has one letter per column: 'l' or 'r'.
class Table {
 public:
  Table(std::string alignment, std::vector<std::string> header);
  void AddRow(std::vector<std::string> cells) { rows_.push_back(std::move(cells)); }
  void Print(std::FILE* stream) const;

 private:
  std::string alignment_;
  std::vector<std::vector<std::string>> rows_;
};

// "1,234,567".
std::string Grouped(int64_t number);
// "12.3 M", "4.56 G": three digits that matter.
std::string Short(double number);
// JSON has no infinity or NaN: those become null, as does everything that is not finite.
Json Finite(double number);

}  // namespace octavo::cli
