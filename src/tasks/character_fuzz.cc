// Bytes as a list of characters, of a file and of a model's metadata: an error, or characters in UTF-8 that fit the
// classes of some model.
#include <cstdlib>

#include "base/text_lines.h"
#include "octavo/ctc.h"

namespace {

void Check(const octavo::Result<octavo::CharacterList>& characters) {
  if (!characters.ok()) return;
  if (characters->size() > octavo::kMostCharacters) std::abort();
  for (const std::string& character : *characters) {
    if (character.empty() || !octavo::IsUtf8(character)) std::abort();
  }
  const auto classes = static_cast<int64_t>(characters->size()) + 1;
  const auto names = octavo::NameClasses(*characters, classes, {octavo::CtcBlank::Place::kLast, 0});
  if (classes >= 2 && (!names.ok() || names->size() != characters->size() + 1 || !names->back().empty())) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  Check(octavo::ParseCharacters(text, "fuzz"));
  Check(octavo::FindCharacters({{"character", text}}));
  return 0;
}
