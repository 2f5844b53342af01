// The operands of octavo::Attention as matrices over one batch.
#pragma once

#include <array>

#include "kernels/batch_matrix.h"
#include "kernels/strided.h"

namespace octavo {

struct AttentionOperands {
  BatchMatrix q, k, v, mask, y;  // queries x depth, keys x depth, keys x width, queries x keys, queries x width
  StridedLoop<5> batch;          // where each of them lies, in elements
  bool has_mask = false, guarded = false;
  float scale = 1;

  // The mask's row of one query, in place or in `row` (one float per key); null without a mask.
  const float* ReadMask(const KernelArgs& args, const std::array<int64_t, 5>& at, int64_t query, float* row) const;
};

// Errors: InvalidArgument where shapes do not fit, Unsupported for other types than float32 and bfloat16.
Result<AttentionOperands> ReadAttentionOperands(const BindContext& context);

}  // namespace octavo
