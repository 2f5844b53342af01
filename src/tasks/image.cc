#include "octavo/image.h"

#include <new>

#include "base/file.h"
#include "base/quote.h"
#include "tasks/image_codecs.h"

namespace octavo {

Image MakeImage(int width, int height, int channels) {
  Image image{width, height, channels, {}};
  image.pixels.resize(static_cast<size_t>(width) * static_cast<size_t>(height) * static_cast<size_t>(channels));
  return image;
}

Status CheckImageSize(uint64_t width, uint64_t height) {
  const std::string size = std::to_string(width) + "x" + std::to_string(height) + " pixels";
  if (width == 0 || height == 0) return BadFile("a picture of " + size);
  if (width > kMaxImageSide || height > kMaxImageSide || width * height > uint64_t{kMaxImagePixels}) {
    return BadFile("a picture of " + size + " is too large: at most " + std::to_string(kMaxImagePixels / 1'000'000) +
                   " megapixels and " + std::to_string(kMaxImageSide) + " on a side are read");
  }
  return {};
}

Result<Image> DecodeImage(std::span<const std::byte> bytes, const std::string& name) {
  const std::string prefix = Quote(name) + ": ";
  if (bytes.empty()) return BadFile(prefix + "the file is empty");
  try {
    auto image = IsJpeg(bytes)  ? DecodeJpeg(bytes)
                 : IsPng(bytes) ? DecodePng(bytes)
                                : Result<Image>(Unsupported("not a JPEG or PNG picture"));
    if (!image.ok()) return image.status().WithPrefix(prefix);
    return image;
  } catch (const std::bad_alloc&) {
    return IoError(prefix + "there is not enough memory for the picture");
  }
}

Result<Image> LoadImage(const std::string& path) {
  OCTAVO_ASSIGN(const auto bytes, ReadFile(path, kMaxImageFileBytes));
  return DecodeImage(bytes, path);
}

Status SavePng(const std::string& path, const Image& image) {
  try {
    auto bytes = EncodePng(image);
    if (!bytes.ok()) return bytes.status().WithPrefix(Quote(path) + ": ");
    return WriteFile(path, *bytes);
  } catch (const std::bad_alloc&) {
    return IoError(Quote(path) + ": there is not enough memory to write the picture");
  }
}

}  // namespace octavo
