// Releases of TensorRT, as far as its files and command line differ between them.
#pragma once

#include <compare>
#include <string>
#include <string_view>

#include "octavo/status.h"

namespace octavo {

struct TensorRtVersion {
  int major = 8, minor = 6, patch = 1;

  auto operator<=>(const TensorRtVersion&) const = default;
  std::string ToString() const;  // "8.6.1"
  // The number in a calibration cache's first line: "8601", from 10 on two digits each: "100300".
  std::string CacheNumber() const;
  // From 9.1 on a layer's name in trtexec's lists may hold one '*'; before, '*' alone stands for all other layers.
  bool TakesWildcards() const { return *this >= TensorRtVersion{9, 1, 0}; }
};

// What can be calibrated implicitly: 11 has no calibration caches any more.
inline constexpr TensorRtVersion kOldestTensorRt{8, 5, 0}, kPastNewestImplicitTensorRt{11, 0, 0};

// "8.6.1", "8.6" or "10". Error: kInvalidArgument.
Result<TensorRtVersion> ParseTensorRtVersion(std::string_view text);
// Of a calibration cache's first line, "TRT-8601-EntropyCalibration2". Error: kInvalidArgument.
Result<TensorRtVersion> VersionOfCacheHeader(std::string_view header);

}  // namespace octavo
