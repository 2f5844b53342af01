// Small files that appear whole or not at all.
#pragma once

#include <string>
#include <string_view>

#include "octavo/status.h"

namespace octavo {

// Writes to a temporary file beside `path`, syncs and renames. Errors: kIo naming the path.
Status SaveText(const std::string& path, std::string_view text);

}  // namespace octavo
