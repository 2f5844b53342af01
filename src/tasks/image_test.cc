#include "octavo/image.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/test_files.h"

namespace octavo {
namespace {

using testing::ElementsAre;
using testing::ElementsAreArray;
using testing::HasSubstr;

// 2x2: red, green; blue, (10, 20, 30).
constexpr std::string_view kRgbPng =
    "89504e470d0a1a0a0000000d4948445200000002000000020802000000fdd49a730000001649444154789c63f8cfc0c0f09f"
    "818181e13f97881c001a58033a82e0ab530000000049454e44ae426082";
// The same with alpha 0, 128; 255, 7.
constexpr std::string_view kRgbaPng =
    "89504e470d0a1a0a0000000d494844520000000200000002080600000072b60d240000001a49444154789c63f8cfc0c0c0f0"
    "9fa1818181e1ff7f2e113976002d9104c039d0ecc40000000049454e44ae426082";
// 2x2, 16-bit grey: 0x1234, 0xff00; 0x00ff, 0x8001.
constexpr std::string_view kGrey16Png =
    "89504e470d0a1a0a0000000d4948445200000002000000021000000000074d8ebb0000001249444154789c631032f9cfc0c0"
    "f0bf8111000d4302c6ec6711ff0000000049454e44ae426082";
// 2x1, grey and alpha: 9 with alpha 0, 200 with 255.
constexpr std::string_view kGreyAlphaPng =
    "89504e470d0a1a0a0000000d49484452000000020000000108040000005e2bb7010000000d49444154789c63e06438f11f00"
    "02b801d1dba47ea50000000049454e44ae426082";
// 3x1, 2-bit palette of (1, 2, 3), (4, 5, 6), (7, 8, 9).
constexpr std::string_view kPalettePng =
    "89504e470d0a1a0a0000000d4948445200000003000000010203000000668efc2700000009504c5445010203040506070809"
    "258556f00000000a49444154789c63900000001a00192d88f4360000000049454e44ae426082";
// 16x8, 4:2:0, left half red and right half blue, EXIF orientation 6 (turn clockwise to see it upright).
constexpr std::string_view kExifJpeg =
    "ffd8ffe000104a46494600010100000100010000ffe100224578696600004d4d002a00000008000101120003000000010006"
    "000000000000ffdb0043001b12141714111b1716171e1c1b2028422b28252528513a3d3042605565645f555d5b6a7899816a"
    "7190735b5d85b586909ea3abadab6780bcc9baa6c799a8aba4ffdb0043011c1e1e2823284e2b2b4ea46e5d6ea4a4a4a4a4a4"
    "a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4ffc000110800"
    "08001003012200021101031101ffc4001f0000010501010101010100000000000000000102030405060708090a0bffc400b5"
    "100002010303020403050504040000017d01020300041105122131410613516107227114328191a1082342b1c11552d1f024"
    "33627282090a161718191a25262728292a3435363738393a434445464748494a535455565758595a636465666768696a7374"
    "75767778797a838485868788898a92939495969798999aa2a3a4a5a6a7a8a9aab2b3b4b5b6b7b8b9bac2c3c4c5c6c7c8c9ca"
    "d2d3d4d5d6d7d8d9dae1e2e3e4e5e6e7e8e9eaf1f2f3f4f5f6f7f8f9faffc4001f0100030101010101010101010000000000"
    "000102030405060708090a0bffc400b511000201020404030407050404000102770001020311040521310612415107617113"
    "22328108144291a1b1c109233352f0156272d10a162434e125f11718191a262728292a35363738393a434445464748494a53"
    "5455565758595a636465666768696a737475767778797a82838485868788898a92939495969798999aa2a3a4a5a6a7a8a9aa"
    "b2b3b4b5b6b7b8b9bac2c3c4c5c6c7c8c9cad2d3d4d5d6d7d8d9dae2e3e4e5e6e7e8e9eaf2f3f4f5f6f7f8f9faffda000c03"
    "010002110311003f00a15468a2bb32afb7f2fd4efccbecfcff0043ffd9";
constexpr size_t kOrientationByte = 49;

Result<Image> Decode(std::string_view hex) { return DecodeImage(FromHex(hex), "picture"); }

TEST(DecodeImage, ReadsEveryKindOfPngAsRgb) {
  EXPECT_THAT(Decode(kRgbPng)->pixels, ElementsAre(255, 0, 0, 0, 255, 0, 0, 0, 255, 10, 20, 30));
  EXPECT_THAT(Decode(kRgbaPng)->pixels, ElementsAre(255, 0, 0, 0, 255, 0, 0, 0, 255, 10, 20, 30));
  EXPECT_THAT(Decode(kGrey16Png)->pixels, ElementsAre(0x12, 0x12, 0x12, 0xff, 0xff, 0xff, 0, 0, 0, 0x80, 0x80, 0x80));
  EXPECT_THAT(Decode(kGreyAlphaPng)->pixels, ElementsAre(9, 9, 9, 200, 200, 200));
  EXPECT_THAT(Decode(kPalettePng)->pixels, ElementsAre(1, 2, 3, 4, 5, 6, 7, 8, 9));
}

TEST(DecodeImage, AppliesEveryExifOrientation) {
  // Where the red half lies once the picture is upright: 'l'eft, 'r'ight, 't'op or 'b'ottom, for orientations 1 to 8.
  constexpr std::string_view kRedSide = "lrrlttbb";
  auto bytes = FromHex(kExifJpeg);
  ASSERT_EQ(bytes[kOrientationByte], std::byte{6});
  for (size_t i = 0; i < kRedSide.size(); ++i) {
    bytes[kOrientationByte] = static_cast<std::byte>(i + 1);
    const auto image = DecodeImage(bytes, "picture");
    ASSERT_TRUE(image.ok()) << image.status().message();
    EXPECT_EQ(image->width, i < 4 ? 16 : 8);
    EXPECT_EQ(image->height, i < 4 ? 8 : 16);
    const char side = kRedSide[i];
    const uint8_t* red = image->At(side == 'r' ? image->width - 1 : 0, side == 'b' ? image->height - 1 : 0);
    const uint8_t* blue = image->At(side == 'l' ? image->width - 1 : 0, side == 't' ? image->height - 1 : 0);
    EXPECT_GT(red[0], 200) << "orientation " << i + 1;
    EXPECT_GT(blue[2], 200) << "orientation " << i + 1;
  }
}

TEST(DecodeImage, RefusesAJpegCutAnywhere) {
  const auto bytes = FromHex(kExifJpeg);
  for (size_t length = 3; length < bytes.size(); ++length) {
    const auto image = DecodeImage(std::span(bytes).first(length), "cut.jpg");
    ASSERT_FALSE(image.ok()) << length << " of " << bytes.size() << " bytes";
    EXPECT_EQ(image.status().code(), ErrorCode::kBadFile);
    EXPECT_THAT(image.status().message(), HasSubstr("'cut.jpg'"));
  }
}

TEST(DecodeImage, RefusesAPngCutBeforeItsEnd) {
  const auto bytes = FromHex(kRgbPng);
  constexpr size_t kChecksumOfLastChunk = 4;
  for (size_t length = 8; length < bytes.size() - kChecksumOfLastChunk; ++length) {
    EXPECT_FALSE(DecodeImage(std::span(bytes).first(length), "cut.png").ok()) << length;
  }
}

TEST(DecodeImage, RefusesHugeHeadersBeforeAllocating) {
  // IHDR of 60000x60000 with its checksum, and the start of an IDAT.
  const auto huge =
      Decode("89504e470d0a1a0a0000000d494844520000ea600000ea6008020000000fb0e2150000000a49444154789c6360");
  ASSERT_FALSE(huge.ok());
  EXPECT_EQ(
      huge.status().message(),
      "'picture': a picture of 60000x60000 pixels is too large: at most 100 megapixels and 32768 on a side are read");
  // 9000x9000 is allowed, but not in 45 bytes.
  const auto thin =
      Decode("89504e470d0a1a0a0000000d4948445200002328000023280802000000e2b7e5ed0000000a49444154789c6360");
  ASSERT_FALSE(thin.ok());
  EXPECT_THAT(thin.status().message(), HasSubstr("cannot hold 9000x9000 pixels"));
}

TEST(DecodeImage, NamesWhatItCannotRead) {
  EXPECT_EQ(Decode("").status().message(), "'picture': the file is empty");
  EXPECT_EQ(Decode("474946383961").status().code(), ErrorCode::kUnsupported);
  EXPECT_EQ(LoadImage("/nonexistent.png").status().code(), ErrorCode::kNotFound);
}

TEST(SavePng, IsReadBackForEveryChannelCount) {
  const TemporaryFolder folder;
  for (const int channels : {1, 3, 4}) {
    Image image = MakeImage(5, 3, channels);
    for (size_t i = 0; i < image.pixels.size(); ++i) image.pixels[i] = static_cast<uint8_t>(37 * i);
    ASSERT_TRUE(SavePng(folder / "x.png", image).ok());
    const auto read = LoadImage(folder / "x.png");
    ASSERT_TRUE(read.ok());
    for (size_t i = 0; i < 15; ++i) {
      const size_t from = i * static_cast<size_t>(channels);
      EXPECT_EQ(read->pixels[3 * i], image.pixels[from]);
      EXPECT_EQ(read->pixels[3 * i + 2], image.pixels[from + (channels == 1 ? 0 : 2)]);
    }
  }
}

TEST(SavePng, RefusesWhatIsNoPictureAndWhereNoneCanBe) {
  const TemporaryFolder folder;
  EXPECT_EQ(SavePng(folder / "x.png", Image{2, 2, 3, {1, 2, 3}}).code(), ErrorCode::kInvalidArgument);
  EXPECT_FALSE(SavePng(folder / "no/x.png", MakeImage(1, 1)).ok());
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

// The expectations below are Pillow 13's.
const Image kGrey = {
    5, 4, 1, {168, 229, 184, 171, 238, 171, 20, 206, 245, 153, 204, 5, 37, 53, 213, 206, 192, 173, 6, 120}};

TEST(Resize, EqualsPillowsNearest) {
  EXPECT_THAT(Resize(kGrey, 3, 2, Interpolation::kNearest)->pixels, ElementsAre(171, 206, 153, 206, 173, 120));
  EXPECT_THAT(Resize(kGrey, 7, 6, Interpolation::kNearest)->pixels,
              ElementsAreArray({168, 229, 229, 184, 171, 171, 238, 171, 20,  20,  206, 245, 245, 153,
                                171, 20,  20,  206, 245, 245, 153, 204, 5,   5,   37,  53,  53,  213,
                                204, 5,   5,   37,  53,  53,  213, 206, 192, 192, 173, 6,   6,   120}));
}

TEST(Resize, EqualsPillowsBilinear) {
  EXPECT_THAT(Resize(kGrey, 3, 2, Interpolation::kBilinear)->pixels, ElementsAre(146, 161, 192, 152, 99, 120));
  EXPECT_THAT(Resize(kGrey, 7, 6, Interpolation::kBilinear)->pixels,
              ElementsAreArray({168, 203, 216, 184, 175, 200, 238, 170, 144, 145, 195, 205, 203, 196,
                                177, 86,  63,  178, 203, 192, 163, 198, 89,  24,  65,  79,  136, 203,
                                205, 144, 101, 105, 51,  89,  167, 206, 198, 187, 173, 54,  55,  120}));
}

TEST(Resize, EqualsPillowsBicubic) {
  EXPECT_THAT(Resize(kGrey, 3, 2, Interpolation::kBicubic)->pixels, ElementsAre(142, 164, 201, 154, 86, 115));
  EXPECT_THAT(Resize(kGrey, 7, 6, Interpolation::kBicubic)->pixels,
              ElementsAreArray({163, 214, 234, 183, 163, 200, 248, 169, 142, 146, 204, 218, 208, 193,
                                185, 67,  35,  185, 227, 198, 153, 212, 81,  0,   50,  64,  140, 218,
                                213, 149, 98,  99,  26,  78,  176, 206, 206, 204, 182, 38,  40,  121}));
}

TEST(Resize, RunsTheVerticalPassFirstForTallPicturesAsPillow13Does) {
  Image tall = MakeImage(2, 12, 1);
  for (int y = 0; y < 12; ++y) {
    *tall.At(0, y) = static_cast<uint8_t>(21 * y);
    *tall.At(1, y) = static_cast<uint8_t>(255 - 21 * y);
  }
  EXPECT_THAT(Resize(tall, 3, 3)->pixels, ElementsAre(40, 128, 215, 116, 128, 140, 191, 128, 64));
}

TEST(Resize, TreatsChannelsAlike) {
  Image rgb = MakeImage(kGrey.width, kGrey.height);
  for (size_t i = 0; i < kGrey.pixels.size(); ++i) {
    rgb.pixels[3 * i] = kGrey.pixels[i];
    rgb.pixels[3 * i + 2] = static_cast<uint8_t>(255 - kGrey.pixels[i]);
  }
  const auto grey = Resize(kGrey, 3, 2), color = Resize(rgb, 3, 2);
  for (size_t i = 0; i < grey->pixels.size(); ++i) {
    EXPECT_EQ(color->pixels[3 * i], grey->pixels[i]);
    EXPECT_EQ(color->pixels[3 * i + 1], 0);
  }
}

TEST(Resize, PlainBilinearTakesTwoTapsWhenShrinking) {
  const Image row = {8, 1, 1, {0, 100, 0, 0, 0, 0, 200, 0}};
  // Halving samples between pixels 2k and 2k + 1; quartering between 4k + 1 and 4k + 2, whatever lies beside them.
  EXPECT_THAT(Resize(row, 4, 1, Interpolation::kBilinearPlain)->pixels, ElementsAre(50, 0, 0, 100));
  EXPECT_THAT(Resize(row, 2, 1, Interpolation::kBilinearPlain)->pixels, ElementsAre(50, 100));
}

TEST(Resize, RefusesSizesOutsideItsLimits) {
  EXPECT_FALSE(Resize(kGrey, 0, 5).ok());
  EXPECT_FALSE(Resize(kGrey, 5, kMaxImageSide + 1).ok());
  EXPECT_FALSE(Resize(kGrey, kMaxImageSide, kMaxImageSide).ok());
  EXPECT_FALSE(Resize(Image{}, 5, 5).ok());
}

TEST(ResizePlane, DoublesWithHalfPixelCentresAndClampedEdges) {
  const std::vector<float> in = {0, 4};
  std::vector<float> out(8);
  ResizePlane(in, 1, 2, out, 2, 4);
  EXPECT_THAT(out, ElementsAre(0, 1, 3, 4, 0, 1, 3, 4));
}

}  // namespace
}  // namespace octavo
