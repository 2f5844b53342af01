#include "octavo/stats.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>
#include <random>

#include "base/test_files.h"
#include "calibration/stats_testing.h"

namespace octavo {
namespace {

using testing::HasSubstr;

std::vector<float> NormalValues(size_t count, uint32_t seed, float scale) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, scale);
  std::vector<float> values(count);
  for (float& value : values) value = normal(random);
  return values;
}

TEST(HistogramTest, TakesTheSmallestExponentThatFits) {
  EXPECT_EQ(ExponentFor(0, 0), Histogram::kMinExponent);
  EXPECT_EQ(ExponentFor(0, 2047), 0);
  EXPECT_EQ(ExponentFor(0, 2047.9f), 0);
  EXPECT_EQ(ExponentFor(0, 2048), 1);
  EXPECT_EQ(ExponentFor(-2048, 0), 0);  // the lowest bin's edge
  EXPECT_EQ(ExponentFor(-2048.5f, 0), 1);
  EXPECT_EQ(ExponentFor(-1, 1e-3f), -11);
  EXPECT_EQ(ExponentFor(0, 3.4028234e38f), Histogram::kMaxExponent);
  EXPECT_EQ(ExponentFor(-1e-37f, 1e-38f), -126 + 0);
}

TEST(HistogramTest, CoarsensAsIfItHadBeenCoarseAllAlong) {
  const std::vector<float> values = NormalValues(5000, 1, 1);
  const Histogram fine = StatsOf(values).histogram;
  for (const int shift : {1, 2, 7, 11, 12, 40}) {
    Histogram coarse = fine;
    Coarsen(coarse, fine.exponent + shift);
    std::vector<uint64_t> expected(2 * Histogram::kHalfBins);
    for (const float value : values) ++expected[Histogram::Index(BinOf(value, coarse.exponent))];
    EXPECT_EQ(coarse.counts, expected) << shift;
  }
}

TEST(HistogramTest, MergesExactlyInAnyOrder) {
  // Ranges that need different exponents.
  const std::vector<std::vector<float>> parts = {
      NormalValues(500, 1, 1), NormalValues(500, 2, 90), NormalValues(500, 3, 1e-4f), {0, 0, 0}};
  std::vector<float> all;
  for (const auto& part : parts) all.insert(all.end(), part.begin(), part.end());
  const Histogram expected = StatsOf(all).histogram;
  std::vector<size_t> order(parts.size());
  std::iota(order.begin(), order.end(), size_t{0});
  do {
    Histogram merged;
    for (const size_t i : order) Merge(merged, StatsOf(parts[i]).histogram);
    EXPECT_EQ(merged.exponent, expected.exponent);
    EXPECT_EQ(merged.counts, expected.counts);
  } while (std::next_permutation(order.begin(), order.end()));
}

Stats StatsOfSamples(const std::vector<std::vector<float>>& samples) {
  Stats stats;
  stats.fingerprint = "f";
  for (const auto& values : samples) {
    Stats one;
    one.fingerprint = "f";
    one.samples = 1;
    one.tensors["t"] = StatsOf(values);
    if (stats.samples == 0) {
      stats = one;
    } else {
      EXPECT_TRUE(MergeStats(stats, one).ok());
    }
  }
  return stats;
}

TEST(MergeStatsTest, EqualsOneRunBitForBit) {
  const auto a = NormalValues(400, 5, 3), b = NormalValues(400, 6, 0.1f), c = NormalValues(400, 7, 1000);
  Stats left = StatsOfSamples({a, b});
  ASSERT_TRUE(MergeStats(left, StatsOfSamples({c})).ok());
  EXPECT_EQ(left.samples, 3u);
  const auto expected = SerializeStats(StatsOfSamples({c, a, b}));
  EXPECT_EQ(*SerializeStats(left), *expected);
  double mean = 0;
  for (const auto* values : {&a, &b, &c}) mean = std::accumulate(values->begin(), values->end(), mean);
  // 1200 additions of values below 4000 in double: far below 1e-9.
  EXPECT_NEAR(left.tensors["t"].mean, mean / 1200, 1e-9);
}

TEST(MergeStatsTest, RefusesWhatIsNotOfOneModel) {
  const Stats small = SmallStats();
  Stats other = SmallStats();
  other.fingerprint = "another";
  Stats into = small;
  EXPECT_THAT(MergeStats(into, other).message(), HasSubstr("of another model"));
  other = SmallStats();
  other.input_dims["x"] = {2, 6};
  EXPECT_THAT(MergeStats(into, other).message(), HasSubstr("different input shapes"));
  other = SmallStats();
  other.tensors.erase("empty");
  EXPECT_THAT(MergeStats(into, other).message(), HasSubstr("'empty'"));
  EXPECT_FALSE(MergeStats(other, into).ok());
  other = SmallStats();
  other.tensors["empty"] = MakeTensorStats({2, 0, 4}, 2);
  EXPECT_THAT(MergeStats(into, other).message(), HasSubstr("different shapes"));
  EXPECT_EQ(*SerializeStats(into), *SerializeStats(small));
}

TEST(MergeStatsTest, ATensorThatWasNeverSeenTakesTheOther) {
  Stats into = SmallStats(), from = SmallStats();
  into.tensors["x"] = MakeTensorStats({1, 6}, 0);
  ASSERT_TRUE(MergeStats(into, from).ok());
  EXPECT_EQ(into.tensors["x"].min, -3.5f);
  EXPECT_EQ(into.tensors["x"].count, 6u);
}

