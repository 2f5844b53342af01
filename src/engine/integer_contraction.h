// Convolutions and matrix products on 8-bit integers: exact INT32 sums in blocks that stay in cache, and the epilogue
// right behind them. docs/numerics.md states the arithmetic.
#pragma once

#include <string>
#include <vector>

#include "engine/onednn.h"
#include "graph/infer_window.h"
#include "kernels/integer/epilogue.h"
#include "kernels/kernel.h"
#include "octavo/tensor.h"

namespace octavo {

// 8-bit weights with their zero points taken off: within [-255, 255].
struct IntegerWeights {
  Dims dims;                    // (O, I/g, spatial)
  std::vector<int16_t> values;  // row-major
};

// Where output pixels lie: element offsets. Dense channels-last by default; a phase of a transposed convolution writes
// every second pixel, say.
struct PixelPlacement {
  int64_t offset = 0, batch = 0, row = 0, column = 0;
};

// A convolution over one or two spatial axes; a matrix product is one with a window of one.
struct IntegerContractionSpec {
  Dims src_dims, dst_dims;       // (N, C, [H,] W); src is channels-last and dense
  std::vector<WindowAxis> axes;  // per spatial axis
  int64_t groups = 1;
  int32_t src_zero_point = 0;  // src is uint8; padding is this value
  IntegerWeights weights;
  Epilogue epilogue;                              // parts and compensation are filled in here
  std::vector<PixelPlacement> operands, outputs;  // as many as the epilogue's
  int threads = 1;
};

// The placement of a dense channels-last tensor of these dims (N, C, [H,] W).
PixelPlacement DensePlacement(const Dims& dims);

struct IntegerKernel {
  BoundKernel kernel;  // inputs: src, then the operands; outputs: as the epilogue's
  std::string implementation;
};

// Errors: kUnsupported, with the reason, where the sums could overflow or nothing computes them.
Result<IntegerKernel> BuildIntegerContraction(IntegerContractionSpec spec, OneDnnBuilder& onednn);

// A product of two activations, (batch..., M, K) x (batch..., K, N), both uint8. Strides in elements; batch dimensions
// are equal or 1. The destination, and the epilogue's operands, are dense and row-major.
struct IntegerProductSpec {
  Dims a_dims, a_strides, b_dims, b_strides, dst_dims;
  int32_t a_zero_point = 0, b_zero_point = 0;
  Epilogue epilogue;  // parts and compensation are filled in here
  int threads = 1;
};
Result<IntegerKernel> BuildIntegerProduct(IntegerProductSpec spec, OneDnnBuilder& onednn);

}  // namespace octavo
