// Bytes as a file of labels: an error, or pictures with a name and a label each, in UTF-8.
#include <cstdlib>

#include "base/text_lines.h"
#include "octavo/labels.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto labels = octavo::ParseLabels({reinterpret_cast<const char*>(data), size}, "fuzz");
  if (!labels.ok()) return 0;
  if (labels->empty()) std::abort();
  for (const auto& [name, label] : *labels) {
    if (name.empty() || label.empty() || !octavo::IsUtf8(name) || !octavo::IsUtf8(label)) std::abort();
    if (name.find_first_of("/\n") != std::string::npos || label.find('\n') != std::string::npos) std::abort();
  }
  return 0;
}
