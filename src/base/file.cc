#include "base/file.h"

#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <memory>
#include <system_error>

#include "base/quote.h"

namespace octavo {
namespace {

// One call moves at most this much: Linux cuts transfers at 2^31 - 4096 bytes.
constexpr size_t kMaxTransfer = size_t{1} << 30;

// `path` with links resolved, so that renaming over it replaces the file and not the link to it.
std::string ResolveLink(const std::string& path) {
  struct stat info;
  if (lstat(path.c_str(), &info) != 0 || !S_ISLNK(info.st_mode)) return path;
  const std::unique_ptr<char, decltype(&free)> resolved(realpath(path.c_str(), nullptr), &free);
  return resolved != nullptr ? resolved.get() : path;
}

Result<FileDescriptor> CreateTemporary(const std::string& folder, std::string& temporary_path) {
  static std::atomic<unsigned> counter = 0;
  constexpr int kAttempts = 1000;
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    temporary_path = folder + "/.octavo-" + std::to_string(getpid()) + "-" + std::to_string(counter++) + ".tmp";
    const int fd = open(temporary_path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd >= 0) return FileDescriptor(fd);
    if (errno != EEXIST && errno != EINTR) return SystemError("write into folder", folder, errno);
  }
  return SystemError("write into folder", folder, EEXIST);
}

Status SyncFolder(const std::string& folder) {
  const FileDescriptor file(open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (file.get() < 0) return SystemError("open folder", folder, errno);
  // Some file systems cannot sync a folder and say EINVAL; there is nothing more to do on them.
  if (fsync(file.get()) != 0 && errno != EINVAL) return SystemError("sync folder", folder, errno);
  return {};
}

}  // namespace

FileDescriptor::~FileDescriptor() {
  if (fd_ >= 0) close(fd_);
}

Status FileDescriptor::Close(const std::string& path) {
  const int fd = std::exchange(fd_, -1);
  if (fd >= 0 && close(fd) != 0 && errno != EINTR) return SystemError("close", path, errno);
  return {};
}

Status SystemError(std::string_view doing, const std::string& path, int error_number) {
  const bool missing = error_number == ENOENT || error_number == ENOTDIR;
  return {missing ? ErrorCode::kNotFound : ErrorCode::kIo,
          "cannot " + std::string(doing) + " " + Quote(path) + ": " + std::generic_category().message(error_number)};
}

Result<FileDescriptor> OpenForReading(const std::string& path) {
  FileDescriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (file.get() < 0) return SystemError("open", path, errno);
  return file;
}

Result<int64_t> RegularFileSize(const FileDescriptor& file, const std::string& path) {
  struct stat info;
  if (fstat(file.get(), &info) != 0) return SystemError("read", path, errno);
  if (S_ISDIR(info.st_mode)) return SystemError("read", path, EISDIR);
  if (!S_ISREG(info.st_mode)) return IoError("cannot read " + Quote(path) + ": it is not a regular file");
  return static_cast<int64_t>(info.st_size);
}

Result<std::vector<std::byte>> ReadFile(const std::string& path, int64_t max_bytes) {
  OCTAVO_ASSIGN(const FileDescriptor file, OpenForReading(path));
  struct stat info;
  if (fstat(file.get(), &info) != 0) return SystemError("read", path, errno);
  const auto too_large = [&] {
    return BadFile(Quote(path) + " holds more than the " + std::to_string(max_bytes) + " bytes that are allowed here");
  };
  if (S_ISDIR(info.st_mode)) return SystemError("read", path, EISDIR);
  if (info.st_size > max_bytes) return too_large();
  try {
    // One byte more than stated, so that reading to the end needs no second look in the common case; a pipe states 0.
    std::vector<std::byte> bytes(static_cast<size_t>(std::max<int64_t>(info.st_size, 4095)) + 1);
    size_t filled = 0;
    while (true) {
      if (filled == bytes.size()) bytes.resize(2 * filled);
      const ssize_t got = read(file.get(), bytes.data() + filled, std::min(bytes.size() - filled, kMaxTransfer));
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) return SystemError("read", path, errno);
      if (got == 0) break;
      filled += static_cast<size_t>(got);
      if (filled > static_cast<size_t>(max_bytes)) return too_large();
    }
    bytes.resize(filled);
    return bytes;
  } catch (const std::bad_alloc&) {
    return SystemError("read", path, ENOMEM);
  }
}

Result<AtomicFileWriter> AtomicFileWriter::Create(const std::string& path) {
  std::string target = ResolveLink(path);
  struct stat info;
  if (stat(target.c_str(), &info) == 0 && !S_ISREG(info.st_mode)) {
    // Renaming over a device or a folder would remove it.
    if (S_ISDIR(info.st_mode)) return SystemError("write", path, EISDIR);
    return IoError("cannot write " + Quote(path) + ": it exists and is not a regular file");
  }
  std::string temporary_path;
  OCTAVO_ASSIGN(FileDescriptor file, CreateTemporary(FolderOf(target), temporary_path));
  return AtomicFileWriter(std::move(file), std::move(target), std::move(temporary_path));
}

AtomicFileWriter::AtomicFileWriter(AtomicFileWriter&& other) noexcept
    : file_(std::move(other.file_)),
      path_(std::move(other.path_)),
      temporary_path_(std::exchange(other.temporary_path_, {})) {}

AtomicFileWriter& AtomicFileWriter::operator=(AtomicFileWriter&& other) noexcept {
  std::swap(file_, other.file_);
  std::swap(path_, other.path_);
  std::swap(temporary_path_, other.temporary_path_);
  return *this;
}

AtomicFileWriter::~AtomicFileWriter() {
  if (!temporary_path_.empty()) unlink(temporary_path_.c_str());
}

Status AtomicFileWriter::Write(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t written = write(file_.get(), bytes.data(), std::min(bytes.size(), kMaxTransfer));
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return SystemError("write", path_, errno);
    bytes = bytes.subspan(static_cast<size_t>(written));
  }
  return {};
}

Status AtomicFileWriter::Commit() {
  if (fsync(file_.get()) != 0) return SystemError("sync", path_, errno);
  OCTAVO_RETURN_IF_ERROR(CommitUnsynced());
  return SyncFolder(FolderOf(path_));
}

Status AtomicFileWriter::CommitUnsynced() {
  OCTAVO_RETURN_IF_ERROR(file_.Close(path_));
  if (rename(temporary_path_.c_str(), path_.c_str()) != 0) return SystemError("write", path_, errno);
  temporary_path_.clear();
  return {};
}

Status WriteFile(const std::string& path, std::span<const std::byte> bytes) {
  OCTAVO_ASSIGN(AtomicFileWriter writer, AtomicFileWriter::Create(path));
  OCTAVO_RETURN_IF_ERROR(writer.Write(bytes));
  return writer.Commit();
}

Status WriteFile(const std::string& path, std::string_view text) {
  return WriteFile(path, std::as_bytes(std::span(text)));
}

std::string FolderOf(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

}  // namespace octavo
