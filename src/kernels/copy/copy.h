// Copies between strided operands: changes of layout, and of float32 to bfloat16 and back on the way.
#pragma once

#include <array>

#include "kernels/copy/transpose.h"
#include "kernels/kernel.h"
#include "kernels/simd/convert.h"
#include "kernels/strided.h"

namespace octavo {

// to = from, which broadcasts to the shape of `to`. Neighbouring elements on both sides are copied as rows; elements
// that are neighbours along different axes on the two sides (NCHW and NHWC) are transposed in blocks.
class CopyPlan {
 public:
  // Errors: Unsupported for other pairs of types, InvalidArgument for shapes that do not broadcast.
  static Result<CopyPlan> Create(const Operand& from, const Operand& to, int threads);
  // The operands' first elements. They must not overlap. Allocates nothing.
  void Run(const void* from, void* to) const;

 private:
  using RowFn = void (*)(const void* from, int64_t from_step, void* to, int64_t to_step, int64_t n);
  static RowFn ChooseRow(DType from, DType to);
  void RunRows(const char* from, char* to) const;
  void RunBlocks(const char* from, char* to) const;
  void RunBlock(const char* from, char* to, int64_t block) const;

  int64_t from_size_ = 0, to_size_ = 0;  // bytes of an element
  int threads_ = 1;
  // All loops; or, when blocks are transposed, those outside of a block's two.
  StridedLoop<2> loop_;
  bool bytes_ = false;  // rows are copied as they are
  RowConversions conversions_{};
  bool widens_ = false, narrows_ = false;
  RowFn row_ = nullptr;
  TransposeFn transpose_ = nullptr;  // null: by rows
  // Along i, `to` has neighbours; along j, `from` has.
  int64_t ni_ = 0, nj_ = 0, from_stride_ = 0, to_stride_ = 0;
  int64_t block_i_ = 1, block_j_ = 1;
};

// Input 0 to output 0 of any node.
Result<BoundKernel> BindCopy(const Operand& from, const Operand& to, int threads);

// Unsupported where attributes that decide the layout are not constant.
Result<BoundKernel> BindFastTranspose(const BindContext& context);
Result<BoundKernel> BindFastConcat(const BindContext& context);
Result<BoundKernel> BindFastSplit(const BindContext& context);
Result<BoundKernel> BindFastSlice(const BindContext& context);
Result<BoundKernel> BindFastExpand(const BindContext& context);
// float32 and bfloat16 to each other.
Result<BoundKernel> BindFastCast(const BindContext& context);

}  // namespace octavo
