// Elementwise ops: arithmetic, comparison, logic, activations.
#include <atomic>
#include <cmath>

#include "graph/rounding.h"
#include "kernels/generic/elementwise.h"
#include "kernels/generic/rows.h"

namespace octavo {
namespace {

// Integer arithmetic wraps, as ONNX Runtime's does; through uint64_t, where that is defined.
template <typename T>
T Add(T a, T b) {
  if constexpr (std::is_integral_v<T>) return static_cast<T>(static_cast<uint64_t>(a) + static_cast<uint64_t>(b));
  return static_cast<T>(a + b);
}
template <typename T>
T Subtract(T a, T b) {
  if constexpr (std::is_integral_v<T>) return static_cast<T>(static_cast<uint64_t>(a) - static_cast<uint64_t>(b));
  return static_cast<T>(a - b);
}
template <typename T>
T Multiply(T a, T b) {
  if constexpr (std::is_integral_v<T>) return static_cast<T>(static_cast<uint64_t>(a) * static_cast<uint64_t>(b));
  return static_cast<T>(a * b);
}
template <typename T>
T Negate(T a) {
  if constexpr (std::is_integral_v<T>) return static_cast<T>(uint64_t{0} - static_cast<uint64_t>(a));
  return static_cast<T>(-a);
}
// NaN wins, whichever side it is on.
template <typename T>
T Maximum(T a, T b) {
  return a > b || a != a ? a : b;
}
template <typename T>
T Minimum(T a, T b) {
  return a < b || a != a ? a : b;
}

template <typename T>
T Sigmoid(T x) {
  return 1 / (1 + std::exp(-x));
}
template <typename T>
T Softplus(T x) {
  return std::max(x, T(0)) + std::log1p(std::exp(-std::abs(x)));
}

// Binary

Result<BoundKernel> BindAdd(const BindContext& context) {
  return BindBinary<NumericTypes>(context, [](auto a, auto b) { return Add(a, b); });
}
Result<BoundKernel> BindSub(const BindContext& context) {
  return BindBinary<NumericTypes>(context, [](auto a, auto b) { return Subtract(a, b); });
}
Result<BoundKernel> BindMul(const BindContext& context) {
  return BindBinary<NumericTypes>(context, [](auto a, auto b) { return Multiply(a, b); });
}

// As BindBinary for integers, where a divisor of 0 is an error.
template <typename Fn>
Result<BoundKernel> BindIntegerQuotient(const BindContext& context, Fn fn) {
  OCTAVO_RETURN_IF_ERROR(CheckBroadcast(context));
  if (context.inputs[0].dtype != context.inputs[1].dtype) return InvalidArgument("the operands differ in type");
  return ForDType(IntegerTypes(), context.inputs[0].dtype, [&]<typename T>(std::type_identity<T>) {
    BoundKernel kernel;
    kernel.run = [loop = ElementwiseLoop<2>(context.outputs[0], {&context.inputs[0], &context.inputs[1]}),
                  threads = context.threads, fn](const KernelArgs& args) -> Status {
      std::atomic<bool> divides_by_zero{false};
      const auto guarded = [&](T a, T b) -> T {
        if (b != 0) return fn(a, b);
        divides_by_zero.store(true, std::memory_order_relaxed);
        return 0;
      };
      RunBinary<T, T, T>(loop, threads, args.inputs[0], args.inputs[1], args.outputs[0], guarded);
      return divides_by_zero ? InvalidArgument("integer division by zero") : Status();
    };
    return Result<BoundKernel>(std::move(kernel));
  });
}

bool IsInteger(DType dtype) {
  return dtype != DType::kFloat32 && dtype != DType::kFloat64 && dtype != DType::kFloat16 && dtype != DType::kBFloat16;
}

template <typename T>
bool IsMinusOne(T x) {
  return std::is_signed_v<T> && x == static_cast<T>(-1);
}

// The lowest integer divided by -1 wraps to itself; the machine's instruction traps.
template <typename T>
T Truncated(T a, T b) {
  return IsMinusOne(b) ? Negate(a) : static_cast<T>(a / b);
}
template <typename T>
T Remainder(T a, T b) {
  return IsMinusOne(b) ? T(0) : static_cast<T>(a % b);
}
// The remainder that has the divisor's sign.
template <typename T>
T FloorRemainder(T a, T b) {
  const T remainder = Remainder(a, b);
  return remainder != 0 && (remainder < 0) != (b < 0) ? static_cast<T>(remainder + b) : remainder;
}

Result<BoundKernel> BindDiv(const BindContext& context) {
  if (IsInteger(context.inputs[0].dtype)) {
    return BindIntegerQuotient(context, [](auto a, auto b) { return Truncated(a, b); });
  }
  return BindBinary<FloatTypes>(context, [](auto a, auto b) { return a / b; });
}

Result<BoundKernel> BindMod(const BindContext& context) {
  const bool c_style = context.node.Int("fmod", 0) != 0;
  if (IsInteger(context.inputs[0].dtype)) {
    if (c_style) return BindIntegerQuotient(context, [](auto a, auto b) { return Remainder(a, b); });
    return BindIntegerQuotient(context, [](auto a, auto b) { return FloorRemainder(a, b); });
  }
  if (!c_style) return InvalidArgument("Mod of floating-point operands needs fmod = 1");
  return BindBinary<FloatTypes>(context, [](auto a, auto b) { return std::fmod(a, b); });
}

// Exact and wrapping for a non-negative exponent.
template <typename T>
T IntegerPower(T base, int64_t exponent) {
  if (exponent < 0) {
    if (base == 1) return 1;
    if (IsMinusOne(base)) return exponent % 2 == 0 ? T(1) : base;
    return 0;
  }
  T result = 1;
  for (; exponent > 0; exponent >>= 1) {
    if (exponent & 1) result = Multiply(result, base);
    base = Multiply(base, base);
  }
  return result;
}

template <typename A, typename B>
A Power(A base, B exponent) {
  if constexpr (std::is_integral_v<A> && std::is_integral_v<B>) {
    return IntegerPower(base, static_cast<int64_t>(exponent));
  } else if constexpr (std::is_integral_v<A>) {
    return Saturate<A>(std::pow(static_cast<double>(base), static_cast<double>(exponent)));
  } else if constexpr (std::is_same_v<A, float> && std::is_same_v<B, float>) {
    return exponent == 2.0f ? base * base : std::pow(base, exponent);
  } else {
    return static_cast<A>(std::pow(static_cast<double>(base), static_cast<double>(exponent)));
  }
}

// The result has the base's type.
Result<BoundKernel> BindPow(const BindContext& context) {
  OCTAVO_RETURN_IF_ERROR(CheckBroadcast(context));
  using BaseTypes = Types<float, double, Float16, BFloat16, int32_t, int64_t>;
  return ForDType(BaseTypes(), context.inputs[0].dtype, [&]<typename A>(std::type_identity<A>) {
    return ForDType(NumericTypes(), context.inputs[1].dtype, [&]<typename B>(std::type_identity<B>) {
      BoundKernel kernel;
      kernel.run = [loop = ElementwiseLoop<2>(context.outputs[0], {&context.inputs[0], &context.inputs[1]}),
                    threads = context.threads](const KernelArgs& args) {
        RunBinary<A, B, A>(loop, threads, args.inputs[0], args.inputs[1], args.outputs[0],
                           [](auto a, auto b) { return Power(a, b); });
        return Status();
      };
      return Result<BoundKernel>(std::move(kernel));
    });
  });
}

// Any number of operands: y = x0, then y = fn(y, xk) for the others, then y = finish(y).
template <typename TypeList, typename Fn>
Result<BoundKernel> BindFold(const BindContext& context, Fn fn) {
  OCTAVO_RETURN_IF_ERROR(CheckBroadcast(context));
  const Operand& output = context.outputs[0];
  for (const Operand& input : context.inputs) {
    if (input.dtype != output.dtype) return InvalidArgument("the operands differ in type");
  }
  return ForDType(TypeList(), output.dtype, [&]<typename T>(std::type_identity<T>) {
    std::vector<StridedLoop<3>> folds;
    for (size_t k = 1; k < context.inputs.size(); ++k) {
      folds.push_back(ElementwiseLoop<2>(output, {&output, &context.inputs[k]}));
    }
    BoundKernel kernel;
    kernel.run = [first = ElementwiseLoop<1>(output, {&context.inputs[0]}), folds, threads = context.threads,
                  fn](const KernelArgs& args) {
      void* y = args.outputs[0];
      RunUnary<T, T>(first, threads, args.inputs[0], y, [](auto x) { return x; });
      for (size_t k = 0; k < folds.size(); ++k) RunBinary<T, T, T>(folds[k], threads, y, args.inputs[k + 1], y, fn);
      return Status();
    };
    return Result<BoundKernel>(std::move(kernel));
  });
}

Result<BoundKernel> BindMin(const BindContext& context) {
  return BindFold<NumericTypes>(context, [](auto a, auto b) { return Minimum(a, b); });
}
Result<BoundKernel> BindMax(const BindContext& context) {
  return BindFold<NumericTypes>(context, [](auto a, auto b) { return Maximum(a, b); });
}
Result<BoundKernel> BindSum(const BindContext& context) {
  return BindFold<FloatTypes>(context, [](auto a, auto b) { return a + b; });
}
// The sum, divided in place.
Result<BoundKernel> BindMean(const BindContext& context) {
  OCTAVO_ASSIGN(const BoundKernel sum, BindSum(context));
  const Operand& y = context.outputs[0];
  const auto count = static_cast<float>(context.inputs.size());
  return ForDType(FloatTypes(), y.dtype, [&]<typename T>(std::type_identity<T>) {
    BoundKernel kernel;
    kernel.run = [sum, loop = ElementwiseLoop<1>(y, {&y}), threads = context.threads, count](const KernelArgs& args) {
      OCTAVO_RETURN_IF_ERROR(sum.run(args));
      RunUnary<T, T>(loop, threads, args.outputs[0], args.outputs[0],
                     [count](auto x) { return x / static_cast<decltype(x)>(count); });
      return Status();
    };
    return Result<BoundKernel>(std::move(kernel));
  });
}

// Comparison and logic; bool is stored as one byte.

DType ByteForBool(DType dtype) { return dtype == DType::kBool ? DType::kUInt8 : dtype; }

template <typename TypeList, typename Fn>
Result<BoundKernel> BindPredicate(const BindContext& context, Fn fn) {
  OCTAVO_RETURN_IF_ERROR(CheckBroadcast(context));
  if (context.inputs[0].dtype != context.inputs[1].dtype) return InvalidArgument("the operands differ in type");
  return ForDType(TypeList(), ByteForBool(context.inputs[0].dtype), [&]<typename T>(std::type_identity<T>) {
    BoundKernel kernel;
    kernel.run = [loop = ElementwiseLoop<2>(context.outputs[0], {&context.inputs[0], &context.inputs[1]}),
                  threads = context.threads, fn](const KernelArgs& args) {
      RunBinary<T, T, uint8_t>(loop, threads, args.inputs[0], args.inputs[1], args.outputs[0], fn);
      return Status();
    };
    return Result<BoundKernel>(std::move(kernel));
  });
}

Result<BoundKernel> BindEqual(const BindContext& context) {
  return BindPredicate<NumericTypes>(context, [](auto a, auto b) { return a == b; });
}
Result<BoundKernel> BindGreater(const BindContext& context) {
  return BindPredicate<NumericTypes>(context, [](auto a, auto b) { return a > b; });
}
Result<BoundKernel> BindGreaterOrEqual(const BindContext& context) {
  return BindPredicate<NumericTypes>(context, [](auto a, auto b) { return a >= b; });
}
Result<BoundKernel> BindLess(const BindContext& context) {
  return BindPredicate<NumericTypes>(context, [](auto a, auto b) { return a < b; });
}
Result<BoundKernel> BindLessOrEqual(const BindContext& context) {
  return BindPredicate<NumericTypes>(context, [](auto a, auto b) { return a <= b; });
}
Result<BoundKernel> BindAnd(const BindContext& context) {
  return BindPredicate<Types<uint8_t>>(context, [](auto a, auto b) { return a != 0 && b != 0; });
}
Result<BoundKernel> BindOr(const BindContext& context) {
  return BindPredicate<Types<uint8_t>>(context, [](auto a, auto b) { return a != 0 || b != 0; });
}
Result<BoundKernel> BindXor(const BindContext& context) {
  return BindPredicate<Types<uint8_t>>(context, [](auto a, auto b) { return (a != 0) != (b != 0); });
}

Result<BoundKernel> BindNot(const BindContext& context) {
  OCTAVO_RETURN_IF_ERROR(CheckBroadcast(context));
  if (context.inputs[0].dtype != DType::kBool) return UnsupportedDType(context.inputs[0].dtype);
  BoundKernel kernel;
  kernel.run = [loop = ElementwiseLoop<1>(context.outputs[0], {&context.inputs[0]}),
                threads = context.threads](const KernelArgs& args) {
    RunUnary<uint8_t, uint8_t>(loop, threads, args.inputs[0], args.outputs[0], [](uint8_t x) { return x == 0; });
    return Status();
  };
  return kernel;
}

// Unary

Result<BoundKernel> BindNeg(const BindContext& context) {
  return BindUnary<SignedNumericTypes>(context, [](auto x) { return Negate(x); });
}
Result<BoundKernel> BindAbs(const BindContext& context) {
  return BindUnary<NumericTypes>(context, [](auto x) {
    if constexpr (std::is_floating_point_v<decltype(x)>) return std::abs(x);
    return x < 0 ? Negate(x) : x;
  });
}
Result<BoundKernel> BindSign(const BindContext& context) {
  return BindUnary<NumericTypes>(context, [](auto x) { return (x > 0) - (x < 0); });
}
Result<BoundKernel> BindSqrt(const BindContext& context) {
  return BindUnary<FloatTypes>(context, [](auto x) { return std::sqrt(x); });
}
Result<BoundKernel> BindReciprocal(const BindContext& context) {
  return BindUnary<FloatTypes>(context, [](auto x) { return 1 / x; });
}
Result<BoundKernel> BindExp(const BindContext& context) {
  return BindUnary<FloatTypes>(context, [](auto x) { return std::exp(x); });
}
Result<BoundKernel> BindLog(const BindContext& context) {
  return BindUnary<FloatTypes>(context, [](auto x) { return std::log(x); });
}
Result<BoundKernel> BindSin(const BindContext& context) {
  return BindUnary<FloatTypes>(context, [](auto x) { return std::sin(x); });
}
Result<BoundKernel> BindCos(const BindContext& context) {
  return BindUnary<FloatTypes>(context, [](auto x) { return std::cos(x); });
}
Result<BoundKernel> BindTanh(const BindContext& context) {
  return BindUnary<FloatTypes>(context, [](auto x) { return std::tanh(x); });
}
Result<BoundKernel> BindErf(const BindContext& context) {
  return BindUnary<FloatTypes>(context, [](auto x) { return std::erf(x); });
}
Result<BoundKernel> BindFloor(const BindContext& context) {
  return BindUnary<FloatTypes>(context, [](auto x) { return std::floor(x); });
}
Result<BoundKernel> BindCeil(const BindContext& context) {
  return BindUnary<FloatTypes>(context, [](auto x) { return std::ceil(x); });
}
// Halves go to the even neighbour.
Result<BoundKernel> BindRound(const BindContext& context) {
  return BindUnary<FloatTypes>(context, [](auto x) { return std::nearbyint(x); });
}
Result<BoundKernel> BindSigmoid(const BindContext& context) {
  return BindUnary<FloatTypes>(context, [](auto x) { return Sigmoid(x); });
}
Result<BoundKernel> BindSilu(const BindContext& context) {
  return BindUnary<FloatTypes>(context, [alpha = context.node.Float("alpha", 1.0f)](auto x) {
    return x / (1 + std::exp(-(decltype(x)(alpha) * x)));
  });
}
Result<BoundKernel> BindRoundTo(const BindContext& context) {
  return BindUnary<FloatTypes>(context, [to = RoundedTo(context.node)](auto x) {
    return static_cast<decltype(x)>(RoundTo(to, static_cast<float>(x)));
  });
}
Result<BoundKernel> BindRelu(const BindContext& context) {
  return BindUnary<SignedNumericTypes>(context, [](auto x) { return Maximum(x, decltype(x)(0)); });
}
Result<BoundKernel> BindSoftplus(const BindContext& context) {
  return BindUnary<FloatTypes>(context, [](auto x) { return Softplus(x); });
}
Result<BoundKernel> BindMish(const BindContext& context) {
  return BindUnary<FloatTypes>(context, [](auto x) { return x * std::tanh(Softplus(x)); });
}
Result<BoundKernel> BindLeakyRelu(const BindContext& context) {
  return BindUnary<FloatTypes>(
      context, [alpha = context.node.Float("alpha", 0.01f)](auto x) { return x < 0 ? decltype(x)(alpha) * x : x; });
}
Result<BoundKernel> BindHardSigmoid(const BindContext& context) {
  const float alpha = context.node.Float("alpha", 0.2f), beta = context.node.Float("beta", 0.5f);
  return BindUnary<FloatTypes>(context, [alpha, beta](auto x) {
    using T = decltype(x);
    return Maximum(T(0), Minimum(T(1), T(alpha) * x + T(beta)));
  });
}
Result<BoundKernel> BindHardSwish(const BindContext& context) {
  return BindUnary<FloatTypes>(context, [](auto x) {
    using T = decltype(x);
    return x * Maximum(T(0), Minimum(T(1), x / 6 + T(0.5)));
  });
}
Result<BoundKernel> BindGelu(const BindContext& context) {
  const std::string approximate = context.node.String("approximate", "none");
  if (approximate == "tanh") {
    return BindUnary<FloatTypes>(context, [](auto x) {
      using T = decltype(x);
      constexpr T kSqrt2OverPi = T(0.79788456080286535588);
      return T(0.5) * x * (1 + std::tanh(kSqrt2OverPi * (x + T(0.044715) * x * x * x)));
    });
  }
  if (approximate != "none") return InvalidArgument("approximate is '" + approximate + "', not none or tanh");
  // erfc keeps its relative precision where 1 + erf cancels.
  return BindUnary<FloatTypes>(context, [](auto x) {
    using T = decltype(x);
    constexpr T kSqrtHalf = T(0.70710678118654752440);
    return T(0.5) * x * std::erfc(-x * kSqrtHalf);
  });
}

// Bounds: inputs 1 and 2 from opset 11 on, attributes before; absent is no bound.
Result<BoundKernel> BindClip(const BindContext& context) {
  OCTAVO_RETURN_IF_ERROR(CheckBroadcast(context));
  const auto in = context.inputs;
  const auto bound = [&](size_t i) { return i < in.size() && in[i].present; };
  for (size_t i = 1; i < in.size(); ++i) {
    if (bound(i) && (in[i].dtype != in[0].dtype || ElementCount(in[i].dims) != 1)) {
      return InvalidArgument("a bound is not a scalar of the input's type");
    }
  }
  return ForDType(NumericTypes(), in[0].dtype, [&]<typename T>(std::type_identity<T>) {
    using Limits = std::numeric_limits<ComputeType<T>>;
    ComputeType<T> low = Limits::lowest(), high = Limits::max();
    if constexpr (!std::is_integral_v<T>) {
      if (context.opset < 11) low = context.node.Float("min", std::numeric_limits<float>::lowest());
      if (context.opset < 11) high = context.node.Float("max", std::numeric_limits<float>::max());
    }
    BoundKernel kernel;
    kernel.run = [loop = ElementwiseLoop<1>(context.outputs[0], {&in[0]}), threads = context.threads, low, high,
                  has_low = bound(1), has_high = bound(2)](const KernelArgs& args) {
      const auto lo = has_low ? Load(*static_cast<const T*>(args.inputs[1])) : low;
      const auto hi = has_high ? Load(*static_cast<const T*>(args.inputs[2])) : high;
      RunUnary<T, T>(loop, threads, args.inputs[0], args.outputs[0],
                     [lo, hi](auto x) { return Minimum(Maximum(x, lo), hi); });
      return Status();
    };
    return Result<BoundKernel>(std::move(kernel));
  });
}

}  // namespace

std::span<const GenericKernelRow> ArithmeticKernels() {
  static constexpr GenericKernelRow kRows[] = {
      {"", "Add", BindAdd},
      {"", "Sub", BindSub},
      {"", "Mul", BindMul},
      {"", "Div", BindDiv},
      {"", "Mod", BindMod},
      {"", "Pow", BindPow},
      {"", "Min", BindMin},
      {"", "Max", BindMax},
      {"", "Sum", BindSum},
      {"", "Mean", BindMean},
      {"", "Equal", BindEqual},
      {"", "Greater", BindGreater},
      {"", "GreaterOrEqual", BindGreaterOrEqual},
      {"", "Less", BindLess},
      {"", "LessOrEqual", BindLessOrEqual},
      {"", "And", BindAnd},
      {"", "Or", BindOr},
      {"", "Xor", BindXor},
      {"", "Not", BindNot},
      {"", "Neg", BindNeg},
      {"", "Abs", BindAbs},
      {"", "Sign", BindSign},
      {"", "Sqrt", BindSqrt},
      {"", "Reciprocal", BindReciprocal},
      {"", "Exp", BindExp},
      {"", "Log", BindLog},
      {"", "Sin", BindSin},
      {"", "Cos", BindCos},
      {"", "Tanh", BindTanh},
      {"", "Erf", BindErf},
      {"", "Floor", BindFloor},
      {"", "Ceil", BindCeil},
      {"", "Round", BindRound},
      {"", "Sigmoid", BindSigmoid},
      {"", "Relu", BindRelu},
      {"", "Softplus", BindSoftplus},
      {"", "Mish", BindMish},
      {"", "LeakyRelu", BindLeakyRelu},
      {"", "HardSigmoid", BindHardSigmoid},
      {"", "HardSwish", BindHardSwish},
      {"", "Gelu", BindGelu},
      {"", "Clip", BindClip},
      {kOctavoDomain, "RoundTo", BindRoundTo},
      {kOctavoDomain, "Silu", BindSilu},
  };
  return kRows;
}

}  // namespace octavo
