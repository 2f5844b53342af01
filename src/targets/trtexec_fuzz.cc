// Bytes as a command line of trtexec: an error, or flags that writing for a shell and reading again give back.
#include <cstdlib>

#include "octavo/tensorrt.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto line = octavo::ParseTrtexec({reinterpret_cast<const char*>(data), size});
  if (!line.ok()) return 0;
  std::string text = "trtexec";
  for (const std::string& argument : octavo::TrtexecArguments(*line))
    text.append(1, ' ').append(octavo::ShellWord(argument));
  const auto again = octavo::ParseTrtexec(text);
  if (!again.ok() || octavo::TrtexecArguments(*again) != octavo::TrtexecArguments(*line)) std::abort();
  if (!octavo::ParseTrtexec(octavo::FormatTrtexecScript(*line, {"comment"})).ok()) std::abort();
  return 0;
}
