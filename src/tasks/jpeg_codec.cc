// jpeglib.h needs <cstdio> before it, and jerror.h needs jpeglib.h.
// clang-format off
#include <cstdio>
#include <jpeglib.h>
#include <jerror.h>
// clang-format on

#include <algorithm>
#include <csetjmp>
#include <string_view>
#include <utility>

#include "tasks/image_codecs.h"

namespace octavo {
namespace {

// A progressive file of a few kilobytes can ask for thousands of passes over the whole picture; real ones need
// about 10.
constexpr int kMaxScans = 100;
constexpr int kExifMarker = JPEG_APP0 + 1;

// libjpeg's callbacks find this through cinfo->client_data. It reports errors by longjmp, so between setjmp and the
// calls into libjpeg stand no objects with destructors.
struct Decoder {
  jpeg_decompress_struct info{};
  jpeg_error_mgr errors{};
  jpeg_progress_mgr progress{};
  std::jmp_buf escape{};
  char message[JMSG_LENGTH_MAX] = {};

  Decoder() = default;
  Decoder(const Decoder&) = delete;
  Decoder& operator=(const Decoder&) = delete;
  ~Decoder() { jpeg_destroy_decompress(&info); }

  Status Damaged() const { return BadFile(std::string("a damaged or truncated JPEG: ") + message); }
};

Decoder& DecoderOf(j_common_ptr info) { return *static_cast<Decoder*>(info->client_data); }

[[noreturn]] void Fail(j_common_ptr info) {
  Decoder& decoder = DecoderOf(info);
  info->err->format_message(info, decoder.message);
  std::longjmp(decoder.escape, 1);
}

// libjpeg goes on after damage and leaves grey behind; here damage is an error. Harmless warnings pass.
void Warn(j_common_ptr info, int level) {
  if (level >= 0) return;
  switch (info->err->msg_code) {
    case JWRN_ADOBE_XFORM:
    case JWRN_EXTRANEOUS_DATA:
    case JWRN_JFIF_MAJOR:
    case JWRN_BOGUS_PROGRESSION:
      return;
    default:
      Fail(info);
  }
}

void Ignore(j_common_ptr) {}

void CheckScans(j_common_ptr info) {
  Decoder& decoder = DecoderOf(info);
  if (decoder.info.input_scan_number <= kMaxScans) return;
  std::snprintf(decoder.message, sizeof(decoder.message), "more than %d scans", kMaxScans);
  std::longjmp(decoder.escape, 1);
}

bool ReadHeader(Decoder& decoder, std::span<const std::byte> bytes) {
  decoder.info.err = jpeg_std_error(&decoder.errors);
  decoder.errors.error_exit = &Fail;
  decoder.errors.emit_message = &Warn;
  decoder.errors.output_message = &Ignore;
  decoder.info.client_data = &decoder;
  if (setjmp(decoder.escape) != 0) return false;
  jpeg_create_decompress(&decoder.info);
  decoder.info.client_data = &decoder;
  decoder.progress.progress_monitor = &CheckScans;
  decoder.info.progress = &decoder.progress;
  jpeg_save_markers(&decoder.info, kExifMarker, 0xffff);
  jpeg_mem_src(&decoder.info, reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size());
  jpeg_read_header(&decoder.info, TRUE);
  decoder.info.out_color_space = decoder.info.num_components == 4 ? JCS_CMYK : JCS_RGB;
  jpeg_calc_output_dimensions(&decoder.info);
  return true;
}

bool ReadPixels(Decoder& decoder, uint8_t* pixels, size_t row_bytes) {
  if (setjmp(decoder.escape) != 0) return false;
  jpeg_start_decompress(&decoder.info);
  while (decoder.info.output_scanline < decoder.info.output_height) {
    JSAMPROW row = pixels + decoder.info.output_scanline * row_bytes;
    jpeg_read_scanlines(&decoder.info, &row, 1);
  }
  jpeg_finish_decompress(&decoder.info);
  return true;
}

// Adobe stores CMYK inverted: R = C * K / 255 on the stored bytes, rounded as Pillow rounds.
Image CmykToRgb(const Image& cmyk) {
  Image rgb = MakeImage(cmyk.width, cmyk.height);
  const size_t count = cmyk.pixels.size() / 4;
  for (size_t i = 0; i < count; ++i) {
    const int key = cmyk.pixels[4 * i + 3];
    for (size_t c = 0; c < 3; ++c) {
      const int product = (255 - cmyk.pixels[4 * i + c]) * key + 128;
      rgb.pixels[3 * i + c] = static_cast<uint8_t>(key - (((product >> 8) + product) >> 8));
    }
  }
  return rgb;
}

// The bytes of a TIFF block, in its own byte order; reads past the end are zero.
class TiffReader {
 public:
  TiffReader(std::span<const uint8_t> bytes, bool big_endian) : bytes_(bytes), big_endian_(big_endian) {}
  uint32_t Read(size_t at, size_t width) const {
    if (at > bytes_.size() || bytes_.size() - at < width) return 0;
    uint32_t value = 0;
    for (size_t i = 0; i < width; ++i) value = value << 8 | bytes_[big_endian_ ? at + i : at + width - 1 - i];
    return value;
  }

