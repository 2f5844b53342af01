// Bytes as a picture: decoding must return a picture of the size it states, or an error.
#include <cstdlib>

#include "octavo/image.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto image = octavo::DecodeImage(std::as_bytes(std::span(data, size)), "fuzz");
  if (image.ok() && image->pixels.size() != image->Offset(0, image->height)) std::abort();
  return 0;
}
