// Elements read as integers or as doubles whatever their type, one at a time: for indices, counts and parameters.
#pragma once

#include "kernels/generic/elements.h"

namespace octavo {

// Floats are cut off towards zero and clamped; uint64 beyond int64 wraps.
using IntReader = int64_t (*)(const void* data, int64_t offset);
using RealReader = double (*)(const void* data, int64_t offset);

template <typename Value, typename T>
Value ReadAs(const void* data, int64_t offset) {
  const auto x = Load(static_cast<const T*>(data)[offset]);
  if constexpr (std::is_same_v<Value, int64_t> && !std::is_integral_v<T>) {
    return Saturate<int64_t>(static_cast<double>(x));
  } else {
    return static_cast<Value>(x);
  }
}

template <typename Value, typename... Ts>
auto ReaderAmong(Types<Ts...>, DType dtype) {
  Value (*reader)(const void*, int64_t) = nullptr;
  ((dtype == ElementDType<Ts>() ? void(reader = ReadAs<Value, Ts>) : void()), ...);
  return reader;
}

// Null for a type that is not a number; bool reads as 0 and 1.
template <typename Value>
auto ReaderOf(DType dtype) {
  return ReaderAmong<Value>(NumericTypes(), dtype == DType::kBool ? DType::kUInt8 : dtype);
}

}  // namespace octavo
