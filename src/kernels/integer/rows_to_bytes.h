// Rows of channels from real values to 8 bits in one pass: normalized or not, through SiLU or not, times a factor or
// not. The bits are those of the nodes one after the other, but for the rough SiLU.
#pragma once

#include <cstdint>

#include "kernels/integer/epilogue.h"
#include "kernels/kernel.h"

namespace octavo {

struct RowsToBytes {
  const void* x = nullptr;  // float32 or bfloat16
  uint8_t* y = nullptr;     // int8 where `lowest` is -128
  int64_t x_step = 0, y_step = 0, rows = 0, channels = 0;
  // (x - mean) * slope + offset, as a fused multiply-add; all or none.
  const float *mean = nullptr, *slope = nullptr, *offset = nullptr;
  const float* factor = nullptr;  // behind SiLU; null: none
  float scale = 1;
  int32_t zero_point = 0, lowest = 0;
  const ChannelQuantizer* channels_by = nullptr;  // instead of scale and zero_point
};

enum class RowsActivation : uint8_t { kNone, kSilu, kRoughSilu };

using RowsToBytesFn = void (*)(const RowsToBytes& rows);
// Null where no such function is there: scales per channel go without normalization and SiLU.
RowsToBytesFn ChooseRowsToBytes(DType x, bool normalizes, RowsActivation activation, bool has_factor, bool by_channel);

// Whether SiLU may be rough before a tail.
bool MayBeRough(const QuantizedTail& tail);

// x * factor (empty: none), quantized per tensor or per channel; the channels are axis `axis` of x and y, and
// neighbours. Errors: Unsupported for other layouts and types.
Result<BoundKernel> BindChannelQuantize(const Operand& x, const Operand& y, size_t axis, std::vector<float> factor,
                                        const EpilogueOutput& output, int threads);

}  // namespace octavo
