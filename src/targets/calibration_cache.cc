#include "octavo/calibration_cache.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <charconv>
#include <cmath>

#include "base/file.h"
#include "base/quote.h"

namespace octavo {
namespace {

// A model with a million tensors has a table of some 60 MB.
constexpr int64_t kMaxFileBytes = int64_t{64} << 20;

bool HasControlCharacter(std::string_view text) {
  return std::any_of(text.begin(), text.end(), [](unsigned char c) { return c < 0x20 || c == 0x7F; });
}

// "TRT-<digits>-<letters and digits>".
bool IsHeader(std::string_view line) {
  if (!line.starts_with("TRT-")) return false;
  line.remove_prefix(4);
  const size_t dash = line.find('-');
  if (dash == 0 || dash == std::string_view::npos || dash + 1 == line.size()) return false;
  const auto is_digit = [](unsigned char c) { return std::isdigit(c) != 0; };
  const auto is_letter = [](unsigned char c) { return std::isalnum(c) != 0; };
  const std::string_view version = line.substr(0, dash), algorithm = line.substr(dash + 1);
  return std::all_of(version.begin(), version.end(), is_digit) &&
         std::all_of(algorithm.begin(), algorithm.end(), is_letter);
}

std::string_view Trim(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t' || text.back() == '\r')) text.remove_suffix(1);
  return text;
}

Result<float> ParseScale(std::string_view hex) {
  uint32_t bits = 0;
  const auto [end, error] = std::from_chars(hex.data(), hex.data() + hex.size(), bits, 16);
  if (hex.empty() || hex.size() > 8 || error != std::errc() || end != hex.data() + hex.size()) {
    return BadFile(Quote(hex) + " is not the hex of a float32");
  }
  const auto scale = std::bit_cast<float>(bits);
  if (!std::isnormal(scale) || scale < 0) {
    return BadFile(fmt::format("the scale {} is {}; it must be a positive normal number", Quote(hex), scale));
  }
  return scale;
}

Status ParseEntry(std::string_view line, CalibrationCache& cache) {
  const size_t colon = line.rfind(':');
  if (colon == std::string_view::npos) return BadFile("there is no colon in " + Quote(line));
  const std::string_view name = line.substr(0, colon);
  if (name.empty()) return BadFile("the tensor has no name");
  if (HasControlCharacter(name)) return BadFile("the name " + Quote(name) + " holds control characters");
  auto scale = ParseScale(Trim(line.substr(colon + 1)));
  if (!scale.ok()) return scale.status().WithPrefix("tensor " + Quote(name) + ": ");
  if (cache.scales.emplace(name, *scale).second) return {};
  return BadFile("tensor " + Quote(name) + " was listed before");
}

Status ParseLine(std::string_view line, CalibrationCache& cache) {
  if (!cache.header.empty()) return Trim(line).empty() ? Status() : ParseEntry(line, cache);
  const std::string_view header = Trim(line);
  if (!IsHeader(header)) {
    return BadFile("a calibration cache begins with a line like 'TRT-8601-EntropyCalibration2', not " +
                   Quote(header.substr(0, 80)));
  }
  cache.header = header;
  return {};
}

}  // namespace

Result<CalibrationCache> ParseCalibrationCache(std::string_view text, const std::string& source) {
  CalibrationCache cache;
  cache.header.clear();
  for (size_t number = 1; !text.empty(); ++number) {
    const size_t end = std::min(text.find('\n'), text.size());
    const Status status = ParseLine(text.substr(0, end), cache);
    if (!status.ok()) return status.WithPrefix(fmt::format("{}:{}: ", source, number));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  if (cache.header.empty()) return BadFile(source + ": the calibration cache is empty");
  return cache;
}

Result<CalibrationCache> LoadCalibrationCache(const std::string& path) {
  OCTAVO_ASSIGN(const std::vector<std::byte> bytes, ReadFile(path, kMaxFileBytes));
  return ParseCalibrationCache({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, path);
}

std::string FormatCalibrationCache(const CalibrationCache& cache) {
  std::string text = cache.header + "\n";
  for (const auto& [name, scale] : cache.scales) {
    text += fmt::format("{}: {:08x}\n", name, std::bit_cast<uint32_t>(scale));
  }
  return text;
}

Status SaveCalibrationCache(const CalibrationCache& cache, const std::string& path) {
  for (const auto& [name, scale] : cache.scales) {
    if (!name.empty() && !HasControlCharacter(name)) continue;
    return InvalidArgument("a calibration cache cannot hold a tensor named " + Quote(name));
  }
  return WriteFile(path, FormatCalibrationCache(cache));
}

}  // namespace octavo
