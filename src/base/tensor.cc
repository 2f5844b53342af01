#include "octavo/tensor.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <new>

namespace octavo {
namespace {

constexpr int64_t kMaxElements = int64_t{1} << 40;
// No machine we run on has more; sanitizers' allocators abort on requests of 2^40 bytes instead of refusing them.
constexpr int64_t kMaxBytes = int64_t{1} << 39;
constexpr size_t kAlignment = 64;

size_t RoundUp(size_t bytes) { return (std::max<size_t>(bytes, 1) + kAlignment - 1) / kAlignment * kAlignment; }

// Elements of `tensor`, each converted by `convert`, into a vector of Out.
template <typename In, typename Out, typename Fn>
std::vector<Out> Convert(const Tensor& tensor, Fn convert) {
  std::vector<Out> out;
  out.reserve(static_cast<size_t>(tensor.size()));
  for (const In value : tensor.values<In>()) out.push_back(convert(value));
  return out;
}

template <typename In, typename Out>
std::vector<Out> CastAll(const Tensor& tensor) {
  return Convert<In, Out>(tensor, [](In value) { return static_cast<Out>(value); });
}

Result<std::vector<int64_t>> WholeNumbers(const std::vector<double>& values) {
  std::vector<int64_t> whole;
  whole.reserve(values.size());
  for (const double value : values) {
    // 2^63 is the first double that int64 cannot hold.
    if (!(value >= -0x1p63 && value < 0x1p63) || value != std::trunc(value)) {
      return InvalidArgument("a tensor of whole numbers is wanted, but it holds " + std::to_string(value));
    }
    whole.push_back(static_cast<int64_t>(value));
  }
  return whole;
}

}  // namespace

size_t SizeOf(DType dtype) {
  switch (dtype) {
    case DType::kUndefined:
      return 0;
    case DType::kInt8:
    case DType::kUInt8:
    case DType::kBool:
      return 1;
    case DType::kFloat16:
    case DType::kBFloat16:
    case DType::kInt16:
    case DType::kUInt16:
      return 2;
    case DType::kFloat32:
    case DType::kInt32:
    case DType::kUInt32:
      return 4;
    case DType::kFloat64:
    case DType::kInt64:
    case DType::kUInt64:
      return 8;
  }
  return 0;
}

std::string_view NameOf(DType dtype) {
  switch (dtype) {
    case DType::kUndefined:
      return "undefined";
    case DType::kFloat32:
      return "float32";
    case DType::kFloat64:
      return "float64";
    case DType::kFloat16:
      return "float16";
    case DType::kBFloat16:
      return "bfloat16";
    case DType::kInt8:
      return "int8";
    case DType::kInt16:
      return "int16";
    case DType::kInt32:
      return "int32";
    case DType::kInt64:
      return "int64";
    case DType::kUInt8:
      return "uint8";
    case DType::kUInt16:
      return "uint16";
    case DType::kUInt32:
      return "uint32";
    case DType::kUInt64:
      return "uint64";
    case DType::kBool:
      return "bool";
  }
  return "undefined";
}

int64_t ElementCount(const Dims& dims) {
  int64_t count = 1;
  for (const int64_t dim : dims) count *= dim;
  return count;
}

Result<int64_t> CheckedElementCount(const Dims& dims) {
  // A zero makes the whole empty, but must not hide that the other dimensions are absurd: strides are made of them.
  int64_t count = 1;
  bool empty = false;
  for (const int64_t dim : dims) {
    if (dim < 0) return InvalidArgument("dimensions " + ToString(dims) + " are not all known and non-negative");
    if (dim == 0) {
      empty = true;
      continue;
    }
    if (dim > kMaxElements / count) return InvalidArgument("dimensions " + ToString(dims) + " give too many elements");
    count *= dim;
  }
  return empty ? 0 : count;
}

Dims ContiguousStrides(const Dims& dims) {
  Dims strides(dims.size());
  int64_t stride = 1;
  for (size_t i = dims.size(); i-- > 0;) {
    strides[i] = stride;
    stride *= dims[i];
  }
  return strides;
}

std::string ToString(const Dims& dims) {
  if (dims.empty()) return "scalar";
  std::string text;
  for (const int64_t dim : dims) {
    if (!text.empty()) text += 'x';
    text += dim == -1 ? "?" : std::to_string(dim);
  }
  return text;
}

Result<Tensor> Tensor::Create(DType dtype, Dims dims) {
  if (dtype == DType::kUndefined) return InvalidArgument("a tensor needs an element type");
  OCTAVO_ASSIGN(const int64_t count, CheckedElementCount(dims));
  const auto element_bytes = static_cast<int64_t>(SizeOf(dtype));
  if (count > kMaxBytes / element_bytes) {
    return IoError("a tensor of " + ToString(dims) + " " + std::string(NameOf(dtype)) + " does not fit in memory");
  }
  try {
    const size_t bytes = RoundUp(static_cast<size_t>(count * element_bytes));
    std::shared_ptr<void> memory(std::aligned_alloc(kAlignment, bytes), std::free);
    if (memory == nullptr) return IoError("out of memory for " + std::to_string(bytes) + " bytes");
    void* data = memory.get();
    return Wrap(dtype, std::move(dims), data, std::move(memory));
  } catch (const std::bad_alloc&) {
    return IoError("out of memory");
  }
}

Result<Tensor> Tensor::Zeros(DType dtype, Dims dims) {
  OCTAVO_ASSIGN(Tensor tensor, Create(dtype, std::move(dims)));
  std::memset(tensor.mutable_data(), 0, tensor.bytes());
  return tensor;
}

Tensor Tensor::Wrap(DType dtype, Dims dims, void* data, std::shared_ptr<void> owner) {
  const auto count = CheckedElementCount(dims);
  if (!count.ok()) return {};
  Tensor tensor;
  tensor.dtype_ = dtype;
  tensor.dims_ = std::move(dims);
  tensor.size_ = *count;
  tensor.data_ = data;
  tensor.owner_ = std::move(owner);
  return tensor;
}

Tensor Tensor::Reshaped(Dims dims) const {
  const auto count = CheckedElementCount(dims);
  if (!count.ok() || *count != size_) return {};
  Tensor reshaped = *this;
  reshaped.dims_ = std::move(dims);
  return reshaped;
}

Result<Tensor> Tensor::Clone() const {
  OCTAVO_ASSIGN(Tensor copy, Create(dtype_, dims_));
  if (bytes() > 0) std::memcpy(copy.mutable_data(), data_, bytes());
  return copy;
}

Result<std::vector<int64_t>> ToInt64s(const Tensor& tensor) {
  switch (tensor.dtype()) {
    case DType::kInt64:
      return CastAll<int64_t, int64_t>(tensor);
    case DType::kInt32:
      return CastAll<int32_t, int64_t>(tensor);
    case DType::kInt16:
      return CastAll<int16_t, int64_t>(tensor);
    case DType::kInt8:
      return CastAll<int8_t, int64_t>(tensor);
    case DType::kUInt64:
      for (const uint64_t value : tensor.values<uint64_t>()) {
        if (value > INT64_MAX) return InvalidArgument("the value " + std::to_string(value) + " does not fit in int64");
      }
      return CastAll<uint64_t, int64_t>(tensor);
    case DType::kUInt32:
      return CastAll<uint32_t, int64_t>(tensor);
    case DType::kUInt16:
      return CastAll<uint16_t, int64_t>(tensor);
    case DType::kUInt8:
    case DType::kBool:
      return CastAll<uint8_t, int64_t>(tensor);
    case DType::kFloat32:
      return WholeNumbers(CastAll<float, double>(tensor));
    case DType::kFloat64:
      return WholeNumbers(CastAll<double, double>(tensor));
    case DType::kFloat16:
      return WholeNumbers(Convert<uint16_t, double>(tensor, Float16ToFloat));
    case DType::kBFloat16:
      return WholeNumbers(Convert<uint16_t, double>(tensor, BFloat16ToFloat));
    case DType::kUndefined:
      break;
  }
  return InvalidArgument("a numeric tensor is wanted, but it is undefined");
}

Result<std::vector<float>> ToFloats(const Tensor& tensor) {
  switch (tensor.dtype()) {
    case DType::kFloat32:
      return CastAll<float, float>(tensor);
    case DType::kFloat64:
      return CastAll<double, float>(tensor);
    case DType::kFloat16:
      return Convert<uint16_t, float>(tensor, Float16ToFloat);
    case DType::kBFloat16:
      return Convert<uint16_t, float>(tensor, BFloat16ToFloat);
    case DType::kInt8:
      return CastAll<int8_t, float>(tensor);
    case DType::kInt16:
      return CastAll<int16_t, float>(tensor);
    case DType::kInt32:
      return CastAll<int32_t, float>(tensor);
    case DType::kInt64:
      return CastAll<int64_t, float>(tensor);
    case DType::kUInt8:
    case DType::kBool:
      return CastAll<uint8_t, float>(tensor);
    case DType::kUInt16:
      return CastAll<uint16_t, float>(tensor);
    case DType::kUInt32:
      return CastAll<uint32_t, float>(tensor);
    case DType::kUInt64:
      return CastAll<uint64_t, float>(tensor);
    case DType::kUndefined:
      break;
  }
  return InvalidArgument("a numeric tensor is wanted, but it is undefined");
}

float BFloat16ToFloat(uint16_t bits) { return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16); }

