// What follows the INT32 accumulators of an integer contraction: to real values, through fused functions, and out as
// float or as 8-bit integers. docs/numerics.md states the arithmetic; every instruction set with fused multiply-add
// gives the same bits.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/elementwise/elementwise.h"
#include "octavo/tensor.h"

namespace octavo {

// Scales of QuantizeLinear per channel, as kernels read them.
struct ChannelQuantizer {
  std::vector<float> scales, inverses, zero_points;

  bool empty() const { return scales.empty(); }
  static ChannelQuantizer Create(std::vector<float> scales, const std::vector<int32_t>& zero_points);
};

// A result in memory: float32, bfloat16, or uint8/int8 as round(v / scale) + zero_point, by `channels` where it is not
// empty.
struct EpilogueOutput {
  DType dtype = DType::kFloat32;
  float scale = 1;
  int32_t zero_point = 0;
  ChannelQuantizer channels = {};
};

// One step on real values, in order.
struct EpilogueStage {
  enum class Kind : uint8_t { kUnary, kAddChannel, kMulChannel, kAdd, kMul, kRound } kind = Kind::kUnary;
  RowFunction unary;           // kUnary
  std::vector<float> channel;  // kAddChannel, kMulChannel: one value per channel
  int operand = 0;             // kAdd, kMul: index into Epilogue::operands
  EpilogueOutput rounding;     // kRound: to 8 bits and back, as if it were written and read again
};

// A tensor like the output that is added or multiplied: float32, bfloat16, or uint8 as (q - zero_point) * scale.
struct EpilogueOperand {
  DType dtype = DType::kFloat32;
  float scale = 1;
  int32_t zero_point = 0;
};

// v[c] = fma(float(sum over parts of acc[part][c] + compensation[c]), multiplier[c], bias[c]), then the stages.
struct Epilogue {
  int parts = 1;
  std::vector<int32_t> compensation;    // per channel; sums wrap around, the total fits
  std::vector<float> multiplier, bias;  // per channel
  std::vector<EpilogueStage> stages;
  std::vector<EpilogueOperand> operands;  // at most kMaxOperands
  std::vector<EpilogueOutput> outputs;    // 1 to kMaxOutputs

  static constexpr int kMaxOperands = 6, kMaxOutputs = 3;
};

// A block of pixels (rows of a matrix product), channels [channel_begin, channel_begin + channels) of each. Pointers
// are to the block's first pixel and channel; strides between pixels are in elements.
struct EpilogueBlock {
  const int32_t* accumulators = nullptr;
  int64_t accumulator_stride = 0, part_stride = 0;
  const int32_t* row_compensation = nullptr;  // added to every channel of a pixel; may be null
  const int32_t* compensation = nullptr;      // of the block's channels, instead of the epilogue's; may be null
  int64_t pixels = 0, channel_begin = 0, channels = 0;
  const void* operands[Epilogue::kMaxOperands] = {};
  int64_t operand_strides[Epilogue::kMaxOperands] = {};
  void* outputs[Epilogue::kMaxOutputs] = {};
  int64_t output_strides[Epilogue::kMaxOutputs] = {};
};

// Floats of scratch that RunEpilogue needs for blocks of that many channels.
int64_t EpilogueScratch(int64_t channels);
void RunEpilogue(const Epilogue& epilogue, const EpilogueBlock& block, float* scratch);

// Rows of n contiguous elements of Quantize and Dequantize, as the epilogue does them.
struct QuantizeRows {
  // to: uint8 or int8 by `is_signed`.
  void (*quantize)(const float* from, void* to, int64_t n, float scale, int32_t zero_point, bool is_signed);
  void (*dequantize)(const void* from, float* to, int64_t n, float scale, int32_t zero_point, bool is_signed);
  // Element i by entry first + i.
  void (*quantize_channels)(const float* from, void* to, int64_t n, const ChannelQuantizer& by, int64_t first,
                            bool is_signed);
};
QuantizeRows ChooseQuantizeRows();

}  // namespace octavo
