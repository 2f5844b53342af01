// Walking several strided operands in step: the loop under every generic kernel.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <vector>

#include "base/rank.h"
#include "octavo/tensor.h"

namespace octavo {

// `strides` of an operand of shape `dims` as seen by a loop over `target`, to which `dims` broadcasts.
inline Dims BroadcastStrides(const Dims& dims, const Dims& strides, const Dims& target) {
  Dims result(target.size(), 0);
  const size_t lead = target.size() - dims.size();
  for (size_t d = 0; d < dims.size(); ++d) result[lead + d] = dims[d] == 1 ? 0 : strides[d];
  return result;
}

// Orders the loops so that operand `key` is walked from its largest stride to its smallest: a channels-last output is
// then written in memory order. Only where the order of the elements does not matter.
template <size_t N>
void OrderByStride(size_t key, Dims& dims, std::array<Dims, N>& strides) {
  std::vector<size_t> order(dims.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return strides[key][a] > strides[key][b]; });
  const auto permute = [&order](Dims& values) {
    Dims result(values.size());
    for (size_t d = 0; d < order.size(); ++d) result[d] = values[order[d]];
    values = std::move(result);
  };
  permute(dims);
  for (Dims& s : strides) permute(s);
}

template <size_t N>
class StridedLoop;

// The loop over everything but `axis`, in the order in which the last operand lies.
template <size_t N>
StridedLoop<N> LoopOverRows(Dims dims, std::array<Dims, N> strides, size_t axis) {
  dims.erase(dims.begin() + static_cast<int64_t>(axis));
  for (Dims& s : strides) s.erase(s.begin() + static_cast<int64_t>(axis));
  OrderByStride(N - 1, dims, strides);
  return StridedLoop<N>(dims, strides);
}

// A nest of loops over `dims` with one stride per operand and loop. Built once at bind time; walking it allocates
// nothing. Adjacent loops that are one loop for every operand are merged, loops of size 1 dropped.
template <size_t N>
class StridedLoop {
 public:
  StridedLoop() = default;
  // strides[k] has the rank of dims; a broadcast dimension has stride 0.
  StridedLoop(const Dims& dims, const std::array<Dims, N>& strides) {
    for (size_t d = 0; d < dims.size(); ++d) {
      if (dims[d] == 1) continue;
      std::array<int64_t, N> step;
      for (size_t k = 0; k < N; ++k) step[k] = strides[k][d];
      if (!sizes_.empty()) {
        bool merges = true;
        for (size_t k = 0; k < N; ++k) merges &= steps_.back()[k] == step[k] * dims[d];
        if (merges) {
          sizes_.back() *= dims[d];
          steps_.back() = step;
          continue;
        }
      }
      sizes_.push_back(dims[d]);
      steps_.push_back(step);
    }
    if (sizes_.empty()) {
      sizes_.push_back(1);
      steps_.push_back({});
    }
    for (size_t d = 0; d + 1 < sizes_.size(); ++d) outer_ *= sizes_[d];
  }

  // Length and steps (in elements) of the innermost loop.
  int64_t inner_size() const { return sizes_.back(); }
  const std::array<int64_t, N>& inner_steps() const { return steps_.back(); }
  // How often the innermost loop runs.
  int64_t outer_count() const { return outer_; }
  // How many elements the nest visits.
  int64_t count() const { return outer_ * sizes_.back(); }

  // Offsets of element `index`, counted in the order of the walk.
  std::array<int64_t, N> OffsetsOf(int64_t index) const {
    std::array<int64_t, N> offsets{};
    for (size_t d = sizes_.size(); d-- > 0;) {
      for (size_t k = 0; k < N; ++k) offsets[k] += index % sizes_[d] * steps_[d][k];
      index /= sizes_[d];
    }
    return offsets;
  }

  // Calls fn(offsets) with the element offsets of the innermost loop's start, for outer indices [begin, end).
  template <typename Fn>
  void ForOuter(int64_t begin, int64_t end, Fn&& fn) const {
    std::array<int64_t, kMaxRank> index{};
    std::array<int64_t, N> offsets{};
    const size_t depth = sizes_.size() - 1;
    int64_t rest = begin;
    for (size_t d = depth; d-- > 0;) {
      index[d] = rest % sizes_[d];
      rest /= sizes_[d];
      for (size_t k = 0; k < N; ++k) offsets[k] += index[d] * steps_[d][k];
    }
    for (int64_t i = begin; i < end; ++i) {
      fn(static_cast<const std::array<int64_t, N>&>(offsets));
      for (size_t d = depth; d-- > 0;) {
        for (size_t k = 0; k < N; ++k) offsets[k] += steps_[d][k];
        if (++index[d] < sizes_[d]) break;
        for (size_t k = 0; k < N; ++k) offsets[k] -= steps_[d][k] * sizes_[d];
        index[d] = 0;
      }
    }
  }

  // Calls fn(offsets, length) for the rows, or parts of rows, that make up elements [begin, end) of the nest, so that a
  // single long row can be shared by several threads.
  template <typename Fn>
  void ForElements(int64_t begin, int64_t end, Fn&& fn) const {
    if (begin >= end) return;
    const int64_t n = inner_size();
    const int64_t first = begin / n, last = (end - 1) / n;
    int64_t row = first;
    ForOuter(first, last + 1, [&](const std::array<int64_t, N>& start) {
      const int64_t from = row == first ? begin - first * n : 0;
      const int64_t to = row == last ? end - last * n : n;
      std::array<int64_t, N> at = start;
      for (size_t k = 0; k < N; ++k) at[k] += from * inner_steps()[k];
      fn(static_cast<const std::array<int64_t, N>&>(at), to - from);
      ++row;
    });
  }

  // Calls fn(offsets) once per element.
  template <typename Fn>
  void ForEach(Fn&& fn) const {
    ForEachIn(0, count(), fn);
  }

  // Calls fn(offsets) once per element of [begin, end).
  template <typename Fn>
  void ForEachIn(int64_t begin, int64_t end, Fn&& fn) const {
    const auto& step = inner_steps();
    ForElements(begin, end, [&](const std::array<int64_t, N>& start, int64_t n) {
      std::array<int64_t, N> at = start;
      for (int64_t i = 0; i < n; ++i) {
        fn(static_cast<const std::array<int64_t, N>&>(at));
        for (size_t k = 0; k < N; ++k) at[k] += step[k];
      }
    });
  }

 private:
  std::vector<int64_t> sizes_;
  std::vector<std::array<int64_t, N>> steps_;
  int64_t outer_ = 1;
};

}  // namespace octavo
