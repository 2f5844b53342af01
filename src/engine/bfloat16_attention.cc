#include "engine/bfloat16_attention.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <utility>

#include "base/rounding.h"
#include "engine/attention_blocks.h"
#include "kernels/attention/attention_operands.h"
#include "kernels/attention/attention_rows.h"

namespace octavo {

namespace {

// Multiply-adds of one batch element below which the calls themselves (some microseconds) are what takes time.
constexpr int64_t kFewestMacs = 2'000'000;

class Attention {
 public:
  static Result<std::shared_ptr<Attention>> Create(OneDnnBuilder& onednn, const BindContext& context) {
    auto attention = std::make_shared<Attention>();
    OCTAVO_ASSIGN(attention->o_, ReadAttentionOperands(context));
    OCTAVO_RETURN_IF_ERROR(attention->Build(onednn, std::max(1, context.threads)));
    return attention;
  }

  size_t scratch_bytes() const { return static_cast<size_t>(blocks_.parts() * part_bytes_); }

  Status Run(const KernelArgs& args) const {
    return blocks_.Run(
        o_.batch, [&](int part, const auto& at) { return Pack(args, at, part); },
        [&](int part, const auto& at, int64_t first) { return RunBlock(args, at, part, first); });
  }

 private:
  Status Build(OneDnnBuilder& onednn, int threads) {
    for (const BatchMatrix* m : {&o_.q, &o_.k, &o_.v, &o_.y}) {
      if (m->dtype != DType::kBFloat16) return Unsupported("not bfloat16");
      if (m->column_step != 1 && m->columns > 1) return Unsupported("channels are no neighbours");
    }
    const int64_t queries = o_.q.rows, keys = o_.k.rows, depth = o_.q.columns, width = o_.v.columns;
    if (queries * keys * (depth + width) < kFewestMacs) return Unsupported("small products");
    // oneDNN's tiles: a rest of keys costs as much again as all others (257 keys: 27 us, padded to 288: 16 us).
    keys_ = RoundUp(keys, kAttentionRowPadding);
    blocks_ = AttentionBlocks(queries, keys_, o_.batch.count(), threads);
    const int64_t rows = blocks_.rows;
    OCTAVO_ASSIGN(score_, onednn.Product({DType::kBFloat16, rows, depth, keys_, 1, depth, threads}));
    OCTAVO_ASSIGN(combine_, onednn.Product({DType::kBFloat16, rows, keys_, width, width, 1, threads}));
    ScratchLayout scratch;
    keys_at_ = scratch.Place(static_cast<int64_t>(score_->packed_bytes));
    values_at_ = scratch.Place(static_cast<int64_t>(combine_->packed_bytes));
    copy_at_ = scratch.Place(keys_ * std::max(depth, width) * 2);
    queries_at_ = scratch.Place(rows * depth * 2);
    scores_at_ = scratch.Place(rows * keys_ * 4);
    shares_at_ = scratch.Place(rows * keys_ * 2);
    results_at_ = scratch.Place(rows * width * 4);
    mask_at_ = scratch.Place(keys * 4);
    library_at_ = scratch.Place(static_cast<int64_t>(std::max(score_->scratch_bytes, combine_->scratch_bytes)));
    part_bytes_ = scratch.bytes();
    return {};
  }

  char* ScratchOf(const KernelArgs& args, int part) const {
    return static_cast<char*>(args.scratch) + part * part_bytes_;
  }

  Status Pack(const KernelArgs& args, const std::array<int64_t, 5>& at, int part) const {
    char* scratch = ScratchOf(args, part);
    void* copy = scratch + copy_at_;
    CopyPadded(o_.k, args.inputs[1], at[1], copy);
    OCTAVO_RETURN_IF_ERROR(score_->Pack(part, copy, scratch + keys_at_, scratch + library_at_));
    CopyPadded(o_.v, args.inputs[2], at[2], copy);
    return combine_->Pack(part, copy, scratch + values_at_, scratch + library_at_);
  }

  // Rows of keys or values behind each other, zeros beyond the last.
  void CopyPadded(const BatchMatrix& m, const void* data, int64_t at, void* copy) const {
    auto* to = static_cast<uint16_t*>(copy);
    const void* from = m.At(data, at);
    for (int64_t r = 0; r < m.rows; ++r) {
      std::memcpy(to + r * m.columns, m.At(from, r * m.row_step), static_cast<size_t>(m.columns) * 2);
    }
    std::fill(to + m.rows * m.columns, to + keys_ * m.columns, uint16_t{0});
  }

  Status RunBlock(const KernelArgs& args, const std::array<int64_t, 5>& at, int part, int64_t first) const {
    char* scratch = ScratchOf(args, part);
    const int64_t count = std::min(blocks_.rows, o_.q.rows - first), keys = o_.k.rows, depth = o_.q.columns,
                  width = o_.v.columns;
    auto* queries = reinterpret_cast<uint16_t*>(scratch + queries_at_);
    auto* scores = reinterpret_cast<float*>(scratch + scores_at_);
    auto* shares = reinterpret_cast<uint16_t*>(scratch + shares_at_);
    auto* results = reinterpret_cast<float*>(scratch + results_at_);
    auto* mask_row = reinterpret_cast<float*>(scratch + mask_at_);
    // Rows beyond the last query keep what they held: nobody reads their results.
    const void* q = o_.q.At(args.inputs[0], at[0]);
    for (int64_t r = 0; r < count; ++r) {
      std::memcpy(queries + r * depth, o_.q.At(q, (first + r) * o_.q.row_step), static_cast<size_t>(depth) * 2);
    }
    OCTAVO_RETURN_IF_ERROR(score_->Run(part, queries, scratch + keys_at_, scores, scratch + library_at_));
    std::array<float, AttentionBlocks::kMostRows> sums;
    for (int64_t r = 0; r < count; ++r) {
      float& sum = sums[static_cast<size_t>(r)];
      uint16_t* to = shares + r * keys_;
      sum = functions_.exponentiate(scores + r * keys_, keys, keys_, o_.scale,
                                    o_.ReadMask(args, at, first + r, mask_row), to);
      if (o_.guarded && std::isnan(sum)) {
        std::fill_n(to, keys_, uint16_t{0});
        sum = 1;
      }
    }
    OCTAVO_RETURN_IF_ERROR(combine_->Run(part, shares, scratch + values_at_, results, scratch + library_at_));
    void* y = o_.y.At(args.outputs[0], at[4]);
    for (int64_t r = 0; r < count; ++r) {
      functions_.divide(results + r * width, width, sums[static_cast<size_t>(r)],
                        static_cast<uint16_t*>(o_.y.At(y, (first + r) * o_.y.row_step)));
    }
    return {};
  }

  AttentionOperands o_;
  std::shared_ptr<PackedProduct> score_, combine_;
  AttentionRows functions_ = ChooseAttentionRows();
  AttentionBlocks blocks_;
  int64_t keys_ = 0, part_bytes_ = 0;  // keys_: padded
  int64_t keys_at_ = 0, values_at_ = 0, copy_at_ = 0, queries_at_ = 0, scores_at_ = 0, shares_at_ = 0, results_at_ = 0,
          mask_at_ = 0, library_at_ = 0;
};

}  // namespace

Result<BoundKernel> BindBFloat16Attention(OneDnnBuilder& onednn, const BindContext& context) {
  OCTAVO_ASSIGN(std::shared_ptr<Attention> attention, Attention::Create(onednn, context));
  return KernelOf(std::move(attention));
}

}  // namespace octavo
