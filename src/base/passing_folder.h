// A folder for files that pass between processes.
#pragma once

#include <sys/types.h>

#include <string>

#include "base/file.h"
#include "octavo/status.h"

namespace octavo {

// A new folder that nobody else can enter (0700), under $TMPDIR or /tmp. It goes away on destruction; where the process
// ends in any other way, by a signal or a crash, a shell removes it that was started with it and waits for that.
class PassingFolder {
 public:
  // Errors: kIo, kNotFound: the folder cannot be made, no shell can be started.
  static Result<PassingFolder> Create();
  PassingFolder(PassingFolder&& other) noexcept;
  PassingFolder& operator=(PassingFolder&& other) noexcept;
  ~PassingFolder();

  const std::string& path() const { return path_; }
  // A process group that is killed, too, if this process ends without having removed the folder; 0: none.
  void EndWithUs(pid_t group) const;

 private:
  PassingFolder() = default;
  std::string path_;     // empty: moved from
  FileDescriptor line_;  // to the shell, which acts when it is closed
  pid_t shell_ = 0;
};

}  // namespace octavo
