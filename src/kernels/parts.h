// Parallel loops whose threads each own a part of the scratch memory.
#pragma once

#include <algorithm>
#include <cstdint>

#include "base/parallel.h"

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

}  // namespace octavo
