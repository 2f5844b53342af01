#include "kernels/copy/transpose.h"

#include <cstring>
#include <type_traits>

#include "kernels/simd/targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/copy/transpose.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/simd/vectors-inl.h"

#ifndef OCTAVO_KERNELS_COPY_TRANSPOSE_ONCE_
#define OCTAVO_KERNELS_COPY_TRANSPOSE_ONCE_
namespace octavo {

struct TransposeRows {
  TransposeFn bytes1, bytes2, bytes4, bytes8, widen, narrow;
};

}  // namespace octavo
#endif

HWY_BEFORE_NAMESPACE();
namespace octavo {
namespace HWY_NAMESPACE {
namespace {

// How elements enter and leave the 32-bit lanes in which they are transposed.
template <typename T>
struct Keep {
  using From = T;
  using To = T;
  template <class D>
  static HWY_INLINE hn::Vec<D> Load(D d, const T* p) {
    return hn::PromoteTo(d, hn::LoadU(hn::Rebind<T, D>(), p));
  }
  template <class D>
  static HWY_INLINE void Store(hn::Vec<D> v, D d, T* p) {
    const hn::Rebind<T, D> narrow;
    hn::StoreU(hn::DemoteTo(narrow, hn::BitCast(hn::RebindToSigned<D>(), v)), narrow, p);
  }
  static HWY_INLINE void CopyOne(const T* from, T* to) { *to = *from; }
};
template <>
struct Keep<uint32_t> {
  using From = uint32_t;
  using To = uint32_t;
  template <class D>
  static HWY_INLINE hn::Vec<D> Load(D d, const uint32_t* p) {
    return hn::LoadU(d, p);
  }
  template <class D>
  static HWY_INLINE void Store(hn::Vec<D> v, D d, uint32_t* p) {
    hn::StoreU(v, d, p);
  }
  static HWY_INLINE void CopyOne(const uint32_t* from, uint32_t* to) { *to = *from; }
};
struct Widen {
  using From = uint16_t;
  using To = float;
  template <class D>
  static HWY_INLINE hn::Vec<D> Load(D d, const uint16_t* p) {
    return hn::BitCast(d, LoadFloats(hn::Rebind<float, D>(), p));
  }
  template <class D>
  static HWY_INLINE void Store(hn::Vec<D> v, D d, float* p) {
    const hn::Rebind<float, D> df;
    hn::StoreU(hn::BitCast(df, v), df, p);
  }
  static HWY_INLINE void CopyOne(const uint16_t* from, float* to) { *to = LoadFloat(from); }
};
struct Narrow {
  using From = float;
  using To = uint16_t;
  template <class D>
  static HWY_INLINE hn::Vec<D> Load(D d, const float* p) {
    return hn::BitCast(d, hn::LoadU(hn::Rebind<float, D>(), p));
  }
  template <class D>
  static HWY_INLINE void Store(hn::Vec<D> v, D d, uint16_t* p) {
    const hn::Rebind<float, D> df;
    StoreFloats(hn::BitCast(df, v), df, p);
  }
  static HWY_INLINE void CopyOne(const float* from, uint16_t* to) { *to = FloatToBFloat16(*from); }
};

// Too wide for the lanes: copied one by one.
struct KeepEight {
  using From = uint64_t;
  using To = uint64_t;
  static HWY_INLINE void CopyOne(const uint64_t* from, uint64_t* to) { *to = *from; }
};

template <class Form>
void CopyTransposed(const typename Form::From* from, int64_t from_stride, typename Form::To* to, int64_t to_stride,
                    int64_t ni, int64_t nj) {
  for (int64_t j = 0; j < nj; ++j) {
    for (int64_t i = 0; i < ni; ++i) Form::CopyOne(from + i * from_stride + j, to + j * to_stride + i);
  }
}

#if HWY_TARGET != HWY_SCALAR
// Block b of the vector (128 bits) holds 4 elements of row 4b.
template <class Form, class D>
HWY_INLINE hn::Vec<D> LoadBlocks(D d, const typename Form::From* p, int64_t stride) {
  if constexpr (hn::MaxLanes(D()) <= 4) {
    return Form::Load(d, p);
  } else {
    const hn::Half<D> half;
    const auto low = LoadBlocks<Form>(half, p, stride);
    const auto high = LoadBlocks<Form>(half, p + static_cast<int64_t>(hn::Lanes(half)) * stride, stride);
    return hn::Combine(d, high, low);
  }
}

// Lanes(d) rows of 4 elements become 4 rows of Lanes(d): 4 x 4 transpositions inside each 128-bit block.
template <class Form, class D>
HWY_INLINE void TransposeTile(D d, const typename Form::From* from, int64_t from_stride, typename Form::To* to,
                              int64_t to_stride) {
  const hn::Repartition<uint64_t, D> d64;
  const auto v0 = LoadBlocks<Form>(d, from, from_stride);
  const auto v1 = LoadBlocks<Form>(d, from + from_stride, from_stride);
  const auto v2 = LoadBlocks<Form>(d, from + 2 * from_stride, from_stride);
  const auto v3 = LoadBlocks<Form>(d, from + 3 * from_stride, from_stride);
  const auto low01 = hn::BitCast(d64, hn::InterleaveLower(d, v0, v1));
  const auto high01 = hn::BitCast(d64, hn::InterleaveUpper(d, v0, v1));
  const auto low23 = hn::BitCast(d64, hn::InterleaveLower(d, v2, v3));
  const auto high23 = hn::BitCast(d64, hn::InterleaveUpper(d, v2, v3));
  Form::Store(hn::BitCast(d, hn::InterleaveLower(d64, low01, low23)), d, to);
  Form::Store(hn::BitCast(d, hn::InterleaveUpper(d64, low01, low23)), d, to + to_stride);
  Form::Store(hn::BitCast(d, hn::InterleaveLower(d64, high01, high23)), d, to + 2 * to_stride);
  Form::Store(hn::BitCast(d, hn::InterleaveUpper(d64, high01, high23)), d, to + 3 * to_stride);
}

// Tiles at the edges overlap their neighbours and write the same values again.
template <class Form, class D>
HWY_INLINE void TransposeTiles(D d, const typename Form::From* from, int64_t from_stride, typename Form::To* to,
                               int64_t to_stride, int64_t ni, int64_t nj) {
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  const auto tile = [&](int64_t i, int64_t j) HWY_ATTR {
    const int64_t row = HWY_MIN(i, ni - lanes), column = HWY_MIN(j, nj - 4);
    TransposeTile<Form>(d, from + row * from_stride + column, from_stride, to + column * to_stride + row, to_stride);
  };
  // 32 rows at a time: their lines stay in L1 at any stride, and 4 rows of output grow by 128 bytes each.
  for (int64_t chunk = 0; chunk < ni; chunk += 32) {
    const int64_t end = HWY_MIN(chunk + 32, ni);
    for (int64_t j = 0; j < nj; j += 4) {
      for (int64_t i = chunk; i < end; i += lanes) tile(i, j);
    }
  }
}

// A picture's three planes become pixels: to_stride is 3.
HWY_INLINE void InterleaveThree(const uint32_t* from, int64_t from_stride, uint32_t* to, int64_t nj) {
  const hn::ScalableTag<uint32_t> d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t j = 0;
  for (; j + lanes <= nj; j += lanes) {
    const auto v0 = hn::LoadU(d, from + j);
    const auto v1 = hn::LoadU(d, from + from_stride + j);
    const auto v2 = hn::LoadU(d, from + 2 * from_stride + j);
    hn::StoreInterleaved3(v0, v1, v2, d, to + 3 * j);
  }
  for (; j < nj; ++j) {
    for (int64_t i = 0; i < 3; ++i) to[3 * j + i] = from[i * from_stride + j];
  }
}
#endif

template <class Form>
void TransposeOf(const void* from_data, int64_t from_stride, void* to_data, int64_t to_stride, int64_t ni, int64_t nj) {
  const auto* from = static_cast<const typename Form::From*>(from_data);
  auto* to = static_cast<typename Form::To*>(to_data);
#if HWY_TARGET != HWY_SCALAR
  const hn::ScalableTag<uint32_t> wide;
  const hn::CappedTag<uint32_t, 4> quad;
  if (nj >= 4 && ni >= static_cast<int64_t>(hn::Lanes(wide))) {
    TransposeTiles<Form>(wide, from, from_stride, to, to_stride, ni, nj);
    return;
  }
  if (nj >= 4 && ni >= 4) {
    TransposeTiles<Form>(quad, from, from_stride, to, to_stride, ni, nj);
    return;
  }
  if constexpr (std::is_same_v<Form, Keep<uint32_t>>) {
    if (ni == 3 && to_stride == 3) {
      InterleaveThree(from, from_stride, to, nj);
      return;
    }
  }
#endif
  CopyTransposed<Form>(from, from_stride, to, to_stride, ni, nj);
}

void TransposeEight(const void* from, int64_t from_stride, void* to, int64_t to_stride, int64_t ni, int64_t nj) {
  CopyTransposed<KeepEight>(static_cast<const uint64_t*>(from), from_stride, static_cast<uint64_t*>(to), to_stride, ni,
                            nj);
}

TransposeRows TransposesOfTarget() {
  return {TransposeOf<Keep<uint8_t>>, TransposeOf<Keep<uint16_t>>, TransposeOf<Keep<uint32_t>>, TransposeEight,
          TransposeOf<Widen>,         TransposeOf<Narrow>};
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace octavo
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace octavo {

HWY_EXPORT(TransposesOfTarget);

TransposeFn ChooseTranspose(DType from, DType to) {
  const TransposeRows rows = HWY_DYNAMIC_DISPATCH(TransposesOfTarget)();
  if (from == DType::kBFloat16 && to == DType::kFloat32) return rows.widen;
  if (from == DType::kFloat32 && to == DType::kBFloat16) return rows.narrow;
  if (from != to) return nullptr;
  switch (SizeOf(from)) {
    case 1:
      return rows.bytes1;
    case 2:
      return rows.bytes2;
    case 4:
      return rows.bytes4;
    case 8:
      return rows.bytes8;
    default:
      return nullptr;
  }
}

}  // namespace octavo
#endif
