#pragma once

#include <chrono>

namespace octavo::cli {

// Milliseconds since it was made, or since the last Restart.
class Stopwatch {
 public:
  void Restart() { start_ = Clock::now(); }
  double Milliseconds() const { return std::chrono::duration<double, std::milli>(Clock::now() - start_).count(); }

 private:
  using Clock = std::chrono::steady_clock;
  Clock::time_point start_ = Clock::now();
};

}  // namespace octavo::cli
