// An orderly end on SIGINT and SIGTERM.
#pragma once

#include <atomic>
#include <csignal>

namespace octavo::cli {

// While it lives, the first signal sets `requested`; the second one ends the process at once.
class StopOnSignals {
 public:
  StopOnSignals();
  ~StopOnSignals();
  StopOnSignals(const StopOnSignals&) = delete;
  StopOnSignals& operator=(const StopOnSignals&) = delete;

  static std::atomic<bool> requested;

 private:
  struct sigaction int_before_ = {}, term_before_ = {};
};

}  // namespace octavo::cli
