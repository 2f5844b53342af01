// Bytes as a file of costs: an error, or times that are numbers, and that writing and reading again give back.
#include <cmath>
#include <cstdlib>

#include "octavo/costs.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto costs = octavo::ParseCosts({reinterpret_cast<const char*>(data), size}, "fuzz");
  if (!costs.ok()) return 0;
  const std::string text = octavo::FormatCosts(*costs);
  const auto again = octavo::ParseCosts(text, "again");
  if (!again.ok() || octavo::FormatCosts(*again) != text) std::abort();
  for (const auto precision : {octavo::DType::kInt8, octavo::DType::kFloat32}) {
    const double total = costs->Total([=](const std::string&) { return precision; });
    if (!std::isfinite(total) || total < 0) std::abort();
  }
  return 0;
}
