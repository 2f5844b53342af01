#include "progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "console.h"

namespace octavo::cli {
namespace {

constexpr double kQuietSeconds = 2;
constexpr double kLogSeconds = 0.1;

std::string Clock(double seconds) {
  const auto whole = std::llround(seconds);
  return fmt::format("{}:{:02}", whole / 60, whole % 60);
}

}  // namespace

Progress::Progress(std::string what, int64_t total, std::string unit, int64_t done)
    : what_(std::move(what)),
      total_(std::max<int64_t>(total, 1)),
      unit_(std::move(unit)),
      done_before_(done),
      done_(done),
      tenths_shown_(10 * done / total_),
      on_terminal_(isatty(STDERR_FILENO) == 1),
      start_(std::chrono::steady_clock::now()) {
  if (LogsJson()) Log(0);
}

Progress::~Progress() {
  if (drawn_) fmt::print(stderr, "\r\x1b[K");
}

void Progress::Step() {
  done_ = std::min(done_ + 1, total_);
  const double elapsed = std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  if (LogsJson()) {
    if (done_ == total_ || elapsed - logged_ >= kLogSeconds) Log(elapsed);
    return;
  }
  if (elapsed < kQuietSeconds) return;
  if (on_terminal_) {
    Draw(elapsed);
  } else {
    PrintLine(elapsed);
  }
}

std::string Progress::Numbers(double elapsed) const {
  const auto done = static_cast<double>(done_ - done_before_);
  const double left = elapsed / done * static_cast<double>(total_ - done_);
  const std::string speed = unit_.empty() ? "" : fmt::format(", {:.3g} {}/s", done / elapsed, unit_);
  return fmt::format("{}/{}{}, {} left", done_, total_, speed, Clock(left));
}

void Progress::Log(double elapsed) {
  logged_ = elapsed;
  const auto done = static_cast<double>(done_ - done_before_);
  const Json left = done > 0 ? Json(elapsed / done * static_cast<double>(total_ - done_)) : Json();
  LogLine({{"event", "progress"},
           {"phase", what_},
           {"done", done_},
           {"total", total_},
           {"unit", unit_},
           {"seconds", elapsed},
           {"seconds_left", left}});
}

void Progress::Draw(double elapsed) {
  constexpr int64_t kWidth = 30;
  const auto filled = static_cast<size_t>(kWidth * done_ / total_);
  fmt::print(stderr, "\r\x1b[K{} [{}{}] {}", what_, std::string(filled, '#'),
             std::string(static_cast<size_t>(kWidth) - filled, '.'), Numbers(elapsed));
  std::fflush(stderr);
  drawn_ = true;
}

void Progress::PrintLine(double elapsed) {
  const int64_t tenths = 10 * done_ / total_;
  if (tenths <= tenths_shown_) return;
  tenths_shown_ = tenths;
  fmt::print(stderr, "{}: {} %, {}\n", what_, 10 * tenths, Numbers(elapsed));
}

}  // namespace octavo::cli
