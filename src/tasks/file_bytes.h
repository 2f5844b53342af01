// Whole files in and out, as the picture and array formats want them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "octavo/status.h"

namespace octavo {

// The bytes of a regular file of at most `limit` bytes. Errors name the path.
Result<std::vector<std::byte>> ReadFileBytes(const std::string& path, int64_t limit);

// Writes the parts one after another; the file appears whole or not at all.
Status WriteFileBytes(const std::string& path, std::span<const std::span<const std::byte>> parts);
inline Status WriteFileBytes(const std::string& path, std::span<const std::byte> bytes) {
  const std::span<const std::byte> parts[] = {bytes};
  return WriteFileBytes(path, parts);
}

}  // namespace octavo
