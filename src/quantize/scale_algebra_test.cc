#include "quantize/scale_algebra.h"

#include <gtest/gtest.h>

namespace octavo {
namespace {

TEST(ScaleAlgebra, AddsAndCancels) {
  ScaleAlgebra algebra;
  const int a = algebra.Fresh(), b = algebra.Fresh();
  const int sum = algebra.Add(a, b);
  EXPECT_EQ(algebra.Resolve(sum), (ScaleSum{{0, 1}, {1, 1}}));
  EXPECT_EQ(algebra.Add(sum, b, -1), a);
  EXPECT_EQ(algebra.Add(a, a, -1), 0);
}

TEST(ScaleAlgebra, EquationsHoldAfterwards) {
  ScaleAlgebra algebra;
  const int a = algebra.Fresh(), b = algebra.Fresh(), c = algebra.Fresh();
  algebra.Equate(c, algebra.Add(a, b, -1));            // c = a - b
  algebra.Equate(algebra.Add(b, c), algebra.Fresh());  // d = b + c = a
  EXPECT_EQ(algebra.Resolve(algebra.Add(c, b)), algebra.Resolve(a));
  EXPECT_EQ(algebra.Resolve(a), (ScaleSum{{0, 1}}));  // older variables stay
  algebra.Equate(a, 0);
  EXPECT_TRUE(algebra.Resolve(algebra.Add(b, c)).empty());
  EXPECT_EQ(algebra.Resolve(c), (ScaleSum{{1, -1}}));
}

// 2 a = 0 leaves no power of two but 1; 2 a = 3 b would leave thirds of octaves, which are given up.
TEST(ScaleAlgebra, PinsWhatHasNoWholeSolution) {
  ScaleAlgebra algebra;
  const int a = algebra.Fresh(), b = algebra.Fresh();
  algebra.Equate(algebra.Add(a, a), algebra.Add(0, b, 3));
  EXPECT_TRUE(algebra.Resolve(a).empty());
  EXPECT_TRUE(algebra.Resolve(b).empty());
}

}  // namespace
}  // namespace octavo
