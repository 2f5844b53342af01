#include "engine/bfloat16_attention.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <cstring>
#include <utility>

#include "base/rounding.h"
#include "kernels/attention/attention_operands.h"
#include "kernels/attention/attention_rows.h"
#include "kernels/parts.h"

namespace octavo {

namespace {

// Scores of a block stay within a core's L2.
constexpr int64_t kScoreBytes = 512 << 10;
constexpr int64_t kMostRows = 1024;
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

  size_t scratch_bytes() const { return static_cast<size_t>(PartCount(threads_, tasks(), 1) * part_bytes_); }

  Status Run(const KernelArgs& args) const {
    std::atomic<bool> failed{false};
    ParallelForParts(threads_, tasks(), 1, [&](int64_t part, int64_t begin, int64_t end) {
      if (begin < end && !RunTasks(args, static_cast<int>(part), begin, end).ok()) failed = true;
    });
    return failed ? InternalError("a product of attention failed") : Status();
  }

 private:
  Status Build(OneDnnBuilder& onednn, int threads) {
    for (const BatchMatrix* m : {&o_.q, &o_.k, &o_.v, &o_.y}) {
      if (m->dtype != DType::kBFloat16) return Unsupported("not bfloat16");
      if (m->column_step != 1 && m->columns > 1) return Unsupported("channels are no neighbours");
    }
    const int64_t queries = o_.q.rows, keys = o_.k.rows, depth = o_.q.columns, width = o_.v.columns;
    if (queries * keys * (depth + width) < kFewestMacs) return Unsupported("small products");
    threads_ = threads;
    // oneDNN's tiles: a rest of keys costs as much again as all others (257 keys: 27 us, padded to 288: 16 us).
    keys_ = RoundUp(keys, kAttentionRowPadding);
    rows_ = std::clamp<int64_t>(kScoreBytes / (4 * keys_) / 16 * 16, 16, kMostRows);
    if (o_.batch.count() < threads) rows_ = std::min(rows_, RoundUp(CeilDivide(queries, threads), 16));
    rows_ = std::min(rows_, queries);
    OCTAVO_ASSIGN(score_, onednn.Product({DType::kBFloat16, rows_, depth, keys_, 1, depth, threads}));
    OCTAVO_ASSIGN(combine_, onednn.Product({DType::kBFloat16, rows_, keys_, width, width, 1, threads}));
    part_bytes_ = 0;
    const auto place = [&](int64_t& at, size_t bytes) {
      at = part_bytes_;
      part_bytes_ += static_cast<int64_t>(RoundUp(static_cast<int64_t>(bytes), 64));
    };
    place(keys_at_, score_->packed_bytes);
    place(values_at_, combine_->packed_bytes);
    place(copy_at_, static_cast<size_t>(keys_ * std::max(depth, width)) * 2);
    place(queries_at_, static_cast<size_t>(rows_ * depth) * 2);
    place(scores_at_, static_cast<size_t>(rows_ * keys_) * 4);
    place(shares_at_, static_cast<size_t>(rows_ * keys_) * 2);
    place(results_at_, static_cast<size_t>(rows_ * width) * 4);
    place(mask_at_, static_cast<size_t>(keys) * 4);
    place(library_at_, std::max(score_->scratch_bytes, combine_->scratch_bytes));
    return {};
  }

  int64_t blocks() const { return CeilDivide(o_.q.rows, rows_); }
  int64_t tasks() const { return o_.batch.count() * blocks(); }

  Status RunTasks(const KernelArgs& args, int part, int64_t begin, int64_t end) const {
    char* scratch = static_cast<char*>(args.scratch) + part * part_bytes_;
    void* library = scratch + library_at_;
    Status status;
    int64_t task = begin;
    o_.batch.ForEachIn(begin / blocks(), CeilDivide(end, blocks()), [&](const auto& at) {
      if (!status.ok()) return;
      void* copy = scratch + copy_at_;
      CopyPadded(o_.k, args.inputs[1], at[1], copy);
      status = score_->Pack(part, copy, scratch + keys_at_, library);
      CopyPadded(o_.v, args.inputs[2], at[2], copy);
      if (status.ok()) status = combine_->Pack(part, copy, scratch + values_at_, library);
      while (status.ok()) {
        status = RunBlock(args, at, part, task % blocks() * rows_, scratch);
        if (++task == end || task % blocks() == 0) break;
      }
    });
    return status;
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

  Status RunBlock(const KernelArgs& args, const std::array<int64_t, 5>& at, int part, int64_t first,
                  char* scratch) const {
    const int64_t count = std::min(rows_, o_.q.rows - first), keys = o_.k.rows, depth = o_.q.columns,
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
    std::array<float, kMostRows> sums;
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
  int threads_ = 1;
  int64_t rows_ = 0, keys_ = 0, part_bytes_ = 0;  // keys_: padded
  int64_t keys_at_ = 0, values_at_ = 0, copy_at_ = 0, queries_at_ = 0, scores_at_ = 0, shares_at_ = 0, results_at_ = 0,
          mask_at_ = 0, library_at_ = 0;
};

}  // namespace

Result<BoundKernel> BindBFloat16Attention(OneDnnBuilder& onednn, const BindContext& context) {
  OCTAVO_ASSIGN(std::shared_ptr<Attention> attention, Attention::Create(onednn, context));
  BoundKernel kernel;
  kernel.scratch_bytes = attention->scratch_bytes();
  kernel.run = [attention = std::move(attention)](const KernelArgs& args) { return attention->Run(args); };
  return kernel;
}

}  // namespace octavo
