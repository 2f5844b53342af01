// Programs that this one starts.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstddef>
#include <functional>
#include <string>
#include <vector>

#include "base/file.h"
#include "octavo/status.h"

namespace octavo {

// What a child has as standard input, output and error; -1: /dev/null.
struct ChildStreams {
  int in = -1, out = -1, error = -1;
};

// Starts `arguments[0]`, a path, in a process group of its own, so that an interrupt from the terminal is not its. No
// signal is blocked or ignored there. The caller waits for it. Error: kIo or kNotFound naming the program.
Result<pid_t> StartChild(const std::vector<std::string>& arguments, const ChildStreams& streams);

// Two ends of a line to a child. A socket and not a pipe: writing to a child that is gone must not end this process
// with SIGPIPE.
struct ChildLine {
  FileDescriptor ours, theirs;

  static Result<ChildLine> Open();
};
// Nothing where the other end is gone.
void SendLine(const FileDescriptor& line, const std::string& text);

struct ChildLimits {
  std::chrono::milliseconds time{0};
  size_t output_bytes = 0;  // of standard output
  size_t error_bytes = 0;   // of standard error, the last of which are kept
};

struct ChildOutcome {
  enum class End { kExit, kSignal, kTimeout, kTooMuchOutput };
  End end = End::kExit;
  int code = 0;  // of kExit the exit code, of kSignal the signal
  std::string output, error;
};

// Runs a program to its end; what is left of its process group then, and all of it when it passes a limit, is killed.
// `started` is told its process group before it begins. Waits for this child alone; a host that ignores SIGCHLD takes
// its exit code away, which is an error. A program that is not there ends with exit code 127. Errors: kIo.
Result<ChildOutcome> RunChild(const std::vector<std::string>& arguments, const ChildLimits& limits,
                              const std::function<void(pid_t)>& started = {});

}  // namespace octavo