 private:
  std::span<const uint8_t> bytes_;
  bool big_endian_;
};

// EXIF tag 0x0112 of the first directory, 1..8; 1 where there is none or it makes no sense.
int ExifOrientation(std::span<const uint8_t> marker) {
  constexpr size_t kTiff = 6;  // after "Exif\0\0"
  if (marker.size() < kTiff + 8 || std::string_view(reinterpret_cast<const char*>(marker.data()), 4) != "Exif")
    return 1;
  const std::span<const uint8_t> tiff = marker.subspan(kTiff);
  const TiffReader reader(tiff, tiff[0] == 'M');
  const size_t directory = reader.Read(4, 4);
  const size_t entries = reader.Read(directory, 2);
  for (size_t i = 0; i < entries; ++i) {
    const size_t entry = directory + 2 + 12 * i;
    if (reader.Read(entry, 2) != 0x0112) continue;
    const uint32_t orientation = reader.Read(entry + 8, 2);
    return orientation >= 1 && orientation <= 8 ? static_cast<int>(orientation) : 1;
  }
  return 1;
}

int OrientationOf(const Decoder& decoder) {
  for (auto* marker = decoder.info.marker_list; marker != nullptr; marker = marker->next) {
    if (marker->marker != kExifMarker) continue;
    const int orientation = ExifOrientation({marker->data, marker->data_length});
    if (orientation != 1) return orientation;
  }
  return 1;
}

// Where the pixel (x, y) of the upright picture lies in the stored one of width x height.
std::pair<int, int> StoredPosition(int orientation, int x, int y, int width, int height) {
  switch (orientation) {
    case 2:
      return {width - 1 - x, y};
    case 3:
      return {width - 1 - x, height - 1 - y};
    case 4:
      return {x, height - 1 - y};
    case 5:
      return {y, x};
    case 6:
      return {y, height - 1 - x};
    case 7:
      return {width - 1 - y, height - 1 - x};
    case 8:
      return {width - 1 - y, x};
    default:
      return {x, y};
  }
}

Image Upright(Image stored, int orientation) {
  if (orientation == 1) return stored;
  const bool transposed = orientation >= 5;
  Image upright = MakeImage(transposed ? stored.height : stored.width, transposed ? stored.width : stored.height);
  for (int y = 0; y < upright.height; ++y) {
    for (int x = 0; x < upright.width; ++x) {
      const auto [from_x, from_y] = StoredPosition(orientation, x, y, stored.width, stored.height);
      const uint8_t* from = stored.At(from_x, from_y);
      std::copy(from, from + 3, upright.At(x, y));
    }
  }
  return upright;
}

}  // namespace

bool IsJpeg(std::span<const std::byte> bytes) {
  return bytes.size() >= 3 && bytes[0] == std::byte{0xff} && bytes[1] == std::byte{0xd8} && bytes[2] == std::byte{0xff};
}

Result<Image> DecodeJpeg(std::span<const std::byte> bytes) {
  Decoder decoder;
  if (!ReadHeader(decoder, bytes)) return decoder.Damaged();
  OCTAVO_RETURN_IF_ERROR(CheckImageSize(decoder.info.output_width, decoder.info.output_height));
  const int orientation = OrientationOf(decoder);  // now: libjpeg frees the markers with the last row
  const int channels = decoder.info.num_components == 4 ? 4 : 3;
  Image image =
      MakeImage(static_cast<int>(decoder.info.output_width), static_cast<int>(decoder.info.output_height), channels);
  if (!ReadPixels(decoder, image.pixels.data(), image.Offset(0, 1))) return decoder.Damaged();
  return Upright(channels == 4 ? CmykToRgb(image) : std::move(image), orientation);
}

}  // namespace octavo
