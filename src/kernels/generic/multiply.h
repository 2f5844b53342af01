// The product of two matrices that callers describe element by element, in a wide accumulator: the reference under
// every contraction. A panel of B's columns is packed once and multiplied with four rows of A at a time.
#pragma once

#include <algorithm>
#include <cstdint>

#include "base/parallel.h"

namespace octavo {

inline constexpr int64_t kTile = 4;           // rows and columns whose sums stay in registers
inline constexpr int64_t kPanelColumns = 64;  // columns packed at once

// Accumulators that MultiplyPanel needs for products of depth `depth`.
inline int64_t PanelScratch(int64_t depth) { return depth * (kPanelColumns + kTile); }

// c[i][j] = sum over k of a[k][i] * b[k][j], in the order of k.
template <int kRows, typename Acc>
void MultiplyTile(int64_t depth, const Acc* a, const Acc* b, Acc (&c)[kTile][kTile]) {
  Acc sums[kRows][kTile] = {};
  for (int64_t k = 0; k < depth; ++k) {
    for (int i = 0; i < kRows; ++i) {
      for (int j = 0; j < kTile; ++j) sums[i][j] += a[k * kTile + i] * b[k * kTile + j];
    }
  }
  for (int i = 0; i < kRows; ++i) {
    for (int j = 0; j < kTile; ++j) c[i][j] = sums[i][j];
  }
}

// Puts all rows of columns [begin, end) of the product; end - begin <= kPanelColumns.
// fill_row(i, out), fill_column(j, out) write the `depth` elements of a row of A or a column of B to out[k * kTile];
// put(i, j, sum) takes the result. `scratch` has PanelScratch(depth) accumulators.
template <typename Acc, typename FillRow, typename FillColumn, typename Put>
void MultiplyPanel(int64_t rows, int64_t begin, int64_t end, int64_t depth, Acc* scratch, FillRow&& fill_row,
                   FillColumn&& fill_column, Put&& put) {
  Acc* columns = scratch;
  Acc* tile_rows = scratch + depth * kPanelColumns;
  const int64_t width = end - begin;
  for (int64_t j = 0; j < width; ++j) fill_column(begin + j, columns + j / kTile * kTile * depth + j % kTile);
  for (int64_t j = width; j % kTile != 0; ++j) {
    Acc* unused = columns + j / kTile * kTile * depth + j % kTile;
    for (int64_t k = 0; k < depth; ++k) unused[k * kTile] = 0;
  }
  for (int64_t i = 0; i < rows; i += kTile) {
    const int64_t height = std::min(kTile, rows - i);
    for (int64_t r = 0; r < height; ++r) fill_row(i + r, tile_rows + r);
    for (int64_t r = height; height > 1 && r < kTile; ++r) {
      for (int64_t k = 0; k < depth; ++k) tile_rows[k * kTile + r] = 0;
    }
    for (int64_t j = 0; j < width; j += kTile) {
      Acc sums[kTile][kTile];
      if (height == 1) {
        MultiplyTile<1>(depth, tile_rows, columns + j * depth, sums);
      } else {
        MultiplyTile<kTile>(depth, tile_rows, columns + j * depth, sums);
      }
      for (int64_t r = 0; r < height; ++r) {
        for (int64_t c = 0; c < std::min(kTile, width - j); ++c) put(i + r, begin + j + c, sums[r][c]);
      }
    }
  }
}

// Calls fn(task, slot) for tasks [0, count); slot < threads names the scratch that the call may use.
template <typename Fn>
void ForTasks(int threads, int64_t count, Fn&& fn) {
  const int64_t slots = std::max<int64_t>(1, std::min<int64_t>(threads, count));
  ParallelFor(static_cast<int>(slots), slots, 1, [&](int64_t first, int64_t last) {
    for (int64_t slot = first; slot < last; ++slot) {
      for (int64_t task = count * slot / slots; task < count * (slot + 1) / slots; ++task) fn(task, slot);
    }
  });
}

}  // namespace octavo
