#include "octavo/npy.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "base/test_files.h"
#include "tasks/npy_format.h"

namespace octavo {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::vector<std::byte> Npy(const std::string& dict, const std::vector<uint8_t>& elements, char version = 1) {
  std::string text("\x93NUMPY");
  text += {version, 0, static_cast<char>(dict.size()), 0};
  if (version > 1) text += {0, 0};
  text += dict;
  std::vector<std::byte> bytes;
  for (const char c : text) bytes.push_back(static_cast<std::byte>(c));
  for (const uint8_t element : elements) bytes.push_back(std::byte{element});
  return bytes;
}

Status ErrorOf(const std::string& dict, const std::vector<uint8_t>& elements = {}) {
  return ParseNpy(Npy(dict, elements), "a.npy").status();
}

TEST(ParseNpy, ReadsWhatNumPyWrites) {
  const auto tensor = ParseNpy(
      Npy("{'descr': '<i2', 'fortran_order': False, 'shape': (2, 2), }  \n", {1, 0, 2, 0, 3, 0, 255, 255}), "a");
  ASSERT_TRUE(tensor.ok()) << tensor.status().message();
  EXPECT_EQ(tensor->dtype(), DType::kInt16);
  EXPECT_THAT(tensor->dims(), ElementsAre(2, 2));
  EXPECT_THAT(tensor->values<int16_t>(), ElementsAre(1, 2, 3, -1));
}

TEST(ParseNpy, TurnsFortranOrderAround) {
  const auto tensor =
      ParseNpy(Npy("{'descr': '|u1', 'fortran_order': True, 'shape': (2, 3)}", {1, 4, 2, 5, 3, 6}), "a");
  ASSERT_TRUE(tensor.ok());
  EXPECT_THAT(tensor->values<uint8_t>(), ElementsAre(1, 2, 3, 4, 5, 6));
}

TEST(ParseNpy, ReadsLaterVersionsScalarsAndEmptyArrays) {
  EXPECT_THAT(ParseNpy(Npy("{'shape': (), 'fortran_order': True, 'descr': '|i1'}", {7}, 2), "a")->values<int8_t>(),
              ElementsAre(7));
  EXPECT_THAT(ParseNpy(Npy("{'descr': '<f4', 'fortran_order': False, 'shape': (3, 0)}", {}, 3), "a")->dims(),
              ElementsAre(3, 0));
}

TEST(ParseNpy, MakesBooleansZeroOrOne) {
  const auto tensor = ParseNpy(Npy("{'descr': '|b1', 'fortran_order': False, 'shape': (3,)}", {0, 1, 2}), "a");
  EXPECT_THAT(std::vector<uint8_t>(static_cast<const uint8_t*>(tensor->data()),
                                   static_cast<const uint8_t*>(tensor->data()) + 3),
              ElementsAre(0, 1, 1));
}

TEST(ParseNpy, NamesWhatItDoesNotRead) {
  EXPECT_THAT(ErrorOf("{'descr': '>f4', 'fortran_order': False, 'shape': (1,)}", {0, 0, 0, 0}).message(),
              HasSubstr("'a.npy': the array is big-endian"));
  EXPECT_EQ(ErrorOf("{'descr': '|O', 'fortran_order': False, 'shape': ()}").code(), ErrorCode::kUnsupported);
  EXPECT_EQ(ErrorOf("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': ()}").code(), ErrorCode::kBadFile);
  EXPECT_EQ(ErrorOf("{'descr': '<f4', 'fortran_order': False, 'shape': (2,)}", {0, 0, 0, 0}).message(),
            "'a.npy': an array of 2 float32 has 8 bytes, but the file holds 4");
}

TEST(ParseNpy, RefusesHostileShapesBeforeAllocating) {
  for (const char* shape :
       {"(99999999999999,)", "(4294967296, 4294967296)", "(-1,)", "(1000000000000000000000,)", "(1", "1,2)"}) {
    EXPECT_FALSE(ErrorOf("{'descr': '<f8', 'fortran_order': False, 'shape': " + std::string(shape) + "}").ok())
        << shape;
  }
}

TEST(ParseNpy, RefusesAFileCutAnywhere) {
  const auto bytes = Npy("{'descr': '|u1', 'fortran_order': False, 'shape': (3,)}", {1, 2, 3});
  for (size_t length = 0; length < bytes.size(); ++length)
    EXPECT_FALSE(ParseNpy(std::span(bytes).first(length), "a").ok());
}

TEST(SaveNpy, HeaderIsNumPys) {
  const std::string header = NpyHeader(DType::kFloat32, {3, 4});
  EXPECT_EQ(header.size() % 64, 0u);
  EXPECT_THAT(header, HasSubstr("{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4, ), }"));
  EXPECT_EQ(header.back(), '\n');
}

TEST(SaveNpy, IsReadBack) {
  const TemporaryFolder folder;
  const Tensor tensor = Tensor::FromVector<double>({1, 3}, {0.5, -2, std::numeric_limits<double>::infinity()});
  ASSERT_TRUE(SaveNpy(folder / "x.npy", tensor).ok());
  EXPECT_THAT(LoadNpy(folder / "x.npy")->values<double>(),
              ElementsAre(0.5, -2, std::numeric_limits<double>::infinity()));
  EXPECT_FALSE(SaveNpy(folder / "none/x.npy", tensor).ok());
  EXPECT_EQ(SaveNpy(folder / "y.npy", Tensor()).code(), ErrorCode::kInvalidArgument);
}

TEST(SaveNpy, WidensBfloat16) {
  const TemporaryFolder folder;
  auto tensor = *Tensor::Create(DType::kBFloat16, {2});
  static_cast<uint16_t*>(tensor.mutable_data())[0] = 0x3f80;
  static_cast<uint16_t*>(tensor.mutable_data())[1] = 0xc000;
  ASSERT_TRUE(SaveNpy(folder / "x.npy", tensor).ok());
  EXPECT_THAT(LoadNpy(folder / "x.npy")->values<float>(), ElementsAre(1, -2));
}

// np.savez_compressed(file, x=np.arange(3, dtype="f4"), y=np.zeros((2, 2), "i8")).
constexpr std::string_view kCompressedNpz =
    "504b03042d000000080000002100b68c8653ffffffffffffffff05001400782e6e7079010010008c000000000000004b0000"
    "00000000009bec17ea1b10c9c850c650ad9e925a9c5ca46ea5a06e9366a2aea3a09e965f54529498179f5f94920a12774bcc"
    "294e058a17672416a402f91ac63a9a3a0ab50a14002e063068b007120e00504b03042d0000000800000021000d3728deffff"
    "ffffffffffff05001400792e6e707901001000a00000000000000049000000000000009bec17ea1b10c9c850c650ad9e925a"
    "9c5ca46ea5a06e9369a1aea3a09e965f54529498179f5f94920a12774bcc294e058a17672416a402f91a463a0a469a3a0ab5"
    "0a64032e06020000504b01022d032d000000080000002100b68c86534b0000008c0000000500000000000000000000008001"
    "00000000782e6e7079504b01022d032d0000000800000021000d3728de49000000a000000005000000000000000000000080"
    "0182000000792e6e7079504b0506000000000200020066000000020100000000";

TEST(ParseNpz, ReadsWhatNumPyCompresses) {
  const auto arrays = ParseNpz(FromHex(kCompressedNpz), "a.npz");
  ASSERT_TRUE(arrays.ok()) << arrays.status().message();
  ASSERT_EQ(arrays->size(), 2u);
  EXPECT_THAT(arrays->at("x").values<float>(), ElementsAre(0, 1, 2));
  EXPECT_THAT(arrays->at("y").dims(), ElementsAre(2, 2));
  EXPECT_THAT(arrays->at("y").values<int64_t>(), ElementsAre(0, 0, 0, 0));
}

TEST(ParseNpz, RefusesAFileCutAnywhere) {
  const auto bytes = FromHex(kCompressedNpz);
  for (size_t length = 0; length < bytes.size(); ++length) {
    EXPECT_FALSE(ParseNpz(std::span(bytes).first(length), "a.npz").ok()) << length;
  }
}

TEST(ParseNpz, FindsEveryFlippedBitOfTheData) {
  const auto bytes = FromHex(kCompressedNpz);
  constexpr size_t kData = 30 + 25,
                   kDataBytes = 0x4b;  // of x.npy, after the local header with its name and extra field
  for (size_t i = kData; i < kData + kDataBytes; ++i) {
    auto damaged = bytes;
    damaged[i] ^= std::byte{0x10};
    const auto arrays = ParseNpz(damaged, "a.npz");
    ASSERT_FALSE(arrays.ok()) << i;
    EXPECT_THAT(arrays.status().message(), HasSubstr("'a.npz': array 'x.npy': "));
  }
}

TEST(ParseNpz, RefusesASizeThatCompressionCannotReach) {
  auto bytes = FromHex(kCompressedNpz);
  constexpr size_t kUnpackedBytesOfX = 0x102 + 24;
  for (size_t i = 0; i < 3; ++i) bytes[kUnpackedBytesOfX + i] = std::byte{0xff};
  const auto arrays = ParseNpz(bytes, "a.npz");
  ASSERT_FALSE(arrays.ok());
  EXPECT_THAT(arrays.status().message(), HasSubstr("a size that its compressed data cannot have"));
}

TEST(SaveNpz, IsReadBack) {
  const TemporaryFolder folder;
  const std::map<std::string, Tensor> arrays = {{"image/x", Tensor::FromVector<float>({2}, {1, 2})},
                                                {"sigma", Tensor::Scalar<int64_t>(-3)}};
  ASSERT_TRUE(SaveNpz(folder / "x.npz", arrays).ok());
  const auto read = LoadNpz(folder / "x.npz");
  ASSERT_TRUE(read.ok()) << read.status().message();
  ASSERT_EQ(read->size(), 2u);
  EXPECT_THAT(read->at("image/x").values<float>(), ElementsAre(1, 2));
  EXPECT_THAT(read->at("sigma").values<int64_t>(), ElementsAre(-3));
  EXPECT_EQ(SaveNpz(folder / "y.npz", {{"", Tensor::Scalar(1.0f)}}).code(), ErrorCode::kInvalidArgument);
}

}  // namespace
}  // namespace octavo
