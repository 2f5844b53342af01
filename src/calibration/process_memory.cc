#include "calibration/process_memory.h"

#include <malloc.h>

#include <fstream>
#include <string>

namespace octavo {
namespace {

// "VmRSS:     1234 kB"
int64_t StatusField(const std::string& field) {
  std::ifstream status("/proc/self/status");
  std::string line;
  while (std::getline(status, line)) {
    if (line.rfind(field + ":", 0) == 0) return 1024 * std::atoll(line.c_str() + field.size() + 1);
  }
  return 0;
}

}  // namespace

int64_t ResidentBytes() { return StatusField("VmRSS"); }
int64_t ResidentPeakBytes() { return StatusField("VmHWM"); }
void ReleaseFreedMemory() { malloc_trim(0); }

}  // namespace octavo
