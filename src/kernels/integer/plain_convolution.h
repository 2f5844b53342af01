// Integer convolutions where oneDNN has none but its slow reference: any groups and windows, on every CPU.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/integer/sliding_window.h"

namespace octavo {

struct PlainConvolutionBlock : SlidingWindow {
  int64_t out_channels = 0, groups = 1;
  const int16_t* weights = nullptr;  // PackPlainConvolution
};

// (O, I/g, taps) as (group, tap, I/g, O/g): output channels innermost.
std::vector<int16_t> PackPlainConvolution(const std::vector<int16_t>& weights, int64_t out_channels, int64_t in_group,
                                          int64_t taps, int64_t groups);

void RunPlainConvolution(const PlainConvolutionBlock& block);

}  // namespace octavo
