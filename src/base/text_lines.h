// Text from outside: checked, and cut into lines.
#pragma once

#include <cstddef>
#include <string_view>
#include <vector>

namespace octavo {

// Bytes of the code point that `text` begins with; 0 where that is no UTF-8 (RFC 3629: no overlong forms, no
// surrogates, nothing above U+10FFFF) or `text` is empty.
size_t CodePointBytes(std::string_view text);
bool IsUtf8(std::string_view text);

// The lines of `text`, without line breaks (LF or CRLF) and without a byte order mark at the start. An empty last line
// is none.
std::vector<std::string_view> SplitLines(std::string_view text);

// Without spaces and TABs around it.
std::string_view Trim(std::string_view text);

}  // namespace octavo
