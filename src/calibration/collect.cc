#include "calibration/collect.h"

#include <immintrin.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/simd/targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "calibration/collect.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/simd/vectors-inl.h"

HWY_BEFORE_NAMESPACE();
namespace octavo {
namespace HWY_NAMESPACE {
namespace {

using DoubleTag = hn::ScalableTag<double>;
using DoubleVec = hn::Vec<DoubleTag>;
// As many floats as there are doubles in a vector: each is widened where it lies.
using HalfTag = hn::Rebind<float, DoubleTag>;
using HalfVec = hn::Vec<HalfTag>;
using Block = CollectKernels::Block;

struct Lanes {
  HalfVec low, high;
  DoubleVec sum, squares;

  HWY_INLINE void Add(HalfVec v) {
    const DoubleTag d64;
    low = MinElseSecond(v, low);
    high = MaxElseSecond(v, high);
    const DoubleVec wide = hn::PromoteTo(d64, v);
    sum = hn::Add(sum, wide);
    squares = hn::MulAdd(wide, wide, squares);
  }
};

HWY_INLINE Lanes EmptyLanes() {
  const HalfTag d;
  const DoubleTag d64;
  const HalfVec inf = hn::Set(d, std::numeric_limits<float>::infinity());
  return {inf, hn::Neg(inf), hn::Zero(d64), hn::Zero(d64)};
}

HWY_INLINE Lanes LoadLanes(const float* low, const float* high, const double* sum) {
  const HalfTag d;
  const DoubleTag d64;
  return {hn::LoadU(d, low), hn::LoadU(d, high), hn::LoadU(d64, sum), hn::Zero(d64)};
}

HWY_INLINE void StoreLanes(const Lanes& lanes, float* low, float* high, double* sum) {
  hn::StoreU(lanes.low, HalfTag(), low);
  hn::StoreU(lanes.high, HalfTag(), high);
  hn::StoreU(lanes.sum, DoubleTag(), sum);
}

void AddScalar(float x, float& low, float& high, double& sum, double& squares) {
  const double wide = x;
  low = std::min(low, x);
  high = std::max(high, x);
  sum += wide;
  squares += wide * wide;
}

struct Totals {
  HalfVec low, high;
  DoubleVec squares;
};

HWY_INLINE void AddTo(Totals& totals, const Lanes& lanes) {
  totals.low = MinElseSecond(lanes.low, totals.low);
  totals.high = MaxElseSecond(lanes.high, totals.high);
  totals.squares = hn::Add(totals.squares, lanes.squares);
}

HWY_INLINE Block Reduce(const Totals& totals) {
  const HalfTag d;
  return {hn::GetLane(hn::MinOfLanes(d, totals.low)), hn::GetLane(hn::MaxOfLanes(d, totals.high)),
          hn::GetLane(hn::SumOfLanes(DoubleTag(), totals.squares))};
}

Block AddRowsOf(const float* x, int64_t rows, int64_t step, int64_t channels, float* low, float* high, double* sum) {
  const HalfTag d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  const Lanes empty = EmptyLanes();
  Totals totals = {empty.low, empty.high, empty.squares};
  int64_t c = 0;
  // Two at a time: the additions of one do not wait for those of the other.
  for (; c + 2 * lanes <= channels; c += 2 * lanes) {
    Lanes a = LoadLanes(low + c, high + c, sum + c);
    Lanes b = LoadLanes(low + c + lanes, high + c + lanes, sum + c + lanes);
    for (int64_t r = 0; r < rows; ++r) {
      a.Add(hn::LoadU(d, x + r * step + c));
      b.Add(hn::LoadU(d, x + r * step + c + lanes));
    }
    StoreLanes(a, low + c, high + c, sum + c);
    StoreLanes(b, low + c + lanes, high + c + lanes, sum + c + lanes);
    AddTo(totals, a);
    AddTo(totals, b);
  }
  Block block = Reduce(totals);
  for (; c < channels; ++c) {
    for (int64_t r = 0; r < rows; ++r) AddScalar(x[r * step + c], low[c], high[c], sum[c], block.squares);
    block.low = std::min(block.low, low[c]);
    block.high = std::max(block.high, high[c]);
  }
  return block;
}

Block AddRunOf(const float* x, int64_t count, float* low, float* high, double* sum) {
  const HalfTag d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  Lanes a = EmptyLanes(), b = a, c = a, e = a;
  int64_t i = 0;
  for (; i + 4 * lanes <= count; i += 4 * lanes) {
    a.Add(hn::LoadU(d, x + i));
    b.Add(hn::LoadU(d, x + i + lanes));
    c.Add(hn::LoadU(d, x + i + 2 * lanes));
    e.Add(hn::LoadU(d, x + i + 3 * lanes));
  }
  Totals totals = {a.low, a.high, a.squares};
  for (const Lanes& other : {b, c, e}) AddTo(totals, other);
  Block block = Reduce(totals);
  *sum += hn::GetLane(hn::SumOfLanes(DoubleTag(), hn::Add(hn::Add(a.sum, b.sum), hn::Add(c.sum, e.sum))));
  for (; i < count; ++i) AddScalar(x[i], block.low, block.high, *sum, block.squares);
  *low = std::min(*low, block.low);
  *high = std::max(*high, block.high);
  return block;
}

// Four times the bin of each lane.
template <class D>
HWY_INLINE void StoreBins(D d, hn::Vec<D> x, hn::Vec<D> scale, int32_t* bins) {
  const hn::RebindToSigned<D> di;
  // A product that underflows must still lie below zero: coarser bins take what finer ones took.
  const auto scaled = hn::Mul(x, scale);
  const auto below = hn::Min(scaled, hn::Set(d, -std::numeric_limits<float>::min()));
  const auto k = hn::ConvertTo(di, hn::Floor(hn::IfThenElse(hn::Lt(x, hn::Zero(d)), below, scaled)));
  hn::StoreU(hn::ShiftLeft<2>(hn::Add(k, hn::Set(di, Histogram::kHalfBins))), di, bins);
}

void CountBinsOf(const float* x, int64_t count, float scale, uint32_t* counts) {
  constexpr int64_t kChunk = 512;
  HWY_ALIGN int32_t bins[kChunk];
  const FloatTag d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  const FloatVec scales = hn::Set(d, scale);
  for (int64_t begin = 0; begin < count; begin += kChunk) {
    const int64_t n = std::min(kChunk, count - begin);
    int64_t i = 0;
    for (; i + lanes <= n; i += lanes) StoreBins(d, hn::LoadU(d, x + begin + i), scales, bins + i);
    if (i < n) {
      const auto rest = static_cast<size_t>(n - i);
      HWY_ALIGN int32_t last[hn::MaxLanes(d)];
      StoreBins(d, LoadFirst(d, x + begin + i, rest), scales, last);
      std::memcpy(bins + i, last, rest * sizeof(int32_t));
    }
    for (i = 0; i + 4 <= n; i += 4) {
      ++counts[bins[i]];
      ++counts[bins[i + 1] + 1];
      ++counts[bins[i + 2] + 2];
      ++counts[bins[i + 3] + 3];
    }
    for (; i < n; ++i) ++counts[bins[i]];
  }
}

CollectKernels CollectKernelsOfTarget() { return {AddRowsOf, AddRunOf, CountBinsOf}; }

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace octavo
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace octavo {
namespace {

HWY_EXPORT(CollectKernelsOfTarget);

constexpr size_t kBins = 2 * Histogram::kHalfBins;
// 32 KB: what the first pass over a block read, the second finds in the cache.
constexpr int64_t kBlock = 8192;

class DenormalsAreZero {
 public:
  DenormalsAreZero() : before_(_mm_getcsr()) { _mm_setcsr(before_ | 0x8040); }
  ~DenormalsAreZero() { _mm_setcsr(before_); }
  DenormalsAreZero(const DenormalsAreZero&) = delete;
  DenormalsAreZero& operator=(const DenormalsAreZero&) = delete;

 private:
  unsigned before_;
};

bool IsFloatType(DType dtype) {
  return dtype == DType::kFloat32 || dtype == DType::kFloat16 || dtype == DType::kBFloat16;
}

float FloatAt(DType dtype, const void* data, int64_t at) {
  if (dtype == DType::kFloat32) return static_cast<const float*>(data)[at];
  const uint16_t bits = static_cast<const uint16_t*>(data)[at];
  return dtype == DType::kFloat16 ? Float16ToFloat(bits) : BFloat16ToFloat(bits);
}

// -0 would make a minimum depend on the order, a denormal on the thread's state.
float Plain(float value) { return std::abs(value) < std::numeric_limits<float>::min() ? 0.0f : value; }

// Calls fn(offset) for every index of `dims`.
template <class Fn>
Status ForEachOffset(const Dims& dims, const Dims& strides, const Fn& fn) {
  std::vector<int64_t> index(dims.size());
  int64_t offset = 0;
  while (true) {
    OCTAVO_RETURN_IF_ERROR(fn(offset));
    size_t d = dims.size();
    while (d > 0) {
      --d;
      offset += strides[d];
      if (++index[d] < dims[d]) break;
      offset -= index[d] * strides[d];
      index[d] = 0;
      if (d == 0) return {};
    }
    if (dims.empty()) return {};
  }
}

}  // namespace

CollectKernels ChooseCollectKernels() { return HWY_DYNAMIC_DISPATCH(CollectKernelsOfTarget)(); }

// A view's dimensions in the order in which its memory is best read.
struct Collector::Walk {
  int64_t channels = 1, channel_step = 0;
  Dims outer, outer_steps;  // what is neither the channel nor the innermost
  int64_t inner = 1, inner_step = 1;
};

namespace {

struct Axis {
  int64_t size, step;
};

// Axes other than the channel's: outermost first, neighbours that are one in memory merged.
std::vector<Axis> OtherAxes(const TensorView& view, int channel_axis) {
  std::vector<Axis> axes;
  for (size_t d = 0; d < view.dims.size(); ++d) {
    if (static_cast<int>(d) != channel_axis && view.dims[d] != 1) axes.push_back({view.dims[d], view.strides[d]});
  }
  std::stable_sort(axes.begin(), axes.end(), [](const Axis& a, const Axis& b) { return a.step > b.step; });
  std::vector<Axis> merged;
  for (const Axis& axis : axes) {
    if (!merged.empty() && merged.back().step == axis.size * axis.step) {
      merged.back() = {merged.back().size * axis.size, axis.step};
    } else {
      merged.push_back(axis);
    }
  }
  return merged;
}

}  // namespace

Collector::Collector() : kernels_(ChooseCollectKernels()), lane_counts_(4 * kBins) {}

Status Collector::Observe(const TensorView& view, SharedTensorStats& into) {
  if (view.dims != into.stats.dims) {
    return InvalidArgument("is " + ToString(view.dims) + " where " + ToString(into.stats.dims) + " was expected");
  }
  if (!IsFloatType(view.dtype)) return Unsupported("is " + std::string(NameOf(view.dtype)) + ", which has no range");
  if (ElementCount(view.dims) == 0) return {};
  const DenormalsAreZero scope;
  Walk walk;
  const int axis = into.stats.channel_axis;
  if (!view.dims.empty()) {
    walk.channels = view.dims[static_cast<size_t>(axis)];
    walk.channel_step = view.strides[static_cast<size_t>(axis)];
  }
  std::vector<Axis> axes = OtherAxes(view, axis);
  if (!axes.empty()) {
    walk.inner = axes.back().size;
    walk.inner_step = axes.back().step;
    axes.pop_back();
  }
  for (const Axis& other : axes) {
    walk.outer.push_back(other.size);
    walk.outer_steps.push_back(other.step);
  }
  Begin(into, walk.channels);
  Status status = Visit(view, walk);
  if (!status.ok()) {
    std::fill(lane_counts_.begin(), lane_counts_.end(), 0);
    unflushed_ = 0;
    return status;
  }
  Flush();
  const std::lock_guard lock(into.mutex);
  MergeInto(into.stats);
  return {};
}

void Collector::Begin(SharedTensorStats& into, int64_t channels) {
  {
    // The exponent that the statistics have reached: theirs only grows, and what is counted here is merged into it.
    const std::lock_guard lock(into.mutex);
    const Histogram& reached = into.stats.histogram;
    histogram_.exponent = reached.counts.empty() ? Histogram::kMinExponent : reached.exponent;
  }
  histogram_.counts.assign(kBins, 0);
  count_ = 0;
  squares_ = 0;
  low_.assign(static_cast<size_t>(channels), std::numeric_limits<float>::infinity());
  high_.assign(static_cast<size_t>(channels), -std::numeric_limits<float>::infinity());
  sum_.assign(static_cast<size_t>(channels), 0);
}

Status Collector::Visit(const TensorView& view, const Walk& walk) {
  if (view.dtype == DType::kFloat32 && walk.channel_step == 1 && walk.channels > 1) {
    const float* x = static_cast<const float*>(view.data);
    return ForEachOffset(walk.outer, walk.outer_steps, [&](int64_t offset) -> Status {
      const int64_t rows = std::max<int64_t>(1, kBlock / walk.channels);
      for (int64_t r = 0; r < walk.inner; r += rows) {
        OCTAVO_RETURN_IF_ERROR(
            AddRows(x + offset + r * walk.inner_step, std::min(rows, walk.inner - r), walk.inner_step, walk.channels));
      }
      return {};
    });
  }
  for (int64_t channel = 0; channel < walk.channels; ++channel) {
    Status status = ForEachOffset(walk.outer, walk.outer_steps, [&](int64_t offset) {
      return AddLine(view, channel * walk.channel_step + offset, walk.inner, walk.inner_step, channel);
    });
    if (!status.ok()) return status;
  }
  return {};
}

Status Collector::AddLine(const TensorView& view, int64_t at, int64_t count, int64_t step, int64_t channel) {
  for (int64_t i = 0; i < count; i += kBlock, at += kBlock * step) {
    const int64_t n = std::min(kBlock, count - i);
    if (view.dtype == DType::kFloat32 && (step == 1 || n == 1)) {
      OCTAVO_RETURN_IF_ERROR(AddRun(static_cast<const float*>(view.data) + at, n, channel));
      continue;
    }
    copied_.resize(kBlock);
    for (int64_t j = 0; j < n; ++j) copied_[static_cast<size_t>(j)] = FloatAt(view.dtype, view.data, at + j * step);
    OCTAVO_RETURN_IF_ERROR(AddRun(copied_.data(), n, channel));
  }
  return {};
}

Status Collector::AddRows(const float* x, int64_t rows, int64_t step, int64_t channels) {
  const auto block = kernels_.add_rows(x, rows, step, channels, low_.data(), high_.data(), sum_.data());
  if (step == channels || rows == 1) return Finish(block, x, 1, 0, rows * channels);
  return Finish(block, x, rows, step, channels);
}

Status Collector::AddRun(const float* x, int64_t count, int64_t channel) {
  const auto c = static_cast<size_t>(channel);
  return Finish(kernels_.add_run(x, count, &low_[c], &high_[c], &sum_[c]), x, 1, 0, count);
}

// Counts the block's values, `rows` times `count` of them, once the bins are known to take them.
Status Collector::Finish(const CollectKernels::Block& block, const float* x, int64_t rows, int64_t step,
                         int64_t count) {
  if (!std::isfinite(block.squares)) return InvalidArgument(std::isnan(block.squares) ? "holds NaN" : "holds infinity");
  const int exponent = ExponentFor(block.low, block.high);
  // uint32 counters: far below their limit even if every value falls into one of them.
  constexpr uint64_t kMostUnflushed = uint64_t{1} << 31;
  if (exponent > histogram_.exponent || unflushed_ > kMostUnflushed) {
    Flush();
    Coarsen(histogram_, exponent);
  }
  const float scale = std::ldexp(1.0f, -histogram_.exponent);
  for (int64_t r = 0; r < rows; ++r) kernels_.count_bins(x + r * step, count, scale, lane_counts_.data());
  const auto added = static_cast<uint64_t>(rows * count);
  unflushed_ += added;
  count_ += added;
  squares_ += block.squares;
  return {};
}

void Collector::Flush() {
  if (unflushed_ == 0) return;
  unflushed_ = 0;
  for (size_t i = 0; i < kBins; ++i) {
    uint32_t* lanes = &lane_counts_[4 * i];
    histogram_.counts[i] += uint64_t{lanes[0]} + lanes[1] + lanes[2] + lanes[3];
    std::fill_n(lanes, 4, 0);
  }
}

void Collector::MergeInto(TensorStats& stats) {
  const bool first = stats.count == 0;
  float low = std::numeric_limits<float>::infinity(), high = -low;
  for (size_t c = 0; c < low_.size(); ++c) {
    const float l = Plain(low_[c]), h = Plain(high_[c]);
    stats.channel_min[c] = first ? l : std::min(stats.channel_min[c], l);
    stats.channel_max[c] = first ? h : std::max(stats.channel_max[c], h);
    stats.channel_sum[c].Add(sum_[c]);
    low = std::min(low, l);
    high = std::max(high, h);
  }
  stats.min = first ? low : std::min(stats.min, low);
  stats.max = first ? high : std::max(stats.max, high);
  stats.count += count_;
  stats.square_sum.Add(squares_);
  Merge(stats.histogram, histogram_);
}

}  // namespace octavo
#endif
