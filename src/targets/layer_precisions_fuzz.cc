// Bytes as a list of layers and their types: an error, or entries that writing and reading again give back.
#include <cstdlib>

#include "targets/layer_precisions.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  for (const auto& parse : {octavo::ParseLayerPrecisions, octavo::ParseLayerOutputTypes}) {
    const auto entries = parse(text);
    if (!entries.ok()) continue;
    const auto written = octavo::FormatLayerTypes(*entries);
    if (!written.ok()) {
      // Zero bytes, which no command line can hold.
      if (text.find('\0') == std::string_view::npos) std::abort();
      continue;
    }
    const auto again = parse(*written);
    if (!again.ok() || again->size() != entries->size()) std::abort();
    for (size_t i = 0; i < entries->size(); ++i) {
      if ((*again)[i].layer != (*entries)[i].layer || (*again)[i].types != (*entries)[i].types) std::abort();
    }
  }
  return 0;
}
