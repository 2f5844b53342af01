// What is right about pictures, as a file.
#pragma once

#include <map>
#include <string>
#include <string_view>

#include "octavo/status.h"

namespace octavo {

// By the picture's file name without folder: a class, or a text.
using LabelBook = std::map<std::string, std::string, std::less<>>;

// One picture per line, UTF-8: its file name, a TAB (or, in a line without one, a comma), and what is right. Folders
// before the name are passed over, and so are empty lines and white space around a class. Errors: kNotFound and kIo;
// kBadFile naming the file and the line: no UTF-8, no separator, no name, a picture twice; no picture, more than
// 64 MiB.
Result<LabelBook> LoadLabels(const std::string& path);
// The same from memory; `source` is for messages.
Result<LabelBook> ParseLabels(std::string_view text, const std::string& source);

}  // namespace octavo
