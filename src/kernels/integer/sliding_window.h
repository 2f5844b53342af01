// A block of a convolution's output rows and the padded, channels-last image they are summed from.
#pragma once

#include <cstdint>

namespace octavo {

struct SlidingWindow {
  const uint8_t* src = nullptr;
  int64_t row_stride = 0;  // elements between rows of src; pixels are in_channels apart
  int64_t in_channels = 0, out_rows = 0, out_columns = 0;
  int64_t kernel_rows = 1, kernel_columns = 1;
  int64_t stride_rows = 1, stride_columns = 1, dilation_rows = 1, dilation_columns = 1;
  int32_t* dst = nullptr;  // out_rows x out_columns x output channels, dense
};

}  // namespace octavo
