#include "kernels/generic/strided_convert.h"

#include <algorithm>
#include <cmath>
#include <type_traits>

#include "base/parallel.h"
#include "kernels/generic/elements.h"
#include "kernels/generic/elementwise.h"

namespace octavo {
namespace {

constexpr int64_t kBlock = 256;

using AllTypes = decltype(Join(NumericTypes(), Types<bool>()));

template <typename T>
inline constexpr bool kIsFloating = std::is_floating_point_v<T> || kIsHalf<T>;

// Integers pass as int64 (uint64 as itself), floats as double.
template <typename T>
using ViaType =
    std::conditional_t<kIsFloating<T>, double, std::conditional_t<std::is_same_v<T, uint64_t>, uint64_t, int64_t>>;

template <typename T, typename Via>
T ConvertOne(Via value) {
  if constexpr (std::is_same_v<T, bool>) {
    return value != 0;
  } else if constexpr (std::is_integral_v<T> && std::is_same_v<Via, double>) {
    return Saturate<T>(value);
  } else {
    return octavo::Store<T>(value);
  }
}

// The function that `pick` gives for the type that stores `dtype`; null for an undefined one.
template <typename Fn, typename... Ts, typename Pick>
Fn PickByDType(Types<Ts...>, DType dtype, Pick&& pick) {
  Fn found = nullptr;
  const auto attempt = [&]<typename T>(std::type_identity<T> type) {
    if (dtype == ElementDType<T>()) found = pick(type);
  };
  (attempt(std::type_identity<Ts>()), ...);
  return found;
}

}  // namespace

union StridedConvert::Block {
  double floats[kBlock];
  int64_t ints[kBlock];
  uint64_t uints[kBlock];

  template <typename Via>
  auto& As() {
    if constexpr (std::is_same_v<Via, double>)
      return floats;
    else if constexpr (std::is_same_v<Via, int64_t>)
      return ints;
    else
      return uints;
  }
  template <typename Via>
  const auto& As() const {
    return const_cast<Block*>(this)->As<Via>();
  }
};

template <typename T>
void StridedConvert::Load(const void* from, int64_t offset, int64_t step, int64_t n, Block& block) {
  // A bool from outside may hold any byte.
  using Stored = std::conditional_t<std::is_same_v<T, bool>, uint8_t, T>;
  const Stored* source = static_cast<const Stored*>(from) + offset;
  auto& via = block.As<ViaType<T>>();
  for (int64_t i = 0; i < n; ++i) {
    if constexpr (std::is_same_v<T, bool>) {
      via[i] = source[i * step] != 0;
    } else {
      via[i] = static_cast<ViaType<T>>(octavo::Load(source[i * step]));
    }
  }
}

template <typename T, typename Via>
void StridedConvert::Store(const Block& block, int64_t n, void* to, int64_t offset, int64_t step) {
  T* target = static_cast<T*>(to) + offset;
  const auto& via = block.As<Via>();
  for (int64_t i = 0; i < n; ++i) target[i * step] = ConvertOne<T>(via[i]);
}

StridedConvert::LoadFn StridedConvert::LoadOf(DType dtype) {
  return PickByDType<LoadFn>(AllTypes(), dtype, []<typename T>(std::type_identity<T>) -> LoadFn { return &Load<T>; });
}

template <typename Via>
StridedConvert::StoreFn StridedConvert::StoreOf(DType dtype) {
  return PickByDType<StoreFn>(AllTypes(), dtype,
                              []<typename T>(std::type_identity<T>) -> StoreFn { return &Store<T, Via>; });
}

Result<StridedConvert> StridedConvert::Make(DType from_type, DType to_type, const Dims& dims, const Dims& from_strides,
                                            const Dims& to_strides) {
  StridedConvert convert;
  convert.load_ = LoadOf(from_type);
  const bool from_float = from_type == DType::kFloat32 || from_type == DType::kFloat64 ||
                          from_type == DType::kFloat16 || from_type == DType::kBFloat16;
  convert.store_ = from_float                    ? StoreOf<double>(to_type)
                   : from_type == DType::kUInt64 ? StoreOf<uint64_t>(to_type)
                                                 : StoreOf<int64_t>(to_type);
  if (convert.load_ == nullptr || convert.store_ == nullptr) return UnsupportedDType(DType::kUndefined);
  Dims ordered = dims;
  std::array<Dims, 2> strides = {from_strides, to_strides};
  OrderByStride(1, ordered, strides);
  convert.loop_ = StridedLoop<2>(ordered, strides);
  return convert;
}

void StridedConvert::Run(const void* from, void* to, int threads) const {
  const std::array<int64_t, 2> step = loop_.inner_steps();
  ParallelFor(threads, loop_.count(), kElementGrain, [&](int64_t begin, int64_t end) {
    Block block;
    loop_.ForElements(begin, end, [&](const auto& at, int64_t n) {
      for (int64_t i = 0; i < n; i += kBlock) {
        const int64_t length = std::min(kBlock, n - i);
        load_(from, at[0] + i * step[0], step[0], length, block);
        store_(block, length, to, at[1] + i * step[1], step[1]);
      }
    });
  });
}

}  // namespace octavo
