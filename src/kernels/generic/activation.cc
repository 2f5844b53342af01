// Elementwise functions beside plain arithmetic: trigonometry, the rarer activations, tests of floats, bits.
#include <cmath>

#include "kernels/generic/elementwise.h"
#include "kernels/generic/rows.h"

namespace octavo {
namespace {

template <auto kFn>
Result<BoundKernel> BindFunction(const BindContext& context) {
  return BindUnary<FloatTypes>(context, kFn);
}

// Activations with parameters; alpha is the attribute of that name.

Result<BoundKernel> BindElu(const BindContext& context) {
  const float alpha = context.node.Float("alpha", 1.0f);
  return BindUnary<FloatTypes>(context, [alpha](auto x) {
    using T = decltype(x);
    return x < 0 ? T(alpha) * std::expm1(x) : x;
  });
}

Result<BoundKernel> BindCelu(const BindContext& context) {
  const float alpha = context.node.Float("alpha", 1.0f);
  if (alpha == 0) return InvalidArgument("alpha is 0");
  return BindUnary<FloatTypes>(context, [alpha](auto x) {
    using T = decltype(x);
    return std::max(T(0), x) + std::min(T(0), T(alpha) * std::expm1(x / T(alpha)));
  });
}

Result<BoundKernel> BindSelu(const BindContext& context) {
  const float alpha = context.node.Float("alpha", 1.67326319217681884765625f);
  const float gamma = context.node.Float("gamma", 1.05070102214813232421875f);
  return BindUnary<FloatTypes>(context, [alpha, gamma](auto x) {
    using T = decltype(x);
    return T(gamma) * (x > 0 ? x : T(alpha) * std::expm1(x));
  });
}

Result<BoundKernel> BindThresholdedRelu(const BindContext& context) {
  const float alpha = context.node.Float("alpha", 1.0f);
  return BindUnary<FloatTypes>(context, [alpha](auto x) {
    using T = decltype(x);
    return x > T(alpha) ? x : T(0);
  });
}

Result<BoundKernel> BindShrink(const BindContext& context) {
  const double bias = static_cast<double>(context.node.Float("bias", 0.0f));
  const double lambd = static_cast<double>(context.node.Float("lambd", 0.5f));
  return BindUnary<NumericTypes>(context, [bias, lambd](auto x) -> decltype(x) {
    using T = decltype(x);
    const auto value = static_cast<double>(x);
    const double shrunk = value < -lambd ? value + bias : value > lambd ? value - bias : 0.0;
    if constexpr (std::is_integral_v<T>) return Saturate<T>(shrunk);
    return static_cast<T>(shrunk);
  });
}

Result<BoundKernel> BindPRelu(const BindContext& context) {
  using SlopeTypes = decltype(Join(FloatTypes(), Types<int32_t, int64_t, uint32_t, uint64_t>()));
  return BindBinary<SlopeTypes>(context, [](auto x, auto slope) {
    using T = decltype(x);
    if (!(x < 0)) return x;
    // Wraps, as a product does.
    if constexpr (std::is_integral_v<T>) return static_cast<T>(static_cast<uint64_t>(x) * static_cast<uint64_t>(slope));
    return static_cast<T>(x * slope);
  });
}

// Tests

template <typename Fn>
Result<BoundKernel> BindFloatTest(const BindContext& context, Fn fn) {
  OCTAVO_RETURN_IF_ERROR(CheckBroadcast(context));
  return ForDType(FloatTypes(), context.inputs[0].dtype, [&]<typename T>(std::type_identity<T>) {
    BoundKernel kernel;
    kernel.run = [loop = ElementwiseLoop<1>(context.outputs[0], {&context.inputs[0]}), threads = context.threads,
                  fn](const KernelArgs& args) {
      RunUnary<T, uint8_t>(loop, threads, args.inputs[0], args.outputs[0], fn);
      return Status();
    };
    return Result<BoundKernel>(std::move(kernel));
  });
}

Result<BoundKernel> BindIsNaN(const BindContext& context) {
  return BindFloatTest(context, [](auto x) { return std::isnan(x); });
}

Result<BoundKernel> BindIsInf(const BindContext& context) {
  const bool negative = context.node.Int("detect_negative", 1) != 0;
  const bool positive = context.node.Int("detect_positive", 1) != 0;
  return BindFloatTest(context,
                       [negative, positive](auto x) { return std::isinf(x) && (x < 0 ? negative : positive); });
}

// Bits

Result<BoundKernel> BindBitwiseNot(const BindContext& context) {
  return BindUnary<IntegerTypes>(context, [](auto x) { return static_cast<decltype(x)>(~x); });
}
Result<BoundKernel> BindBitwiseAnd(const BindContext& context) {
  return BindBinary<IntegerTypes>(context, [](auto a, auto b) { return static_cast<decltype(a)>(a & b); });
}
Result<BoundKernel> BindBitwiseOr(const BindContext& context) {
  return BindBinary<IntegerTypes>(context, [](auto a, auto b) { return static_cast<decltype(a)>(a | b); });
}
Result<BoundKernel> BindBitwiseXor(const BindContext& context) {
  return BindBinary<IntegerTypes>(context, [](auto a, auto b) { return static_cast<decltype(a)>(a ^ b); });
}

// A shift by the width or more leaves nothing; C++ leaves that undefined.
Result<BoundKernel> BindBitShift(const BindContext& context) {
  const std::string direction = context.node.String("direction", "");
  if (direction == "LEFT") {
    return BindBinary<UnsignedTypes>(context, [](auto a, auto b) {
      using T = decltype(a);
      return b >= std::numeric_limits<T>::digits ? T(0) : static_cast<T>(static_cast<uint64_t>(a) << b);
    });
  }
  if (direction == "RIGHT") {
    return BindBinary<UnsignedTypes>(context, [](auto a, auto b) {
      using T = decltype(a);
      return b >= std::numeric_limits<T>::digits ? T(0) : static_cast<T>(a >> b);
    });
  }
  return InvalidArgument("direction is '" + direction + "', not LEFT or RIGHT");
}

}  // namespace

std::span<const GenericKernelRow> ActivationKernels() {
  static constexpr GenericKernelRow kRows[] = {
      {"", "Acos", BindFunction<[](auto x) { return std::acos(x); }>},
      {"", "Acosh", BindFunction<[](auto x) { return std::acosh(x); }>},
      {"", "Asin", BindFunction<[](auto x) { return std::asin(x); }>},
      {"", "Asinh", BindFunction<[](auto x) { return std::asinh(x); }>},
      {"", "Atan", BindFunction<[](auto x) { return std::atan(x); }>},
      {"", "Atanh", BindFunction<[](auto x) { return std::atanh(x); }>},
      {"", "Cosh", BindFunction<[](auto x) { return std::cosh(x); }>},
      {"", "Sinh", BindFunction<[](auto x) { return std::sinh(x); }>},
      {"", "Tan", BindFunction<[](auto x) { return std::tan(x); }>},
      {"", "Softsign", BindFunction<[](auto x) { return x / (1 + std::abs(x)); }>},
      {"", "Elu", BindElu},
      {"", "Celu", BindCelu},
      {"", "Selu", BindSelu},
      {"", "ThresholdedRelu", BindThresholdedRelu},
      {"", "Shrink", BindShrink},
      {"", "PRelu", BindPRelu},
      {"", "IsNaN", BindIsNaN},
      {"", "IsInf", BindIsInf},
      {"", "BitwiseNot", BindBitwiseNot},
      {"", "BitwiseAnd", BindBitwiseAnd},
      {"", "BitwiseOr", BindBitwiseOr},
      {"", "BitwiseXor", BindBitwiseXor},
      {"", "BitShift", BindBitShift},
  };
  return kRows;
}

}  // namespace octavo
