// .npz: a ZIP archive of .npy files. The central directory at the end of the file is what is believed, within
// bounds; local headers only tell where the data begins.
#include <zlib.h>

#include <algorithm>
#include <cstring>
#include <new>
#include <optional>
#include <vector>

#include "base/file.h"
#include "base/quote.h"
#include "octavo/npy.h"
#include "tasks/npy_format.h"

namespace octavo {
namespace {

constexpr int64_t kMaxNpzFileBytes = int64_t{1} << 34;
// Of all arrays of one file together.
constexpr uint64_t kMaxUnpackedBytes = uint64_t{1} << 32;
// Deflate's best is 258 bytes for 2 bits.
constexpr uint64_t kMaxDeflateRatio = 1032;

constexpr uint32_t kLocalSignature = 0x04034b50, kCentralSignature = 0x02014b50, kEndSignature = 0x06054b50,
                   kEnd64Signature = 0x06064b50, kEnd64LocatorSignature = 0x07064b50;
constexpr size_t kLocalBytes = 30, kCentralBytes = 46, kEndBytes = 22, kEnd64Bytes = 56, kEnd64LocatorBytes = 20;
constexpr uint16_t kZip64Extra = 1, kEncryptedFlag = 1, kStored = 0, kDeflated = 8;
constexpr size_t kMaxNameBytes = 1024;

using Bytes = std::span<const std::byte>;

// Little-endian number of `width` bytes at `at`; the caller has checked that they are there.
uint64_t Number(Bytes bytes, size_t at, size_t width) {
  uint64_t value = 0;
  for (size_t i = width; i-- > 0;) value = value << 8 | std::to_integer<uint64_t>(bytes[at + i]);
  return value;
}

bool Fits(Bytes bytes, uint64_t at, uint64_t length) { return at <= bytes.size() && length <= bytes.size() - at; }

struct Directory {
  uint64_t at, entries;
};

struct Entry {
  std::string name;
  uint64_t flags, method, crc, packed_bytes, unpacked_bytes, local_at;
};

Status Damaged() { return BadFile("a damaged or truncated .npz file"); }

// The end record lies at most a comment of 65535 bytes before the end of the file.
std::optional<size_t> FindEndRecord(Bytes bytes) {
  if (bytes.size() < kEndBytes) return std::nullopt;
  const size_t last = bytes.size() - kEndBytes;
  for (size_t back = 0; back <= std::min<size_t>(last, 0xffff); ++back) {
    if (Number(bytes, last - back, 4) == kEndSignature && Number(bytes, last - back + 20, 2) == back)
      return last - back;
  }
  return std::nullopt;
}

Result<Directory> FindDirectory(Bytes bytes) {
  const auto end = FindEndRecord(bytes);
  if (!end) return BadFile(bytes.empty() ? "the file is empty" : "not a .npz file, or a truncated one");
  Directory directory{Number(bytes, *end + 16, 4), Number(bytes, *end + 10, 2)};
  const bool zip64 = directory.at == 0xffffffff || directory.entries == 0xffff;
  if (zip64 && *end >= kEnd64LocatorBytes && Number(bytes, *end - kEnd64LocatorBytes, 4) == kEnd64LocatorSignature) {
    const uint64_t end64 = Number(bytes, *end - kEnd64LocatorBytes + 8, 8);
    if (!Fits(bytes, end64, kEnd64Bytes) || Number(bytes, end64, 4) != kEnd64Signature) return Damaged();
    directory = {Number(bytes, end64 + 48, 8), Number(bytes, end64 + 32, 8)};
  }
  if (!Fits(bytes, directory.at, 0) || directory.entries > (bytes.size() - directory.at) / kCentralBytes)
    return Damaged();
  return directory;
}

// Zip64 moves each number that is all ones in the entry to an extra field, in this order.
Status ReadZip64(Bytes extra, Entry& entry) {
  while (extra.size() >= 4) {
    const size_t length = Number(extra, 2, 2);
    if (length > extra.size() - 4) return Damaged();
    if (Number(extra, 0, 2) == kZip64Extra) {
      Bytes numbers = extra.subspan(4, length);
      for (uint64_t* field : {&entry.unpacked_bytes, &entry.packed_bytes, &entry.local_at}) {
        if (*field != 0xffffffff) continue;
        if (numbers.size() < 8) return Damaged();
        *field = Number(numbers, 0, 8);
        numbers = numbers.subspan(8);
      }
      return {};
    }
    extra = extra.subspan(4 + length);
  }
  return {};
}

// Reads the entry at `at` and moves `at` past it.
Result<Entry> ReadEntry(Bytes bytes, uint64_t& at) {
  if (!Fits(bytes, at, kCentralBytes) || Number(bytes, at, 4) != kCentralSignature) return Damaged();
  Entry entry{{},
              Number(bytes, at + 8, 2),
              Number(bytes, at + 10, 2),
              Number(bytes, at + 16, 4),
              Number(bytes, at + 20, 4),
              Number(bytes, at + 24, 4),
              Number(bytes, at + 42, 4)};
  const uint64_t name_bytes = Number(bytes, at + 28, 2), extra_bytes = Number(bytes, at + 30, 2),
                 comment_bytes = Number(bytes, at + 32, 2);
  const uint64_t name_at = at + kCentralBytes;
  if (!Fits(bytes, name_at, name_bytes + extra_bytes + comment_bytes)) return Damaged();
  entry.name.assign(reinterpret_cast<const char*>(bytes.data()) + name_at, name_bytes);
  OCTAVO_RETURN_IF_ERROR(ReadZip64(bytes.subspan(name_at + name_bytes, extra_bytes), entry));
  at = name_at + name_bytes + extra_bytes + comment_bytes;
  return entry;
}

Result<Bytes> PackedBytes(Bytes bytes, const Entry& entry) {
  if (!Fits(bytes, entry.local_at, kLocalBytes) || Number(bytes, entry.local_at, 4) != kLocalSignature)
    return Damaged();
  const uint64_t data_at =
      entry.local_at + kLocalBytes + Number(bytes, entry.local_at + 26, 2) + Number(bytes, entry.local_at + 28, 2);
  if (!Fits(bytes, data_at, entry.packed_bytes)) return Damaged();
  return bytes.subspan(data_at, entry.packed_bytes);
}

// zlib counts in 32 bits: pieces of at most this many bytes.
constexpr size_t kPiece = size_t{1} << 30;

Result<std::vector<std::byte>> Inflate(Bytes packed, uint64_t unpacked_bytes) {
  if (unpacked_bytes / kMaxDeflateRatio > packed.size()) return BadFile("a size that its compressed data cannot have");
  std::vector<std::byte> out(unpacked_bytes);
  z_stream stream{};
  if (inflateInit2(&stream, -MAX_WBITS) != Z_OK) return IoError("there is not enough memory to unpack it");
  size_t read = 0, written = 0;
  int result = Z_OK;
  while (result == Z_OK) {
    const size_t in = std::min(packed.size() - read, kPiece), room = std::min(out.size() - written, kPiece);
    stream.next_in = const_cast<Bytef*>(reinterpret_cast<const Bytef*>(packed.data() + read));
    stream.avail_in = static_cast<uInt>(in);
    stream.next_out = reinterpret_cast<Bytef*>(out.data() + written);
    stream.avail_out = static_cast<uInt>(room);
    result = inflate(&stream, Z_NO_FLUSH);  // Z_BUF_ERROR when it can neither read nor write
    read += in - stream.avail_in;
    written += room - stream.avail_out;
  }
  inflateEnd(&stream);
  if (result != Z_STREAM_END || written != out.size()) return BadFile("damaged compressed data");
  return out;
}

Status CheckCrc(Bytes bytes, uint64_t expected) {
  uLong crc = crc32_z(0, nullptr, 0);
  if (!bytes.empty()) crc = crc32_z(crc, reinterpret_cast<const Bytef*>(bytes.data()), bytes.size());
  return crc == expected ? Status() : BadFile("damaged data: the checksum differs");
}

Result<Tensor> ReadArray(Bytes bytes, const Entry& entry) {
  if (entry.flags & kEncryptedFlag) return Unsupported("encrypted");
  OCTAVO_ASSIGN(const Bytes packed, PackedBytes(bytes, entry));
  if (entry.method == kStored) {
    if (entry.packed_bytes != entry.unpacked_bytes) return Damaged();
    OCTAVO_RETURN_IF_ERROR(CheckCrc(packed, entry.crc));
    return ParseNpyArray(packed);
  }
  if (entry.method != kDeflated) return Unsupported("compression method " + std::to_string(entry.method));
  OCTAVO_ASSIGN(const auto unpacked, Inflate(packed, entry.unpacked_bytes));
  OCTAVO_RETURN_IF_ERROR(CheckCrc(unpacked, entry.crc));
  return ParseNpyArray(unpacked);
}

Result<std::map<std::string, Tensor>> ReadArchive(Bytes bytes) {
  OCTAVO_ASSIGN(const Directory directory, FindDirectory(bytes));
  std::map<std::string, Tensor> arrays;
  uint64_t at = directory.at, unpacked_bytes = 0;
  for (uint64_t i = 0; i < directory.entries; ++i) {
    OCTAVO_ASSIGN(Entry entry, ReadEntry(bytes, at));
    if (entry.unpacked_bytes > kMaxUnpackedBytes - unpacked_bytes) return BadFile("more than 4 GiB when unpacked");
    unpacked_bytes += entry.unpacked_bytes;
    auto tensor = ReadArray(bytes, entry);
    if (!tensor.ok()) return tensor.status().WithPrefix("array " + Quote(entry.name) + ": ");
    std::string name = entry.name.ends_with(".npy") ? entry.name.substr(0, entry.name.size() - 4) : entry.name;
    if (!arrays.emplace(name, *std::move(tensor)).second) return BadFile("two arrays are named " + Quote(name));
  }
  return arrays;
}

class ArchiveWriter {
 public:
  Status Add(const std::string& name, const Tensor& tensor) {
    OCTAVO_ASSIGN(const Tensor array, NpyTensor(tensor));
    Member member{name + ".npy", NpyHeader(array.dtype(), array.dims()), array, 0, written_};
    uLong crc = crc32_z(0, reinterpret_cast<const Bytef*>(member.header.data()), member.header.size());
    if (array.bytes() > 0) crc = crc32_z(crc, static_cast<const Bytef*>(array.data()), array.bytes());
    member.crc = static_cast<uint32_t>(crc);
    written_ += kLocalBytes + member.name.size() + member.header.size() + array.bytes();
    members_.push_back(std::move(member));
    return {};
  }

