// Words of a POSIX shell's command line.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "octavo/status.h"

namespace octavo {

// Quotes, backslashes and comments as in sh; nothing is expanded, and operators (;, |, >) are characters like others.
// Errors (kInvalidArgument): an open quote.
Result<std::vector<std::string>> SplitShellWords(std::string_view text);

}  // namespace octavo
