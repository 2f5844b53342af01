#include <fmt/format.h>

#include "base/file.h"
#include "base/json_object.h"
#include "base/quote.h"
#include "base/text_lines.h"
#include "octavo/ctc.h"

namespace octavo {
namespace {

constexpr int64_t kMaxFileBytes = int64_t{16} << 20;
constexpr size_t kMaxCharacterBytes = 64;
constexpr const char* kMetadataKeys[] = {"character", "characters", "vocab", "dict"};

Status CheckCharacter(std::string_view character) {
  if (character.empty()) return BadFile("is empty; a character is wanted");
  if (character.size() > kMaxCharacterBytes) return BadFile("is longer than a character");
  if (!IsUtf8(character)) return BadFile("is not UTF-8");
  return {};
}

// Code points of a single line.
Result<CharacterList> SplitCharacters(std::string_view text, const std::string& source) {
  CharacterList characters;
  while (!text.empty()) {
    const size_t bytes = CodePointBytes(text);
    if (bytes == 0) return BadFile(fmt::format("{}: is not UTF-8 behind character {}", source, characters.size()));
    characters.emplace_back(text.substr(0, bytes));
    text.remove_prefix(bytes);
  }
  return characters;
}

Result<CharacterList> FromJson(const Json& list, const std::string& source) {
  CharacterList characters;
  for (const Json& entry : list) {
    if (!entry.is_string()) return BadFile(source + ": a list of texts is wanted");
    characters.push_back(entry.get<std::string>());
    const Status fits = CheckCharacter(characters.back());
    if (!fits.ok()) return fits.WithPrefix(fmt::format("{}, entry {}: ", source, characters.size()));
  }
  return characters;
}

Result<CharacterList> ParseMetadata(const std::string& text, const std::string& source) {
  if (text.size() > static_cast<size_t>(kMaxFileBytes)) return BadFile(source + ": holds more than 16 MiB");
  // A list that begins with '[' is text when it is no JSON: '[' is a character, too.
  if (text.starts_with('[')) {
    const auto document = ParseJson(text, source);
    if (document.ok() && document->is_array()) return FromJson(*document, source);
  }
  const std::vector<std::string_view> lines = SplitLines(text);
  return lines.size() == 1 ? SplitCharacters(lines[0], source) : ParseCharacters(text, source);
}

}  // namespace

Result<CharacterList> ParseCharacters(std::string_view text, const std::string& source) {
  if (text.size() > static_cast<size_t>(kMaxFileBytes)) return BadFile(source + ": holds more than 16 MiB");
  CharacterList characters;
  for (const std::string_view line : SplitLines(text)) {
    characters.emplace_back(line);
    const Status fits = CheckCharacter(line);
    if (!fits.ok()) return fits.WithPrefix(fmt::format("{}, line {}: ", source, characters.size()));
    if (characters.size() > kMostCharacters)
      return BadFile(fmt::format("{}: more than {} characters", source, kMostCharacters));
  }
  if (characters.empty()) return BadFile(source + ": holds no character");
  return characters;
}

Result<CharacterList> LoadCharacters(const std::string& path) {
  OCTAVO_ASSIGN(const std::vector<std::byte> bytes, ReadFile(path, kMaxFileBytes));
  return ParseCharacters({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, Quote(path));
}

Result<CharacterList> FindCharacters(const std::map<std::string, std::string>& metadata) {
  for (const char* key : kMetadataKeys) {
    const auto found = metadata.find(key);
    if (found == metadata.end() || found->second.empty()) continue;
    OCTAVO_ASSIGN(CharacterList characters,
                  ParseMetadata(found->second, fmt::format("the model's metadata '{}'", key)));
    if (characters.size() > kMostCharacters) {
      return BadFile(fmt::format("the model's metadata '{}': more than {} characters", key, kMostCharacters));
    }
    return characters;
  }
  return CharacterList();
}

}  // namespace octavo
