// Bytes as a recipe: an error, or decisions that writing and reading again give back.
#include <cstdlib>

#include "octavo/quantize.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto recipe = octavo::ParseRecipe({reinterpret_cast<const char*>(data), size}, "fuzz");
  if (!recipe.ok()) return 0;
  const std::string text = octavo::FormatRecipe(*recipe);
  const auto again = octavo::ParseRecipe(text, "again");
  // Scales past float32 are read as infinity, which JSON cannot hold: ApplyRecipe refuses them before it matters.
  const bool infinite = text.find("null") != std::string::npos;
  if (!infinite && (!again.ok() || octavo::FormatRecipe(*again) != text)) std::abort();
  return 0;
}