uint16_t FloatToBFloat16(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  // Rounding could carry a NaN's payload away: keep its top bits and set the quiet one.
  if (std::isnan(value)) return static_cast<uint16_t>((bits >> 16) | 0x40u);
  // Half of the last kept place, less one when that place is even.
  return static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

float Float16ToFloat(uint16_t bits) {
  const uint32_t sign = static_cast<uint32_t>(bits & 0x8000u) << 16;
  const uint32_t exponent = (bits >> 10) & 0x1fu;
  const uint32_t mantissa = bits & 0x3ffu;
  if (exponent == 0x1f) return std::bit_cast<float>(sign | 0x7f800000u | mantissa << 13);
  if (exponent == 0) {
    const float magnitude = static_cast<float>(mantissa) * 0x1p-24f;  // subnormal: a multiple of 2^-24
    return sign != 0 ? -magnitude : magnitude;
  }
  return std::bit_cast<float>(sign | (exponent + 112) << 23 | mantissa << 13);  // biases: 127 - 15 = 112
}

uint16_t FloatToFloat16(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  const uint32_t sign = (bits >> 16) & 0x8000u;
  const uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return static_cast<uint16_t>(sign | 0x7e00u | (magnitude >> 13 & 0x3ffu));
  if (magnitude >= 0x47800000u) return static_cast<uint16_t>(sign | 0x7c00u);  // 65536 and more: infinity
  if (magnitude < 0x38800000u) {
    // Below 2^-14 the result is a multiple of 2^-24: adding 0.5, whose last place is 2^-24, rounds to nearest even.
    const float rounded = std::bit_cast<float>(magnitude) + 0.5f;
    return static_cast<uint16_t>(sign | (std::bit_cast<uint32_t>(rounded) - 0x3f000000u));
  }
  // Rebias the exponent (127 - 15 = 112), round off 13 bits; a carry into the exponent, up to infinity, is right.
  const uint32_t rebased = magnitude - (112u << 23);
  return static_cast<uint16_t>(sign | (rebased + 0xfffu + ((rebased >> 13) & 1u)) >> 13);
}

}  // namespace octavo
