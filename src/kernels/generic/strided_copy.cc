#include "kernels/generic/strided_copy.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <string>
#include <utility>

#include "base/parallel.h"

namespace octavo {
namespace {

// Tiles of 16 x 16 elements of 4 bytes: one cache line per row and column, 1 KiB on each side.
constexpr int64_t kTile = 16;

struct Loop {
  int64_t size, from, to;
};

// Loops from the largest step of `to` to the smallest, those of size 1 dropped and mergeable ones merged.
std::vector<Loop> MergedLoops(const Dims& dims, const Dims& from, const Dims& to) {
  std::vector<Loop> loops;
  for (size_t d = 0; d < dims.size(); ++d) {
    if (dims[d] != 1) loops.push_back({dims[d], from[d], to[d]});
  }
  std::stable_sort(loops.begin(), loops.end(), [](const Loop& a, const Loop& b) { return a.to > b.to; });
  std::vector<Loop> merged;
  for (const Loop& loop : loops) {
    if (!merged.empty() && merged.back().from == loop.from * loop.size && merged.back().to == loop.to * loop.size) {
      merged.back() = {merged.back().size * loop.size, loop.from, loop.to};
    } else {
      merged.push_back(loop);
    }
  }
  return merged;
}

StridedLoop<2> NestOf(const std::vector<Loop>& loops) {
  Dims dims, from, to;
  for (const Loop& loop : loops) {
    dims.push_back(loop.size);
    from.push_back(loop.from);
    to.push_back(loop.to);
  }
  return StridedLoop<2>(dims, {from, to});
}

template <typename T>
void CopyStridedRow(const T* from, int64_t from_step, T* to, int64_t to_step, int64_t n) {
  if (from_step == 1 && to_step == 1) {
    std::memcpy(to, from, static_cast<size_t>(n) * sizeof(T));
  } else if (from_step == 0 && to_step == 1) {
    std::fill_n(to, n, *from);
  } else {
    for (int64_t i = 0; i < n; ++i) to[i * to_step] = from[i * from_step];
  }
}

// Calls run(std::type_identity<T>()) with the unsigned type of that size.
template <typename Fn>
void ForElementSize(size_t bytes, Fn&& run) {
  switch (bytes) {
    case 1:
      return run(std::type_identity<uint8_t>());
    case 2:
      return run(std::type_identity<uint16_t>());
    case 4:
      return run(std::type_identity<uint32_t>());
    default:
      return run(std::type_identity<uint64_t>());
  }
}

}  // namespace

Result<StridedCopy> StridedCopy::Make(size_t element_bytes, const Dims& dims, const Dims& from, const Dims& to) {
  std::vector<Loop> loops = MergedLoops(dims, from, to);
  if (loops.size() > kMaxRank) return Unsupported("a copy of " + std::to_string(loops.size()) + " nested loops");
  StridedCopy copy;
  copy.element_bytes_ = element_bytes;
  if (loops.size() >= 2 && loops.back().to == 1 && std::abs(loops.back().from) > 1) {
    const auto row = std::find_if(loops.begin(), loops.end(), [](const Loop& loop) { return loop.from == 1; });
    if (row != loops.end()) {
      copy.tiled_ = true;
      copy.rows_ = row->size;
      copy.row_to_step_ = row->to;
      copy.columns_ = loops.back().size;
      copy.column_from_step_ = loops.back().from;
      loops.pop_back();
      loops.erase(row);
    }
  }
  copy.loop_ = NestOf(loops);
  return copy;
}

template <typename T>
void StridedCopy::RunTiles(const T* from, T* to, int threads) const {
  const int64_t strips = (rows_ + kTile - 1) / kTile;
  const int64_t grain = std::max<int64_t>(1, kCopyGrain / std::max<int64_t>(1, kTile * columns_));
  const std::array<int64_t, 2> step = loop_.inner_steps();
  ParallelFor(threads, loop_.count() * strips, grain, [&](int64_t begin, int64_t end) {
    int64_t strip = begin % strips;
    int64_t left = end - begin;
    loop_.ForElements(begin / strips, (end + strips - 1) / strips, [&](const auto& at, int64_t n) {
      for (int64_t i = 0; i < n; ++i) {
        for (; strip < strips && left > 0; ++strip, --left) {
          const int64_t row = strip * kTile;
          const int64_t height = std::min(kTile, rows_ - row);
          const T* source = from + at[0] + i * step[0] + row;
          T* target = to + at[1] + i * step[1] + row * row_to_step_;
          for (int64_t column = 0; column < columns_; column += kTile) {
            const int64_t width = std::min(kTile, columns_ - column);
            for (int64_t r = 0; r < height; ++r) {
              CopyStridedRow(source + r + column * column_from_step_, column_from_step_,
                             target + r * row_to_step_ + column, 1, width);
            }
          }
        }
        strip = 0;
      }
    });
  });
}

template <typename T>
void StridedCopy::RunTyped(const T* from, T* to, int threads) const {
  if (tiled_) return RunTiles(from, to, threads);
  const std::array<int64_t, 2> step = loop_.inner_steps();
  ParallelFor(threads, loop_.count(), kCopyGrain, [&](int64_t begin, int64_t end) {
    loop_.ForElements(
        begin, end, [&](const auto& at, int64_t n) { CopyStridedRow(from + at[0], step[0], to + at[1], step[1], n); });
  });
}

void StridedCopy::Run(const void* from, void* to, int threads) const {
  ForElementSize(element_bytes_, [&]<typename T>(std::type_identity<T>) {
    RunTyped(static_cast<const T*>(from), static_cast<T*>(to), threads);
  });
}

TableCopy::TableCopy(size_t element_bytes, std::vector<Axis> axes)
    : element_bytes_(element_bytes), axes_(std::move(axes)) {
  std::stable_sort(axes_.begin(), axes_.end(), [](const Axis& a, const Axis& b) { return a.to_step > b.to_step; });
  // An axis of one position only adds its offset, which any other axis can carry.
  int64_t fixed = 0;
  for (const Axis& axis : axes_) fixed += axis.size == 1 ? axis.from_offset[0] : 0;
  std::erase_if(axes_, [](const Axis& axis) { return axis.size == 1; });
  if (axes_.empty()) axes_.push_back({1, 1, {0}});
  for (int64_t& offset : axes_[0].from_offset) offset += fixed;
  for (size_t d = 0; d + 1 < axes_.size(); ++d) rows_ *= axes_[d].size;
  const std::vector<int64_t>& inner = axes_.back().from_offset;
  contiguous_ = axes_.back().to_step == 1;
  for (size_t i = 1; i < inner.size() && contiguous_; ++i) contiguous_ = inner[i] == inner[i - 1] + 1;
}

template <typename T>
void TableCopy::CopyRow(const T* from, T* to) const {
  const Axis& inner = axes_.back();
  if (inner.size == 0) return;
  if (contiguous_) {
    std::memcpy(to, from + inner.from_offset[0], static_cast<size_t>(inner.size) * sizeof(T));
    return;
  }
  const int64_t* offset = inner.from_offset.data();
  for (int64_t i = 0; i < inner.size; ++i) to[i * inner.to_step] = from[offset[i]];
}

template <typename T>
void TableCopy::RunTyped(const T* from, T* to, int threads) const {
  const int64_t grain = std::max<int64_t>(1, kCopyGrain / std::max<int64_t>(1, axes_.back().size));
  ParallelFor(threads, rows_, grain, [&](int64_t begin, int64_t end) {
    std::array<int64_t, kMaxRank> index{};
    const size_t depth = axes_.size() - 1;
    int64_t rest = begin;
    for (size_t d = depth; d-- > 0;) {
      index[d] = rest % axes_[d].size;
      rest /= axes_[d].size;
    }
    for (int64_t row = begin; row < end; ++row) {
      int64_t from_at = 0, to_at = 0;
      for (size_t d = 0; d < depth; ++d) {
        from_at += axes_[d].from_offset[static_cast<size_t>(index[d])];
        to_at += index[d] * axes_[d].to_step;
      }
      CopyRow(from + from_at, to + to_at);
      for (size_t d = depth; d-- > 0 && ++index[d] == axes_[d].size;) index[d] = 0;
    }
  });
}

void TableCopy::Run(const void* from, void* to, int threads) const {
  ForElementSize(element_bytes_, [&]<typename T>(std::type_identity<T>) {
    RunTyped(static_cast<const T*>(from), static_cast<T*>(to), threads);
  });
}

}  // namespace octavo
