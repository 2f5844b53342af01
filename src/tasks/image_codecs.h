// The two picture formats, on bytes in memory. Messages leave the file's name to the caller.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "octavo/image.h"
#include "octavo/status.h"

namespace octavo {

// Error when a header's size is zero or beyond the limits of image.h; checked before pixels are allocated.
Status CheckImageSize(uint64_t width, uint64_t height);

bool IsJpeg(std::span<const std::byte> bytes);
Result<Image> DecodeJpeg(std::span<const std::byte> bytes);

bool IsPng(std::span<const std::byte> bytes);
Result<Image> DecodePng(std::span<const std::byte> bytes);

}  // namespace octavo
