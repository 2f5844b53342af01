#include <fmt/format.h>

#include "base/file.h"
#include "base/quote.h"
#include "base/text_lines.h"
#include "octavo/labels.h"

namespace octavo {
namespace {

constexpr int64_t kMaxFileBytes = int64_t{64} << 20;

// Without folders before it.
std::string_view FileName(std::string_view path) {
  const size_t slash = path.find_last_of('/');
  return slash == std::string_view::npos ? path : path.substr(slash + 1);
}

}  // namespace

Result<LabelBook> ParseLabels(std::string_view text, const std::string& source) {
  if (text.size() > static_cast<size_t>(kMaxFileBytes)) return BadFile(source + ": holds more than 64 MiB");
  LabelBook labels;
  size_t number = 0;
  for (const std::string_view line : SplitLines(text)) {
    ++number;
    const auto wrong = [&](std::string_view what) {
      return BadFile(fmt::format("{}, line {}: {}", source, number, what));
    };
    if (Trim(line).empty()) continue;
    if (!IsUtf8(line)) return wrong("is not UTF-8");
    size_t separator = line.find('\t');
    if (separator == std::string_view::npos) separator = line.find(',');
    if (separator == std::string_view::npos) {
      return wrong("a picture's file name, a TAB or a comma, and its label are wanted");
    }
    const std::string name(Trim(FileName(line.substr(0, separator))));
    if (name.empty()) return wrong("the file name is missing");
    const std::string_view label = Trim(line.substr(separator + 1));
    if (label.empty()) return wrong("the label is missing");
    if (!labels.emplace(name, label).second) return wrong("a second label of " + Quote(name));
  }
  if (labels.empty()) return BadFile(source + ": holds no label");
  return labels;
}

Result<LabelBook> LoadLabels(const std::string& path) {
  OCTAVO_ASSIGN(const std::vector<std::byte> bytes, ReadFile(path, kMaxFileBytes));
  return ParseLabels({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, Quote(path));
}

}  // namespace octavo
