// Weights that a model keeps in files beside it.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>

#include "base/file.h"
#include "octavo/status.h"

namespace octavo {

// Where a tensor's bytes lie, as the model states it.
struct ExternalRange {
  std::string location;  // relative to the model's folder
  int64_t offset = 0;
  int64_t length = -1;  // -1: not stated
};

// Reads ranges of files that lie inside one folder; files stay open between reads. Not thread safe.
class ExternalData {
 public:
  // `folder` empty: every read is an error.
  explicit ExternalData(std::string folder) : folder_(std::move(folder)) {}

  // Checks that the range is as long as `bytes` and lies inside its file, before anything is allocated.
  // Errors: kBadFile for a location that is absolute, has "..", or leaves the folder through a link, and for ranges
  // that do not fit; kNotFound, kIo.
  Status Check(const ExternalRange& range, int64_t bytes);
  // Fills `out` from a range that Check accepted.
  Status Read(const ExternalRange& range, std::span<std::byte> out);

 private:
  struct File {
    FileDescriptor descriptor;
    int64_t size = 0;
    int64_t granted = 0;  // sum over the ranges accepted so far
  };
  Result<File*> Open(const std::string& location);

  std::string folder_;
  std::map<std::string, File> files_;
};

}  // namespace octavo
