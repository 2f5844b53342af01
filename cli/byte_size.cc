#include "byte_size.h"

#include <fmt/format.h>

#include <cctype>
#include <charconv>
#include <string_view>

namespace octavo::cli {

Result<int64_t> ParseByteSize(const std::string& text) {
  const Status error = InvalidArgument(fmt::format("'{}' is no size: write 800M or 1.5G", text));
  double number = 0;
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (code != std::errc()) return error;
  std::string_view unit(end, static_cast<size_t>(text.data() + text.size() - end));
  constexpr std::string_view kUnits = "KMGT";
  if (!unit.empty()) {
    const char letter = static_cast<char>(std::toupper(static_cast<unsigned char>(unit.front())));
    if (const size_t power = kUnits.find(letter); power != std::string_view::npos) {
      for (size_t i = 0; i <= power; ++i) number *= 1024;
      unit.remove_prefix(1);
    }
  }
  if (!unit.empty() && unit != "B" && unit != "iB") return error;
  if (!(number >= 1 && number < 0x1p60)) return error;
  return static_cast<int64_t>(number);
}

}  // namespace octavo::cli
