// The file of statistics: "OCTSTATS", version (uint32), bytes of the contents (uint64), contents, FNV-1a of all before
// it (uint64). Everything little-endian; equal statistics have equal bytes. Contents:
//
//   fingerprint, samples, inputs { name, dims } in order of name, tensors in order of name {
//     name, dims, channel axis, count, min, max, channel minima, channel maxima (float),
//     a sum per channel, sum of squares: { first word, words, uint64 ... } without the words that follow from them,
//     exponent, first bin, bins, a count per bin: without the empty bins at either end }
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <new>

#include "base/file.h"
#include "base/quote.h"
#include "base/rank.h"
#include "calibration/byte_stream.h"
#include "octavo/stats.h"

namespace octavo {
namespace {

constexpr std::string_view kMagic = "OCTSTATS";
constexpr uint32_t kVersion = 1;
constexpr size_t kHeaderBytes = kMagic.size() + sizeof(uint32_t) + sizeof(uint64_t);
constexpr size_t kChecksumBytes = sizeof(uint64_t);
constexpr int64_t kMaxFileBytes = int64_t{1} << 30;
constexpr uint64_t kMaxNameBytes = 65536;
constexpr uint64_t kMaxInputs = 4096;
// A tensor takes 32 KB in memory, however short it is in the file: this bounds what a file can ask for to 512 MB.
constexpr uint64_t kMaxTensors = 16384;

// ---- Exact sums: sign words above and zero words below are left out.

template <typename Sum>
void WriteSum(ByteWriter& out, const Sum& sum) {
  const auto& words = sum.words();
  const uint64_t sign = words.back() >> 63 ? ~uint64_t{0} : 0;
  size_t first = 0, end = words.size();
  while (end > 0 && words[end - 1] == sign) --end;
  while (first < end && words[first] == 0) ++first;
  // The lowest bit says how to fill the words above.
  out.Number(static_cast<uint8_t>((end << 1) | (sign & 1)));
  out.Number(static_cast<uint8_t>(first));
  for (size_t i = first; i < end; ++i) out.Number(words[i]);
}

template <typename Sum>
Sum ReadSum(ByteReader& in) {
  typename Sum::Words words{};
  const auto packed = in.Number<uint8_t>();
  const size_t first = in.Number<uint8_t>(), end = packed >> 1;
  const uint64_t sign = (packed & 1) != 0 ? ~uint64_t{0} : 0;
  if (end > words.size() || first > end) in.Fail();
  if (in.failed()) return Sum();
  for (size_t i = first; i < end; ++i) words[i] = in.Number<uint64_t>();
  for (size_t i = end; i < words.size(); ++i) words[i] = sign;
  const bool signed_right = (words.back() >> 63) == (sign & 1);
  const bool shortest = first == end ? first == 0 || sign != 0 : words[first] != 0 && words[end - 1] != sign;
  if (!signed_right || !shortest) in.Fail();
  return Sum(words);
}

// ---- Histograms.

void WriteHistogram(ByteWriter& out, const Histogram& histogram) {
  const auto& counts = histogram.counts;
  const auto is_used = [](uint64_t count) { return count > 0; };
  const auto first = std::find_if(counts.begin(), counts.end(), is_used);
  const auto end = std::find_if(counts.rbegin(), counts.rend(), is_used).base();
  const bool empty = first == counts.end();
  out.Number(static_cast<int16_t>(empty ? 0 : histogram.exponent));
  out.Varint(empty ? 0 : static_cast<uint64_t>(first - counts.begin()));
  out.Varint(empty ? 0 : static_cast<uint64_t>(end - first));
  for (auto it = first; it < end; ++it) out.Varint(*it);
}

Histogram ReadHistogram(ByteReader& in) {
  constexpr uint64_t kBins = 2 * Histogram::kHalfBins;
  Histogram histogram;
  histogram.exponent = in.Number<int16_t>();
  const uint64_t first = in.Varint(), bins = in.Varint();
  if (first > kBins || bins > kBins - first || bins > in.left() || (bins == 0 && first > 0)) in.Fail();
  if (in.failed() || bins == 0) return histogram;
  histogram.counts.resize(kBins);
  for (uint64_t i = 0; i < bins; ++i) histogram.counts[first + i] = in.Varint();
  if (histogram.counts[first] == 0 || histogram.counts[first + bins - 1] == 0) in.Fail();
  return histogram;
}

// ---- Tensors.

void WriteTensor(ByteWriter& out, const TensorStats& tensor) {
  out.Shape(tensor.dims);
  out.Number(static_cast<uint8_t>(tensor.channel_axis));
  out.Varint(tensor.count);
  out.Number(tensor.min);
  out.Number(tensor.max);
  out.Numbers(tensor.channel_min);
  out.Numbers(tensor.channel_max);
  for (const ValueSum& sum : tensor.channel_sum) WriteSum(out, sum);
  WriteSum(out, tensor.square_sum);
  WriteHistogram(out, tensor.histogram);
}

bool IsOrdered(float low, float high) { return std::isfinite(low) && std::isfinite(high) && low <= high; }

bool ChannelsAreConsistent(const TensorStats& tensor) {
  const auto& low = tensor.channel_min;
  const auto& high = tensor.channel_max;
  for (size_t c = 0; c < low.size(); ++c) {
    if (!IsOrdered(low[c], high[c])) return false;
  }
  if (low.empty()) return tensor.count == 0;
  return *std::min_element(low.begin(), low.end()) == tensor.min &&
         *std::max_element(high.begin(), high.end()) == tensor.max;
}

bool HistogramIsConsistent(const TensorStats& tensor) {
  const Histogram& histogram = tensor.histogram;
  if (tensor.count == 0)
    return histogram.counts.empty() && histogram.exponent == 0 && tensor.min == 0 && tensor.max == 0;
  if (histogram.counts.empty() || histogram.exponent != ExponentFor(tensor.min, tensor.max)) return false;
  uint64_t total = 0;
  for (const uint64_t count : histogram.counts) {
    total += count;
    if (total < count) return false;  // beyond 64 bits
  }
  const auto bin = [&](float value) {
    const double k = std::floor(std::ldexp(static_cast<double>(value), -histogram.exponent));
    return Histogram::Index(static_cast<int64_t>(k));
  };
  return total == tensor.count && histogram.counts[bin(tensor.min)] > 0 && histogram.counts[bin(tensor.max)] > 0;
}

bool ReadShape(ByteReader& in, Dims& dims) {
  dims = in.Shape(kMaxRank);
  if (!in.failed() && !CheckedElementCount(dims).ok()) in.Fail();
  return !in.failed();
}

TensorStats ReadTensor(ByteReader& in) {
  Dims dims;
  if (!ReadShape(in, dims)) return {};
  const int axis = in.Number<uint8_t>();
  const uint64_t count = in.Varint();
  const float min = in.Number<float>(), max = in.Number<float>();
  const bool axis_fits = dims.empty() ? axis == 0 : static_cast<size_t>(axis) < dims.size();
  if (in.failed() || !axis_fits || !IsOrdered(min, max)) {
    in.Fail();
    return {};
  }
  // Ten bytes a channel at least are still to come: what is allocated stays near the file's size.
  const uint64_t channels = dims.empty() ? 1 : static_cast<uint64_t>(dims[static_cast<size_t>(axis)]);
  if (channels > in.left() / 10) {
    in.Fail();
    return {};
  }
  TensorStats tensor = MakeTensorStats(dims, axis);
  tensor.count = count;
  tensor.min = min;
  tensor.max = max;
  tensor.channel_min = in.Numbers<float>(channels);
  tensor.channel_max = in.Numbers<float>(channels);
  for (ValueSum& sum : tensor.channel_sum) {
    sum = ReadSum<ValueSum>(in);
    if (in.failed()) return {};
  }
  tensor.square_sum = ReadSum<SquareSum>(in);
  tensor.histogram = ReadHistogram(in);
  if (in.failed() || !ChannelsAreConsistent(tensor) || !HistogramIsConsistent(tensor)) {
    in.Fail();
    return {};
  }
  UpdateMeans(tensor);
  return tensor;
}

// ---- The whole.

void WriteContents(ByteWriter& out, const Stats& stats) {
  out.Text(stats.fingerprint);
  out.Varint(stats.samples);
  out.Varint(stats.input_dims.size());
  for (const auto& [name, dims] : stats.input_dims) {
    out.Text(name);
    out.Shape(dims);
  }
  out.Varint(stats.tensors.size());
  for (const auto& [name, tensor] : stats.tensors) {
    out.Text(name);
    WriteTensor(out, tensor);
  }
}

// A name that follows those that are there already.
template <typename Map>
std::string ReadNextName(ByteReader& in, const Map& earlier) {
  std::string name = in.Text(kMaxNameBytes);
  if (name.empty() || (!earlier.empty() && name <= earlier.rbegin()->first)) in.Fail();
  return name;
}

// `where` says what was being read when reading failed.
Stats ReadContents(ByteReader& in, std::string& where) {
  Stats stats;
  where = "the header";
  stats.fingerprint = in.Text(kMaxNameBytes);
  stats.samples = in.Varint();
  const uint64_t inputs = in.Varint();
  if (inputs > kMaxInputs) in.Fail();
  for (uint64_t i = 0; i < inputs && !in.failed(); ++i) {
    const std::string name = ReadNextName(in, stats.input_dims);
    ReadShape(in, stats.input_dims[name]);
  }
  const uint64_t tensors = in.Varint();
  if (tensors > kMaxTensors) in.Fail();
  for (uint64_t i = 0; i < tensors && !in.failed(); ++i) {
    const std::string name = ReadNextName(in, stats.tensors);
    if (in.failed()) break;
    where = "tensor " + Quote(name);
    stats.tensors[name] = ReadTensor(in);
  }
  if (!in.failed() && in.left() > 0) {
    where = "the end";
    in.Fail();
  }
  return stats;
}

// The contents, once the envelope is known to be whole.
Result<std::span<const std::byte>> OpenEnvelope(std::span<const std::byte> bytes) {
  ByteReader in(bytes);
  const auto magic = in.Bytes(std::min(bytes.size(), kMagic.size()));
  if (!std::equal(magic.begin(), magic.end(), std::as_bytes(std::span(kMagic)).begin()) || bytes.empty()) {
    return BadFile("is no statistics file of 'octavo calibrate'");
  }
  if (bytes.size() < kHeaderBytes + kChecksumBytes) return BadFile("is truncated");
  const auto version = in.Number<uint32_t>();
  if (version > kVersion) {
    return BadFile(
        fmt::format("has version {} of the format; this Octavo reads up to {}: use a later one", version, kVersion));
  }
  if (version == 0) return BadFile("is damaged: it states version 0");
  const auto contents = in.Number<uint64_t>();
  const uint64_t there = bytes.size() - kHeaderBytes - kChecksumBytes;
  if (contents > there) return BadFile("is truncated");
  if (contents < there) return BadFile("is damaged: it is longer than it states");
  const auto payload = in.Bytes(contents);
  if (in.Number<uint64_t>() != Fnv1a(bytes.first(bytes.size() - kChecksumBytes))) {
    return BadFile("is damaged: its checksum does not fit");
  }
  return payload;
}

}  // namespace

Result<std::vector<std::byte>> SerializeStats(const Stats& stats) {
  try {
    ByteWriter out;
    out.Bytes(std::as_bytes(std::span(kMagic)));
    out.Number(kVersion);
    out.Number(uint64_t{0});
    WriteContents(out, stats);
    auto& bytes = out.bytes();
    const uint64_t contents = bytes.size() - kHeaderBytes;
    std::memcpy(bytes.data() + kHeaderBytes - sizeof(contents), &contents, sizeof(contents));
    out.Number(Fnv1a(bytes));
    return std::move(bytes);
  } catch (const std::bad_alloc&) {
    return IoError("there is not enough memory to write statistics");
  }
}

Status SaveStats(const std::string& path, const Stats& stats) {
  OCTAVO_ASSIGN(const auto bytes, SerializeStats(stats));
  return WriteFile(path, bytes);
}

Result<Stats> ParseStats(std::span<const std::byte> bytes, const std::string& name) {
  try {
    auto contents = OpenEnvelope(bytes);
    if (!contents.ok()) return contents.status().WithPrefix(Quote(name) + " ");
    ByteReader in(*contents);
    std::string where;
    Stats stats = ReadContents(in, where);
    if (in.failed()) return BadFile(Quote(name) + " is damaged: " + where + " cannot be read");
    return stats;
  } catch (const std::bad_alloc&) {
    return IoError(Quote(name) + ": there is not enough memory for the statistics");
  }
}

Result<Stats> LoadStats(const std::string& path) {
  OCTAVO_ASSIGN(const auto bytes, ReadFile(path, kMaxFileBytes));
  return ParseStats(bytes, path);
}

}  // namespace octavo
