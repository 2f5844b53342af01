// What web/ holds, put into the program when it was built (cmake/embed.cmake).
#pragma once

#include <string_view>

namespace octavo::cli {

// "" for a name that is not there.
std::string_view WebFile(std::string_view name);

}  // namespace octavo::cli
