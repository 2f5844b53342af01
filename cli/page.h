// Pages that stand by themselves: HTML, style and script of web/, put together with their data.
#pragma once

#include <string>
#include <string_view>

#include "console.h"

namespace octavo::cli {

// web/<name>.html with its style and script, and `data` as JSON in <script id="data">. What the data holds cannot end
// that element, and no other script runs: the policy of the page names ours by a number that is drawn for each page.
// `offline` pages may load and ask for nothing; others may talk to the server that they came from.
std::string Page(std::string_view name, const Json& data, bool offline);

}  // namespace octavo::cli
