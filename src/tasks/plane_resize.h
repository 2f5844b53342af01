// Bilinear resizing of one plane of floats, row by row, so that a large result need not be held.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace octavo {

struct PlaneView {
  const float* data;
  int height, width;
  int64_t stride;  // floats from one row to the next
};

// One axis of PyTorch's interpolate(mode="bilinear", align_corners=False): destination i is
// (1 - fraction) * source[low] + fraction * source[high].
struct LinearTap {
  int low, high;
  float fraction;
};

inline std::vector<LinearTap> MakeLinearTaps(int in_size, int out_size) {
  const float scale = static_cast<float>(in_size) / static_cast<float>(out_size);
  std::vector<LinearTap> taps(static_cast<size_t>(out_size));
  for (int i = 0; i < out_size; ++i) {
    const float at = std::max(scale * (static_cast<float>(i) + 0.5f) - 0.5f, 0.0f);
    const int low = std::min(static_cast<int>(at), in_size - 1);
    const float fraction = std::clamp(at - static_cast<float>(low), 0.0f, 1.0f);
    taps[static_cast<size_t>(i)] = {low, std::min(low + 1, in_size - 1), fraction};
  }
  return taps;
}

inline void ResizeRow(const float* in, const std::vector<LinearTap>& taps, std::vector<float>& out) {
  for (size_t i = 0; i < taps.size(); ++i) {
    const LinearTap& tap = taps[i];
    out[i] = (1.0f - tap.fraction) * in[tap.low] + tap.fraction * in[tap.high];
  }
}

// Calls fn(y, row) for each row of `plane` resized to height x width, from the top. Sizes must be positive.
template <typename Fn>
void ForEachResizedRow(const PlaneView& plane, int height, int width, Fn&& fn) {
  const std::vector<LinearTap> columns = MakeLinearTaps(plane.width, width);
  const std::vector<LinearTap> rows = MakeLinearTaps(plane.height, height);
  std::vector<float> low(columns.size()), high(columns.size()), out(columns.size());
  int low_row = -1, high_row = -1;  // which source rows `low` and `high` hold
  for (int y = 0; y < height; ++y) {
    const LinearTap& tap = rows[static_cast<size_t>(y)];
    if (tap.low == high_row && tap.low != low_row) {
      std::swap(low, high);
      std::swap(low_row, high_row);
    }
    if (tap.low != low_row) ResizeRow(plane.data + tap.low * plane.stride, columns, low);
    if (tap.high != high_row) ResizeRow(plane.data + tap.high * plane.stride, columns, high);
    low_row = tap.low;
    high_row = tap.high;
    for (size_t x = 0; x < out.size(); ++x) out[x] = (1.0f - tap.fraction) * low[x] + tap.fraction * high[x];
    fn(y, std::span<const float>(out));
  }
}

}  // namespace octavo
