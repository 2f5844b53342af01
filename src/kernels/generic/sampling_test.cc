#include <gmock/gmock.h>

#include <cmath>

#include "kernels/generic/node_testing.h"

namespace octavo {
namespace {

using ::testing::ElementsAre;

// Windows of 3 x 3, padded with zeros: four of them lie on the first element.
TEST(DeformConvTest, AnInfinityElsewhereDoesNotMatter) {
  std::vector<float> image(9, 1.0f);
  image[0] = INFINITY;
  const auto y = ValuesOf<float>(MakeNode("DeformConv", {{"pads", std::vector<int64_t>{1, 1, 1, 1}}}),
                                 {Floats({1, 1, 3, 3}, image), Floats({1, 1, 3, 3}, std::vector<float>(9, 1.0f)),
                                  Floats({1, 18, 3, 3}, std::vector<float>(162, 0.0f))});
  EXPECT_THAT(y, ElementsAre(INFINITY, INFINITY, 4, INFINITY, INFINITY, 6, 4, 6, 4));
}

}  // namespace
}  // namespace octavo
