// What attention by oneDNN's products shares whatever its types: blocks of queries whose scores stay in a core's L2,
// for each batch element behind keys and values that are packed once.
#pragma once

#include <algorithm>
#include <cstdint>

#include "base/rounding.h"
#include "kernels/parts.h"
#include "kernels/strided.h"

namespace octavo {

struct AttentionBlocks {
  static constexpr int64_t kScoreBytes = 512 << 10;
  static constexpr int64_t kMostRows = 1024;

  int64_t queries = 0, batches = 0;
  int64_t rows = 0;  // queries of a block, but for the last
  int threads = 1;

  AttentionBlocks() = default;
  // `padded_keys`: scores of a row, of four bytes.
  AttentionBlocks(int64_t queries_, int64_t padded_keys, int64_t batches_, int threads_)
      : queries(queries_), batches(batches_), threads(threads_) {
    rows = std::clamp<int64_t>(kScoreBytes / (4 * padded_keys) / 16 * 16, 16, kMostRows);
    if (batches < threads) rows = std::min(rows, RoundUp(CeilDivide(queries, threads), 16));
    rows = std::min(rows, queries);
  }

  int64_t per_batch() const { return CeilDivide(queries, rows); }
  int64_t count() const { return batches * per_batch(); }
  int64_t parts() const { return PartCount(threads, count(), 1); }

  // pack(part, at), then block(part, at, first query) for the blocks that the part has of each batch element; `at` are
  // the batch element's offsets in `batch`. Both give a Status.
  template <size_t N, typename Pack, typename Block>
  Status Run(const StridedLoop<N>& batch, Pack&& pack, Block&& block) const {
    return TryForParts(threads, count(), 1, "a product of attention", [&](int part, int64_t begin, int64_t end) {
      Status status;
      if (begin == end) return status;
      int64_t task = begin;
      batch.ForEachIn(begin / per_batch(), CeilDivide(end, per_batch()), [&](const auto& at) {
        if (status.ok()) status = pack(part, at);
        while (status.ok()) {
          status = block(part, at, task % per_batch() * rows);
          if (++task == end || task % per_batch() == 0) break;
        }
      });
      return status;
    });
  }
};

}  // namespace octavo
