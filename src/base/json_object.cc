#include "base/json_object.h"

namespace octavo {
namespace {

// nlohmann's parser recurses per level of nesting; Octavo's files have five.
bool IsNestedDeeply(std::string_view text) {
  constexpr int kMaxDepth = 16;
  int depth = 0;
  bool in_text = false;
  for (size_t i = 0; i < text.size(); ++i) {
    if (in_text && text[i] == '\\') {
      ++i;
    } else if (text[i] == '"') {
      in_text = !in_text;
    } else if (!in_text && (text[i] == '[' || text[i] == '{')) {
      if (++depth > kMaxDepth) return true;
    } else if (!in_text && (text[i] == ']' || text[i] == '}')) {
      --depth;
    }
  }
  return false;
}

}  // namespace

// As a conversion rounds, without its undefined range: what lies past the largest float by half a step is infinity.
float RoundToFloat(double number) {
  constexpr double kLargest = std::numeric_limits<float>::max();
  constexpr double kOverflow = (2 - 0x1p-24) * 0x1p127;
  if (std::abs(number) >= kOverflow) return (number > 0 ? 1.0f : -1.0f) * std::numeric_limits<float>::infinity();
  return static_cast<float>(std::clamp(number, -kLargest, kLargest));
}

Result<Json> ParseJson(std::string_view text, const std::string& source) {
  if (IsNestedDeeply(text)) return BadFile(source + ": its lists are nested too deeply");
  try {
    return Json::parse(text);
  } catch (const std::exception& error) {
    return BadFile(fmt::format("{}: this is no JSON: {}", source, error.what()));
  }
}

}  // namespace octavo
