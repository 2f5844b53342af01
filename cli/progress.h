// Progress of anything that takes longer than two seconds: a bar with the time left on a terminal, a line per 10 %
// elsewhere. With --log json every phase tells its beginning, its end and at most ten steps a second, one object a
// line. Always on standard error.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace octavo::cli {

class Progress {
 public:
  // `what` is a gerund: "comparing". Nothing is shown before two seconds have passed. With a `unit` ("samples") the
  // speed is shown too. `done` of the total were done before, and not in this time.
  Progress(std::string what, int64_t total, std::string unit = {}, int64_t done = 0);
  // Clears the bar.
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  // One more of `total` is done.
  void Step();

 private:
  void Draw(double elapsed);
  void Log(double elapsed);
  void PrintLine(double elapsed);
  // "12/128, 3.4 samples/s, 0:35 left"
  std::string Numbers(double elapsed) const;

  std::string what_;
  int64_t total_;
  std::string unit_;
  int64_t done_before_;
  int64_t done_;
  int64_t tenths_shown_ = 0;
  double logged_ = 0;  // when, in seconds since the start
  bool on_terminal_;
  bool drawn_ = false;
  std::chrono::steady_clock::time_point start_;
};

}  // namespace octavo::cli
