// What one output of a contraction is computed from, as rows of a matrix.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "graph/infer_window.h"
#include "octavo/graph.h"

namespace octavo {

// Reads the operand of a Conv (im2col) or of a product with constant weights: one row per position of the output, of
// the inputs that multiply one row of weights, in the order of the weights: input channel, then place in the window.
class WindowRows {
 public:
  // For a Conv of an operand of dims `x` (N, C, spatial...) and weights of dims `w`.
  static Result<WindowRows> OfConv(const Node& node, const Dims& x, const Dims& w);
  // For a product: rows of the operand's last axis.
  static WindowRows OfProduct(const Dims& x);

  int64_t positions() const { return positions_; }
  int64_t groups() const { return groups_; }
  int64_t inputs() const { return channels_ * window_; }  // of one group

  // Rows of `group` at these positions, from the operand's elements; `out` is (positions, inputs).
  void Gather(std::span<const float> operand, int64_t group, std::span<const int64_t> positions, float* out) const;

 private:
  void GatherOne(const float* image, int64_t group, int64_t place, float* out) const;

  int64_t positions_ = 0, groups_ = 1;
  int64_t channels_ = 1;            // of one group
  int64_t window_ = 1, plane_ = 1;  // elements of a window, of an input channel
  int64_t places_ = 1;              // positions of one image
  int64_t image_ = 1;               // elements of one image
  std::vector<WindowAxis> axes_;
};

// `count` of 0..total-1 in rising order, one at random from each of `count` equal parts; all where there are no more.
std::vector<int64_t> SpreadPositions(int64_t total, int64_t count, uint64_t seed);

}  // namespace octavo
