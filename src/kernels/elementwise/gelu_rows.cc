#include "kernels/elementwise/gelu_rows.h"

#include "kernels/simd/targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/elementwise/gelu_rows.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/simd/vectors-inl.h"

HWY_BEFORE_NAMESPACE();
namespace octavo {
namespace HWY_NAMESPACE {
namespace {

using V = FloatVec;
constexpr FloatTag kTag;

// x Phi(x) with Phi(x) = 1/2 + c P(2 c^2 / L^2 - 1), c = x clamped to [-L, L], L = 4.5: P is the polynomial whose
// largest error, weighted by c^2, is least, with Phi(L) = 1. Half the instructions of an erf in full precision.
constexpr float kLimit = 4.5f;
struct ErfForm {
  static constexpr float kP[] = {1.569053527e-01f, -7.718362272e-02f, 5.466909469e-02f, -4.028990103e-02f,
                                 2.864503782e-02f, -1.819316376e-02f, 1.009183111e-02f, -6.614845235e-03f,
                                 4.688879236e-03f, -1.608913597e-03f};
};
struct TanhForm {
  static constexpr float kP[] = {1.569387422e-01f, -7.728433514e-02f, 5.475831959e-02f, -4.024897755e-02f,
                                 2.839781992e-02f, -1.756044946e-02f, 9.404757003e-03f, -6.809739792e-03f,
                                 5.492940596e-03f, -1.978703570e-03f};
};

template <typename Form>
HWY_INLINE V RoughGelu(V x) {
  // The maximum and minimum of a NaN and a number give the second, which is x.
  const V low = MaxElseSecond(hn::Set(kTag, -kLimit), x);
  const V c = MinElseSecond(hn::Set(kTag, kLimit), low);
  const V u = hn::MulAdd(hn::Mul(c, c), hn::Set(kTag, 2 / (kLimit * kLimit)), hn::Set(kTag, -1.0f));
  V p = hn::MulAdd(hn::Set(kTag, Form::kP[9]), u, hn::Set(kTag, Form::kP[8]));
  for (int i = 7; i >= 0; --i) p = hn::MulAdd(p, u, hn::Set(kTag, Form::kP[i]));
  return hn::Mul(low, hn::MulAdd(c, p, hn::Set(kTag, 0.5f)));
}

template <typename Form>
void GeluRow(const float* x, const float* bias, uint16_t* to, size_t n) {
  const size_t lanes = hn::Lanes(kTag);
  const auto sum = [&](size_t i) {
    const V v = hn::LoadU(kTag, x + i);
    return bias == nullptr ? v : hn::Add(v, hn::LoadU(kTag, bias + i));
  };
  size_t i = 0;
  for (; i + 2 * lanes <= n; i += 2 * lanes) {
    const V a = RoughGelu<Form>(sum(i)), b = RoughGelu<Form>(sum(i + lanes));
    StoreFloats(a, kTag, to + i);
    StoreFloats(b, kTag, to + i + lanes);
  }
  for (; i + lanes <= n; i += lanes) StoreFloats(RoughGelu<Form>(sum(i)), kTag, to + i);
  if (i == n) return;
  V rest = LoadFirst(kTag, x + i, n - i);
  if (bias != nullptr) rest = hn::Add(rest, LoadFirst(kTag, bias + i, n - i));
  StoreFirst(RoughGelu<Form>(rest), kTag, to + i, n - i);
}

GeluRowFn GeluRowOfTarget(bool tanh) { return tanh ? GeluRow<TanhForm> : GeluRow<ErfForm>; }

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
