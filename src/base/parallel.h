// Loops over a fixed number of threads, on OpenMP: the same pool that oneDNN uses.
#pragma once

#include <algorithm>
#include <cstdint>

#include <omp.h>

namespace octavo {

// Calls fn(begin, end) on disjoint ranges that cover [0, count), on at most `threads` threads and with at least
// `grain` items each. The partition depends on (threads, count, grain) only, so results do too.
template <typename Fn>
void ParallelFor(int threads, int64_t count, int64_t grain, Fn&& fn) {
  if (count <= 0) return;
  const int64_t parts = std::min<int64_t>(threads, std::max<int64_t>(1, count / std::max<int64_t>(1, grain)));
  if (parts <= 1) {
    fn(int64_t{0}, count);
    return;
  }
#pragma omp parallel for num_threads(static_cast<int>(parts)) schedule(static, 1)
  for (int64_t part = 0; part < parts; ++part) fn(count * part / parts, count * (part + 1) / parts);
}

}  // namespace octavo
