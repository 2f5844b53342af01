// Little-endian fields into and out of bytes; reading checks every length against what is left.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "octavo/tensor.h"

namespace octavo {

static_assert(std::endian::native == std::endian::little,
              "files are little-endian, and so is every CPU that runs this");

// FNV-1a: finds damage, not malice.
inline uint64_t Fnv1a(std::span<const std::byte> bytes, uint64_t hash = 0xcbf29ce484222325) {
  for (const std::byte byte : bytes) hash = (hash ^ static_cast<uint64_t>(byte)) * 0x100000001b3;
  return hash;
}

class ByteWriter {
 public:
  template <typename T>
  void Number(T value) {
    static_assert(std::is_arithmetic_v<T>);
    Bytes(std::as_bytes(std::span(&value, 1)));
  }
  void Bytes(std::span<const std::byte> bytes) { bytes_.insert(bytes_.end(), bytes.begin(), bytes.end()); }
  // LEB128: seven bits a byte, the lowest first.
  void Varint(uint64_t value) {
    for (; value > 0x7f; value >>= 7) Number(static_cast<uint8_t>(value | 0x80));
    Number(static_cast<uint8_t>(value));
  }
  void Text(std::string_view text) {
    Varint(text.size());
    Bytes(std::as_bytes(std::span(text)));
  }
  void Shape(const Dims& dims) {
    Varint(dims.size());
    for (const int64_t dim : dims) Varint(static_cast<uint64_t>(dim));
  }
  template <typename T>
  void Numbers(const std::vector<T>& values) {
    Bytes(std::as_bytes(std::span(values)));
  }

  std::vector<std::byte>& bytes() { return bytes_; }

 private:
  std::vector<std::byte> bytes_;
};

// After a read that does not fit, failed() is true and every further read gives zeros and empty things.
class ByteReader {
 public:
  explicit ByteReader(std::span<const std::byte> bytes) : left_(bytes) {}

  bool failed() const { return failed_; }
  void Fail() { failed_ = true; }
  size_t left() const { return left_.size(); }

  std::span<const std::byte> Bytes(uint64_t count) {
    if (failed_ || count > left_.size()) {
      failed_ = true;
      return {};
    }
    const auto taken = left_.first(static_cast<size_t>(count));
    left_ = left_.subspan(static_cast<size_t>(count));
    return taken;
  }
  template <typename T>
  T Number() {
    static_assert(std::is_arithmetic_v<T>);
    T value{};
    const auto bytes = Bytes(sizeof(T));
    if (!bytes.empty()) std::memcpy(&value, bytes.data(), sizeof(T));
    return value;
  }
  // Only the shortest form is taken: equal contents have equal bytes.
  uint64_t Varint() {
    uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      const uint64_t byte = Number<uint8_t>();
      if (failed_) return 0;
      const bool overflows = shift == 63 && byte > 1;
      const bool padded = shift > 0 && byte == 0;
      if (overflows || padded) break;
      value |= (byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
    failed_ = true;
    return 0;
  }
  std::string Text(uint64_t longest) {
    const uint64_t size = Varint();
    if (size > longest) failed_ = true;
    const auto bytes = Bytes(size);
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  }
  // At most `max_rank` sizes, none negative; their product is the caller's to check.
  Dims Shape(uint64_t max_rank) {
    const uint64_t rank = Varint();
    if (rank > max_rank) failed_ = true;
    Dims dims;
    for (uint64_t i = 0; i < rank && !failed_; ++i) {
      dims.push_back(static_cast<int64_t>(Varint()));
      if (dims.back() < 0) failed_ = true;
    }
    return dims;
  }
  template <typename T>
  std::vector<T> Numbers(uint64_t count) {
    if (count > left_.size() / sizeof(T)) failed_ = true;
    if (failed_) return {};
    std::vector<T> values(static_cast<size_t>(count));
    const auto bytes = Bytes(count * sizeof(T));
    if (!values.empty()) std::memcpy(values.data(), bytes.data(), bytes.size());
    return values;
  }

 private:
  std::span<const std::byte> left_;
  bool failed_ = false;
};

}  // namespace octavo
