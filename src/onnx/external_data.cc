#include "onnx/external_data.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <string_view>
#include <utility>

#include "base/quote.h"

namespace octavo {
namespace {

// Tied weights may share a range; a model that asks for many times what the file holds is after our memory.
constexpr int64_t kMaxReadsOfEachByte = 4;

Status CheckLocation(std::string_view location) {
  const auto refuse = [&](const char* why) {
    return BadFile("its external data " + Quote(location) + " " + why + "; it must lie inside the model's folder");
  };
  if (location.empty()) return BadFile("its external data has no location");
  if (location.find('\0') != std::string_view::npos) return refuse("has a NUL in its path");
  if (location.front() == '/') return refuse("is an absolute path");
  while (!location.empty()) {
    const size_t slash = std::min(location.find('/'), location.size());
    if (location.substr(0, slash) == "..") return refuse("has '..' in its path");
    location.remove_prefix(std::min(slash + 1, location.size()));
  }
  return {};
}

Result<std::string> RealPath(const std::string& path) {
  const std::unique_ptr<char, decltype(&free)> resolved(realpath(path.c_str(), nullptr), &free);
  if (resolved == nullptr) return SystemError("open", path, errno);
  return std::string(resolved.get());
}

// Opens `relative`, which holds no links any more, below `root`: one component at a time and following nothing, so that
// a link put there since it was resolved cannot lead away.
Result<FileDescriptor> OpenBelow(const std::string& root, std::string_view relative) {
  FileDescriptor at(open(root.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  while (at.get() >= 0 && !relative.empty()) {
    const size_t slash = relative.find('/');
    const std::string component(relative.substr(0, slash));
    // O_NONBLOCK: a FIFO opens at once and is refused later, for it is no regular file.
    const int kind = slash == std::string_view::npos ? O_NONBLOCK : O_DIRECTORY;
    at = FileDescriptor(openat(at.get(), component.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC | kind));
    relative.remove_prefix(slash == std::string_view::npos ? relative.size() : slash + 1);
  }
  if (at.get() < 0) return SystemError("open", root + "/" + std::string(relative), errno);
  return at;
}

}  // namespace

Result<ExternalData::File*> ExternalData::Open(const std::string& location) {
  if (const auto found = files_.find(location); found != files_.end()) return &found->second;
  OCTAVO_RETURN_IF_ERROR(CheckLocation(location));
  if (folder_.empty()) {
    return InvalidArgument("its data is in an external file " + Quote(location) +
                           ", but the model was given without the folder it lies in");
  }
  OCTAVO_ASSIGN(std::string root, RealPath(folder_));
  OCTAVO_ASSIGN(const std::string path, RealPath(folder_ + "/" + location));
  if (root != "/") root += '/';
  if (!path.starts_with(root)) {
    return BadFile("its external data " + Quote(location) + " leaves the model's folder through a link");
  }
  OCTAVO_ASSIGN(FileDescriptor descriptor, OpenBelow(root, std::string_view(path).substr(root.size())));
  OCTAVO_ASSIGN(const int64_t size, RegularFileSize(descriptor, path));
  return &files_.emplace(location, File{std::move(descriptor), size}).first->second;
}

Status ExternalData::Check(const ExternalRange& range, int64_t bytes) {
  if (range.offset < 0) return BadFile("its external data has a negative offset");
  if (range.length >= 0 && range.length != bytes) {
    return BadFile("its external data is stated as " + std::to_string(range.length) +
                   " bytes, but its type and shape need " + std::to_string(bytes));
  }
  OCTAVO_ASSIGN(File * file, Open(range.location));
  if (range.offset > file->size || bytes > file->size - range.offset) {
    return BadFile("its external data " + Quote(range.location) + " is shorter than stated: " + std::to_string(bytes) +
                   " bytes at offset " + std::to_string(range.offset) + " of a file of " + std::to_string(file->size));
  }
  if (bytes > kMaxReadsOfEachByte * file->size - file->granted) {
    return BadFile("the tensors up to this one ask for many times what its external data " + Quote(range.location) +
                   " holds");
  }
  file->granted += bytes;
  return {};
}

Status ExternalData::Read(const ExternalRange& range, std::span<std::byte> out) {
  OCTAVO_ASSIGN(const File* file, Open(range.location));
  int64_t at = range.offset;
  while (!out.empty()) {
    const ssize_t got = pread(file->descriptor.get(), out.data(), out.size(), at);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return SystemError("read", range.location, errno);
    if (got == 0) return BadFile("its external data " + Quote(range.location) + " became shorter while it was read");
    at += got;
    out = out.subspan(static_cast<size_t>(got));
  }
  return {};
}

}  // namespace octavo
