// What timings are measured against, and how they are summed up.
#pragma once

#include <cstdint>
#include <vector>

#include "octavo/session.h"
#include "octavo/status.h"

namespace octavo {

// The fastest arithmetic that this machine shows right now.
struct MachinePeak {
  double gmacs_per_second = 0;  // the larger of the two below
  double matmul = 0;            // 10^9 multiply-accumulates per second of oneDNN's best matrix product
  double fma = 0;               // of register-only multiply-adds in every thread; float32 only, else 0
};

// Measures for about a second: matrix products of 512, 1024 and 2048 on `threads` threads (0: every core) and, for
// float32, a loop of vector multiply-adds that touches no memory. Each the best of several runs, so that a busy moment
// does not lower the peak. Holds at most 48 MB. Error: kInternal when oneDNN refuses.
Result<MachinePeak> MeasureMachinePeak(int threads, Precision precision);

// Of a series of times, in its unit. Percentiles interpolate between the two nearest ranks.
struct TimingSummary {
  double median = 0, p10 = 0, p90 = 0, min = 0;
};

// All zero for no times.
TimingSummary SummarizeTimings(std::vector<double> times);

// The most memory this process has held at once, in bytes (its high-water mark of resident pages).
int64_t PeakResidentBytes();

// Cores this process may run on: what "0 threads" means.
int AvailableCores();

}  // namespace octavo
