#include "base/passing_folder.h"

#include <stdlib.h>
#include <sys/wait.h>

#include <cerrno>
#include <filesystem>
#include <utility>

#include "base/child_process.h"

namespace octavo {
namespace {

namespace fs = std::filesystem;

// Each line names the process group that is to end; the last one counts.
constexpr char kGuard[] =
    R"(trap '' HUP INT QUIT TERM
group=
while read -r line; do group=$line; done
[ -z "$group" ] || kill -s KILL -- "-$group"
rm -rf -- "$1")";

}  // namespace

Result<PassingFolder> PassingFolder::Create() {
  PassingFolder folder;
  std::error_code error;
  std::string pattern = (fs::temp_directory_path(error) / "octavo-XXXXXX").string();
  if (error) return SystemError("find", "a folder for temporary files ($TMPDIR)", error.value());
  if (mkdtemp(pattern.data()) == nullptr) return SystemError("make folder", pattern, errno);
  folder.path_ = pattern;
  OCTAVO_ASSIGN(ChildLine line, ChildLine::Open());
  folder.line_ = std::move(line.ours);
  OCTAVO_ASSIGN(folder.shell_, StartChild({"/bin/sh", "-c", kGuard, "sh", folder.path_}, {line.theirs.get(), -1, -1}));
  return folder;
}

PassingFolder::PassingFolder(PassingFolder&& other) noexcept
    : path_(std::exchange(other.path_, {})), line_(std::move(other.line_)), shell_(std::exchange(other.shell_, 0)) {}

PassingFolder& PassingFolder::operator=(PassingFolder&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(line_, other.line_);
  std::swap(shell_, other.shell_);
  return *this;
}

PassingFolder::~PassingFolder() {
  if (path_.empty()) return;
  std::error_code ignored;
  fs::remove_all(path_, ignored);
  (void)line_.Close(path_);
  while (shell_ > 0 && waitpid(shell_, nullptr, 0) < 0 && errno == EINTR) {
  }
}

void PassingFolder::EndWithUs(pid_t group) const { SendLine(line_, group > 0 ? std::to_string(group) : ""); }

}  // namespace octavo
