// How many samples to run at a time and which tensors to observe in one sweep over the data, within a limit of memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "octavo/status.h"

namespace octavo {

struct SweepCosts {
  int64_t limit = 0;             // bytes that may be resident
  int64_t base = 0;              // resident whatever is planned
  int64_t per_thread = 0;        // a session, its activations, a sample being loaded
  std::vector<int64_t> tensors;  // of those still to be observed: their statistics while they are collected
};

struct SweepPlan {
  int threads = 1;
  size_t tensors = 0;  // of the first sweep: so many from the front
  int sweeps = 0;      // in all
};

// What the statistics of an earlier sweep take, as a file in memory, is taken to be this part of what they took while
// they were collected: a histogram's 32 KB are rarely more than 8 KB there.
inline constexpr int64_t kKeptDivisor = 3;

// The plan that takes the least time, sweeps over threads. Error: kInvalidArgument saying how much would be needed.
Result<SweepPlan> PlanSweep(const SweepCosts& costs, int most_threads);

}  // namespace octavo
