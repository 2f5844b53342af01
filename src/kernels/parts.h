// Parallel loops whose threads each own a part of the scratch memory.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <string>

#include "base/parallel.h"
#include "base/rounding.h"
#include "octavo/status.h"

namespace octavo {

// How many ranges ParallelForParts makes of [0, count): at most `threads`, each with at least `grain` items.
inline int64_t PartCount(int threads, int64_t count, int64_t grain) {
  return std::min<int64_t>(threads, std::max<int64_t>(1, count / std::max<int64_t>(1, grain)));
}

// Calls fn(part, begin, end) on disjoint ranges that cover [0, count); part < PartCount(threads, count, grain).
template <typename Fn>
void ParallelForParts(int threads, int64_t count, int64_t grain, Fn&& fn) {
  const int64_t parts = PartCount(threads, count, grain);
  ParallelFor(threads, parts, 1, [&](int64_t begin, int64_t end) {
    for (int64_t part = begin; part < end; ++part) fn(part, count * part / parts, count * (part + 1) / parts);
  });
}

// The same for parts that can fail: kernels that were built do not, so this is for what cannot be foreseen.
template <typename Fn>
Status TryForParts(int threads, int64_t count, int64_t grain, const char* what, Fn&& fn) {
  std::atomic<bool> failed{false};
  ParallelForParts(threads, count, grain, [&](int64_t part, int64_t begin, int64_t end) {
    if (!fn(static_cast<int>(part), begin, end).ok()) failed = true;
  });
  return failed ? InternalError(std::string(what) + " failed") : Status();
}

// Places in a part of the scratch memory, each on a cache line of its own.
class ScratchLayout {
 public:
  // The offset of `bytes` more.
  int64_t Place(int64_t bytes) {
    const int64_t offset = bytes_;
    bytes_ += RoundUp(bytes, 64);
    return offset;
  }
  int64_t bytes() const { return bytes_; }

 private:
  int64_t bytes_ = 0;
};

}  // namespace octavo
