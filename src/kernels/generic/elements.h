// Element types of the generic kernels: storage, the type it is computed in, and dispatch from DType.
#pragma once

#include <cmath>
#include <limits>
#include <string>
#include <type_traits>

#include "kernels/kernel.h"

namespace octavo {

struct Float16 {
  uint16_t bits;
};
struct BFloat16 {
  uint16_t bits;
};

template <typename T>
inline constexpr bool kIsHalf = std::is_same_v<T, Float16> || std::is_same_v<T, BFloat16>;
// What T is computed in: 16-bit floats widen to float.
template <typename T>
using ComputeType = std::conditional_t<kIsHalf<T>, float, T>;

template <typename T>
ComputeType<T> Load(T x) {
  if constexpr (std::is_same_v<T, Float16>) {
    return Float16ToFloat(x.bits);
  } else if constexpr (std::is_same_v<T, BFloat16>) {
    return BFloat16ToFloat(x.bits);
  } else {
    return x;
  }
}

template <typename T, typename V>
T Store(V value) {
  if constexpr (std::is_same_v<T, Float16>) {
    return {FloatToFloat16(static_cast<float>(value))};
  } else if constexpr (std::is_same_v<T, BFloat16>) {
    return {FloatToBFloat16(static_cast<float>(value))};
  } else {
    return static_cast<T>(value);
  }
}

template <typename T>
constexpr DType ElementDType() {
  if constexpr (std::is_same_v<T, Float16>) {
    return DType::kFloat16;
  } else if constexpr (std::is_same_v<T, BFloat16>) {
    return DType::kBFloat16;
  } else {
    return DTypeOf<T>();
  }
}

// The nearest value of an integer type; 0 for NaN.
template <typename T>
T Saturate(double value) {
  if (std::isnan(value)) return 0;
  if (value <= static_cast<double>(std::numeric_limits<T>::lowest())) return std::numeric_limits<T>::lowest();
  if (value >= static_cast<double>(std::numeric_limits<T>::max())) return std::numeric_limits<T>::max();
  return static_cast<T>(value);
}

template <typename... Ts>
struct Types {};
template <typename... As, typename... Bs>
Types<As..., Bs...> Join(Types<As...>, Types<Bs...>);

using FloatTypes = Types<float, double, Float16, BFloat16>;
using SignedTypes = Types<int8_t, int16_t, int32_t, int64_t>;
using UnsignedTypes = Types<uint8_t, uint16_t, uint32_t, uint64_t>;
using IntegerTypes = decltype(Join(SignedTypes(), UnsignedTypes()));
using SignedNumericTypes = decltype(Join(FloatTypes(), SignedTypes()));
using NumericTypes = decltype(Join(FloatTypes(), IntegerTypes()));

inline Status UnsupportedDType(DType dtype) {
  return Unsupported("element type " + std::string(NameOf(dtype)) + " is not supported by this op");
}

// Calls bind(std::type_identity<T>()) with the T of the list that stores `dtype`.
template <typename... Ts, typename Bind>
Result<BoundKernel> ForDType(Types<Ts...>, DType dtype, Bind&& bind) {
  Result<BoundKernel> result = UnsupportedDType(dtype);
  const auto attempt = [&]<typename T>(std::type_identity<T> type) {
    if (dtype == ElementDType<T>()) result = bind(type);
  };
  (attempt(std::type_identity<Ts>()), ...);
  return result;
}

}  // namespace octavo
