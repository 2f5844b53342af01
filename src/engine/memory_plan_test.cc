#include <gtest/gtest.h>

#include <random>

#include "engine/plan.h"

namespace octavo {
namespace {

Buffer Arena(int64_t bytes, int first, int last) {
  Buffer buffer;
  buffer.bytes = bytes;
  buffer.first_step = first;
  buffer.last_step = last;
  return buffer;
}

TEST(PlaceBuffers, ReusesMemoryOfTheDead) {
  std::vector<Buffer> buffers = {Arena(1024, 0, 1), Arena(1024, 1, 2), Arena(1024, 2, 3)};
  // Two live at a time, never three.
  EXPECT_EQ(PlaceBuffers(buffers), 2048);
  EXPECT_EQ(buffers[0].place, buffers[2].place);
}

TEST(PlaceBuffers, IgnoresBuffersThatNoStepTouches) {
  std::vector<Buffer> buffers = {Arena(1 << 20, -1, -1), Arena(64, 0, 0)};
  EXPECT_EQ(PlaceBuffers(buffers), 64);
}

TEST(PlaceBuffers, NeverOverlapsTheLiving) {
  std::mt19937 random(1);
  for (int round = 0; round < 50; ++round) {
    std::vector<Buffer> buffers;
    for (int i = 0; i < 60; ++i) {
      const int first = static_cast<int>(random() % 40);
      buffers.push_back(
          Arena(1 + static_cast<int64_t>(random() % 5000), first, first + static_cast<int>(random() % 8)));
    }
    const int64_t total = PlaceBuffers(buffers);
    for (size_t i = 0; i < buffers.size(); ++i) {
      EXPECT_EQ(buffers[i].place % 64, 0);
      EXPECT_LE(buffers[i].place + buffers[i].bytes, total);
      for (size_t j = 0; j < i; ++j) {
        const Buffer &a = buffers[i], &b = buffers[j];
        const bool together = a.first_step <= b.last_step && b.first_step <= a.last_step;
        const bool overlap = a.place < b.place + b.bytes && b.place < a.place + a.bytes;
        EXPECT_FALSE(together && overlap) << "round " << round;
      }
    }
  }
}

}  // namespace
}  // namespace octavo
