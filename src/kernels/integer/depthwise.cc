#include "kernels/integer/depthwise.h"

#include <cstddef>

#include "kernels/simd/targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/integer/depthwise.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace octavo {
namespace HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

// Channels at a time. Two taps' bytes are interleaved and widened to 16 bits, so that one multiply-add of neighbours
// sums both: x[t] w[t] + x[t+1] w[t+1].
constexpr int64_t kChannels = 16;
constexpr int64_t kMaxTaps = 1024;

// Where each tap lies from the first one; the last is there twice when their number is odd (its second weight is 0).
struct Taps {
  int64_t pairs = 0;
  int64_t offsets[kMaxTaps];
};

Taps TapsOf(const DepthwiseBlock& block) {
  Taps taps;
  int64_t count = 0;
  for (int64_t r = 0; r < block.kernel_rows; ++r) {
    for (int64_t c = 0; c < block.kernel_columns; ++c) {
      taps.offsets[count++] =
          r * block.dilation_rows * block.row_stride + c * block.dilation_columns * block.in_channels;
    }
  }
  if (count % 2 != 0) {
    taps.offsets[count] = taps.offsets[count - 1];
    ++count;
  }
  taps.pairs = count / 2;
  return taps;
}

// Channels [c, c + n), n <= kChannels, of one pixel; also what computes the last channels of others.
void PixelScalar(const DepthwiseBlock& block, const Taps& taps, const uint8_t* src, int64_t c, int64_t n,
                 int32_t* dst) {
  const int16_t* weights = block.weights + c * taps.pairs * 2;
  for (int64_t i = 0; i < n; ++i) {
    int32_t sum = 0;
    for (int64_t p = 0; p < taps.pairs; ++p) {
      const int16_t* w = weights + (p * kChannels + i) * 2;
      sum += src[taps.offsets[2 * p] + c + i] * w[0] + src[taps.offsets[2 * p + 1] + c + i] * w[1];
    }
    dst[c + i] = sum;
  }
}

#if HWY_ARCH_X86 && HWY_MAX_BYTES >= 32
// kChannels channels of kPixels pixels that lie `step` apart: the weights are loaded once for all.
template <int kPixels>
void PixelsVector(const DepthwiseBlock& block, const Taps& taps, const uint8_t* src, int64_t step, int64_t c,
                  int32_t* dst) {
  const hn::CappedTag<uint8_t, 16> d8;
  const hn::CappedTag<int16_t, 16> d16;
  const hn::CappedTag<int32_t, 8> d32;
  const int16_t* w = block.weights + c * taps.pairs * 2;
  hn::Vec<decltype(d32)> low[kPixels], high[kPixels];
  for (int i = 0; i < kPixels; ++i) low[i] = high[i] = hn::Zero(d32);
  auto unused = hn::Zero(d32);
  for (int64_t p = 0; p < taps.pairs; ++p, w += 2 * kChannels) {
    const auto w_low = hn::LoadU(d16, w), w_high = hn::LoadU(d16, w + kChannels);
    const uint8_t *first = src + taps.offsets[2 * p] + c, *second = src + taps.offsets[2 * p + 1] + c;
    for (int i = 0; i < kPixels; ++i) {
      const auto a = hn::LoadU(d8, first + i * step), b = hn::LoadU(d8, second + i * step);
      // On x86 this is one multiply-add of neighbours, in order.
      low[i] =
          hn::ReorderWidenMulAccumulate(d32, hn::PromoteTo(d16, hn::InterleaveLower(d8, a, b)), w_low, low[i], unused);
      high[i] = hn::ReorderWidenMulAccumulate(d32, hn::PromoteTo(d16, hn::InterleaveUpper(d8, a, b)), w_high, high[i],
                                              unused);
    }
  }
  for (int i = 0; i < kPixels; ++i) {
    hn::StoreU(low[i], d32, dst + i * block.in_channels + c);
    hn::StoreU(high[i], d32, dst + i * block.in_channels + c + 8);
  }
}
#endif

void RunBlock(const DepthwiseBlock& block) {
  const Taps taps = TapsOf(block);
  const int64_t step = block.stride_columns * block.in_channels;
  const int64_t whole = block.in_channels / kChannels * kChannels;
  for (int64_t row = 0; row < block.out_rows; ++row) {
    const uint8_t* src = block.src + row * block.stride_rows * block.row_stride;
    int32_t* dst = block.dst + row * block.out_columns * block.in_channels;
#if HWY_ARCH_X86 && HWY_MAX_BYTES >= 32
    for (int64_t c = 0; c < whole; c += kChannels) {
      int64_t x = 0;
      for (; x + 4 <= block.out_columns; x += 4) {
        PixelsVector<4>(block, taps, src + x * step, step, c, dst + x * block.in_channels);
      }
      for (; x < block.out_columns; ++x)
        PixelsVector<1>(block, taps, src + x * step, step, c, dst + x * block.in_channels);
    }
    const int64_t begin = whole;
#else
    const int64_t begin = 0;
#endif
    for (int64_t x = 0; x < block.out_columns; ++x) {
      for (int64_t c = begin; c < block.in_channels; c += kChannels) {
        const int64_t n = block.in_channels - c < kChannels ? block.in_channels - c : kChannels;
        PixelScalar(block, taps, src + x * step, c, n, dst + x * block.in_channels);
      }
    }
  }
  (void)whole;
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace octavo
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace octavo {
namespace {

HWY_EXPORT(RunBlock);
constexpr int64_t kPackedChannels = 16;

}  // namespace

std::vector<int16_t> PackDepthwise(const std::vector<int16_t>& weights, int64_t taps, int64_t channels) {
  const int64_t pairs = (taps + 1) / 2, blocks = (channels + kPackedChannels - 1) / kPackedChannels;
  std::vector<int16_t> packed(static_cast<size_t>(blocks * pairs * 2 * kPackedChannels), 0);
  for (int64_t t = 0; t < taps; ++t) {
    for (int64_t c = 0; c < channels; ++c) {
      const int64_t block = c / kPackedChannels, lane = c % kPackedChannels;
      const int64_t at = ((block * pairs + t / 2) * kPackedChannels + lane) * 2 + t % 2;
      packed[static_cast<size_t>(at)] = weights[static_cast<size_t>(t * channels + c)];
    }
  }
  return packed;
}

void RunDepthwise(const DepthwiseBlock& block) { HWY_DYNAMIC_DISPATCH(RunBlock)(block); }

}  // namespace octavo
#endif
