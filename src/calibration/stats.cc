#include "octavo/stats.h"

#include <algorithm>
#include <cmath>

#include "base/quote.h"

namespace octavo {
namespace {

constexpr int kHalfBins = Histogram::kHalfBins;

// The smallest exponent e with -2^(e + 11) <= value < 2^(e + 11), where kHalfBins = 2^11.
int ExponentFor(float value) {
  if (value == 0) return Histogram::kMinExponent;
  int exponent = 0;
  const float fraction = std::frexp(value, &exponent);  // |fraction| in [1/2, 1)
  if (fraction == -0.5f) --exponent;                    // the lowest bin's edge belongs to it
  return std::max(exponent - 11, Histogram::kMinExponent);
}

// 0 divides into nothing.
double Quotient(double a, double b) { return b > 0 ? a / b : 0; }

Status CheckMergeable(const Stats& a, const Stats& b) {
  OCTAVO_RETURN_IF_ERROR(CheckBelongsTo(b, a.fingerprint));
  if (a.input_dims != b.input_dims) return InvalidArgument("the statistics are of different input shapes");
  for (const auto& [name, tensor] : a.tensors) {
    const auto found = b.tensors.find(name);
    if (found == b.tensors.end()) return InvalidArgument("only one of the statistics has tensor " + Quote(name));
    const TensorStats& other = found->second;
    if (other.dims != tensor.dims || other.channel_axis != tensor.channel_axis) {
      return InvalidArgument("tensor " + Quote(name) + " has different shapes in the two statistics");
    }
  }
  if (a.tensors.size() != b.tensors.size()) {
    return InvalidArgument("the statistics are of " + std::to_string(a.tensors.size()) + " and of " +
                           std::to_string(b.tensors.size()) + " tensors");
  }
  return {};
}

void MergeTensor(TensorStats& into, const TensorStats& from) {
  if (from.count == 0) return;
  const bool first = into.count == 0;
  into.count += from.count;
  into.min = first ? from.min : std::min(into.min, from.min);
  into.max = first ? from.max : std::max(into.max, from.max);
  for (size_t c = 0; c < into.channel_min.size(); ++c) {
    into.channel_min[c] = first ? from.channel_min[c] : std::min(into.channel_min[c], from.channel_min[c]);
    into.channel_max[c] = first ? from.channel_max[c] : std::max(into.channel_max[c], from.channel_max[c]);
    into.channel_sum[c].Add(from.channel_sum[c]);
  }
  into.square_sum.Add(from.square_sum);
  Merge(into.histogram, from.histogram);
  UpdateMeans(into);
}

}  // namespace

int ExponentFor(float low, float high) { return std::max(ExponentFor(low), ExponentFor(high)); }

void Coarsen(Histogram& histogram, int exponent) {
  const int shift = exponent - histogram.exponent;
  if (shift <= 0) return;
  histogram.exponent = exponent;
  if (histogram.counts.empty()) return;
  // floor(floor(v / 2^e) / 2^shift) == floor(v / 2^(e + shift)); a shift of 12 leaves bins 0 and -1.
  std::vector<uint64_t> merged(histogram.counts.size());
  for (int k = -kHalfBins; k < kHalfBins; ++k) {
    merged[Histogram::Index(k >> std::min(shift, 12))] += histogram.counts[Histogram::Index(k)];
  }
  histogram.counts = std::move(merged);
}

void Merge(Histogram& into, const Histogram& from) {
  if (from.counts.empty()) return;
  if (into.counts.empty()) {
    into = from;
    return;
  }
  Coarsen(into, from.exponent);
  const int shift = std::min(into.exponent - from.exponent, 12);
  for (int k = -kHalfBins; k < kHalfBins; ++k) {
    into.counts[Histogram::Index(k >> shift)] += from.counts[Histogram::Index(k)];
  }
}

TensorStats MakeTensorStats(const Dims& dims, int channel_axis) {
  TensorStats stats;
  stats.dims = dims;
  stats.channel_axis = dims.empty() ? 0 : channel_axis;
  const size_t channels = dims.empty() ? 1 : static_cast<size_t>(dims[static_cast<size_t>(channel_axis)]);
  stats.channel_min.resize(channels);
  stats.channel_max.resize(channels);
  stats.channel_mean.resize(channels);
  stats.channel_sum.resize(channels);
  return stats;
}

void UpdateMeans(TensorStats& stats) {
  ValueSum sum;
  const auto count = static_cast<double>(stats.count);
  const double per_channel = Quotient(count, static_cast<double>(stats.channels()));
  for (size_t c = 0; c < stats.channel_sum.size(); ++c) {
    sum.Add(stats.channel_sum[c]);
    stats.channel_mean[c] = Quotient(stats.channel_sum[c].value(), per_channel);
  }
  stats.mean = Quotient(sum.value(), count);
  stats.mean_square = Quotient(stats.square_sum.value(), count);
}

Status MergeStats(Stats& into, const Stats& from) {
  OCTAVO_RETURN_IF_ERROR(CheckMergeable(into, from));
  into.samples += from.samples;
  for (auto& [name, tensor] : into.tensors) MergeTensor(tensor, from.tensors.at(name));
  return {};
}

Status CheckBelongsTo(const Stats& stats, const std::string& fingerprint) {
  if (stats.fingerprint == fingerprint) return {};
  return InvalidArgument("the statistics are of another model: its fingerprint is " + Quote(stats.fingerprint) +
                         ", this model's is " + Quote(fingerprint) + "; calibrate this model");
}

}  // namespace octavo
