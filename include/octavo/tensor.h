// Dense tensors: an element type, dimensions, and shared, row-major memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "octavo/status.h"

namespace octavo {

// Element types. The order is ours; ONNX's numbers are known to src/onnx only.
enum class DType : uint8_t {
  kUndefined,
  kFloat32,
  kFloat64,
  kFloat16,
  kBFloat16,
  kInt8,
  kInt16,
  kInt32,
  kInt64,
  kUInt8,
  kUInt16,
  kUInt32,
  kUInt64,
  kBool,  // one byte, 0 or 1
};

// Bytes of one element; 0 for kUndefined.
size_t SizeOf(DType dtype);
// "float32", "int64", ...
std::string_view NameOf(DType dtype);

template <typename T>
constexpr DType DTypeOf();
template <>
constexpr DType DTypeOf<float>() {
  return DType::kFloat32;
}
template <>
constexpr DType DTypeOf<double>() {
  return DType::kFloat64;
}
template <>
constexpr DType DTypeOf<int8_t>() {
  return DType::kInt8;
}
template <>
constexpr DType DTypeOf<int16_t>() {
  return DType::kInt16;
}
template <>
constexpr DType DTypeOf<int32_t>() {
  return DType::kInt32;
}
template <>
constexpr DType DTypeOf<int64_t>() {
  return DType::kInt64;
}
template <>
constexpr DType DTypeOf<uint8_t>() {
  return DType::kUInt8;
}
template <>
constexpr DType DTypeOf<uint16_t>() {
  return DType::kUInt16;
}
template <>
constexpr DType DTypeOf<uint32_t>() {
  return DType::kUInt32;
}
template <>
constexpr DType DTypeOf<uint64_t>() {
  return DType::kUInt64;
}
template <>
constexpr DType DTypeOf<bool>() {
  return DType::kBool;
}

// Sizes of the dimensions, outermost first. An empty Dims is a scalar. -1 marks a dimension not yet known.
using Dims = std::vector<int64_t>;

// Product of `dims`; 1 for a scalar. Only for dims that CheckedElementCount accepts.
int64_t ElementCount(const Dims& dims);
// The same with overflow, negative dimensions and more than 2^40 elements refused.
Result<int64_t> CheckedElementCount(const Dims& dims);
// Row-major strides, in elements.
Dims ContiguousStrides(const Dims& dims);
// "1x3x256x256"; "scalar" for an empty one; unknown dimensions as "?".
std::string ToString(const Dims& dims);

// A dense row-major tensor. Copies share memory (Clone() does not). Reading from several threads is safe;
// writing is the caller's to order. Memory that Create() makes is aligned to 64 bytes.
class Tensor {
 public:
  Tensor() = default;
  // Uninitialized memory. Errors: kInvalidArgument for bad dims, kIo when memory cannot be had.
  static Result<Tensor> Create(DType dtype, Dims dims);
  // As Create, filled with zeros.
  static Result<Tensor> Zeros(DType dtype, Dims dims);
  // A tensor over `data`, kept alive by `owner` (which may be null when the caller keeps it alive).
  static Tensor Wrap(DType dtype, Dims dims, void* data, std::shared_ptr<void> owner);
  // A tensor with a copy of `values`, which must have as many elements as `dims`.
  template <typename T>
  static Tensor FromValues(Dims dims, std::span<const T> values);
  template <typename T>
  static Tensor FromVector(Dims dims, const std::vector<T>& values) {
    return FromValues<T>(std::move(dims), std::span<const T>(values));
  }
  template <typename T>
  static Tensor Scalar(T value) {
    return FromValues<T>({}, std::span<const T>(&value, 1));
  }

  bool defined() const { return dtype_ != DType::kUndefined; }
  DType dtype() const { return dtype_; }
  const Dims& dims() const { return dims_; }
  int64_t rank() const { return static_cast<int64_t>(dims_.size()); }
  int64_t size() const { return size_; }
  size_t bytes() const { return static_cast<size_t>(size_) * SizeOf(dtype_); }
  const void* data() const { return data_; }
  void* mutable_data() { return data_; }
  // The elements; T must be the tensor's type.
  template <typename T>
  std::span<const T> values() const {
    return {static_cast<const T*>(data_), static_cast<size_t>(size_)};
  }
  template <typename T>
  std::span<T> mutable_values() {
    return {static_cast<T*>(data_), static_cast<size_t>(size_)};
  }
  // The same memory under other dims of equal element count.
  Tensor Reshaped(Dims dims) const;
  Result<Tensor> Clone() const;

 private:
  DType dtype_ = DType::kUndefined;
  Dims dims_;
  int64_t size_ = 0;
  void* data_ = nullptr;
  std::shared_ptr<void> owner_;
};

// The values of an integer tensor (int32 or int64) or of a float tensor whose values are integers, as int64.
Result<std::vector<int64_t>> ToInt64s(const Tensor& tensor);
// The values of any numeric tensor as float (float16/bfloat16 widened).
Result<std::vector<float>> ToFloats(const Tensor& tensor);

float BFloat16ToFloat(uint16_t bits);
// Round to nearest even; NaN stays NaN.
uint16_t FloatToBFloat16(float value);
float Float16ToFloat(uint16_t bits);
// Round to nearest even; overflow gives infinity, as IEEE says.
uint16_t FloatToFloat16(float value);

template <typename T>
Tensor Tensor::FromValues(Dims dims, std::span<const T> values) {  // NOLINT(performance-unnecessary-value-param): moved
  auto tensor = Create(DTypeOf<T>(), std::move(dims));
  if (!tensor.ok()) return {};
  const std::span<T> out = tensor->template mutable_values<T>();
  for (size_t i = 0; i < out.size() && i < values.size(); ++i) out[i] = values[i];
  return *std::move(tensor);
}

}  // namespace octavo
