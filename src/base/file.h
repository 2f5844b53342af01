// Files: read with a bound, written whole or not at all. Errors name the path and the system's reason.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "octavo/status.h"

namespace octavo {

// Owns a file descriptor; -1 is none.
class FileDescriptor {
 public:
  FileDescriptor() = default;
  explicit FileDescriptor(int fd) : fd_(fd) {}
  FileDescriptor(FileDescriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  FileDescriptor& operator=(FileDescriptor&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~FileDescriptor();

  int get() const { return fd_; }
  // Closes now. Error: what close() reports, which may be a write that failed late.
  Status Close(const std::string& path);

 private:
  int fd_ = -1;
};

// kNotFound when there is no such file or folder on the way to it, else kIo: "cannot <doing> '<path>': <reason>".
Status SystemError(std::string_view doing, const std::string& path, int error_number);

Result<FileDescriptor> OpenForReading(const std::string& path);
// Bytes of a regular file. Error: anything else, a folder above all.
Result<int64_t> RegularFileSize(const FileDescriptor& file, const std::string& path);

// The whole of a file. Errors: kNotFound, kIo, and kBadFile when it holds more than `max_bytes`, which is found before
// that much is allocated.
Result<std::vector<std::byte>> ReadFile(const std::string& path, int64_t max_bytes);

// Writes a file that appears under its name whole or not at all: into a temporary file of the same folder, which Commit
// makes durable and renames. Without Commit the temporary file is removed and an older file stays as it was.
class AtomicFileWriter {
 public:
  // Errors: a folder that is missing or not writable; a `path` that exists and is no regular file.
  static Result<AtomicFileWriter> Create(const std::string& path);
  AtomicFileWriter(AtomicFileWriter&& other) noexcept;
  AtomicFileWriter& operator=(AtomicFileWriter&& other) noexcept;
  ~AtomicFileWriter();

  Status Write(std::span<const std::byte> bytes);
  Status Write(std::string_view text) { return Write(std::as_bytes(std::span(text))); }
  Status Commit();
  // The same without making it durable: after a crash of the machine the file may be empty.
  Status CommitUnsynced();

 private:
  AtomicFileWriter(FileDescriptor file, std::string path, std::string temporary_path)
      : file_(std::move(file)), path_(std::move(path)), temporary_path_(std::move(temporary_path)) {}

  FileDescriptor file_;
  std::string path_;            // where the file will be; links resolved
  std::string temporary_path_;  // empty: committed or moved from
};

// AtomicFileWriter in one call.
Status WriteFile(const std::string& path, std::span<const std::byte> bytes);
Status WriteFile(const std::string& path, std::string_view text);

// "a/b" of "a/b/c.onnx", "." of "c.onnx", "/" of "/c.onnx".
std::string FolderOf(const std::string& path);

}  // namespace octavo
