// Bytes as .npy and as .npz: reading must return arrays or an error.
#include <cstdlib>

#include "octavo/npy.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto bytes = std::as_bytes(std::span(data, size));
  const auto array = octavo::ParseNpy(bytes, "fuzz");
  if (array.ok() && array->bytes() > size) std::abort();
  (void)octavo::ParseNpz(bytes, "fuzz");
  return 0;
}
