#include "base/quote.h"

namespace octavo {

std::string Quote(std::string_view name) {
  constexpr size_t kLongest = 200;
  std::string quoted = "'";
  for (const char c : name.substr(0, kLongest)) {
    const auto byte = static_cast<unsigned char>(c);
    quoted += byte < 0x20 || byte == 0x7f ? '?' : c;
  }
  if (name.size() > kLongest) quoted += "...";
  return quoted + "'";
}

}  // namespace octavo
