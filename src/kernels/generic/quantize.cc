// QuantizeLinear and DequantizeLinear, in the arithmetic of docs/numerics.md.
#include <algorithm>
#include <cmath>
#include <limits>

#include "base/parallel.h"
#include "graph/quantization.h"
#include "kernels/generic/elements.h"
#include "kernels/generic/rows.h"
#include "kernels/strided.h"

namespace octavo {
namespace {

// x, y, and the position in scales and zero points.
using Loop = StridedLoop<3>;

Result<Loop> MakeLoop(const BindContext& context) {
  const Operand &x = context.inputs[0], &scale = context.inputs[1], &y = context.outputs[0];
  Dims scale_strides(x.dims.size(), 0);
  if (!scale.dims.empty() && scale.dims[0] != 1) {
    int64_t axis = context.node.Int("axis", 1);
    const auto rank = static_cast<int64_t>(x.dims.size());
    if (axis < 0) axis += rank;
    if (axis < 0 || axis >= rank) return InvalidArgument("its axis is out of range");
    scale_strides[static_cast<size_t>(axis)] = 1;
  }
  Dims dims = x.dims;
  std::array<Dims, 3> strides{x.strides, y.strides, scale_strides};
  OrderByStride(1, dims, strides);
  return Loop(dims, strides);
}

Status CheckScales(const Operand& operand, const void* data) {
  const int64_t count = ElementCount(operand.dims);
  const int64_t stride = operand.dims.empty() ? 0 : operand.strides[0];
  for (int64_t i = 0; i < count; ++i) {
    OCTAVO_RETURN_IF_ERROR(CheckScale(static_cast<const float*>(data)[i * stride]));
  }
  return {};
}

int64_t StrideOf(const Operand& operand) { return operand.present && !operand.dims.empty() ? operand.strides[0] : 0; }

// to[i] = convert(from[i], its scale, its zero point), on every element. Z: type of the zero points.
template <typename From, typename To, typename Z, typename Convert>
Result<BoundKernel> BindPerElement(const BindContext& context, Convert convert) {
  OCTAVO_ASSIGN(Loop loop, MakeLoop(context));
  const bool has_zero_point = context.inputs.size() > 2 && context.inputs[2].present;
  BoundKernel kernel;
  kernel.run = [loop = std::move(loop), scale_operand = context.inputs[1], has_zero_point, convert,
                scale_stride = StrideOf(context.inputs[1]),
                zero_stride = has_zero_point ? StrideOf(context.inputs[2]) : 0,
                threads = context.threads](const KernelArgs& args) {
    OCTAVO_RETURN_IF_ERROR(CheckScales(scale_operand, args.inputs[1]));
    const From* from = static_cast<const From*>(args.inputs[0]);
    const auto* scale = static_cast<const float*>(args.inputs[1]);
    const Z* zero = has_zero_point ? static_cast<const Z*>(args.inputs[2]) : nullptr;
    To* to = static_cast<To*>(args.outputs[0]);
    ParallelFor(threads, loop.count(), 4096, [&](int64_t begin, int64_t end) {
      loop.ForEachIn(begin, end, [&](const auto& at) {
        const Z zero_point = zero == nullptr ? Z{0} : zero[at[2] * zero_stride];
        to[at[1]] = convert(from[at[0]], scale[at[2] * scale_stride], zero_point);
      });
    });
    return Status();
  };
  return kernel;
}

template <typename X, typename Q>
Result<BoundKernel> BindQuantize(const BindContext& context) {
  return BindPerElement<X, Q, Q>(context, [](X x, float scale, int32_t zero_point) {
    constexpr int32_t kLow = std::numeric_limits<Q>::min(), kHigh = std::numeric_limits<Q>::max();
    // As the fused kernels do it: clamped before rounding, NaN to the lowest value.
    float t = static_cast<float>(Load(x)) / scale;
    const auto low = static_cast<float>(kLow - zero_point), high = static_cast<float>(kHigh - zero_point);
    t = t > low ? t : low;
    t = t < high ? t : high;
    return static_cast<Q>(static_cast<int32_t>(std::nearbyint(t)) + zero_point);
  });
}

template <typename Q, typename Y>
Result<BoundKernel> BindDequantize(const BindContext& context) {
  return BindPerElement<Q, Y, Q>(context, [](Q q, float scale, int64_t zero_point) {
    // The difference is exact in int64; int32 inputs round once when they become float.
    const auto difference = static_cast<float>(static_cast<int64_t>(q) - zero_point);
    return Store<Y>(difference * scale);
  });
}

Status CheckOperands(const BindContext& context) {
  if (context.inputs[1].dtype != DType::kFloat32) {
    return Unsupported("its scale is " + std::string(NameOf(context.inputs[1].dtype)) +
                       "; Octavo computes with float32 scales");
  }
  return {};
}

using QuantizedTypes = Types<int8_t, uint8_t, int16_t, uint16_t>;
using RealTypes = Types<float, Float16, BFloat16>;

Result<BoundKernel> BindQuantizeLinear(const BindContext& context) {
  OCTAVO_RETURN_IF_ERROR(CheckOperands(context));
  return ForDType(decltype(Join(RealTypes(), Types<int32_t>()))(), context.inputs[0].dtype,
                  [&]<typename X>(std::type_identity<X>) {
                    return ForDType(QuantizedTypes(), context.outputs[0].dtype,
                                    [&]<typename Q>(std::type_identity<Q>) { return BindQuantize<X, Q>(context); });
                  });
}

Result<BoundKernel> BindDequantizeLinear(const BindContext& context) {
  OCTAVO_RETURN_IF_ERROR(CheckOperands(context));
  return ForDType(decltype(Join(QuantizedTypes(), Types<int32_t>()))(), context.inputs[0].dtype,
                  [&]<typename Q>(std::type_identity<Q>) {
                    return ForDType(Types<float, BFloat16>(), context.outputs[0].dtype,
                                    [&]<typename Y>(std::type_identity<Y>) { return BindDequantize<Q, Y>(context); });
                  });
}

constexpr GenericKernelRow kRows[] = {
    {"", "DequantizeLinear", BindDequantizeLinear},
    {"", "QuantizeLinear", BindQuantizeLinear},
};

}  // namespace

std::span<const GenericKernelRow> QuantizeKernels() { return kRows; }

}  // namespace octavo
