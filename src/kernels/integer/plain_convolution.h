// Integer convolutions where oneDNN has none but its slow reference: any groups and windows, on every CPU.
#pragma once

#include <cstdint>
#include <vector>

namespace octavo {

// Rows of a channels-last image that is padded already.
struct PlainConvolutionBlock {
  const uint8_t* src = nullptr;
  int64_t row_stride = 0;  // elements between rows of src
  int64_t in_channels = 0, out_rows = 0, out_columns = 0, out_channels = 0, groups = 1;
  int64_t kernel_rows = 1, kernel_columns = 1;
  int64_t stride_rows = 1, stride_columns = 1, dilation_rows = 1, dilation_columns = 1;
  const int16_t* weights = nullptr;  // PackPlainConvolution
  int32_t* dst = nullptr;            // out_rows x out_columns x out_channels, dense
};

// (O, I/g, taps) as (group, tap, I/g, O/g): output channels innermost.
std::vector<int16_t> PackPlainConvolution(const std::vector<int16_t>& weights, int64_t out_channels, int64_t in_group,
                                          int64_t taps, int64_t groups);

void RunPlainConvolution(const PlainConvolutionBlock& block);

}  // namespace octavo
