// Names from files, made fit for a one-line message.
#pragma once

#include <string>
#include <string_view>

namespace octavo {

// 'name' in single quotes; control characters become '?', and what passes 200 bytes is cut to "...".
std::string Quote(std::string_view name);

}  // namespace octavo
