// Bytes as a file of prompts: an error, or pictures with at least one prompt each, box or points.
#include <cstdlib>

#include "octavo/prompts.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto book = octavo::ParsePrompts({reinterpret_cast<const char*>(data), size}, "fuzz");
  if (!book.ok()) return 0;
  if (book->empty()) std::abort();
  for (const auto& [picture, prompts] : *book) {
    if (prompts.empty()) std::abort();
    for (const octavo::PicturePrompt& prompt : prompts) {
      if (prompt.prompt.box.has_value() == !prompt.prompt.points.empty()) std::abort();
      if (prompt.segment && (*prompt.segment < 0 || *prompt.segment > 255)) std::abort();
      (void)octavo::CheckPrompt(prompt.prompt, 640, 480, nullptr);
    }
  }
  return 0;
}
