#include "octavo/compare.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace octavo {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

Tensor Vector(const std::vector<float>& values) {
  return Tensor::FromVector<float>({static_cast<int64_t>(values.size())}, values);
}

TensorDifference Difference(const std::vector<float>& reference, const std::vector<float>& output) {
  return Compare(Vector(reference), Vector(output)).value();
}

TEST(Compare, MeasuresASmallDifference) {
  const auto found = Difference({3, 4, 0, 0}, {3, 4, 0.05f, 0});
  // 25 against 0.0025, and 0.05 is a float: 1.49e-8 relative, so 1.3e-7 dB; 1e-6 leaves room.
  EXPECT_NEAR(found.sqnr_db, 40, 1e-6);
  EXPECT_DOUBLE_EQ(found.max_abs_error, 0.05f);
  EXPECT_DOUBLE_EQ(found.mean_abs_error, 0.05f / 4.0);
  // The vectors differ by a right angle of tangent 0.05 / 5; double rounding is far below 1e-12.
  EXPECT_NEAR(found.cosine, 1 / std::sqrt(1 + double{0.05f} * 0.05f / 25), 1e-12);
  EXPECT_EQ(found.max_abs_reference, 4);
  EXPECT_EQ(found.values, 4);
}

TEST(Compare, HasFiniteNumbersForTheExtremes) {
  EXPECT_EQ(Difference({1, -2}, {1, -2}).sqnr_db, kIdenticalDb);
  EXPECT_EQ(Difference({0, 0}, {0, 0}).sqnr_db, kIdenticalDb);
  EXPECT_EQ(Difference({0, 0}, {0, 0}).cosine, 1);
  EXPECT_EQ(Difference({0, 0}, {0, 1e-9f}).sqnr_db, kWorstDb);
  EXPECT_EQ(Difference({0, 0}, {0, 1}).cosine, 0);
  EXPECT_EQ(Difference({1, 0}, {-1, 0}).cosine, -1);
  EXPECT_EQ(Difference({}, {}).sqnr_db, kIdenticalDb);
}

TEST(Compare, CountsNansAndNeverCallsThemGood) {
  const auto broken = Difference({1, 2, 3}, {1, kNan, 3});
  EXPECT_EQ(broken.sqnr_db, kWorstDb);
  EXPECT_EQ(broken.nonfinite_output, 1);
  EXPECT_EQ(broken.nonfinite_reference, 0);
  EXPECT_EQ(broken.max_abs_error, 0);

  const auto same = Difference({1, kNan, kInfinity}, {1, kNan, kInfinity});
  EXPECT_EQ(same.sqnr_db, kIdenticalDb);
  EXPECT_EQ(same.nonfinite_reference, 2);
  EXPECT_EQ(Difference({1, kInfinity}, {1, -kInfinity}).sqnr_db, kWorstDb);
}

TEST(TensorComparison, PoolsEnergiesOverSamplesAndKeepsTheWorst) {
  TensorComparison comparison;
  ASSERT_TRUE(comparison.Add(Vector({10, 0}), Vector({10, 0})).ok());
  ASSERT_TRUE(comparison.Add(Vector({1, 0}), Vector({1, 1})).ok());
  const auto found = comparison.difference();
  EXPECT_DOUBLE_EQ(found.sqnr_db, 10 * std::log10(101.0));
  EXPECT_DOUBLE_EQ(found.min_sqnr_db, 0);
  EXPECT_EQ(found.samples, 2);
  EXPECT_EQ(found.values, 4);
}

TEST(TensorComparison, DoesNotOverflowWhereFloatWould) {
  EXPECT_DOUBLE_EQ(Difference({3e38f, 0}, {3e38f, 3e28f}).sqnr_db, 20 * std::log10(double{3e38f} / double{3e28f}));
}

TEST(TensorComparison, ReadsMixedTypesAndRefusesMixedShapes) {
  const Tensor whole = Tensor::FromVector<int64_t>({2}, {1, 2});
  EXPECT_EQ(Compare(whole, Vector({1, 2}))->sqnr_db, kIdenticalDb);
  const auto refused = Compare(whole, Tensor::FromVector<float>({1, 2}, {1, 2}));
  EXPECT_EQ(refused.status().code(), ErrorCode::kInvalidArgument);
  EXPECT_EQ(refused.status().message(), "the outputs have different shapes: 2 and 1x2");
}

}  // namespace
}  // namespace octavo
