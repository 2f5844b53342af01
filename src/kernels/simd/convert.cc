#include "kernels/simd/convert.h"

#include <cstring>

#include "kernels/simd/targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/simd/convert.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/simd/vectors-inl.h"

HWY_BEFORE_NAMESPACE();
namespace octavo {
namespace HWY_NAMESPACE {
namespace {

template <typename From, typename To>
void ConvertRow(const From* from, To* to, size_t n) {
  const FloatTag d;
  const size_t lanes = hn::Lanes(d);
  size_t i = 0;
  for (; i + lanes <= n; i += lanes) StoreFloats(LoadFloats(d, from + i), d, to + i);
  if (i < n) StoreFirst(LoadFirst(d, from + i, n - i), d, to + i, n - i);
}

RowConversions RowConversionsOfTarget() { return {ConvertRow<uint16_t, float>, ConvertRow<float, uint16_t>}; }

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace octavo
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace octavo {

HWY_EXPORT(RowConversionsOfTarget);
RowConversions ChooseRowConversions() { return HWY_DYNAMIC_DISPATCH(RowConversionsOfTarget)(); }

}  // namespace octavo
#endif
