#include "base/child_process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

extern char** environ;

namespace octavo {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

// How long to wait for output before looking whether the child has ended: what it started may hold its pipes open.
constexpr milliseconds kLook{20};

class SpawnSettings {
 public:
  explicit SpawnSettings(const ChildStreams& streams) {
    posix_spawn_file_actions_init(&actions_);
    posix_spawnattr_init(&attributes_);
    Direct(streams.in, 0, O_RDONLY);
    Direct(streams.out, 1, O_WRONLY);
    Direct(streams.error, 2, O_WRONLY);
    sigset_t none, all;
    sigemptyset(&none);
    sigfillset(&all);
    posix_spawnattr_setsigmask(&attributes_, &none);
    posix_spawnattr_setsigdefault(&attributes_, &all);
    posix_spawnattr_setpgroup(&attributes_, 0);
    posix_spawnattr_setflags(&attributes_, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  }
  SpawnSettings(const SpawnSettings&) = delete;
  SpawnSettings& operator=(const SpawnSettings&) = delete;
  ~SpawnSettings() {
    posix_spawn_file_actions_destroy(&actions_);
    posix_spawnattr_destroy(&attributes_);
  }

  const posix_spawn_file_actions_t* actions() const { return &actions_; }
  const posix_spawnattr_t* attributes() const { return &attributes_; }

 private:
  void Direct(int from, int to, int mode) {
    if (from < 0)
      posix_spawn_file_actions_addopen(&actions_, to, "/dev/null", mode, 0);
    else
      posix_spawn_file_actions_adddup2(&actions_, from, to);
  }

  posix_spawn_file_actions_t actions_;
  posix_spawnattr_t attributes_;
};

// A shell that becomes the program of its arguments once it is told to; never, when this process ends before. It holds
// the child's start back until somebody knows of it: a process that is killed between the two would leave it behind.
constexpr char kGate[] = R"(read -r go && exec "$@" </dev/null)";

struct Pipe {
  FileDescriptor read, write;
  static Result<Pipe> Open() {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) return SystemError("open", "a pipe", errno);
    Pipe pipe{FileDescriptor(ends[0]), FileDescriptor(ends[1])};
    // The child may leave the pipe open to others for good: reading must not wait for them.
    fcntl(ends[0], F_SETFL, O_NONBLOCK);
    return pipe;
  }
};

// Appends what is there. False: no more will come.
bool Drain(int fd, std::string& text) {
  char buffer[4096];
  while (true) {
    const ssize_t got = read(fd, buffer, sizeof buffer);
    if (got > 0) {
      text.append(buffer, static_cast<size_t>(got));
      if (got == static_cast<ssize_t>(sizeof buffer)) continue;
      return true;
    }
    if (got < 0 && errno == EINTR) continue;
    return got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK);
  }
}

// One child while it runs.
class Watch {
 public:
  Watch(pid_t child, Pipe out, Pipe error, const ChildLimits& limits)
      : child_(child), out_(std::move(out)), error_(std::move(error)), limits_(limits) {
    // Only the child writes; else its end would never come.
    (void)out_.write.Close("a pipe");
    (void)error_.write.Close("a pipe");
  }

  Result<ChildOutcome> Run() {
    const Clock::time_point until = Clock::now() + limits_.time;
    bool out_open = true, error_open = true;
    while (!Ended()) {
      const auto left = std::chrono::duration_cast<milliseconds>(until - Clock::now());
      if (left.count() <= 0) return Stop(ChildOutcome::End::kTimeout);
      Wait(out_open, error_open, std::min(left, kLook));
      Read(out_open, error_open);
      if (outcome_.output.size() > limits_.output_bytes) return Stop(ChildOutcome::End::kTooMuchOutput);
    }
    Read(out_open, error_open);
    if (outcome_.output.size() > limits_.output_bytes) return Stop(ChildOutcome::End::kTooMuchOutput);
    kill(-child_, SIGKILL);
    int status = 0;
    OCTAVO_RETURN_IF_ERROR(Reap(status));
    outcome_.end = WIFSIGNALED(status) ? ChildOutcome::End::kSignal : ChildOutcome::End::kExit;
    outcome_.code = WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status);
    return std::move(outcome_);
  }

 private:
  // Without taking its exit code: as long as that is there, no other process group can have its number.
  bool Ended() const {
    siginfo_t info = {};
    return waitid(P_PID, static_cast<id_t>(child_), &info, WEXITED | WNOHANG | WNOWAIT) != 0 || info.si_pid == child_;
  }

  void Wait(bool out_open, bool error_open, milliseconds time) const {
    pollfd files[] = {{out_open ? out_.read.get() : -1, POLLIN, 0}, {error_open ? error_.read.get() : -1, POLLIN, 0}};
    poll(files, 2, static_cast<int>(time.count()));
  }

  void Read(bool& out_open, bool& error_open) {
    out_open = out_open && Drain(out_.read.get(), outcome_.output);
    error_open = error_open && Drain(error_.read.get(), outcome_.error);
    if (outcome_.error.size() > limits_.error_bytes) {
      outcome_.error.erase(0, outcome_.error.size() - limits_.error_bytes);
    }
  }

  Status Reap(int& status) const {
    while (waitpid(child_, &status, 0) < 0) {
      if (errno != EINTR) return SystemError("wait for", "a program", errno);
    }
    return {};
  }

  Result<ChildOutcome> Stop(ChildOutcome::End end) {
    kill(-child_, SIGKILL);
    int status = 0;
    OCTAVO_RETURN_IF_ERROR(Reap(status));
    outcome_.end = end;
    return std::move(outcome_);
  }

  const pid_t child_;
  Pipe out_, error_;
  const ChildLimits limits_;
  ChildOutcome outcome_;
};

}  // namespace

Result<pid_t> StartChild(const std::vector<std::string>& arguments, const ChildStreams& streams) {
  std::vector<char*> argv;
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  const SpawnSettings settings(streams);
  pid_t child = 0;
  const int error = posix_spawn(&child, argv[0], settings.actions(), settings.attributes(), argv.data(), environ);
  if (error != 0) return SystemError("start", arguments[0], error);
  return child;
}

Result<ChildLine> ChildLine::Open() {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) return SystemError("open", "a socket", errno);
  return ChildLine{FileDescriptor(ends[0]), FileDescriptor(ends[1])};
}

void SendLine(const FileDescriptor& line, const std::string& text) {
  const std::string whole = text + "\n";
  (void)send(line.get(), whole.data(), whole.size(), MSG_NOSIGNAL);
}

Result<ChildOutcome> RunChild(const std::vector<std::string>& arguments, const ChildLimits& limits,
                              const std::function<void(pid_t)>& started) {
  OCTAVO_ASSIGN(Pipe out, Pipe::Open());
  OCTAVO_ASSIGN(Pipe error, Pipe::Open());
  OCTAVO_ASSIGN(const ChildLine gate, ChildLine::Open());
  std::vector<std::string> gated = {"/bin/sh", "-c", kGate, "sh"};
  gated.insert(gated.end(), arguments.begin(), arguments.end());
  OCTAVO_ASSIGN(const pid_t child, StartChild(gated, {gate.theirs.get(), out.write.get(), error.write.get()}));
  if (started) started(child);
  SendLine(gate.ours, "");
  return Watch(child, std::move(out), std::move(error), limits).Run();
}

}  // namespace octavo
