// The heads of a linear attention and how their tokens are dealt out to threads.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <vector>

#include "kernels/batch_matrix.h"
#include "kernels/parts.h"
#include "kernels/strided.h"

namespace octavo {

// Tokens whose channels are held in L1 at a time: 3 x 64 x 32 floats are 24 KB.
inline constexpr int64_t kTokenBlock = 64;

// Rows of one operand in memory: token t starts at data + t * step.
struct TokenRows {
  DType dtype;
  const void* data;
  int64_t step;
};

struct AttentionHeads {
  BatchMatrix q, k, v, y;                     // rows are channels, columns tokens
  std::vector<std::array<int64_t, 4>> batch;  // where each head starts in q, k, v, y
  int64_t splits = 1;                         // of the tokens
  int threads = 1;

  int64_t heads() const { return static_cast<int64_t>(batch.size()); }
  int64_t tasks() const { return heads() * splits; }

  // Calls fn(part, task, head, first token, count) for every block of `tokens` tokens; part < threads. Tasks are
  // numbered head by head within a split, and blocks of one position are taken for all heads in turn: heads of one
  // token are neighbours.
  template <typename Fn>
  void ForBlocks(int64_t tokens, const Fn& fn) const {
    ParallelForParts(threads, tasks(), 1, [&](int64_t part, int64_t begin, int64_t end) {
      while (begin < end) {
        const int64_t split = begin / heads(), next = std::min(end, (split + 1) * heads());
        const int64_t last = tokens * (split + 1) / splits;
        for (int64_t first = tokens * split / splits; first < last; first += kTokenBlock) {
          const int64_t count = std::min(kTokenBlock, last - first);
          for (int64_t task = begin; task < next; ++task) {
            fn(part, task, static_cast<size_t>(task % heads()), first, count);
          }
        }
        begin = next;
      }
    });
  }

  TokenRows Rows(const BatchMatrix& matrix, const void* data, int64_t offset, int64_t first) const {
    return {matrix.dtype, matrix.At(data, offset + first * matrix.column_step), matrix.column_step};
  }
};

// Enough parts that the threads end together, and no more sums to add up than that needs.
inline int64_t SplitsOf(int64_t heads, int threads) {
  return heads % threads == 0 || heads >= 4 * threads ? 1 : threads;
}

// Of matrices whose batches broadcast to the output's. Errors: Unsupported where the channels of a token are no
// neighbours.
inline Result<AttentionHeads> MakeAttentionHeads(BatchMatrix q, BatchMatrix k, BatchMatrix v, BatchMatrix y,
                                                 int threads) {
  if (q.rows != k.rows || k.columns != v.columns || y.rows != v.rows || y.columns != q.columns) {
    return InvalidArgument("the shapes of q, k, v and the output do not fit");
  }
  for (const BatchMatrix* matrix : {&q, &k, &v, &y}) {
    if (matrix->row_step != 1 && matrix->rows > 1) return Unsupported("channels are not neighbours");
  }
  OCTAVO_ASSIGN(Dims q_batch, BatchStridesOver(q, y.batch));
  OCTAVO_ASSIGN(Dims k_batch, BatchStridesOver(k, y.batch));
  OCTAVO_ASSIGN(Dims v_batch, BatchStridesOver(v, y.batch));
  AttentionHeads result;
  StridedLoop<4>(y.batch, {q_batch, k_batch, v_batch, y.batch_strides}).ForEach([&result](const auto& at) {
    result.batch.push_back(at);
  });
  result.q = std::move(q);
  result.k = std::move(k);
  result.v = std::move(v);
  result.y = std::move(y);
  result.threads = std::max(1, threads);
  result.splits = SplitsOf(result.heads(), result.threads);
  return result;
}

}  // namespace octavo
