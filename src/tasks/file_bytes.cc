#include "tasks/file_bytes.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <new>

#include "base/quote.h"

namespace octavo {
namespace {

class FileDescriptor {
 public:
  explicit FileDescriptor(int value) : value_(value) {}
  FileDescriptor(const FileDescriptor&) = delete;
  FileDescriptor& operator=(const FileDescriptor&) = delete;
  ~FileDescriptor() {
    if (value_ >= 0) close(value_);
  }
  int get() const { return value_; }
  bool Close() {
    const int closed = close(value_);
    value_ = -1;
    return closed == 0;
  }

 private:
  int value_;
};

Status SystemError(const std::string& path, const char* what) {
  const int error = errno;
  const std::string message = Quote(path) + ": " + what + ": " + std::strerror(error);
  return error == ENOENT ? NotFound(message) : IoError(message);
}

bool WriteAll(int file, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t written = write(file, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return false;
    bytes = bytes.subspan(static_cast<size_t>(written));
  }
  return true;
}

bool ReadAll(int file, std::span<std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t got = read(file, bytes.data(), bytes.size());
    if (got < 0 && errno == EINTR) continue;
    if (got == 0) errno = EIO;  // the file became shorter while it was read
    if (got <= 0) return false;
    bytes = bytes.subspan(static_cast<size_t>(got));
  }
  return true;
}

}  // namespace

Result<std::vector<std::byte>> ReadFileBytes(const std::string& path, int64_t limit) {
  const FileDescriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (file.get() < 0) return SystemError(path, "cannot be opened");
  struct stat info {};
  if (fstat(file.get(), &info) != 0) return SystemError(path, "cannot be read");
  if (!S_ISREG(info.st_mode)) return BadFile(Quote(path) + ": not a regular file");
  if (info.st_size > limit) {
    return BadFile(Quote(path) + ": " + std::to_string(info.st_size) + " bytes are more than the " +
                   std::to_string(limit) + " that are read");
  }
  try {
    std::vector<std::byte> bytes(static_cast<size_t>(info.st_size));
    if (!ReadAll(file.get(), bytes)) return SystemError(path, "cannot be read");
    return bytes;
  } catch (const std::bad_alloc&) {
    return IoError(Quote(path) + ": there is not enough memory to read it");
  }
}

Status WriteFileBytes(const std::string& path, std::span<const std::span<const std::byte>> parts) {
  std::string temporary = path + ".XXXXXX";
  FileDescriptor file(mkstemp(temporary.data()));
  if (file.get() < 0) return SystemError(path, "cannot be written");
  const mode_t mask = umask(0);
  umask(mask);
  bool written = fchmod(file.get(), 0666 & ~mask) == 0;
  for (const auto part : parts) written = written && WriteAll(file.get(), part);
  written = written && fsync(file.get()) == 0 && file.Close();
  if (written && std::rename(temporary.c_str(), path.c_str()) == 0) return {};
  const Status status = SystemError(path, "cannot be written");
  unlink(temporary.c_str());
  return status;
}

}  // namespace octavo
