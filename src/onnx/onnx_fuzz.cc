// Any bytes at all: ParseOnnx gives a graph that verifies, or an error that lays no blame on Octavo itself.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>

#include "octavo/onnx.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto graph = octavo::ParseOnnx(std::as_bytes(std::span(data, size)), "");
  const bool blamed = !graph.ok() && graph.status().code() == octavo::ErrorCode::kInternal;
  if (blamed || (graph.ok() && !octavo::Verify(*graph).ok())) std::abort();
  return 0;
}
