// Bytes as a calibration cache: an error, or scales that writing and reading again give back.
#include <cmath>
#include <cstdlib>

#include "octavo/calibration_cache.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto cache = octavo::ParseCalibrationCache({reinterpret_cast<const char*>(data), size}, "fuzz");
  if (!cache.ok()) return 0;
  for (const auto& [name, scale] : cache->scales) {
    if (name.empty() || !std::isnormal(scale) || scale < 0) std::abort();
  }
  const auto again = octavo::ParseCalibrationCache(octavo::FormatCalibrationCache(*cache), "again");
  if (!again.ok() || again->header != cache->header || again->scales != cache->scales) std::abort();
  return 0;
}
