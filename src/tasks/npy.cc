// The .npy format: magic "\x93NUMPY", version, header length, then a Python dict literal such as
// {'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), } padded with spaces and a newline, then the elements.
#include "octavo/npy.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <new>
#include <optional>
#include <vector>

#include "base/file.h"
#include "base/quote.h"
#include "tasks/npy_format.h"

namespace octavo {
namespace {

constexpr int64_t kMaxNpyFileBytes = int64_t{1} << 36;
constexpr std::string_view kMagic("\x93NUMPY", 6);
constexpr size_t kMaxHeaderBytes = 1 << 16;
constexpr size_t kMaxRank = 64;  // NumPy's

struct TypeName {
  std::string_view descr;  // without byte order
  DType dtype;
};
constexpr std::array<TypeName, 12> kTypeNames = {{{"f4", DType::kFloat32},
                                                  {"f8", DType::kFloat64},
                                                  {"f2", DType::kFloat16},
                                                  {"i1", DType::kInt8},
                                                  {"i2", DType::kInt16},
                                                  {"i4", DType::kInt32},
                                                  {"i8", DType::kInt64},
                                                  {"u1", DType::kUInt8},
                                                  {"u2", DType::kUInt16},
                                                  {"u4", DType::kUInt32},
                                                  {"u8", DType::kUInt64},
                                                  {"b1", DType::kBool}}};

struct Header {
  std::string descr;
  bool fortran_order = false;
  Dims shape;
};

// Reads the dict literal. Every Take* leaves `ok_` false when the text is not what it should be.
class HeaderParser {
 public:
  explicit HeaderParser(std::string_view text) : text_(text) {}

  std::optional<Header> Parse() {
    Header header;
    bool has_descr = false, has_order = false, has_shape = false;
    Take('{');
    while (ok_ && !Next('}')) {
      const std::string key = TakeString();
      Take(':');
      if (key == "descr") {
        header.descr = TakeString();
        has_descr = true;
      } else if (key == "fortran_order") {
        header.fortran_order = TakeBool();
        has_order = true;
      } else if (key == "shape") {
        header.shape = TakeShape();
        has_shape = true;
      } else {
        ok_ = false;
      }
      if (!Next('}')) Take(',');
    }
    Take('}');
    SkipSpace();
    if (!ok_ || !text_.empty() || !has_descr || !has_order || !has_shape) return std::nullopt;
    return header;
  }

 private:
  void SkipSpace() { text_.remove_prefix(std::min(text_.find_first_not_of(" \t\n"), text_.size())); }
  bool Next(char c) {
    SkipSpace();
    return !text_.empty() && text_.front() == c;
  }
  void Take(char c) {
    if (!Next(c)) {
      ok_ = false;
      return;
    }
    text_.remove_prefix(1);
  }
  std::string TakeString() {
    const char quote = Next('"') ? '"' : '\'';
    Take(quote);
    const size_t end = text_.find(quote);
    if (!ok_ || end == std::string_view::npos) {
      ok_ = false;
      return {};
    }
    std::string value(text_.substr(0, end));
    text_.remove_prefix(end + 1);
    return value;
  }
  bool TakeBool() {
    SkipSpace();
    for (const std::string_view word : {"True", "False"}) {
      if (!text_.starts_with(word)) continue;
      text_.remove_prefix(word.size());
      return word == "True";
    }
    ok_ = false;
    return false;
  }
  int64_t TakeNumber() {
    SkipSpace();
    int64_t value = 0;
    size_t digits = 0;
    // 15 digits: no overflow, and more than any size that is accepted.
    for (; digits < text_.size() && text_[digits] >= '0' && text_[digits] <= '9' && digits < 15; ++digits) {
      value = value * 10 + (text_[digits] - '0');
    }
    if (digits == 0 || digits == 15) ok_ = false;
    text_.remove_prefix(digits);
    if (text_.starts_with('L')) text_.remove_prefix(1);  // written by Python 2
    return value;
  }
  Dims TakeShape() {
    Dims shape;
    Take('(');
    while (ok_ && !Next(')')) {
      shape.push_back(TakeNumber());
      if (!Next(')')) Take(',');
      if (shape.size() > kMaxRank) ok_ = false;
    }
    Take(')');
    return shape;
  }

