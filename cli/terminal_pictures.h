// Pictures in terminals that can show them.
#pragma once

#include <string>
#include <string_view>

#include "octavo/image.h"
#include "octavo/status.h"

namespace octavo::cli {

enum class PictureProtocol { kNone, kKitty, kIterm, kSixel };

// What the terminal on standard output says of itself in the environment; kNone where it is no terminal, where a
// multiplexer stands between, and for all that is not known to show pictures.
PictureProtocol DetectPictureProtocol();
// "auto", "off", "kitty", "iterm", "sixel". Error: kInvalidArgument listing them.
Result<PictureProtocol> ParsePictureProtocol(std::string_view name);

// What prints an RGB picture at the cursor, with a line feed behind it. Errors: those of EncodePng.
Result<std::string> PictureSequence(const Image& image, PictureProtocol protocol);

}  // namespace octavo::cli