TEST(StatsFile, GivesBackWhatWasSaved) {
  const TemporaryFolder folder;
  const Stats stats = SmallStats();
  ASSERT_TRUE(SaveStats(folder / "a.stats", stats).ok());
  const auto loaded = LoadStats(folder / "a.stats");
  ASSERT_TRUE(loaded.ok()) << loaded.status().message();
  EXPECT_EQ(loaded->fingerprint, stats.fingerprint);
  EXPECT_EQ(loaded->samples, 2u);
  EXPECT_EQ(loaded->input_dims, stats.input_dims);
  ASSERT_EQ(loaded->tensors.size(), 2u);
  const TensorStats& x = loaded->tensors.at("x");
  const TensorStats& saved = stats.tensors.at("x");
  EXPECT_EQ(x.dims, saved.dims);
  EXPECT_EQ(x.histogram.exponent, saved.histogram.exponent);
  EXPECT_EQ(x.histogram.counts, saved.histogram.counts);
  EXPECT_EQ(x.channel_sum, saved.channel_sum);
  EXPECT_EQ(x.square_sum, saved.square_sum);
  EXPECT_EQ(x.mean, saved.mean);
  EXPECT_EQ(x.mean_square, saved.mean_square);
  EXPECT_EQ(*SerializeStats(*loaded), *SerializeStats(stats));
  EXPECT_EQ(LoadStats(folder / "none.stats").status().code(), ErrorCode::kNotFound);
}

TEST(StatsFile, RefusesEveryTruncation) {
  const auto bytes = SerializeStats(SmallStats());
  ASSERT_TRUE(bytes.ok());
  for (size_t size = 0; size < bytes->size(); ++size) {
    const auto parsed = ParseStats(std::span(*bytes).first(size), "cut.stats");
    ASSERT_FALSE(parsed.ok()) << size;
    EXPECT_EQ(parsed.status().code(), ErrorCode::kBadFile);
    EXPECT_THAT(parsed.status().message(), HasSubstr(size == 0 ? "'cut.stats' is no statistics file" : "truncated"));
  }
}

TEST(StatsFile, RefusesEveryChangedByte) {
  auto bytes = *SerializeStats(SmallStats());
  for (std::byte& byte : bytes) {
    byte ^= std::byte{0x10};
    const auto parsed = ParseStats(bytes, "flipped.stats");
    EXPECT_EQ(parsed.status().code(), ErrorCode::kBadFile);
    byte ^= std::byte{0x10};
  }
  EXPECT_TRUE(ParseStats(bytes, "whole.stats").ok());
  bytes.push_back(std::byte{0});
  EXPECT_THAT(ParseStats(bytes, "long.stats").status().message(), HasSubstr("longer than it states"));
}

TEST(StatsFile, SaysWhatIsWrong) {
  auto bytes = *SerializeStats(SmallStats());
  bytes[8] = std::byte{9};
  EXPECT_THAT(ParseStats(bytes, "later.stats").status().message(), HasSubstr("'later.stats' has version 9"));
  bytes[0] = std::byte{'o'};
  EXPECT_THAT(ParseStats(bytes, "model.onnx").status().message(), HasSubstr("'model.onnx' is no statistics file"));
  const Stats stats = SmallStats();
  EXPECT_TRUE(CheckBelongsTo(stats, stats.fingerprint).ok());
  EXPECT_THAT(CheckBelongsTo(stats, "fedc").message(), HasSubstr("of another model"));
}

// Contents that are well formed and do not add up, under a checksum that fits.
TEST(StatsFile, RefusesContradictions) {
  const auto refused = [](const Stats& stats) { return !ParseStats(*SerializeStats(stats), "bad.stats").ok(); };
  const auto changed = [](const auto& change) {
    Stats stats = SmallStats();
    change(stats.tensors["x"]);
    return stats;
  };
  EXPECT_FALSE(refused(SmallStats()));
  EXPECT_TRUE(refused(changed([](TensorStats& x) { ++x.count; })));
  EXPECT_TRUE(refused(changed([](TensorStats& x) { ++x.histogram.exponent; })));
  EXPECT_TRUE(refused(changed([](TensorStats& x) { x.max = NAN; })));
  EXPECT_TRUE(refused(changed([](TensorStats& x) { x.min = 1000; })));
  EXPECT_TRUE(refused(changed([](TensorStats& x) { x.channel_max[0] = 699; })));
  EXPECT_TRUE(refused(changed([](TensorStats& x) { x.channel_axis = 2; })));
  EXPECT_TRUE(refused(changed([](TensorStats& x) { x.channel_axis = 1; })));  // six channels, one given
  EXPECT_TRUE(refused(changed([](TensorStats& x) { x.dims = {1, int64_t{1} << 50}; })));
  EXPECT_TRUE(refused(changed([](TensorStats& x) { x.dims = {int64_t{1} << 40, 1}; })));
  EXPECT_TRUE(refused(changed([](TensorStats& x) { x.dims = Dims(17, 1); })));
  EXPECT_TRUE(refused(changed([](TensorStats& x) { x.histogram = {}; })));
}

}  // namespace
}  // namespace octavo
