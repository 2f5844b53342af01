// What timings are measured against, and how they are summed up.
#pragma once

#include <cstdint>
#include <string_view>
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

// What this machine shows right now, on a number of threads: the roof that each step of a plan is held against.
struct MachineLimits {
  // 10^9 multiply-accumulates per second: the larger of oneDNN's best matrix product and a loop over registers.
  double float32 = 0, bfloat16 = 0, int8 = 0;  // bfloat16: as float32 where the CPU has no such instructions
  // 10^9 bytes per second, read and written, of copies whose source and target have `bytes` together and were just
  // copied: small ones stay in caches. Rising in bytes.
  struct Copy {
    int64_t bytes = 0;
    double rate = 0;
  };
  std::vector<Copy> copies;

  // Of StepInfo::precision: "int8", "bf16"; anything else is float32.
  double MacsPerSecond(std::string_view precision) const;
  // Of the largest copy that is not larger than `bytes`; of the smallest below.
  double BytesPerSecond(int64_t bytes) const;
};

// Measures for about two seconds, holds at most 70 MB. Error: kInternal when oneDNN refuses.
Result<MachineLimits> MeasureMachineLimits(int threads);

// Of a series of times, in its unit. Percentiles interpolate between the two nearest ranks.
struct TimingSummary {
  double median = 0, p10 = 0, p90 = 0, p99 = 0, min = 0;
};

// All zero for no times.
TimingSummary SummarizeTimings(std::vector<double> times);

// The most memory this process has held at once, in bytes (its high-water mark of resident pages).
int64_t PeakResidentBytes();

// Cores this process may run on: what "0 threads" means.
int AvailableCores();

}  // namespace octavo
