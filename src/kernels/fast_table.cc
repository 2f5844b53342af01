#include "kernels/fast_table.h"

#include <map>
#include <utility>

#include "kernels/attention/attention.h"
#include "kernels/copy/copy.h"
#include "kernels/elementwise/elementwise.h"
#include "kernels/group_norm/group_norm.h"
#include "kernels/integer/quantize_linear.h"
#include "kernels/layer_norm/layer_norm.h"
#include "kernels/linear_attention/linear_attention.h"
#include "kernels/resize/resize.h"
#include "kernels/simd/targets.h"
#include "kernels/softmax/softmax.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/fast_table.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace octavo {
namespace HWY_NAMESPACE {
namespace {

int64_t Target() { return HWY_TARGET; }

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace octavo
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace octavo {
namespace {

HWY_EXPORT(Target);

struct FastKernelRow {
  std::string_view domain;
  std::string_view op;
  BindFn bind;
};

constexpr FastKernelRow kRows[] = {
    {"", "Relu", BindFastUnary},
    {"", "LeakyRelu", BindFastUnary},
    {"", "Sigmoid", BindFastUnary},
    {"", "Tanh", BindFastUnary},
    {"", "Erf", BindFastUnary},
    {"", "Exp", BindFastUnary},
    {"", "Log", BindFastUnary},
    {"", "Sqrt", BindFastUnary},
    {"", "Reciprocal", BindFastUnary},
    {"", "Neg", BindFastUnary},
    {"", "Abs", BindFastUnary},
    {"", "Gelu", BindFastUnary},
    {"", "HardSwish", BindFastUnary},
    {"", "HardSigmoid", BindFastUnary},
    {kOctavoDomain, "RoundTo", BindFastUnary},
    {kOctavoDomain, "Silu", BindFastUnary},
    {"", "Clip", BindFastClip},
    {"", "Add", BindFastBinary},
    {"", "Sub", BindFastBinary},
    {"", "Mul", BindFastBinary},
    {"", "Div", BindFastBinary},
    {"", "Min", BindFastBinary},
    {"", "Max", BindFastBinary},
    {"", "Pow", BindFastPow},
    {"", "QuantizeLinear", BindFastQuantize},
    {"", "DequantizeLinear", BindFastDequantize},
    {"", "Transpose", BindFastTranspose},
    {"", "Concat", BindFastConcat},
    {"", "Split", BindFastSplit},
    {"", "Slice", BindFastSlice},
    {"", "Expand", BindFastExpand},
    {"", "Cast", BindFastCast},
    {kOctavoDomain, "LayerNorm", BindFastLayerNorm},
    {kOctavoDomain, "LinearAttention", BindFastLinearAttention},
    {kOctavoDomain, "Attention", BindFastAttention},
    {kOctavoDomain, "GroupNorm", BindFastGroupNorm},
    {"", "Resize", BindFastResize},
    {"", "Softmax", BindFastSoftmax},
    {"", "LogSoftmax", BindFastSoftmax},
};

using KernelKey = std::pair<std::string_view, std::string_view>;  // domain, op

std::map<KernelKey, BindFn> IndexRows() {
  std::map<KernelKey, BindFn> kernels;
  for (const FastKernelRow& row : kRows) kernels.emplace(KernelKey(row.domain, row.op), row.bind);
  return kernels;
}

}  // namespace

bool TakesQuantizedTail(BindFn fast) {
  return fast == BindFastUnary || fast == BindFastBinary || fast == BindFastGroupNorm || fast == BindFastLayerNorm;
}

BindFn FindFastKernel(std::string_view domain, std::string_view op) {
  static const std::map<KernelKey, BindFn> kKernels = IndexRows();
  const auto found = kKernels.find({domain, op});
  return found == kKernels.end() ? nullptr : found->second;
}

const char* FastKernelIsa() {
  switch (HWY_DYNAMIC_DISPATCH(Target)()) {
    case HWY_AVX3:
      return "avx3";
    case HWY_AVX2:
      return "avx2";
    case HWY_SSE4:
      return "sse4";
    default:
      return "scalar";
  }
}

}  // namespace octavo
#endif
