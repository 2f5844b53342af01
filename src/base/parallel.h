// Loops over a fixed number of threads, on OpenMP: the same pool that oneDNN uses.
#pragma once

#include <omp.h>

#include <algorithm>
#include <cstdint>
#ifdef OCTAVO_STD_THREADS
#include <thread>
#include <vector>
#endif

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
#ifdef OCTAVO_STD_THREADS
  // ThreadSanitizer cannot see libgomp's barriers: under it these are threads whose start and end it knows.
  std::vector<std::thread> workers;
  for (int64_t part = 1; part < parts; ++part) {
    workers.emplace_back([&, part] { fn(count * part / parts, count * (part + 1) / parts); });
  }
  fn(int64_t{0}, count / parts);
  for (auto& worker : workers) worker.join();
#else
  const int team = static_cast<int>(parts);
#pragma omp parallel for num_threads(team) schedule(static, 1)
  for (int64_t part = 0; part < parts; ++part) fn(count * part / parts, count * (part + 1) / parts);
#endif
}

}  // namespace octavo
