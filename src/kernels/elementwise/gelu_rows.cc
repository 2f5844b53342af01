#include "kernels/elementwise/gelu_rows.h"

#include "kernels/simd/targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/elementwise/gelu_rows.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/simd/gelu-inl.h"
#include "kernels/simd/vectors-inl.h"

HWY_BEFORE_NAMESPACE();
namespace octavo {
namespace HWY_NAMESPACE {
namespace {

using V = FloatVec;
constexpr FloatTag kTag;

template <typename Form>
void GeluRow(const float* x, const float* bias, uint16_t* to, size_t n) {
  const size_t lanes = hn::Lanes(kTag);
  const auto sum = [&](size_t i) {
    const V v = hn::LoadU(kTag, x + i);
    return bias == nullptr ? v : hn::Add(v, hn::LoadU(kTag, bias + i));
  };
  size_t i = 0;
  for (; i + 2 * lanes <= n; i += 2 * lanes) {
    const V a = RoughGelu<Form>(kTag, sum(i)), b = RoughGelu<Form>(kTag, sum(i + lanes));
    StoreFloats(a, kTag, to + i);
    StoreFloats(b, kTag, to + i + lanes);
  }
  for (; i + lanes <= n; i += lanes) StoreFloats(RoughGelu<Form>(kTag, sum(i)), kTag, to + i);
  if (i == n) return;
  V rest = LoadFirst(kTag, x + i, n - i);
  if (bias != nullptr) rest = hn::Add(rest, LoadFirst(kTag, bias + i, n - i));
  StoreFirst(RoughGelu<Form>(kTag, rest), kTag, to + i, n - i);
}

GeluRowFn GeluRowOfTarget(bool tanh) { return tanh ? GeluRow<GeluTanhForm> : GeluRow<GeluErfForm>; }

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace octavo
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace octavo {

HWY_EXPORT(GeluRowOfTarget);
GeluRowFn ChooseGeluRow(bool tanh) { return HWY_DYNAMIC_DISPATCH(GeluRowOfTarget)(tanh); }

}  // namespace octavo
#endif
