// Statistics made of given values, one by one: what the tests of calibration compare with.
#pragma once

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "octavo/stats.h"

namespace octavo {

// The bin of `value`, by the definition.
inline int BinOf(float value, int exponent) {
  return static_cast<int>(std::floor(std::ldexp(static_cast<double>(value), -exponent)));
}

// One channel of all values.
inline TensorStats StatsOf(const std::vector<float>& values) {
  TensorStats stats = MakeTensorStats({1, static_cast<int64_t>(values.size())}, 0);
  stats.count = values.size();
  stats.min = *std::min_element(values.begin(), values.end());
  stats.max = *std::max_element(values.begin(), values.end());
  stats.channel_min = {stats.min};
  stats.channel_max = {stats.max};
  stats.histogram.exponent = ExponentFor(stats.min, stats.max);
  stats.histogram.counts.resize(2 * Histogram::kHalfBins);
  for (const float value : values) {
    stats.channel_sum[0].Add(value);
    stats.square_sum.Add(static_cast<double>(value) * static_cast<double>(value));
    ++stats.histogram.counts[Histogram::Index(BinOf(value, stats.histogram.exponent))];
  }
  UpdateMeans(stats);
  return stats;
}

// A small file's worth: two tensors, one of them never seen.
inline Stats SmallStats() {
  Stats stats;
  stats.fingerprint = "0123456789abcdef";
  stats.samples = 2;
  stats.input_dims["x"] = {1, 6};
  stats.tensors["x"] = StatsOf({-3.5f, 0, 1e-3f, 2, 2, 700});
  stats.tensors["empty"] = MakeTensorStats({2, 0, 3}, 2);
  return stats;
}

}  // namespace octavo