  Status Write(const std::string& path, bool durable) const {
    if (written_ + members_.size() * (kCentralBytes + kMaxNameBytes + 4) > 0xfffffffe || members_.size() >= 0xffff) {
      return InvalidArgument(Quote(path) + ": more than 4 GiB cannot be written to one .npz file");
    }
    OCTAVO_ASSIGN(AtomicFileWriter writer, AtomicFileWriter::Create(path));
    std::string central;
    for (const Member& member : members_) {
      OCTAVO_RETURN_IF_ERROR(writer.Write(Describe(member, false) + member.name + member.header));
      const Bytes elements(static_cast<const std::byte*>(member.tensor.data()), member.tensor.bytes());
      OCTAVO_RETURN_IF_ERROR(writer.Write(elements));
      central += Describe(member, true) + member.name;
    }
    OCTAVO_RETURN_IF_ERROR(writer.Write(central + EndRecord(central.size())));
    return durable ? writer.Commit() : writer.CommitUnsynced();
  }

 private:
  struct Member {
    std::string name, header;
    Tensor tensor;
    uint32_t crc;
    uint64_t at;
  };

  static void Put(std::string& out, uint64_t value, int width) {
    for (int i = 0; i < width; ++i) out += static_cast<char>(value >> (8 * i) & 0xff);
  }

