#include "report_document.h"

#include <sys/utsname.h>

#include <array>
#include <chrono>
#include <cmath>
#include <ctime>
#include <filesystem>
#include <fstream>

#include "model_files.h"
#include "octavo/bench.h"
#include "octavo/session.h"
#include "octavo/task.h"
#include "octavo/text_file.h"
#include "octavo/version.h"
#include "page.h"

namespace octavo::cli {
namespace {

namespace fs = std::filesystem;

// A report of 10,000 layers takes 10 MB.
constexpr uintmax_t kMaxReportBytes = uintmax_t{256} << 20;
constexpr int kDeepest = 32;

std::vector<std::string>& CommandLine() {
  static std::vector<std::string> arguments;
  return arguments;
}

// The value of the first line "key<spaces>: value" of a file of /proc.
std::string LineOf(const char* file, std::string_view key) {
  std::ifstream in(file);
  for (std::string line; std::getline(in, line);) {
    if (!line.starts_with(key)) continue;
    const size_t colon = line.find(':');
    if (colon == std::string::npos) continue;
    const size_t start = line.find_first_not_of(" \t", colon + 1);
    return start == std::string::npos ? "" : line.substr(start);
  }
  return "";
}

std::string UtcNow() {
  const std::time_t now = std::chrono::system_clock::to_time_t(std::chrono::system_clock::now());
  std::tm parts{};
  gmtime_r(&now, &parts);
  std::array<char, 32> text{};
  std::strftime(text.data(), text.size(), "%Y-%m-%dT%H:%M:%SZ", &parts);
  return text.data();
}

Json Machine(int threads) {
  utsname system{};
  uname(&system);
  const std::string memory = LineOf("/proc/meminfo", "MemTotal");  // "65826092 kB"
  return {{"cpu", LineOf("/proc/cpuinfo", "model name")},
          {"isa", IsaInUse()},
          {"cores", AvailableCores()},
          {"threads", threads > 0 ? threads : AvailableCores()},
          {"memory_bytes", std::strtoll(memory.c_str(), nullptr, 10) * 1024},
          {"system", fmt::format("{} {} {}", system.sysname, system.release, system.machine)}};
}

// What a key holds in a report that can be shown.
enum class Kind { kText, kNumber, kList, kObject, kBool };

bool Is(const Json& value, Kind kind) {
  switch (kind) {
    case Kind::kText:
      return value.is_string();
    case Kind::kNumber:
      return value.is_number();
    case Kind::kList:
      return value.is_array();
    case Kind::kObject:
      return value.is_object();
    case Kind::kBool:
      return value.is_boolean();
  }
  return false;
}

struct Key {
  const char* name;
  Kind kind;
  bool required = false;
};

constexpr std::array<const char*, 5> kKindNames = {"a text", "a number", "a list", "an object", "true or false"};

constexpr Key kReportKeys[] = {
    {"octavo_report", Kind::kNumber, true}, {"command", Kind::kText, true}, {"run", Kind::kObject, true},
    {"subjects", Kind::kList, true},        {"images", Kind::kObject},      {"notes", Kind::kList}};
constexpr Key kRunKeys[] = {{"version", Kind::kText}, {"time", Kind::kText},         {"seconds", Kind::kNumber},
                            {"seed", Kind::kNumber},  {"command_line", Kind::kList}, {"machine", Kind::kObject}};
constexpr Key kSubjectKeys[] = {
    {"name", Kind::kText, true},  {"summary", Kind::kObject, true}, {"score", Kind::kObject},
    {"forms", Kind::kList, true}, {"outputs", Kind::kList},         {"front", Kind::kObject},
    {"layers", Kind::kList},      {"sensitivity", Kind::kObject},   {"tensors", Kind::kObject},
    {"remedies", Kind::kList},    {"pictures", Kind::kList},        {"recipe", Kind::kObject},
    {"samples", Kind::kList},     {"live", Kind::kObject}};
constexpr Key kSummaryKeys[] = {{"sentence", Kind::kText, true}, {"kept", Kind::kBool}};
constexpr Key kFormKeys[] = {
    {"name", Kind::kText, true},        {"file", Kind::kText},       {"bytes", Kind::kNumber},
    {"milliseconds", Kind::kObject},    {"score", Kind::kNumber},    {"p5", Kind::kNumber},
    {"mean_bound", Kind::kNumber},      {"p5_bound", Kind::kNumber}, {"sqnr_db", Kind::kNumber},
    {"int8_macs_share", Kind::kNumber}, {"scores", Kind::kList}};
constexpr Key kLayerKeys[] = {{"node", Kind::kText, true},   {"op", Kind::kText},
                              {"precision", Kind::kText},    {"macs", Kind::kNumber},
                              {"parameters", Kind::kNumber}, {"dims", Kind::kList},
                              {"ms", Kind::kObject},         {"sensitivity", Kind::kNumber},
                              {"reason", Kind::kText},       {"remedies", Kind::kList},
                              {"operands", Kind::kList},     {"why_float", Kind::kText},
                              {"figures", Kind::kObject}};
constexpr Key kOperandKeys[] = {
    {"kind", Kind::kText, true},      {"tensor", Kind::kText},       {"dtype", Kind::kText},
    {"scale", Kind::kNumber},         {"zero_point", Kind::kNumber}, {"clip", Kind::kList},
    {"scales", Kind::kObject},        {"range", Kind::kList},        {"reason", Kind::kText},
    {"clipped_share", Kind::kNumber}, {"sqnr_db", Kind::kNumber}};
constexpr Key kTensorKeys[] = {{"range", Kind::kList}, {"histogram", Kind::kObject}};
constexpr Key kImageKeys[] = {{"data", Kind::kText, true}};
constexpr Key kPictureKeys[] = {{"name", Kind::kText, true},     {"kind", Kind::kText},  {"width", Kind::kNumber, true},
                                {"height", Kind::kNumber, true}, {"image", Kind::kText}, {"prompt", Kind::kObject},
                                {"masks", Kind::kList, true}};
constexpr Key kMaskKeys[] = {
    {"form", Kind::kText, true}, {"image", Kind::kText, true}, {"iou", Kind::kNumber}, {"different", Kind::kNumber}};
constexpr Key kNamedNumbers[] = {{"name", Kind::kText, true}};

template <size_t N>
Status CheckKeys(const Json& object, const Key (&keys)[N], const std::string& where) {
  if (!object.is_object()) return BadFile(where + " must be an object");
  for (const Key& key : keys) {
    const auto found = object.find(key.name);
    if (found == object.end() || (found->is_null() && !key.required)) {
      if (key.required) return BadFile(fmt::format("{}: \"{}\" is missing", where, key.name));
      continue;
    }
    if (!Is(*found, key.kind)) {
      return BadFile(fmt::format("{}: \"{}\" must be {}", where, key.name, kKindNames[static_cast<size_t>(key.kind)]));
    }
  }
  return {};
}

template <size_t N>
Status CheckEach(const Json& object, const char* list, const Key (&keys)[N], const std::string& where) {
  const auto found = object.find(list);
  if (found == object.end() || found->is_null()) return {};
  for (size_t i = 0; i < found->size(); ++i) {
    OCTAVO_RETURN_IF_ERROR(CheckKeys((*found)[i], keys, fmt::format("{}.{}[{}]", where, list, i)));
  }
  return {};
}

Status CheckNumbers(const Json& object, const char* key, size_t least, const std::string& where) {
  const auto found = object.find(key);
  if (found == object.end() || found->is_null()) return {};
  bool fine = found->is_array() && found->size() >= least;
  if (fine) {
    for (const Json& value : *found) fine = fine && value.is_number();
  }
  return fine ? Status() : BadFile(fmt::format("{}: \"{}\" must be a list of numbers", where, key));
}

Status CheckLayers(const Json& subject, const std::string& where) {
  OCTAVO_RETURN_IF_ERROR(CheckEach(subject, "layers", kLayerKeys, where));
  if (const auto layers = subject.find("layers"); layers != subject.end() && layers->is_array()) {
    for (size_t i = 0; i < layers->size(); ++i) {
      const std::string at = fmt::format("{}.layers[{}]", where, i);
      OCTAVO_RETURN_IF_ERROR(CheckNumbers((*layers)[i], "dims", 0, at));
      OCTAVO_RETURN_IF_ERROR(CheckEach((*layers)[i], "operands", kOperandKeys, at));
      const auto operands = (*layers)[i].find("operands");
      if (operands == (*layers)[i].end() || !operands->is_array()) continue;
      for (const Json& operand : *operands) OCTAVO_RETURN_IF_ERROR(CheckNumbers(operand, "clip", 2, at));
    }
  }
  const auto tensors = subject.find("tensors");
  if (tensors == subject.end() || !tensors->is_object()) return {};
  for (const auto& [name, tensor] : tensors->items()) {
    const std::string at = where + ".tensors";
    OCTAVO_RETURN_IF_ERROR(CheckKeys(tensor, kTensorKeys, at));
    OCTAVO_RETURN_IF_ERROR(CheckNumbers(tensor, "range", 2, at));
    const auto histogram = tensor.find("histogram");
    if (histogram == tensor.end() || histogram->is_null()) continue;
    constexpr Key kHistogramKeys[] = {
        {"low", Kind::kNumber, true}, {"high", Kind::kNumber, true}, {"counts", Kind::kList, true}};
    OCTAVO_RETURN_IF_ERROR(CheckKeys(*histogram, kHistogramKeys, at + ".histogram"));
    OCTAVO_RETURN_IF_ERROR(CheckNumbers(*histogram, "counts", 1, at + ".histogram"));
  }
  return {};
}

Status CheckSubject(const Json& subject, const std::string& where) {
  OCTAVO_RETURN_IF_ERROR(CheckKeys(subject, kSubjectKeys, where));
  OCTAVO_RETURN_IF_ERROR(CheckKeys(subject["summary"], kSummaryKeys, where + ".summary"));
  OCTAVO_RETURN_IF_ERROR(CheckEach(subject, "forms", kFormKeys, where));
  OCTAVO_RETURN_IF_ERROR(CheckEach(subject, "outputs", kNamedNumbers, where));
  OCTAVO_RETURN_IF_ERROR(CheckEach(subject, "remedies", kNamedNumbers, where));
  OCTAVO_RETURN_IF_ERROR(CheckEach(subject, "pictures", kPictureKeys, where));
  if (const auto pictures = subject.find("pictures"); pictures != subject.end() && pictures->is_array()) {
    for (size_t i = 0; i < pictures->size(); ++i) {
      OCTAVO_RETURN_IF_ERROR(CheckEach((*pictures)[i], "masks", kMaskKeys, fmt::format("{}.pictures[{}]", where, i)));
    }
  }
  return CheckLayers(subject, where);
}

Status CheckReport(const Json& report, const std::string& source) {
  OCTAVO_RETURN_IF_ERROR(CheckKeys(report, kReportKeys, source));
  if (report["octavo_report"] != kReportFormat) {
    return BadFile(fmt::format("{}: reports of format {} are not known here, only {}", source,
                               report["octavo_report"].dump(), kReportFormat));
  }
  OCTAVO_RETURN_IF_ERROR(CheckKeys(report["run"], kRunKeys, source + ": run"));
  if (const auto images = report.find("images"); images != report.end() && images->is_object()) {
    for (const auto& [name, image] : images->items()) {
      OCTAVO_RETURN_IF_ERROR(CheckKeys(image, kImageKeys, source + ": images"));
    }
  }
  for (size_t i = 0; i < report["subjects"].size(); ++i) {
    OCTAVO_RETURN_IF_ERROR(CheckSubject(report["subjects"][i], fmt::format("{}: subjects[{}]", source, i)));
  }
  return {};
}

Json ParseBounded(std::istream& in) {
  // Recursion of whoever walks the document ends somewhere: what is nested deeper becomes "discarded".
  bool too_deep = false;
  const auto limit = [&](int depth, Json::parse_event_t, Json&) {
    too_deep = too_deep || depth > kDeepest;
    return depth <= kDeepest;
  };
  Json document = Json::parse(in, limit, false);
  return too_deep ? Json(Json::value_t::discarded) : document;
}

}  // namespace

void RememberCommandLine(int argc, char** argv) { CommandLine().assign(argv, argv + argc); }

Json StartReport(std::string_view command, int threads, double seconds) {
  return {{"octavo_report", kReportFormat},
          {"command", command},
          {"run",
           {{"version", kVersion},
            {"time", UtcNow()},
            {"seconds", std::round(seconds * 100) / 100},
            {"seed", kSplitSeed},
            {"command_line", CommandLine()},
            {"machine", Machine(threads)}}},
          {"images", Json::object()},
          {"subjects", Json::array()},
          {"notes", Json::array()}};
}

std::string ReportPage(const Json& report) { return Page("report", report, true); }

Status WriteReport(const Json& report, const std::string& folder) {
  OCTAVO_RETURN_IF_ERROR(MakeFolder(folder));
  const std::string text = report.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
  OCTAVO_RETURN_IF_ERROR(SaveText(folder + "/report.json", text));
  return SaveText(folder + "/report.html", ReportPage(report));
}

Result<Json> LoadReport(const std::string& path) {
  std::error_code error;
  const std::string file = fs::is_directory(path, error) ? path + "/report.json" : path;
  const fs::file_status status = fs::status(file, error);
  if (!fs::exists(status)) return NotFound(fmt::format("cannot read '{}': no such file", file));
  if (!fs::is_regular_file(status)) return IoError(fmt::format("cannot read '{}': it is no file", file));
  const uintmax_t bytes = fs::file_size(file, error);
  if (error) return IoError(fmt::format("cannot read '{}': {}", file, error.message()));
  if (bytes > kMaxReportBytes) return BadFile(fmt::format("{}: {} bytes are no report", file, bytes));
  std::ifstream in(file, std::ios::binary);
  Json report = ParseBounded(in);
  if (report.is_discarded()) return BadFile(file + ": is no report: not JSON, or nested too deep");
  OCTAVO_RETURN_IF_ERROR(CheckReport(report, file));
  return report;
}

void ReportFlags::AddTo(CLI::App& command, const std::string& standard) {
  const std::string fallback = standard.empty() ? "" : fmt::format(" (default: {})", standard);
  command
      .add_option("--report", folder,
                  "Folder for report.json and report.html, a page that shows what was found" + fallback)
      ->type_name("DIR");
  if (!standard.empty()) command.add_flag("--no-report", none, "Write no report");
}

Status ReportFlags::Check() const {
  if (none && !folder.empty()) return InvalidArgument("--report and --no-report exclude each other");
  std::error_code error;
  if (!folder.empty() && fs::exists(folder, error) && !fs::is_directory(folder, error)) {
    return InvalidArgument(fmt::format("--report {}: this is a file; a report is a folder of two files", folder));
  }
  return {};
}

}  // namespace octavo::cli
