#include "console.h"

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>

namespace octavo::cli {
namespace {

// File and node names come from outside: no newline or escape sequence of theirs reaches the terminal.
std::string OneLine(const std::string& message) {
  std::string line;
  for (const char c : message) {
    const auto byte = static_cast<unsigned char>(c);
    line += byte < 0x20 || byte == 0x7f ? ' ' : c;
  }
  return line;
}

size_t DisplayWidth(const std::string& text) {
  return static_cast<size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
}

bool& LogsJsonFlag() {
  static bool logs_json = false;
  return logs_json;
}

}  // namespace

bool LogsJson() { return LogsJsonFlag(); }
void SetLogsJson(bool logs_json) { LogsJsonFlag() = logs_json; }

void LogLine(const Json& object) {
  const std::string text = object.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
  std::fwrite(text.data(), 1, text.size(), stderr);
  std::fflush(stderr);
}

void PrintError(const std::string& message) {
  if (LogsJson()) return LogLine({{"event", "error"}, {"message", message}});
  std::fprintf(stderr, "octavo: error: %s\n", OneLine(message).c_str());
}

void PrintNote(const std::string& message) {
  if (LogsJson()) return LogLine({{"event", "note"}, {"message", message}});
  std::fprintf(stderr, "octavo: %s\n", OneLine(message).c_str());
}

void PrintWarning(const std::string& message) {
  if (LogsJson()) return LogLine({{"event", "warning"}, {"message", message}});
  std::fprintf(stderr, "octavo: warning: %s\n", OneLine(message).c_str());
}

std::FILE* Report::stream() const {
  if (json_ != "-" && !yields_) return stdout;
  static std::FILE* const nowhere = std::fopen("/dev/null", "w");
  return LogsJson() && nowhere != nullptr ? nowhere : stderr;
}

void Report::AddFlag(CLI::App& command) {
  command.add_option("--json", json_, "Write the results as JSON to FILE; '-' is standard output")
      ->type_name("FILE|-")
      ->check([](const std::string& file) {
        return file.empty() ? std::string("needs a file name, or '-' for standard output") : std::string();
      });
}

Status Report::WriteJson(const Json& document) const {
  return json_.empty() ? Status() : WriteJsonFile(document, json_);
}

Status WriteJsonFile(const Json& document, const std::string& path) {
  // Names from a model's file may not be UTF-8; what is not is replaced.
  return WriteTextFile(document.dump(2, ' ', false, Json::error_handler_t::replace) + "\n", path);
}

Status WriteTextFile(const std::string& text, const std::string& path) {
  if (path == "-") {
    std::fwrite(text.data(), 1, text.size(), stdout);
    return {};
  }
  std::FILE* file = std::fopen(path.c_str(), "wb");
  if (file == nullptr) return IoError(fmt::format("cannot write '{}': {}", path, std::strerror(errno)));
  const bool written = std::fwrite(text.data(), 1, text.size(), file) == text.size();
  const bool closed = std::fclose(file) == 0;
  if (!written || !closed) return IoError(fmt::format("cannot write '{}': {}", path, std::strerror(errno)));
  return {};
}

Table::Table(std::string alignment, std::vector<std::string> header) : alignment_(std::move(alignment)) {
  AddRow(std::move(header));
}

void Table::Print(std::FILE* stream) const {
  std::vector<size_t> widths(alignment_.size(), 0);
  for (const auto& row : rows_) {
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], DisplayWidth(row[i]));
  }
  for (const auto& row : rows_) {
    std::string line;
    for (size_t i = 0; i < row.size(); ++i) {
      const std::string padding(widths[i] - DisplayWidth(row[i]), ' ');
      line += (i > 0 ? "  " : "") + (alignment_[i] == 'r' ? padding + OneLine(row[i]) : OneLine(row[i]) + padding);
    }
    line.erase(line.find_last_not_of(' ') + 1);
    fmt::print(stream, "{}\n", line);
  }
}

std::string Grouped(int64_t number) {
  std::string digits = std::to_string(number);
  const int first = number < 0 ? 1 : 0;
  for (int at = static_cast<int>(digits.size()) - 3; at > first; at -= 3) digits.insert(static_cast<size_t>(at), ",");
  return digits;
}

std::string Short(double number) {
  static constexpr const char* kUnits[] = {"", " k", " M", " G", " T"};
  size_t unit = 0;
  while (std::abs(number) >= 1000 && unit + 1 < std::size(kUnits)) {
    number /= 1000;
    ++unit;
  }
  if (unit == 0) return fmt::format("{:.0f}", number);
  return fmt::format("{:.{}f}{}", number, number < 10 ? 2 : number < 100 ? 1 : 0, kUnits[unit]);
}

Json Finite(double number) { return std::isfinite(number) ? Json(number) : Json(nullptr); }

}  // namespace octavo::cli
