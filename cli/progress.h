// Progress of anything that takes longer than two seconds: a bar with the time left on a terminal, a line per 10 %
// elsewhere. Always on standard error.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace octavo::cli {

class Progress {
 public:
  // `what` is a gerund: "comparing". Nothing is shown before two seconds have passed.
  Progress(std::string what, int64_t total);
  // Clears the bar.
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  // One more of `total` is done.
  void Step();

 private:
  void Draw(double elapsed);
  void PrintLine(double elapsed);

  std::string what_;
  int64_t total_;
  int64_t done_ = 0;
  int64_t tenths_shown_ = 0;
  bool on_terminal_;
  bool drawn_ = false;
  std::chrono::steady_clock::time_point start_;
};

}  // namespace octavo::cli