  // The local or the central header of a member, without its name.
  static std::string Describe(const Member& member, bool central) {
    const uint64_t size = member.header.size() + member.tensor.bytes();
    std::string out;
    Put(out, central ? kCentralSignature : kLocalSignature, 4);
    if (central) Put(out, 20, 2);  // made by version 2.0
    Put(out, 20, 2);               // needs version 2.0
    Put(out, 0x0800, 2);           // names are UTF-8
    Put(out, kStored, 2);
    Put(out, 0x00210000, 4);  // 1980-01-01: equal arrays give equal files
    Put(out, member.crc, 4);
    Put(out, size, 4);
    Put(out, size, 4);
    Put(out, member.name.size(), 2);
    Put(out, 0, 2);  // extra
    if (!central) return out;
    Put(out, 0, 2);  // comment
    Put(out, 0, 2);  // disk
    Put(out, 0, 2);  // internal attributes
    Put(out, 0, 4);  // external attributes
    Put(out, member.at, 4);
    return out;
  }

  std::string EndRecord(uint64_t central_bytes) const {
    std::string out;
    Put(out, kEndSignature, 4);
    Put(out, 0, 4);  // disks
    Put(out, members_.size(), 2);
    Put(out, members_.size(), 2);
    Put(out, central_bytes, 4);
    Put(out, written_, 4);
    Put(out, 0, 2);  // comment
    return out;
  }

  std::vector<Member> members_;
  uint64_t written_ = 0;
};

Status SaveArrays(const std::string& path, const std::map<std::string, Tensor>& arrays, bool durable) {
  ArchiveWriter writer;
  for (const auto& [name, tensor] : arrays) {
    if (name.empty() || name.size() > kMaxNameBytes) {
      return InvalidArgument(Quote(path) + ": an array cannot be named " + Quote(name));
    }
    OCTAVO_RETURN_IF_ERROR(writer.Add(name, tensor).WithPrefix(Quote(path) + ": array " + Quote(name) + ": "));
  }
  return writer.Write(path, durable);
}

}  // namespace

Result<std::map<std::string, Tensor>> ParseNpz(std::span<const std::byte> bytes, const std::string& name) {
  const std::string prefix = Quote(name) + ": ";
  try {
    auto arrays = ReadArchive(bytes);
    if (!arrays.ok()) return arrays.status().WithPrefix(prefix);
    return arrays;
  } catch (const std::bad_alloc&) {
    return IoError(prefix + "there is not enough memory for the arrays");
  }
}

Result<std::map<std::string, Tensor>> LoadNpz(const std::string& path) {
  OCTAVO_ASSIGN(const auto bytes, ReadFile(path, kMaxNpzFileBytes));
  return ParseNpz(bytes, path);
}

Status SaveNpz(const std::string& path, const std::map<std::string, Tensor>& arrays) {
  return SaveArrays(path, arrays, true);
}

Status SavePassingNpz(const std::string& path, const std::map<std::string, Tensor>& arrays) {
  return SaveArrays(path, arrays, false);
}

}  // namespace octavo
