// What this process has resident, in bytes; 0 where the system does not say.
#pragma once

#include <cstdint>

namespace octavo {

int64_t ResidentBytes();
// The most that was resident. (getrusage's figure starts from what the parent had when it started this program.)
int64_t ResidentPeakBytes();
// Gives freed memory back to the system, so that ResidentBytes means what is in use.
void ReleaseFreedMemory();

}  // namespace octavo
