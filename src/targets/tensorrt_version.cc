#include "targets/tensorrt_version.h"

#include <fmt/format.h>

#include <charconv>

#include "base/quote.h"

namespace octavo {
namespace {

// Parts of a version have two digits at most in every number that TensorRT makes of them.
constexpr int kLargestPart = 99;

bool TakePart(std::string_view& text, int& part) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), part);
  if (error != std::errc() || part < 0 || part > kLargestPart) return false;
  text.remove_prefix(static_cast<size_t>(end - text.data()));
  return true;
}

}  // namespace

std::string TensorRtVersion::ToString() const { return fmt::format("{}.{}.{}", major, minor, patch); }

std::string TensorRtVersion::CacheNumber() const {
  return std::to_string(major < 10 ? major * 1000 + minor * 100 + patch : major * 10000 + minor * 100 + patch);
}

Result<TensorRtVersion> ParseTensorRtVersion(std::string_view text) {
  TensorRtVersion version{0, 0, 0};
  std::string_view rest = text;
  bool good = TakePart(rest, version.major);
  for (int* part : {&version.minor, &version.patch}) {
    if (!good || rest.empty()) break;
    good = rest.front() == '.';
    rest.remove_prefix(1);
    good = good && TakePart(rest, *part);
  }
  // 8.x has one digit for the minor version in its number.
  if (good && rest.empty() && version.major > 0 && (version.major >= 10 || version.minor < 10)) return version;
  return InvalidArgument(Quote(text) + " is no version of TensorRT: write it as 8.6.1");
}

Result<TensorRtVersion> VersionOfCacheHeader(std::string_view header) {
  const auto fail = [&] { return InvalidArgument(Quote(header) + " names no version of TensorRT"); };
  if (!header.starts_with("TRT-")) return fail();
  int number = 0;
  const char* last = header.data() + header.size();
  const auto [end, error] = std::from_chars(header.data() + 4, last, number);
  if (error != std::errc() || end == last || *end != '-' || number < 1000 || number >= 1000000) return fail();
  if (number < 10000) return TensorRtVersion{number / 1000, number / 100 % 10, number % 100};
  return TensorRtVersion{number / 10000, number / 100 % 100, number % 100};
}

}  // namespace octavo
