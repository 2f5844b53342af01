#include "stop_on_signals.h"

namespace octavo::cli {
namespace {

void RequestStop(int) { StopOnSignals::requested.store(true); }

}  // namespace

std::atomic<bool> StopOnSignals::requested = false;

StopOnSignals::StopOnSignals() {
  struct sigaction action = {};
  action.sa_handler = RequestStop;
  action.sa_flags = SA_RESETHAND | SA_RESTART;
  sigaction(SIGINT, &action, &int_before_);
  sigaction(SIGTERM, &action, &term_before_);
}

StopOnSignals::~StopOnSignals() {
  sigaction(SIGINT, &int_before_, nullptr);
  sigaction(SIGTERM, &term_before_, nullptr);
}

}  // namespace octavo::cli
