#include "kernels/attention/attention_operands.h"

namespace octavo {

namespace {

// A mask of fewer than two dimensions is broadcast over the queries.
Result<BatchMatrix> MaskMatrix(Operand mask, int64_t queries, int64_t keys) {
  while (mask.dims.size() < 2) {
    mask.dims.insert(mask.dims.begin(), 1);
    mask.strides.insert(mask.strides.begin(), 0);
  }
  OCTAVO_ASSIGN(BatchMatrix m, BatchMatrixOf(mask));
  if ((m.rows != 1 && m.rows != queries) || (m.columns != 1 && m.columns != keys)) {
    return InvalidArgument("the mask does not fit the scores");
  }
  if (m.rows == 1) m.row_step = 0;
  if (m.columns == 1) m.column_step = 0;
  return m;
}

}  // namespace

const float* AttentionOperands::ReadMask(const KernelArgs& args, const std::array<int64_t, 5>& at, int64_t query,
                                         float* row) const {
  if (!has_mask) return nullptr;
  const void* from = mask.At(mask.At(args.inputs[3], at[3]), query * mask.row_step);
  if (mask.dtype == DType::kFloat32 && mask.column_step == 1) return static_cast<const float*>(from);
  for (int64_t i = 0; i < k.rows; ++i) {
    const void* element = mask.At(from, i * mask.column_step);
    row[i] = mask.dtype == DType::kFloat32 ? *static_cast<const float*>(element)
                                           : BFloat16ToFloat(*static_cast<const uint16_t*>(element));
  }
  return row;
}

Result<AttentionOperands> ReadAttentionOperands(const BindContext& context) {
  AttentionOperands o;
  OCTAVO_ASSIGN(o.q, BatchMatrixOf(context.inputs[0]));
  OCTAVO_ASSIGN(o.k, BatchMatrixOf(context.inputs[1]));
  OCTAVO_ASSIGN(o.v, BatchMatrixOf(context.inputs[2]));
  OCTAVO_ASSIGN(o.y, BatchMatrixOf(context.outputs[0]));
  if (o.q.columns != o.k.columns || o.k.rows != o.v.rows || o.y.rows != o.q.rows || o.y.columns != o.v.columns ||
      o.k.rows < 1) {
    return InvalidArgument("the shapes of q, k, v and the output do not fit");
  }
  OCTAVO_ASSIGN(Dims q_batch, BatchStridesOver(o.q, o.y.batch));
  OCTAVO_ASSIGN(Dims k_batch, BatchStridesOver(o.k, o.y.batch));
  OCTAVO_ASSIGN(Dims v_batch, BatchStridesOver(o.v, o.y.batch));
  Dims mask_batch(o.y.batch.size(), 0);
  o.has_mask = context.inputs.size() > 3 && context.inputs[3].present;
  if (o.has_mask) {
    OCTAVO_ASSIGN(o.mask, MaskMatrix(context.inputs[3], o.q.rows, o.k.rows));
    OCTAVO_ASSIGN(mask_batch, BatchStridesOver(o.mask, o.y.batch));
  }
  o.batch = StridedLoop<5>(o.y.batch, {q_batch, k_batch, v_batch, mask_batch, o.y.batch_strides});
  o.scale = context.node.Float("scale", 1.0f);
  o.guarded = context.node.Int("guarded", 0) != 0;
  return o;
}

}  // namespace octavo
