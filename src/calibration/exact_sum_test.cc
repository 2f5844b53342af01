#include "octavo/exact_sum.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

namespace octavo {
namespace {

template <typename Sum>
Sum SumOf(const std::vector<double>& terms) {
  Sum sum;
  for (const double term : terms) sum.Add(term);
  return sum;
}

TEST(ExactSum, DoesNotDependOnTheOrder) {
  std::mt19937 random(1);
  std::uniform_real_distribution<float> mantissa(-1, 1);
  std::uniform_int_distribution<int> exponent(-125, 127);
  std::vector<double> terms;
  terms.reserve(1000);
  for (int i = 0; i < 1000; ++i) terms.push_back(std::ldexp(mantissa(random), exponent(random)));
  const ValueSum forward = SumOf<ValueSum>(terms);
  std::shuffle(terms.begin(), terms.end(), random);
  EXPECT_EQ(SumOf<ValueSum>(terms), forward);
  const ValueSum first = SumOf<ValueSum>({terms.begin(), terms.begin() + 300});
  ValueSum merged = SumOf<ValueSum>({terms.begin() + 300, terms.end()});
  merged.Add(first);
  EXPECT_EQ(merged, forward);
}

TEST(ExactSum, RoundsNothingAway) {
  // In double the small terms are lost beside the large ones.
  EXPECT_EQ(SumOf<ValueSum>({0x1p127, 0x1p-126, -0x1p127, 0x1p-126}).value(), 0x1p-125);
  EXPECT_EQ(SumOf<ValueSum>({-0x1p127, 1, 0x1p127, -3}).value(), -2);
  EXPECT_EQ(SumOf<SquareSum>({0x1p255, 0x1p-298, -0x1p255}).value(), 0x1p-298);
  EXPECT_EQ(SumOf<ValueSum>({5, -5}), ValueSum());
  EXPECT_EQ(ValueSum().value(), 0);
}

TEST(ExactSum, BecomesTheNearestDouble) {
  // 2^53 + 1 is a tie, to even; what lies below makes it none.
  EXPECT_EQ(SumOf<ValueSum>({0x1p53, 1}).value(), 0x1p53);
  EXPECT_EQ(SumOf<ValueSum>({0x1p53, 1, 0x1p-126}).value(), 0x1p53 + 2);
  EXPECT_EQ(SumOf<ValueSum>({0x1p53, 3}).value(), 0x1p53 + 4);
  EXPECT_EQ(SumOf<ValueSum>({-0x1p53, -1, -0x1p-126}).value(), -0x1p53 - 2);
  std::mt19937 random(2);
  std::uniform_real_distribution<double> uniform(-1, 1);
  for (int i = 0; i < 100; ++i) {
    // Floats of nearby exponents: their sum is exact in 64 bits of mantissa, which long double has.
    const auto a = static_cast<float>(uniform(random)), b = static_cast<float>(uniform(random));
    const long double exact = static_cast<long double>(a) + static_cast<long double>(b);
    EXPECT_EQ(SumOf<ValueSum>({a, b}).value(), static_cast<double>(exact));
  }
}

}  // namespace
}  // namespace octavo
