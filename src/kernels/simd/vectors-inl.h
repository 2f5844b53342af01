// Vectors of float from and to memory of float or bfloat16 (as uint16_t), tails included. Per-target include guard.
#if defined(OCTAVO_KERNELS_SIMD_VECTORS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef OCTAVO_KERNELS_SIMD_VECTORS_INL_H_
#undef OCTAVO_KERNELS_SIMD_VECTORS_INL_H_
#else
#define OCTAVO_KERNELS_SIMD_VECTORS_INL_H_
#endif

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace octavo {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using FloatTag = hn::ScalableTag<float>;
using FloatVec = hn::Vec<FloatTag>;

template <class D>
HWY_INLINE hn::Vec<D> LoadFloats(D d, const float* p) {
  return hn::LoadU(d, p);
}

template <class D>
HWY_INLINE hn::Vec<D> LoadFloats(D d, const uint16_t* p) {
  const hn::Rebind<uint16_t, D> d16;
  const hn::RebindToUnsigned<D> d32;
  return hn::BitCast(d, hn::ShiftLeft<16>(hn::PromoteTo(d32, hn::LoadU(d16, p))));
}

template <class D>
HWY_INLINE void StoreFloats(hn::Vec<D> v, D d, float* p) {
  hn::StoreU(v, d, p);
}

// Rounds to nearest even; NaN stays NaN.
template <class D>
HWY_INLINE void StoreFloats(hn::Vec<D> v, D d, uint16_t* p) {
  const hn::Rebind<uint16_t, D> d16;
  const hn::RebindToUnsigned<D> d32;
  const hn::RebindToSigned<D> di;
  const auto bits = hn::BitCast(d32, v);
  const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(d32, 1u));
  const auto rounded = hn::Add(bits, hn::Add(odd, hn::Set(d32, 0x7fffu)));
  const auto quiet = hn::Or(bits, hn::Set(d32, 0x400000u));
  const auto kept = hn::IfThenElse(hn::RebindMask(d32, hn::Eq(v, v)), rounded, quiet);
  hn::StoreU(hn::DemoteTo(d16, hn::BitCast(di, hn::ShiftRight<16>(kept))), d16, p);
}

HWY_INLINE float LoadFloat(const float* p) { return *p; }
HWY_INLINE float LoadFloat(const uint16_t* p) {
  const uint32_t bits = uint32_t{*p} << 16;
  float value;
  memcpy(&value, &bits, sizeof(value));
  return value;
}

// The first `count` < Lanes(d) elements, the other lanes 0. Reads nothing beyond them.
template <class D, typename T>
HWY_INLINE hn::Vec<D> LoadFirst(D d, const T* p, size_t count) {
  HWY_ALIGN T lanes[hn::MaxLanes(d)] = {};
  for (size_t i = 0; i < count; ++i) lanes[i] = p[i];
  return LoadFloats(d, lanes);
}

// Writes the first `count` < Lanes(d) elements.
template <class D, typename T>
HWY_INLINE void StoreFirst(hn::Vec<D> v, D d, T* p, size_t count) {
  HWY_ALIGN T lanes[hn::MaxLanes(d)];
  StoreFloats(v, d, lanes);
  for (size_t i = 0; i < count; ++i) p[i] = lanes[i];
}

// The smaller or larger one; b when either is NaN, as x86's instructions have it.
template <class V>
HWY_INLINE V MinElseSecond(V a, V b) {
#if HWY_TARGET == HWY_SCALAR
  return hn::IfThenElse(hn::Lt(a, b), a, b);
#else
  return hn::Min(a, b);
#endif
}
template <class V>
HWY_INLINE V MaxElseSecond(V a, V b) {
#if HWY_TARGET == HWY_SCALAR
  return hn::IfThenElse(hn::Gt(a, b), a, b);
#else
  return hn::Max(a, b);
#endif
}

}  // namespace HWY_NAMESPACE
}  // namespace octavo
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
