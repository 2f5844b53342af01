// Pictures: reading JPEG and PNG, writing PNG, resizing exactly as Pillow does.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "octavo/status.h"

namespace octavo {

// Rows from the top, pixels from the left, channels interleaved, 8 bits each, no padding between rows.
// Channels: 1 grey (masks: 0 and 255), 3 RGB, 4 RGBA. LoadImage always gives 3.
struct Image {
  int width = 0;
  int height = 0;
  int channels = 3;
  std::vector<uint8_t> pixels;  // height * width * channels

  bool empty() const { return pixels.empty(); }
  size_t Offset(int x, int y) const {
    return (static_cast<size_t>(y) * static_cast<size_t>(width) + static_cast<size_t>(x)) *
           static_cast<size_t>(channels);
  }
  uint8_t* At(int x, int y) { return pixels.data() + Offset(x, y); }
  const uint8_t* At(int x, int y) const { return pixels.data() + Offset(x, y); }
};

// A picture of zeros (black, or fully transparent). Sizes must be positive.
Image MakeImage(int width, int height, int channels = 3);

// Refused before anything is allocated: pictures beyond these sizes, files beyond this length.
inline constexpr int kMaxImageSide = 32768;
inline constexpr int64_t kMaxImagePixels = 100'000'000;
inline constexpr int64_t kMaxImageFileBytes = int64_t{1} << 30;

// Reads a JPEG or PNG, told apart by their first bytes, as RGB.
// JPEG: baseline and progressive; grey, YCbCr, RGB, CMYK and YCCK (as Adobe writes them: inverted); the EXIF
// orientation is applied, so that "up" is up. PNG: every colour type, 1 to 16 bits (16 keep their high byte),
// interlaced. Alpha is dropped, not blended: segmentation models see the colour that is stored under it. Embedded
// colour profiles and gamma are ignored. Errors, each naming the file: kNotFound/kIo; kBadFile for an empty, truncated
// or damaged file (never half a picture) and for one that is too large, with its size; kUnsupported for any other
// format. Thread safe; prints nothing.
Result<Image> LoadImage(const std::string& path);
// The same from memory; `name` stands for the file in messages.
Result<Image> DecodeImage(std::span<const std::byte> bytes, const std::string& name);

// A PNG of 1, 3 or 4 channels. Error: kInvalidArgument for a picture whose pixels do not fit its size.
Result<std::vector<std::byte>> EncodePng(const Image& image);
// Writes a PNG of 1, 3 or 4 channels; the file appears whole or not at all. Errors: kIo (names the path),
// kInvalidArgument for a picture whose pixels do not fit its size.
Status SavePng(const std::string& path, const Image& image);

enum class Interpolation : uint8_t {
  kNearest,        // Pillow's NEAREST
  kBilinear,       // Pillow's BILINEAR: a triangle that widens as the picture shrinks (antialiased), half-pixel centres
  kBicubic,        // Pillow's BICUBIC (a = -0.5), antialiased likewise
  kBilinearPlain,  // two taps per axis even when shrinking (OpenCV's INTER_LINEAR, but in float and rounded once)
};

// Resizes a picture to width x height, each channel by itself. For 1 and 3 channels kNearest, kBilinear and kBicubic
// equal the Image.resize of Pillow 13 bit for bit (8-bit passes with 22-bit fixed-point weights). Pillow before 13
// differs by at most a few levels, and only where the height shrinks by more than twice as many pixels as the width.
// Errors: kInvalidArgument for an empty picture or a size outside 1..kMaxImageSide or beyond kMaxImagePixels.
Result<Image> Resize(const Image& image, int width, int height, Interpolation interpolation = Interpolation::kBilinear);

// Resizes one plane of `in_height` x `in_width` floats, half-pixel centres, two taps per axis, edges clamped:
// PyTorch's interpolate(mode="bilinear", align_corners=False). `out` has out_height * out_width elements.
void ResizePlane(std::span<const float> in, int in_height, int in_width, std::span<float> out, int out_height,
                 int out_width);

}  // namespace octavo
