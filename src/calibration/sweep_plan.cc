#include "calibration/sweep_plan.h"

#include <fmt/format.h>

#include <algorithm>

namespace octavo {
namespace {

// Sweeps over the tensors with `room` for statistics; 0 when they do not fit. `first` becomes the first sweep's size.
int CountSweeps(const std::vector<int64_t>& tensors, int64_t room, size_t& first) {
  int sweeps = 0;
  for (size_t begin = 0; begin < tensors.size(); ++sweeps) {
    int64_t bytes = 0;
    size_t end = begin;
    while (end < tensors.size() && bytes + tensors[end] <= room) bytes += tensors[end++];
    if (end == begin) return 0;
    if (sweeps == 0) first = end;
    room -= bytes / kKeptDivisor;
    begin = end;
  }
  return sweeps;
}

int64_t Megabytes(int64_t bytes) { return (bytes + (int64_t{1} << 20) - 1) >> 20; }

// With one thread and one tensor to a sweep: everything kept, and the last tensor growing.
int64_t LeastBytes(const SweepCosts& costs) {
  int64_t kept = 0, most = 0;
  for (const int64_t bytes : costs.tensors) {
    most = std::max(most, kept + bytes);
    kept += bytes / kKeptDivisor;
  }
  return costs.base + costs.per_thread + most;
}

}  // namespace

Result<SweepPlan> PlanSweep(const SweepCosts& costs, int most_threads) {
  SweepPlan best;
  for (int threads = most_threads; threads >= 1; --threads) {
    size_t first = 0;
    const int sweeps = CountSweeps(costs.tensors, costs.limit - costs.base - threads * costs.per_thread, first);
    if (sweeps == 0) continue;
    const bool faster = best.sweeps == 0 || int64_t{sweeps} * best.threads < int64_t{best.sweeps} * threads;
    if (faster) best = {threads, first, sweeps};
  }
  if (best.sweeps > 0) return best;
  return InvalidArgument(fmt::format(
      "{} MB of memory are not enough: the model, one sample and the statistics of a tensor at a time need {} MB",
      costs.limit >> 20, Megabytes(LeastBytes(costs))));
}

}  // namespace octavo
