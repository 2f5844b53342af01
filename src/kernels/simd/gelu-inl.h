// GELU for results that are rounded to 8 bits or to bfloat16. Per-target include guard.
#if defined(OCTAVO_KERNELS_SIMD_GELU_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef OCTAVO_KERNELS_SIMD_GELU_INL_H_
#undef OCTAVO_KERNELS_SIMD_GELU_INL_H_
#else
#define OCTAVO_KERNELS_SIMD_GELU_INL_H_
#endif

#include "hwy/highway.h"
#include "kernels/simd/vectors-inl.h"

HWY_BEFORE_NAMESPACE();
namespace octavo {
namespace HWY_NAMESPACE {

// x Phi(x) with Phi(x) = 1/2 + c P(2 c^2 / L^2 - 1), c = x clamped to [-L, L], L = 4.5: P is the polynomial whose
// largest error, weighted by c^2, is least, with Phi(L) = 1. Half the instructions of an erf in full precision.
constexpr float kGeluLimit = 4.5f;
struct GeluErfForm {
  static constexpr float kP[] = {1.569053527e-01f, -7.718362272e-02f, 5.466909469e-02f, -4.028990103e-02f,
                                 2.864503782e-02f, -1.819316376e-02f, 1.009183111e-02f, -6.614845235e-03f,
                                 4.688879236e-03f, -1.608913597e-03f};
};
struct GeluTanhForm {
  static constexpr float kP[] = {1.569387422e-01f, -7.728433514e-02f, 5.475831959e-02f, -4.024897755e-02f,
                                 2.839781992e-02f, -1.756044946e-02f, 9.404757003e-03f, -6.809739792e-03f,
                                 5.492940596e-03f, -1.978703570e-03f};
};

template <typename Form, class D, class V = hn::Vec<D>>
HWY_INLINE V RoughGelu(D d, V x) {
  // The maximum and minimum of a NaN and a number give the second, which is x.
  const V low = MaxElseSecond(hn::Set(d, -kGeluLimit), x);
  const V c = MinElseSecond(hn::Set(d, kGeluLimit), low);
  const V u = hn::MulAdd(hn::Mul(c, c), hn::Set(d, 2 / (kGeluLimit * kGeluLimit)), hn::Set(d, -1.0f));
  V p = hn::MulAdd(hn::Set(d, Form::kP[9]), u, hn::Set(d, Form::kP[8]));
  for (int i = 7; i >= 0; --i) p = hn::MulAdd(p, u, hn::Set(d, Form::kP[i]));
  return hn::Mul(low, hn::MulAdd(c, p, hn::Set(d, 0.5f)));
}

}  // namespace HWY_NAMESPACE
}  // namespace octavo
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
