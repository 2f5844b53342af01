#include "octavo/calibration_cache.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "base/file.h"
#include "base/test_files.h"

namespace octavo {
namespace {

constexpr char kHeader[] = "TRT-8501-EntropyCalibration2\n";

std::string ErrorOf(const std::string& text) {
  const auto cache = ParseCalibrationCache(text, "c.cache");
  return cache.ok() ? "no error" : cache.status().message();
}

void ExpectError(const std::string& lines, const std::string& where, const std::string& what) {
  const std::string error = ErrorOf(kHeader + lines);
  EXPECT_NE(error.find("c.cache:" + where + ":"), std::string::npos) << error;
  EXPECT_NE(error.find(what), std::string::npos) << error;
}

TEST(CalibrationCache, ReadsScalesBehindTheLastColon) {
  const auto cache = ParseCalibrationCache(std::string(kHeader) + "input: 3c010a14\nblock:0/conv: 3f800000\r\n\n", "c");
  ASSERT_TRUE(cache.ok()) << cache.status().message();
  EXPECT_EQ(cache->header, "TRT-8501-EntropyCalibration2");
  ASSERT_EQ(cache->scales.size(), 2u);
  // 0x3c010a14: exponent 120 - 127 = -7, mantissa 1 + 0x010a14 / 2^23.
  EXPECT_EQ(cache->scales.at("input"), (1.0f + 0x010a14 * 0x1p-23f) * 0x1p-7f);
  EXPECT_EQ(cache->scales.at("block:0/conv"), 1.0f);
}

TEST(CalibrationCache, WritesWhatItReads) {
  const std::string text = std::string(kHeader) + "a b: 00800000\nz: 7f7fffff\n";
  const auto cache = ParseCalibrationCache(text, "c");
  ASSERT_TRUE(cache.ok()) << cache.status().message();
  EXPECT_EQ(FormatCalibrationCache(*cache), text);
}

TEST(CalibrationCache, NamesTheLineOfWhatIsWrong) {
  ExpectError("a 3c010a14\n", "2", "no colon");
  ExpectError("a: 3f800000\nb: xyz\n", "3", "hex");
  ExpectError("a: 123456789\n", "2", "hex");
  ExpectError("a:\n", "2", "hex");
  ExpectError("a: 3f800000\na: 3f800000\n", "3", "before");
  ExpectError("a: bf800000\n", "2", "-1");
  ExpectError("a: 7fc00000\n", "2", "nan");
  ExpectError("a: 7f800000\n", "2", "inf");
  ExpectError("a: 00000000\n", "2", "positive normal");
  ExpectError("a: 00000001\n", "2", "positive normal");
  ExpectError(": 3f800000\n", "2", "no name");
  ExpectError("a\x01: 3f800000\n", "2", "control");
}

TEST(CalibrationCache, WantsAHeader) {
  EXPECT_NE(ErrorOf("").find("empty"), std::string::npos);
  EXPECT_NE(ErrorOf("input: 3c010a14\n").find("c.cache:1:"), std::string::npos);
  EXPECT_NE(ErrorOf("TRT--Entropy\n").find("begins with"), std::string::npos);
  EXPECT_NE(ErrorOf(std::string("\x08\x07\x12\0\xff", 5)).find("begins with"), std::string::npos);
}

TEST(CalibrationCache, RefusesNamesThatBreakLines) {
  const TemporaryFolder folder;
  const std::string path = folder / "test.cache";
  CalibrationCache cache;
  cache.scales["a\nb"] = 1.0f;
  EXPECT_FALSE(SaveCalibrationCache(cache, path).ok());
  EXPECT_FALSE(std::filesystem::exists(path));
}

TEST(CalibrationCache, RefusesAHugeFile) {
  const TemporaryFolder folder;
  const std::string path = folder / "huge.cache";
  ASSERT_TRUE(WriteFile(path, kHeader).ok());
  std::filesystem::resize_file(path, uint64_t{65} << 20);  // sparse
  const auto cache = LoadCalibrationCache(path);
  ASSERT_FALSE(cache.ok());
  EXPECT_EQ(cache.status().code(), ErrorCode::kBadFile);
}

}  // namespace
}  // namespace octavo
