// Prompts for many pictures, as a file.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "octavo/segment.h"
#include "octavo/status.h"

namespace octavo {

// One prompt of a picture, and which of its human segments it asks for, if any.
struct PicturePrompt {
  Prompt prompt;
  std::optional<int> segment;  // 0..255: the value in NAME.segments.png
};

// By the picture's file name without folder.
using PromptBook = std::map<std::string, std::vector<PicturePrompt>, std::less<>>;

// {"a.jpg": [{"box": [x0, y0, x1, y1], "segment": 15}, {"points": [[x, y], [x, y, label]]}, ...], ...}
// in pixels of each picture; "segment" may be left out. Errors: kNotFound and kIo; kBadFile naming the file, the
// picture and the key (unknown keys too, no picture, a picture without prompts). Whether a prompt fits its picture,
// CheckPrompt says.
Result<PromptBook> LoadPrompts(const std::string& path);
// The same from memory; `source` is for messages.
Result<PromptBook> ParsePrompts(std::string_view text, const std::string& source);

}  // namespace octavo
