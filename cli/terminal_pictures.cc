#include "terminal_pictures.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <map>

#include "report_subject.h"

namespace octavo::cli {
namespace {

std::string Environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

// Kitty's graphics protocol takes chunks of at most 4096 letters.
std::string KittySequence(const std::string& base64) {
  constexpr size_t kChunk = 4096;
  std::string text;
  for (size_t at = 0; at < base64.size(); at += kChunk) {
    const bool more = at + kChunk < base64.size();
    text +=
        fmt::format("\x1b_G{}m={};{}\x1b\\", at == 0 ? "a=T,f=100,q=2," : "", more ? 1 : 0, base64.substr(at, kChunk));
  }
  return text + "\n";
}

std::string ItermSequence(const std::string& base64, size_t bytes) {
  return fmt::format("\x1b]1337;File=inline=1;size={};preserveAspectRatio=1:{}\a\n", bytes, base64);
}

// Six levels of each colour: what every sixel terminal has registers for.
int ColourOf(const uint8_t* pixel) {
  const auto level = [](uint8_t value) { return (value * 5 + 127) / 255; };
  return level(pixel[0]) * 36 + level(pixel[1]) * 6 + level(pixel[2]);
}

void AppendRun(std::string& text, char letter, int length) {
  if (length > 3) {
    text += fmt::format("!{}{}", length, letter);
  } else {
    text.append(static_cast<size_t>(length), letter);
  }
}

// Bands of six rows; in each band one pass for every colour that it holds.
std::string SixelSequence(const Image& image) {
  std::string text = fmt::format("\x1bPq\"1;1;{};{}", image.width, image.height);
  for (int c = 0; c < 216; ++c) text += fmt::format("#{};2;{};{};{}", c, c / 36 * 20, c / 6 % 6 * 20, c % 6 * 20);
  for (int top = 0; top < image.height; top += 6) {
    const int rows = std::min(6, image.height - top);
    std::map<int, std::string> passes;
    for (int x = 0; x < image.width; ++x) {
      for (int row = 0; row < rows; ++row) {
        std::string& pass = passes[ColourOf(image.At(x, top + row))];
        pass.resize(static_cast<size_t>(image.width), '?');
        pass[static_cast<size_t>(x)] = static_cast<char>('?' + ((pass[static_cast<size_t>(x)] - '?') | 1 << row));
      }
    }
    for (const auto& [colour, pass] : passes) {
      text += fmt::format("#{}", colour);
      for (size_t from = 0; from < pass.size();) {
        size_t to = from;
        while (to < pass.size() && pass[to] == pass[from]) ++to;
        AppendRun(text, pass[from], static_cast<int>(to - from));
        from = to;
      }
      text += '$';
    }
    text += '-';
  }
  return text + "\x1b\\\n";
}

}  // namespace

PictureProtocol DetectPictureProtocol() {
  if (isatty(STDOUT_FILENO) != 1) return PictureProtocol::kNone;
  const std::string term = Environment("TERM"), program = Environment("TERM_PROGRAM");
  // tmux and screen pass pictures on only where they were told to.
  if (!Environment("TMUX").empty() || term.starts_with("screen") || term.starts_with("tmux")) {
    return PictureProtocol::kNone;
  }
  if (term == "xterm-kitty" || term == "xterm-ghostty" || !Environment("KITTY_WINDOW_ID").empty()) {
    return PictureProtocol::kKitty;
  }
  if (program == "iTerm.app" || program == "WezTerm") return PictureProtocol::kIterm;
  if (term == "foot" || term == "foot-extra" || term == "mlterm" || term == "contour" ||
      term.find("sixel") != std::string::npos) {
    return PictureProtocol::kSixel;
  }
  return PictureProtocol::kNone;
}

Result<PictureProtocol> ParsePictureProtocol(std::string_view name) {
  if (name == "auto") return DetectPictureProtocol();
  if (name == "off") return PictureProtocol::kNone;
  if (name == "kitty") return PictureProtocol::kKitty;
  if (name == "iterm") return PictureProtocol::kIterm;
  if (name == "sixel") return PictureProtocol::kSixel;
  return InvalidArgument(fmt::format("'{}' is no way to show pictures: auto, off, kitty, iterm, sixel", name));
}

Result<std::string> PictureSequence(const Image& image, PictureProtocol protocol) {
  if (protocol == PictureProtocol::kNone || image.channels != 3) return std::string();
  if (protocol == PictureProtocol::kSixel) return SixelSequence(image);
  OCTAVO_ASSIGN(const std::vector<std::byte> png, EncodePng(image));
  const std::string base64 = Base64(png);
  return protocol == PictureProtocol::kKitty ? KittySequence(base64) : ItermSequence(base64, png.size());
}

}  // namespace octavo::cli
