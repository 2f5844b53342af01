// The last two dimensions of an operand as a matrix, the ones before them as its batch.
#pragma once

#include <cstdint>
#include <string>

#include "base/rounding.h"
#include "kernels/kernel.h"
#include "kernels/strided.h"

namespace octavo {

struct BatchMatrix {
  DType dtype = DType::kUndefined;
  int64_t rows = 0, columns = 0;
  int64_t row_step = 0, column_step = 0;
  Dims batch = {}, batch_strides = {};

  const void* At(const void* data, int64_t offset) const {
    return static_cast<const char*>(data) + offset * static_cast<int64_t>(SizeOf(dtype));
  }
  void* At(void* data, int64_t offset) const {
    return static_cast<char*>(data) + offset * static_cast<int64_t>(SizeOf(dtype));
  }
};

// Of any type.
inline Result<BatchMatrix> AnyBatchMatrixOf(const Operand& operand) {
  const size_t rank = operand.dims.size();
  if (!operand.present || rank < 2 || rank > kMaxRank) return InvalidArgument("an operand is no matrix");
  BatchMatrix matrix{operand.dtype, operand.dims[rank - 2], operand.dims[rank - 1], operand.strides[rank - 2],
                     operand.strides[rank - 1]};
  matrix.batch.assign(operand.dims.begin(), operand.dims.end() - 2);
  matrix.batch_strides.assign(operand.strides.begin(), operand.strides.end() - 2);
  return matrix;
}

// Errors: Unsupported for other types than float32 and bfloat16.
inline Result<BatchMatrix> BatchMatrixOf(const Operand& operand) {
  if (operand.present && operand.dtype != DType::kFloat32 && operand.dtype != DType::kBFloat16) {
    return Unsupported("only float32 and bfloat16 are fast");
  }
  return AnyBatchMatrixOf(operand);
}

// Strides of the matrix's batch over `batch`, to which it must broadcast.
inline Result<Dims> BatchStridesOver(const BatchMatrix& matrix, const Dims& batch) {
  bool fits = matrix.batch.size() <= batch.size();
  for (size_t d = 0; fits && d < matrix.batch.size(); ++d) {
    fits = matrix.batch[d] == 1 || matrix.batch[d] == batch[batch.size() - matrix.batch.size() + d];
  }
  if (!fits) return InvalidArgument("the operands' batches do not fit the output");
  return BroadcastStrides(matrix.batch, matrix.batch_strides, batch);
}

// A row of floats in scratch starts and ends on a vector of any instruction set.
inline int64_t RoundUpToVector(int64_t n) { return RoundUp(n, 16); }

}  // namespace octavo
