// "OCTCHECK", version (uint32), contents, FNV-1a of all before it (uint64); written and read by the same program.
#include "calibration/checkpoint.h"

#include <algorithm>
#include <new>

#include "base/file.h"
#include "base/quote.h"
#include "calibration/byte_stream.h"

namespace octavo {
namespace {

constexpr std::string_view kMagic = "OCTCHECK";
constexpr uint32_t kVersion = 1;
constexpr int64_t kMaxFileBytes = int64_t{1} << 31;
constexpr uint64_t kMaxTextBytes = 1 << 20;

// Pieces go to the file as they come; the checksum runs along.
class PieceWriter {
 public:
  static Result<PieceWriter> Create(const std::string& path) {
    OCTAVO_ASSIGN(AtomicFileWriter file, AtomicFileWriter::Create(path));
    return PieceWriter(std::move(file));
  }
  Status Write(std::span<const std::byte> bytes) {
    checksum_ = Fnv1a(bytes, checksum_);
    return file_.Write(bytes);
  }
  Status WriteBlob(std::span<const std::byte> bytes) {
    ByteWriter size;
    size.Varint(bytes.size());
    OCTAVO_RETURN_IF_ERROR(Write(size.bytes()));
    return Write(bytes);
  }
  Status Commit() {
    OCTAVO_RETURN_IF_ERROR(file_.Write(std::as_bytes(std::span(&checksum_, 1))));
    return file_.Commit();
  }

 private:
  explicit PieceWriter(AtomicFileWriter file) : file_(std::move(file)) {}
  AtomicFileWriter file_;
  uint64_t checksum_ = Fnv1a({});
};

Status ReadContents(ByteReader& in, Checkpoint& checkpoint, const std::string& path) {
  checkpoint.fingerprint = in.Text(kMaxTextBytes);
  checkpoint.data = in.Number<uint64_t>();
  checkpoint.settings = in.Text(kMaxTextBytes);
  checkpoint.samples = in.Varint();
  checkpoint.done = in.Numbers<uint8_t>(checkpoint.samples);
  if (std::any_of(checkpoint.done.begin(), checkpoint.done.end(), [](uint8_t done) { return done > 1; })) in.Fail();
  const uint64_t skipped = in.Varint();
  for (uint64_t i = 0; i < skipped && !in.failed(); ++i) {
    const uint64_t sample = in.Varint();
    checkpoint.skipped.emplace_back(sample, in.Text(kMaxTextBytes));
    if (sample >= checkpoint.samples) in.Fail();
  }
  const uint64_t kept = in.Varint();
  for (uint64_t i = 0; i < kept && !in.failed(); ++i) {
    const auto bytes = in.Bytes(in.Varint());
    checkpoint.kept.emplace_back(bytes.begin(), bytes.end());
  }
  const auto current = in.Bytes(in.Varint());
  if (in.failed() || in.left() > 0) return BadFile(Quote(path) + " is damaged");
  OCTAVO_ASSIGN(checkpoint.current, ParseStats(current, path));
  return {};
}

}  // namespace

Status SaveCheckpoint(const std::string& path, const Checkpoint& checkpoint) {
  try {
    OCTAVO_ASSIGN(const auto current, SerializeStats(checkpoint.current));
    ByteWriter out;
    out.Bytes(std::as_bytes(std::span(kMagic)));
    out.Number(kVersion);
    out.Text(checkpoint.fingerprint);
    out.Number(checkpoint.data);
    out.Text(checkpoint.settings);
    out.Varint(checkpoint.samples);
    out.Numbers(checkpoint.done);
    out.Varint(checkpoint.skipped.size());
    for (const auto& [sample, reason] : checkpoint.skipped) {
      out.Varint(sample);
      out.Text(reason);
    }
    out.Varint(checkpoint.kept.size());
    OCTAVO_ASSIGN(PieceWriter file, PieceWriter::Create(path));
    OCTAVO_RETURN_IF_ERROR(file.Write(out.bytes()));
    for (const auto& bytes : checkpoint.kept) OCTAVO_RETURN_IF_ERROR(file.WriteBlob(bytes));
    OCTAVO_RETURN_IF_ERROR(file.WriteBlob(current));
    return file.Commit();
  } catch (const std::bad_alloc&) {
    return IoError(Quote(path) + ": there is not enough memory for the checkpoint");
  }
}

Result<Checkpoint> LoadCheckpoint(const std::string& path) {
  try {
    OCTAVO_ASSIGN(const auto file, ReadFile(path, kMaxFileBytes));
    const std::span<const std::byte> bytes = file;
    ByteReader in(bytes.size() > sizeof(uint64_t) ? bytes.first(bytes.size() - sizeof(uint64_t)) : bytes);
    const auto magic = in.Bytes(kMagic.size());
    const auto version = in.Number<uint32_t>();
    if (in.failed() || !std::equal(magic.begin(), magic.end(), std::as_bytes(std::span(kMagic)).begin())) {
      return BadFile(Quote(path) + " is no checkpoint of 'octavo calibrate'");
    }
    if (version != kVersion) return BadFile(Quote(path) + " is a checkpoint of another version of Octavo");
    uint64_t checksum = 0;
    std::memcpy(&checksum, bytes.data() + bytes.size() - sizeof(checksum), sizeof(checksum));
    if (checksum != Fnv1a(bytes.first(bytes.size() - sizeof(checksum)))) return BadFile(Quote(path) + " is damaged");
    Checkpoint checkpoint;
    OCTAVO_RETURN_IF_ERROR(ReadContents(in, checkpoint, path));
    return checkpoint;
  } catch (const std::bad_alloc&) {
    return IoError(Quote(path) + ": there is not enough memory for the checkpoint");
  }
}

}  // namespace octavo
