// Conversion of elements between types and layouts: Cast, and the ways into and out of float arithmetic.
#pragma once

#include <cstdint>

#include "kernels/strided.h"
#include "octavo/status.h"
#include "octavo/tensor.h"

namespace octavo {

// Values that the target type cannot hold: floats are cut off towards zero and then clamped to an integer type's range
// (NaN gives 0); integers wrap as in C; to bool, everything but 0 is true. float64 reaches the 16-bit floats by way of
// float32.
class StridedConvert {
 public:
  StridedConvert() = default;
  // Strides in elements. Error: a type that is undefined.
  static Result<StridedConvert> Make(DType from_type, DType to_type, const Dims& dims, const Dims& from_strides,
                                     const Dims& to_strides);
  void Run(const void* from, void* to, int threads) const;

 private:
  // What every type passes through: holds the source's values exactly.
  union Block;
  using LoadFn = void (*)(const void* from, int64_t offset, int64_t step, int64_t n, Block& block);
  using StoreFn = void (*)(const Block& block, int64_t n, void* to, int64_t offset, int64_t step);
  template <typename T>
  static void Load(const void* from, int64_t offset, int64_t step, int64_t n, Block& block);
  template <typename T, typename Via>
  static void Store(const Block& block, int64_t n, void* to, int64_t offset, int64_t step);
  template <typename Via>
  static StoreFn StoreOf(DType dtype);
  static LoadFn LoadOf(DType dtype);

  LoadFn load_ = nullptr;
  StoreFn store_ = nullptr;
  StridedLoop<2> loop_;
};

}  // namespace octavo
