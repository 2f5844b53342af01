// Bytes as a statistics file: reading must give statistics that are saved as the same bytes, or an error. The checksum
// is made to fit, so that what lies behind it is reached.
#include <cstdlib>
#include <cstring>
#include <vector>

#include "calibration/byte_stream.h"
#include "octavo/stats.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto given = std::as_bytes(std::span(data, size));
  (void)octavo::ParseStats(given, "fuzz");
  std::vector<std::byte> bytes(given.begin(), given.end());
  if (bytes.size() < sizeof(uint64_t)) return 0;
  const size_t end = bytes.size() - sizeof(uint64_t);
  const uint64_t checksum = octavo::Fnv1a(std::span(bytes).first(end));
  std::memcpy(bytes.data() + end, &checksum, sizeof(checksum));
  const auto stats = octavo::ParseStats(bytes, "fuzz");
  if (!stats.ok()) return 0;
  const auto again = octavo::SerializeStats(*stats);
  if (!again.ok() || *again != bytes) std::abort();
  for (const auto& [name, tensor] : stats->tensors) {
    for (int estimator = 0; estimator < 4; ++estimator) {
      for (const bool symmetric : {false, true}) {
        octavo::EstimatorOptions options;
        options.estimator = static_cast<octavo::Estimator>(estimator);
        options.symmetric = symmetric;
        const auto range = octavo::EstimateRange(tensor, options);
        if (range.ok() && !(range->low <= 0 && range->high >= 0)) std::abort();
      }
    }
  }
  return 0;
}
