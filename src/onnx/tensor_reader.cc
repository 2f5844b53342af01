#include "onnx/tensor_reader.h"

#include <algorithm>
#include <bit>
#include <charconv>
#include <cstring>
#include <limits>
#include <string>
#include <utility>

#include "base/quote.h"
#include "base/rank.h"
#include "onnx/element_type.h"

namespace octavo {
namespace {

static_assert(std::endian::native == std::endian::little, "ONNX's raw data is little-endian and is used as it lies");

// Smaller raw data is copied into memory aligned to 64 bytes; larger is taken over as it is, for the copy's sake.
constexpr size_t kCopyBelowBytes = 64 << 10;

Result<Dims> ReadDims(const onnx::TensorProto& proto) {
  if (static_cast<size_t>(proto.dims_size()) > kMaxRank) {
    return BadFile("it has " + std::to_string(proto.dims_size()) + " dimensions; at most " + std::to_string(kMaxRank) +
                   " are allowed");
  }
  Dims dims(proto.dims().begin(), proto.dims().end());
  const auto count = CheckedElementCount(dims);
  if (!count.ok()) return BadFile(count.status().message());
  return dims;
}

// std::bool has two values; a file's byte has 256.
void NormalizeBools(Tensor& tensor) {
  if (tensor.dtype() != DType::kBool) return;
  auto* bytes = static_cast<uint8_t*>(tensor.mutable_data());
  for (size_t i = 0; i < tensor.bytes(); ++i) bytes[i] = bytes[i] != 0;
}

Result<int64_t> ReadNumber(const std::string& key, const std::string& text) {
  int64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size() || number < 0) {
    return BadFile("its external data has the " + key + " " + Quote(text));
  }
  return number;
}

Result<ExternalRange> ReadRange(const onnx::TensorProto& proto) {
  ExternalRange range;
  for (const auto& entry : proto.external_data()) {
    if (entry.key() == "location") range.location = entry.value();
    if (entry.key() == "offset") {
      OCTAVO_ASSIGN(range.offset, ReadNumber("offset", entry.value()));
    }
    if (entry.key() == "length") {
      OCTAVO_ASSIGN(range.length, ReadNumber("length", entry.value()));
    }
  }
  return range;
}

Result<Tensor> ReadExternal(const onnx::TensorProto& proto, DType dtype, Dims dims, ExternalData& external) {
  OCTAVO_ASSIGN(const ExternalRange range, ReadRange(proto));
  OCTAVO_RETURN_IF_ERROR(external.Check(range, ElementCount(dims) * static_cast<int64_t>(SizeOf(dtype))));
  OCTAVO_ASSIGN(Tensor tensor, Tensor::Create(dtype, std::move(dims)));
  OCTAVO_RETURN_IF_ERROR(external.Read(range, {static_cast<std::byte*>(tensor.mutable_data()), tensor.bytes()}));
  NormalizeBools(tensor);
  return tensor;
}

Result<Tensor> ReadRaw(onnx::TensorProto& proto, DType dtype, Dims dims) {
  const auto needed = static_cast<size_t>(ElementCount(dims)) * SizeOf(dtype);
  if (proto.raw_data().size() != needed) {
    return BadFile("it holds " + std::to_string(proto.raw_data().size()) + " bytes, but its type and shape (" +
                   ToString(dims) + " " + std::string(NameOf(dtype)) + ") need " + std::to_string(needed));
  }
  Tensor tensor;
  const bool aligned = reinterpret_cast<uintptr_t>(proto.raw_data().data()) % SizeOf(dtype) == 0;
  if (needed < kCopyBelowBytes || !aligned) {
    OCTAVO_ASSIGN(tensor, Tensor::Create(dtype, std::move(dims)));
    if (needed > 0) std::memcpy(tensor.mutable_data(), proto.raw_data().data(), needed);
  } else {
    std::shared_ptr<std::string> owner(proto.release_raw_data());
    void* data = owner->data();
    tensor = Tensor::Wrap(dtype, std::move(dims), data, std::move(owner));
  }
  NormalizeBools(tensor);
  return tensor;
}

// Elements of a typed field, each of which must fit the element type.
template <typename Out, typename Field>
Result<Tensor> ReadField(const Field& field, DType dtype, Dims dims) {
  const int64_t count = ElementCount(dims);
  if (count != field.size()) {
    return BadFile("it holds " + std::to_string(field.size()) + " values, but its shape " + ToString(dims) + " needs " +
                   std::to_string(count));
  }
  OCTAVO_ASSIGN(Tensor tensor, Tensor::Create(dtype, std::move(dims)));
  auto* out = static_cast<Out*>(tensor.mutable_data());
  for (const auto value : field) {
    if constexpr (std::is_integral_v<Out>) {
      if (!std::in_range<Out>(value)) {
        return BadFile("its value " + std::to_string(value) + " does not fit " + std::string(NameOf(dtype)));
      }
    }
    *out++ = static_cast<Out>(value);
  }
  NormalizeBools(tensor);
  return tensor;
}

Result<Tensor> ReadTyped(const onnx::TensorProto& proto, DType dtype, Dims dims) {
  switch (dtype) {
    case DType::kFloat32:
      return ReadField<float>(proto.float_data(), dtype, std::move(dims));
    case DType::kFloat64:
      return ReadField<double>(proto.double_data(), dtype, std::move(dims));
    case DType::kInt8:
      return ReadField<int8_t>(proto.int32_data(), dtype, std::move(dims));
    case DType::kInt16:
      return ReadField<int16_t>(proto.int32_data(), dtype, std::move(dims));
    case DType::kInt32:
      return ReadField<int32_t>(proto.int32_data(), dtype, std::move(dims));
    case DType::kInt64:
      return ReadField<int64_t>(proto.int64_data(), dtype, std::move(dims));
    case DType::kUInt8:
    case DType::kBool:
      return ReadField<uint8_t>(proto.int32_data(), dtype, std::move(dims));
    case DType::kUInt16:
    case DType::kFloat16:
    case DType::kBFloat16:
      return ReadField<uint16_t>(proto.int32_data(), dtype, std::move(dims));
    case DType::kUInt32:
      return ReadField<uint32_t>(proto.uint64_data(), dtype, std::move(dims));
    case DType::kUInt64:
      return ReadField<uint64_t>(proto.uint64_data(), dtype, std::move(dims));
    case DType::kUndefined:
      break;
  }
  return InternalError("no typed field holds " + std::string(NameOf(dtype)));
}

// In how many places `proto` keeps data; more than one would leave open which counts.
int DataFields(const onnx::TensorProto& proto) {
  return proto.has_raw_data() + (proto.float_data_size() > 0) + (proto.int32_data_size() > 0) +
         (proto.int64_data_size() > 0) + (proto.double_data_size() > 0) + (proto.uint64_data_size() > 0) +
         (proto.string_data_size() > 0) + (proto.data_location() == onnx::TensorProto::EXTERNAL);
}

}  // namespace

Result<Tensor> ReadTensor(onnx::TensorProto proto, ExternalData& external) {
  const DType dtype = FromOnnxType(proto.data_type());
  if (proto.data_type() == 0) return BadFile("it has no element type");
  if (dtype == DType::kUndefined) {
    return Unsupported("its element type " + OnnxTypeName(proto.data_type()) + " is not supported");
  }
  if (proto.has_segment()) return Unsupported("tensors in segments are not supported");
  OCTAVO_ASSIGN(Dims dims, ReadDims(proto));
  if (DataFields(proto) > 1) return BadFile("it holds its data in more than one field");
  if (proto.data_location() == onnx::TensorProto::EXTERNAL) {
    return ReadExternal(proto, dtype, std::move(dims), external);
  }
  return proto.has_raw_data() ? ReadRaw(proto, dtype, std::move(dims)) : ReadTyped(proto, dtype, std::move(dims));
}

}  // namespace octavo
