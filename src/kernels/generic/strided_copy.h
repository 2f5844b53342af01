// Copies between strided layouts, the work of every op that only moves elements.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/strided.h"
#include "octavo/status.h"

namespace octavo {

// Elements that one thread takes at least.
inline constexpr int64_t kCopyGrain = 32768;
// Tables of positions longer than this are refused: 128 MiB of offsets.
inline constexpr int64_t kMaxTableEntries = int64_t{1} << 24;

// Copies all elements of a shape from one layout to another. Elements are moved as 1, 2, 4 or 8 bytes. Strides may be
// negative or, on the side that is read, 0. Built at bind time; Run allocates nothing and is thread safe.
class StridedCopy {
 public:
  StridedCopy() = default;
  // Strides in elements. Error: more loops than kMaxRank once they are merged.
  static Result<StridedCopy> Make(size_t element_bytes, const Dims& dims, const Dims& from, const Dims& to);
  void Run(const void* from, void* to, int threads) const;

 private:
  template <typename T>
  void RunTyped(const T* from, T* to, int threads) const;
  template <typename T>
  void RunTiles(const T* from, T* to, int threads) const;

  size_t element_bytes_ = 1;
  StridedLoop<2> loop_;
  // Where reading and writing each have another loop of step 1, those two are walked in tiles, and loop_ is what is
  // around them: rows step by 1 in `from`, columns step by 1 in `to`.
  bool tiled_ = false;
  int64_t rows_ = 1, columns_ = 1;
  int64_t row_to_step_ = 0, column_from_step_ = 0;
};

// Copies with a table of source positions per axis: out[i, j, ..] = in[table0[i] + table1[j] + ..].
class TableCopy {
 public:
  struct Axis {
    int64_t size = 0;
    int64_t to_step = 0;               // in elements
    std::vector<int64_t> from_offset;  // one per position, in elements
  };
  TableCopy() = default;
  TableCopy(size_t element_bytes, std::vector<Axis> axes);
  void Run(const void* from, void* to, int threads) const;

 private:
  template <typename T>
  void RunTyped(const T* from, T* to, int threads) const;
  template <typename T>
  void CopyRow(const T* from, T* to) const;

  size_t element_bytes_ = 1;
  std::vector<Axis> axes_;   // outermost first, by to_step
  bool contiguous_ = false;  // the innermost axis is a plain run of elements on both sides
  int64_t rows_ = 1;         // product of all axes but the innermost
};

}  // namespace octavo