  std::string_view text_;
  bool ok_ = true;
};

Result<DType> DTypeOfDescr(const std::string& descr) {
  if (descr.size() >= 2) {
    const char order = descr[0];
    for (const TypeName& type : kTypeNames) {
      if (std::string_view(descr).substr(1) != type.descr) continue;
      if (order == '<' || order == '=' || (order == '|' && SizeOf(type.dtype) == 1)) return type.dtype;
      if (order == '>' && SizeOf(type.dtype) == 1) return type.dtype;
      if (order == '>') return Unsupported("the array is big-endian; save it with .astype('<" + descr.substr(1) + "')");
    }
  }
  return Unsupported("elements of type " + Quote(descr) + " are not read, only bool, integers and float16 to float64");
}

std::string_view DescrOf(DType dtype) {
  for (const TypeName& type : kTypeNames) {
    if (type.dtype == dtype) return type.descr;
  }
  return {};
}

// out, row-major, from `in`, whose first index runs fastest.
template <typename T>
void FromFortranOrder(const std::byte* in, const Dims& dims, T* out) {
  Dims strides(dims.size());
  int64_t stride = 1;
  for (size_t d = 0; d < dims.size(); ++d) {
    strides[d] = stride;
    stride *= dims[d];
  }
  Dims index(dims.size());
  int64_t from = 0;
  const int64_t count = ElementCount(dims);
  for (int64_t i = 0; i < count; ++i) {
    std::memcpy(out + i, in + from * static_cast<int64_t>(sizeof(T)), sizeof(T));
    for (size_t d = dims.size(); d-- > 0;) {
      from += strides[d];
      if (++index[d] < dims[d]) break;
      from -= strides[d] * dims[d];
      index[d] = 0;
    }
  }
}

void CopyElements(const std::byte* in, bool fortran_order, Tensor& tensor) {
  if (!fortran_order || tensor.rank() < 2) {
    if (tensor.bytes() > 0) std::memcpy(tensor.mutable_data(), in, tensor.bytes());
  } else if (SizeOf(tensor.dtype()) == 1) {
    FromFortranOrder(in, tensor.dims(), static_cast<uint8_t*>(tensor.mutable_data()));
  } else if (SizeOf(tensor.dtype()) == 2) {
    FromFortranOrder(in, tensor.dims(), static_cast<uint16_t*>(tensor.mutable_data()));
  } else if (SizeOf(tensor.dtype()) == 4) {
    FromFortranOrder(in, tensor.dims(), static_cast<uint32_t*>(tensor.mutable_data()));
  } else {
    FromFortranOrder(in, tensor.dims(), static_cast<uint64_t*>(tensor.mutable_data()));
  }
  if (tensor.dtype() != DType::kBool) return;
  auto* flags = static_cast<uint8_t*>(tensor.mutable_data());
  std::transform(flags, flags + tensor.size(), flags, [](uint8_t flag) { return flag != 0; });
}

uint32_t ReadLittleEndian(std::span<const std::byte> bytes, size_t at, size_t width) {
  uint32_t value = 0;
  for (size_t i = width; i-- > 0;) value = value << 8 | std::to_integer<uint32_t>(bytes[at + i]);
  return value;
}

}  // namespace

Result<Tensor> ParseNpyArray(std::span<const std::byte> bytes) {
  if (bytes.size() < 10 || std::memcmp(bytes.data(), kMagic.data(), kMagic.size()) != 0) {
    return BadFile("not a .npy file");
  }
  const auto version = std::to_integer<int>(bytes[6]);
  if (version < 1 || version > 3) return Unsupported("version " + std::to_string(version) + " of .npy");
  const size_t length_bytes = version == 1 ? 2 : 4;
  const size_t header_at = 8 + length_bytes;
  if (bytes.size() < header_at) return BadFile("a truncated .npy file");
  const size_t header_bytes = ReadLittleEndian(bytes, 8, length_bytes);
  if (header_bytes > bytes.size() - header_at) return BadFile("a truncated .npy file");
  if (header_bytes > kMaxHeaderBytes) return BadFile("a .npy header of " + std::to_string(header_bytes) + " bytes");
  const auto* text = reinterpret_cast<const char*>(bytes.data()) + header_at;
  const auto header = HeaderParser({text, header_bytes}).Parse();
  if (!header) return BadFile("a .npy header that cannot be read (arrays of records are not)");

  OCTAVO_ASSIGN(const DType dtype, DTypeOfDescr(header->descr));
  OCTAVO_ASSIGN(const int64_t count, CheckedElementCount(header->shape));
  const std::span<const std::byte> elements = bytes.subspan(header_at + header_bytes);
  const size_t wanted = static_cast<size_t>(count) * SizeOf(dtype);
  if (elements.size() != wanted) {
    return BadFile("an array of " + ToString(header->shape) + " " + std::string(NameOf(dtype)) + " has " +
                   std::to_string(wanted) + " bytes, but the file holds " + std::to_string(elements.size()));
  }
  OCTAVO_ASSIGN(Tensor tensor, Tensor::Create(dtype, header->shape));
  CopyElements(elements.data(), header->fortran_order, tensor);
  return tensor;
}

std::string NpyHeader(DType dtype, const Dims& dims) {
  std::string dict = "{'descr': '";
  dict += SizeOf(dtype) == 1 ? '|' : '<';
  dict += DescrOf(dtype);
  dict += "', 'fortran_order': False, 'shape': (";
  for (const int64_t dim : dims) dict += std::to_string(dim) + ", ";
  dict += "), }";
  // NumPy aligns the elements to 64 bytes.
  constexpr size_t kBefore = 10;
  dict.resize((kBefore + dict.size() + 1 + 63) / 64 * 64 - kBefore - 1, ' ');
  dict += '\n';
  std::string header(kMagic);
  header += {'\x01', '\x00', static_cast<char>(dict.size() & 0xff), static_cast<char>(dict.size() >> 8)};
  return header + dict;
}

Result<Tensor> NpyTensor(const Tensor& tensor) {
  if (!tensor.defined()) return InvalidArgument("there is no tensor to write");
  if (tensor.rank() > static_cast<int64_t>(kMaxRank)) return InvalidArgument("NumPy has no arrays of that rank");
  if (tensor.dtype() != DType::kBFloat16) return tensor;
  OCTAVO_ASSIGN(Tensor wide, Tensor::Create(DType::kFloat32, tensor.dims()));
  const auto* from = static_cast<const uint16_t*>(tensor.data());
  std::transform(from, from + tensor.size(), wide.mutable_values<float>().begin(), BFloat16ToFloat);
  return wide;
}

Result<Tensor> ParseNpy(std::span<const std::byte> bytes, const std::string& name) {
  const std::string prefix = Quote(name) + ": ";
  try {
    auto tensor = ParseNpyArray(bytes);
    if (!tensor.ok()) return tensor.status().WithPrefix(prefix);
    return tensor;
  } catch (const std::bad_alloc&) {
    return IoError(prefix + "there is not enough memory for the array");
  }
}

Result<Tensor> LoadNpy(const std::string& path) {
  OCTAVO_ASSIGN(const auto bytes, ReadFile(path, kMaxNpyFileBytes));
  return ParseNpy(bytes, path);
}

Status SaveNpy(const std::string& path, const Tensor& tensor) {
  auto array = NpyTensor(tensor);
  if (!array.ok()) return array.status().WithPrefix(Quote(path) + ": ");
  OCTAVO_ASSIGN(AtomicFileWriter writer, AtomicFileWriter::Create(path));
  OCTAVO_RETURN_IF_ERROR(writer.Write(NpyHeader(array->dtype(), array->dims())));
  OCTAVO_RETURN_IF_ERROR(writer.Write(std::span(static_cast<const std::byte*>(array->data()), array->bytes())));
  return writer.Commit();
}

}  // namespace octavo
