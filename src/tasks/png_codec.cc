#include <spng.h>

#include <array>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "tasks/image_codecs.h"

namespace octavo {
namespace {

constexpr std::array<uint8_t, 8> kSignature = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'};
// Text, profiles and the like are read and thrown away; a small file must not make them large.
constexpr size_t kMaxChunkBytes = size_t{16} << 20;
// Deflate's best: 258 bytes for 2 bits.
constexpr uint64_t kMaxDeflateRatio = 1032;

struct FreeContext {
  void operator()(spng_ctx* context) const { spng_ctx_free(context); }
};
using Context = std::unique_ptr<spng_ctx, FreeContext>;

Status Damaged(int error) { return BadFile(std::string("a damaged or truncated PNG: ") + spng_strerror(error)); }

uint64_t BitsPerPixel(const spng_ihdr& header) {
  switch (header.color_type) {
    case SPNG_COLOR_TYPE_TRUECOLOR:
      return uint64_t{3} * header.bit_depth;
    case SPNG_COLOR_TYPE_GRAYSCALE_ALPHA:
      return uint64_t{2} * header.bit_depth;
    case SPNG_COLOR_TYPE_TRUECOLOR_ALPHA:
      return uint64_t{4} * header.bit_depth;
    default:
      return header.bit_depth;
  }
}

int ColorType(int channels) {
  if (channels == 1) return SPNG_COLOR_TYPE_GRAYSCALE;
  return channels == 3 ? SPNG_COLOR_TYPE_TRUECOLOR : SPNG_COLOR_TYPE_TRUECOLOR_ALPHA;
}

}  // namespace

bool IsPng(std::span<const std::byte> bytes) {
  return bytes.size() >= kSignature.size() && std::memcmp(bytes.data(), kSignature.data(), kSignature.size()) == 0;
}

Result<Image> DecodePng(std::span<const std::byte> bytes) {
  const Context context(spng_ctx_new(0));
  if (!context) return IoError("there is not enough memory for a PNG decoder");
  spng_set_chunk_limits(context.get(), kMaxChunkBytes, kMaxChunkBytes);
  spng_set_png_buffer(context.get(), bytes.data(), bytes.size());
  spng_ihdr header{};
  if (const int error = spng_get_ihdr(context.get(), &header); error != 0) return Damaged(error);
  OCTAVO_RETURN_IF_ERROR(CheckImageSize(header.width, header.height));
  const uint64_t raw_bytes = uint64_t{header.width} * header.height * BitsPerPixel(header) / 8;
  if (raw_bytes / kMaxDeflateRatio > bytes.size()) {
    return BadFile("a truncated PNG: " + std::to_string(bytes.size()) + " bytes cannot hold " +
                   std::to_string(header.width) + "x" + std::to_string(header.height) + " pixels");
  }

  Image image = MakeImage(static_cast<int>(header.width), static_cast<int>(header.height));
  const int decoded = spng_decode_image(context.get(), image.pixels.data(), image.pixels.size(), SPNG_FMT_RGB8, 0);
  if (decoded != 0) return Damaged(decoded);
  // Reads on to IEND: a file that stops before it is truncated, even though its pixels are there. A cut through IEND's
  // checksum passes.
  if (const int error = spng_decode_chunks(context.get()); error != 0) return Damaged(error);
  return image;
}

Result<std::vector<std::byte>> EncodePng(const Image& image) {
  if (image.width <= 0 || image.height <= 0 || (image.channels != 1 && image.channels != 3 && image.channels != 4) ||
      image.pixels.size() != image.Offset(0, image.height)) {
    return InvalidArgument("no picture to write: " + std::to_string(image.width) + "x" + std::to_string(image.height) +
                           ", " + std::to_string(image.channels) + " channels, " + std::to_string(image.pixels.size()) +
                           " bytes");
  }
  const Context context(spng_ctx_new(SPNG_CTX_ENCODER));
  if (!context) return IoError("there is not enough memory for a PNG encoder");
  spng_set_option(context.get(), SPNG_ENCODE_TO_BUFFER, 1);
  spng_ihdr header{};
  header.width = static_cast<uint32_t>(image.width);
  header.height = static_cast<uint32_t>(image.height);
  header.bit_depth = 8;
  header.color_type = static_cast<uint8_t>(ColorType(image.channels));
  if (const int error = spng_set_ihdr(context.get(), &header); error != 0) {
    return InvalidArgument(std::string("PNG cannot hold this picture: ") + spng_strerror(error));
  }
  const int encoded =
      spng_encode_image(context.get(), image.pixels.data(), image.pixels.size(), SPNG_FMT_PNG, SPNG_ENCODE_FINALIZE);
  if (encoded != 0) return IoError(std::string("writing PNG failed: ") + spng_strerror(encoded));
  size_t length = 0;
  int error = 0;
  const std::unique_ptr<void, decltype(&std::free)> buffer(spng_get_png_buffer(context.get(), &length, &error),
                                                           &std::free);
  if (!buffer) return IoError(std::string("writing PNG failed: ") + spng_strerror(error));
  const auto* first = static_cast<const std::byte*>(buffer.get());
  return std::vector<std::byte>(first, first + length);
}

}  // namespace octavo
