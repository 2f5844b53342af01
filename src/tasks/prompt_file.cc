#include "base/file.h"
#include "base/json_object.h"
#include "octavo/prompts.h"

namespace octavo {
namespace {

constexpr int64_t kMaxFileBytes = int64_t{64} << 20;
constexpr size_t kMostPoints = 1024;

Result<Prompt> ReadBox(const Json& entry, const ObjectReader& reader) {
  const Json& box = entry["box"];
  if (!box.is_array() || box.size() != 4) return reader.Wrong("box", "[x0, y0, x1, y1]");
  for (const Json& value : box) {
    if (!value.is_number()) return reader.Wrong("box", "[x0, y0, x1, y1]");
  }
  Prompt prompt;
  prompt.box = Box{box[0].get<double>(), box[1].get<double>(), box[2].get<double>(), box[3].get<double>()};
  return prompt;
}

Result<Prompt> ReadPoints(const Json& entry, const ObjectReader& reader) {
  constexpr char kWanted[] = "a list of [x, y] or [x, y, label], label 0 or 1";
  const Json& points = entry["points"];
  if (!points.is_array() || points.empty() || points.size() > kMostPoints) return reader.Wrong("points", kWanted);
  Prompt prompt;
  for (const Json& point : points) {
    if (!point.is_array() || point.size() < 2 || point.size() > 3) return reader.Wrong("points", kWanted);
    for (const Json& value : point) {
      if (!value.is_number()) return reader.Wrong("points", kWanted);
    }
    const double label = point.size() == 3 ? point[2].get<double>() : 1;
    if (label != 0 && label != 1) return reader.Wrong("points", kWanted);
    prompt.points.push_back({point[0].get<double>(), point[1].get<double>(), static_cast<int>(label)});
  }
  return prompt;
}

Result<PicturePrompt> ReadPrompt(const Json& entry, const std::string& where) {
  const ObjectReader reader(entry, where);
  OCTAVO_RETURN_IF_ERROR(reader.CheckKeys({"box", "points", "segment"}));
  if (reader.Has("box") == reader.Has("points")) return BadFile(where + ": either \"box\" or \"points\" is wanted");
  PicturePrompt prompt;
  OCTAVO_ASSIGN(prompt.prompt, reader.Has("box") ? ReadBox(entry, reader) : ReadPoints(entry, reader));
  if (!reader.Has("segment")) return prompt;
  OCTAVO_ASSIGN(prompt.segment, reader.Int("segment"));
  if (*prompt.segment < 0 || *prompt.segment > 255) return reader.Wrong("segment", "between 0 and 255");
  return prompt;
}

Result<PromptBook> ReadBook(const Json& document, const std::string& source) {
  if (!document.is_object() || document.empty()) return BadFile(source + ": an object of pictures is wanted");
  PromptBook book;
  for (const auto& [picture, list] : document.items()) {
    const std::string where = source + ": " + Quote(picture);
    if (!list.is_array() || list.empty()) return BadFile(where + ": a list of prompts is wanted, at least one");
    std::vector<PicturePrompt>& prompts = book[picture];
    for (const Json& entry : list) {
      OCTAVO_ASSIGN(PicturePrompt prompt, ReadPrompt(entry, fmt::format("{}, prompt {}", where, prompts.size() + 1)));
      prompts.push_back(std::move(prompt));
    }
  }
  return book;
}

}  // namespace

Result<PromptBook> ParsePrompts(std::string_view text, const std::string& source) {
  OCTAVO_ASSIGN(const Json document, ParseJson(text, source));
  try {
    return ReadBook(document, source);
  } catch (const std::exception& error) {
    return BadFile(source + ": " + error.what());
  }
}

Result<PromptBook> LoadPrompts(const std::string& path) {
  OCTAVO_ASSIGN(const std::vector<std::byte> bytes, ReadFile(path, kMaxFileBytes));
  return ParsePrompts({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, path);
}

}  // namespace octavo
