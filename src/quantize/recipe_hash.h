// What the model's metadata says of the recipe that made it.
#pragma once

#include <string>

#include "octavo/quantize.h"

namespace octavo {

// 16 hex digits over FormatRecipe's text (FNV-1a).
std::string RecipeHash(const Recipe& recipe);

}  // namespace octavo
