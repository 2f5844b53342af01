// Shared by the kernels of ops that move elements.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "graph/op_table.h"
#include "kernels/generic/strided_copy.h"
#include "kernels/kernel.h"

namespace octavo {

using MovementBindFn = Result<BoundKernel> (*)(const BindContext& context, std::span<const InferInput> inputs);

// The operands as shape inference sees them.
std::vector<InferInput> InferInputsOf(const BindContext& context);
// Error unless the outputs' types and dims are those that inference gives: the copies below trust them.
Status CheckOutputs(const BindContext& context, std::span<const InferInput> inputs);

// `bind` with its operands checked.
template <MovementBindFn bind>
Result<BoundKernel> BindChecked(const BindContext& context) {
  const std::vector<InferInput> inputs = InferInputsOf(context);
  OCTAVO_RETURN_IF_ERROR(CheckOutputs(context, inputs));
  return bind(context, inputs);
}

// One copy between an input and an output, from and to byte offsets.
struct CopyPiece {
  StridedCopy copy;
  size_t input = 0;
  size_t output = 0;
  int64_t from_bytes = 0;
  int64_t to_bytes = 0;
};
BoundKernel RunPieces(std::vector<CopyPiece> pieces, int threads);

// Writes int64 `values`, known at bind time and in row-major order, to output number `output` whenever it runs.
Result<BoundKernel> WriteValues(const Operand& y, size_t output, std::vector<int64_t> values);

// movement_gather.cc
Result<BoundKernel> BindGather(const BindContext& context, std::span<const InferInput> inputs);
Result<BoundKernel> BindGatherElements(const BindContext& context, std::span<const InferInput> inputs);
Result<BoundKernel> BindGatherNd(const BindContext& context, std::span<const InferInput> inputs);
// movement_pad.cc
Result<BoundKernel> BindPad(const BindContext& context, std::span<const InferInput> inputs);
// movement_fill.cc
Result<BoundKernel> BindShape(const BindContext& context, std::span<const InferInput> inputs);
Result<BoundKernel> BindSize(const BindContext& context, std::span<const InferInput> inputs);
Result<BoundKernel> BindConstantOfShape(const BindContext& context, std::span<const InferInput> inputs);
Result<BoundKernel> BindRange(const BindContext& context, std::span<const InferInput> inputs);

}  // namespace octavo
