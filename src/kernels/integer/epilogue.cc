#include "kernels/integer/epilogue.h"

#include <algorithm>

#include "base/rounding.h"
#include "kernels/simd/convert.h"
#include "kernels/simd/targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/integer/epilogue.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/integer/quantize-inl.h"
#include "kernels/simd/vectors-inl.h"

#ifndef OCTAVO_KERNELS_INTEGER_EPILOGUE_ONCE_
#define OCTAVO_KERNELS_INTEGER_EPILOGUE_ONCE_
namespace octavo {

// Per channel of the block.
struct ChannelTerms {
  const int32_t* compensation;
  const float* multiplier;
  const float* bias;
};

struct EpilogueRows {
  // y[pixel][c] = fma(float(acc), multiplier, bias), pixels densely behind each other.
  void (*to_real)(const EpilogueBlock& block, int parts, int64_t first, int64_t pixels, const ChannelTerms& terms,
                  float* y);
  void (*add)(const float* a, float* y, int64_t n);
  void (*mul)(const float* a, float* y, int64_t n);
};

}  // namespace octavo
#endif

HWY_BEFORE_NAMESPACE();
namespace octavo {
namespace HWY_NAMESPACE {
namespace {

constexpr FloatTag kTag;
using IntTag = hn::RebindToSigned<FloatTag>;
constexpr IntTag kInts;

template <class D>
HWY_INLINE hn::Vec<D> ToReal(D d, hn::Vec<hn::RebindToSigned<D>> sum, const ChannelTerms& terms, int64_t c) {
  const hn::RebindToSigned<D> di;
  const auto total = hn::Add(sum, hn::LoadU(di, terms.compensation + c));
  return hn::MulAdd(hn::ConvertTo(d, total), hn::LoadU(d, terms.multiplier + c), hn::LoadU(d, terms.bias + c));
}

template <class D>
HWY_INLINE void RealOf(D d, const int32_t* acc, int parts, int64_t part_stride, int32_t row, const ChannelTerms& terms,
                       int64_t c, float* y) {
  const hn::RebindToSigned<D> di;
  auto sum = hn::Add(hn::LoadU(di, acc + c), hn::Set(di, row));
  for (int part = 1; part < parts; ++part) sum = hn::Add(sum, hn::LoadU(di, acc + part * part_stride + c));
  hn::StoreU(ToReal(d, sum, terms, c), d, y + c);
}

void ToRealRows(const EpilogueBlock& block, int parts, int64_t first, int64_t pixels, const ChannelTerms& terms,
                float* y) {
  const auto lanes = static_cast<int64_t>(hn::Lanes(kTag));
  const hn::CappedTag<float, 1> one;
  const int64_t n = block.channels;
  for (int64_t p = first; p < first + pixels; ++p) {
    const int32_t* acc = block.accumulators + p * block.accumulator_stride;
    const int32_t row = block.row_compensation == nullptr ? 0 : block.row_compensation[p];
    int64_t c = 0;
    for (; c + lanes <= n; c += lanes) RealOf(kTag, acc, parts, block.part_stride, row, terms, c, y);
    for (; c < n; ++c) RealOf(one, acc, parts, block.part_stride, row, terms, c, y);
    y += n;
  }
}

void AddRow(const float* a, float* y, int64_t n) {
  const auto lanes = static_cast<int64_t>(hn::Lanes(kTag));
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) hn::StoreU(hn::Add(hn::LoadU(kTag, y + i), hn::LoadU(kTag, a + i)), kTag, y + i);
  for (; i < n; ++i) y[i] += a[i];
}

void MulRow(const float* a, float* y, int64_t n) {
  const auto lanes = static_cast<int64_t>(hn::Lanes(kTag));
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) hn::StoreU(hn::Mul(hn::LoadU(kTag, y + i), hn::LoadU(kTag, a + i)), kTag, y + i);
  for (; i < n; ++i) y[i] *= a[i];
}

template <typename Q, class D>
HWY_INLINE void QuantizeVector(D d, const float* from, Q* to, const QuantizeTerms<D>& terms) {
  const hn::Rebind<Q, D> dq;
  hn::StoreU(hn::DemoteTo(dq, QuantizedVector(d, hn::LoadU(d, from), terms)), dq, to);
}

template <typename Q, class D>
HWY_INLINE int64_t QuantizeWhole(D d, const float* from, Q* to, int64_t begin, int64_t n, float scale,
                                 int32_t zero_point) {
  constexpr int32_t kLow = sizeof(Q) == 1 && Q(-1) < Q(0) ? -128 : 0;
  const QuantizeTerms<D> terms = MakeQuantizeTerms(d, scale, zero_point, kLow);
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t i = begin;
  for (; i + lanes <= n; i += lanes) QuantizeVector<Q>(d, from + i, to + i, terms);
  return i;
}

template <typename Q>
void QuantizeRowOf(const float* from, Q* to, int64_t n, float scale, int32_t zero_point) {
  const int64_t done = QuantizeWhole<Q>(kTag, from, to, 0, n, scale, zero_point);
  QuantizeWhole<Q>(hn::CappedTag<float, 1>(), from, to, done, n, scale, zero_point);
}

void QuantizeRow(const float* from, void* to, int64_t n, float scale, int32_t zero_point, bool is_signed) {
  if (is_signed) {
    QuantizeRowOf(from, static_cast<int8_t*>(to), n, scale, zero_point);
  } else {
    QuantizeRowOf(from, static_cast<uint8_t*>(to), n, scale, zero_point);
  }
}

template <typename Q>
void DequantizeRowOf(const Q* from, float* to, int64_t n, float scale, int32_t zero_point) {
  const hn::Rebind<Q, FloatTag> dq;
  const auto lanes = static_cast<int64_t>(hn::Lanes(kTag));
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    const auto q = hn::Sub(hn::PromoteTo(kInts, hn::LoadU(dq, from + i)), hn::Set(kInts, zero_point));
    hn::StoreU(hn::Mul(hn::ConvertTo(kTag, q), hn::Set(kTag, scale)), kTag, to + i);
  }
  for (; i < n; ++i) to[i] = static_cast<float>(int32_t{from[i]} - zero_point) * scale;
}

void DequantizeRow(const void* from, float* to, int64_t n, float scale, int32_t zero_point, bool is_signed) {
  if (is_signed) {
    DequantizeRowOf(static_cast<const int8_t*>(from), to, n, scale, zero_point);
  } else {
    DequantizeRowOf(static_cast<const uint8_t*>(from), to, n, scale, zero_point);
  }
}

EpilogueRows RowsOfTarget() { return {ToRealRows, AddRow, MulRow}; }
QuantizeRows QuantizeRowsOfTarget() { return {QuantizeRow, DequantizeRow}; }

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace octavo
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace octavo {
namespace {

HWY_EXPORT(RowsOfTarget);
HWY_EXPORT(QuantizeRowsOfTarget);

// Floats that pass through L1 at a time; a block is at least one pixel.
constexpr int64_t kBlockFloats = 2048;

int64_t PixelsPerBlock(int64_t channels) { return std::max<int64_t>(1, kBlockFloats / std::max<int64_t>(1, channels)); }

const char* At(const void* data, int64_t elements, DType dtype) {
  return static_cast<const char*>(data) + elements * static_cast<int64_t>(SizeOf(dtype));
}
char* At(void* data, int64_t elements, DType dtype) {
  return static_cast<char*>(data) + elements * static_cast<int64_t>(SizeOf(dtype));
}

// Calls fn(offset in memory, offset in the dense block, count): once where pixels lie densely, else per pixel.
template <typename Fn>
void ForRuns(int64_t first, int64_t pixels, int64_t channels, int64_t stride, Fn&& fn) {
  if (stride == channels) {
    fn(first * stride, int64_t{0}, pixels * channels);
    return;
  }
  for (int64_t p = 0; p < pixels; ++p) fn((first + p) * stride, p * channels, channels);
}

class BlockRunner {
 public:
  BlockRunner(const Epilogue& epilogue, const EpilogueBlock& block, float* scratch)
      : epilogue_(epilogue),
        block_(block),
        y_(scratch),
        other_(scratch + EpilogueScratch(block.channels) / 2),
        rows_(HWY_DYNAMIC_DISPATCH(RowsOfTarget)()),
        quantize_(ChooseQuantizeRows()),
        conversions_(ChooseRowConversions()) {}

  void Run() {
    const int64_t step = PixelsPerBlock(block_.channels);
    for (first_ = 0; first_ < block_.pixels; first_ += step) {
      pixels_ = std::min(step, block_.pixels - first_);
      const int64_t c = block_.channel_begin;
      const ChannelTerms terms{block_.compensation != nullptr ? block_.compensation : epilogue_.compensation.data() + c,
                               epilogue_.multiplier.data() + c, epilogue_.bias.data() + c};
      rows_.to_real(block_, epilogue_.parts, first_, pixels_, terms, y_);
      for (const auto& stage : epilogue_.stages) RunStage(stage);
      for (size_t i = 0; i < epilogue_.outputs.size(); ++i) StoreOutput(i);
    }
  }

 private:
  void RunStage(const EpilogueStage& stage) {
    switch (stage.kind) {
      case EpilogueStage::Kind::kUnary:
        stage.unary(y_, y_, pixels_ * block_.channels);
        break;
      case EpilogueStage::Kind::kAddChannel:
      case EpilogueStage::Kind::kMulChannel: {
        const auto combine = stage.kind == EpilogueStage::Kind::kAddChannel ? rows_.add : rows_.mul;
        for (int64_t p = 0; p < pixels_; ++p)
          combine(stage.channel.data() + block_.channel_begin, y_ + p * block_.channels, block_.channels);
        break;
      }
      case EpilogueStage::Kind::kAdd:
      case EpilogueStage::Kind::kMul:
        Combine(static_cast<size_t>(stage.operand), stage.kind == EpilogueStage::Kind::kAdd ? rows_.add : rows_.mul);
        break;
      case EpilogueStage::Kind::kRound: {
        const EpilogueOutput& to = stage.rounding;
        const int64_t n = pixels_ * block_.channels;
        quantize_.quantize(y_, other_, n, to.scale, to.zero_point, to.dtype == DType::kInt8);
        quantize_.dequantize(other_, y_, n, to.scale, to.zero_point, to.dtype == DType::kInt8);
        break;
      }
    }
  }

  void Combine(size_t index, void (*combine)(const float*, float*, int64_t)) {
    const EpilogueOperand& operand = epilogue_.operands[index];
    ForRuns(first_, pixels_, block_.channels, block_.operand_strides[index], [&](int64_t from, int64_t at, int64_t n) {
      const void* data = At(block_.operands[index], from, operand.dtype);
      if (operand.dtype == DType::kFloat32) {
        combine(static_cast<const float*>(data), y_ + at, n);
        return;
      }
      if (operand.dtype == DType::kBFloat16) {
        conversions_.widen(static_cast<const uint16_t*>(data), other_, static_cast<size_t>(n));
      } else {
        quantize_.dequantize(data, other_, n, operand.scale, operand.zero_point, operand.dtype == DType::kInt8);
      }
      combine(other_, y_ + at, n);
    });
  }

  void StoreOutput(size_t index) {
    const EpilogueOutput& output = epilogue_.outputs[index];
    ForRuns(first_, pixels_, block_.channels, block_.output_strides[index], [&](int64_t to, int64_t at, int64_t n) {
      void* data = At(block_.outputs[index], to, output.dtype);
      if (output.dtype == DType::kFloat32) {
        std::copy_n(y_ + at, n, static_cast<float*>(data));
      } else if (output.dtype == DType::kBFloat16) {
        conversions_.narrow(y_ + at, static_cast<uint16_t*>(data), static_cast<size_t>(n));
      } else {
        quantize_.quantize(y_ + at, data, n, output.scale, output.zero_point, output.dtype == DType::kInt8);
      }
    });
  }

  const Epilogue& epilogue_;
  const EpilogueBlock& block_;
  float* const y_;
  float* const other_;
  const EpilogueRows rows_;
  const QuantizeRows quantize_;
  const RowConversions conversions_;
  int64_t first_ = 0, pixels_ = 0;
};

}  // namespace

QuantizeRows ChooseQuantizeRows() { return HWY_DYNAMIC_DISPATCH(QuantizeRowsOfTarget)(); }

int64_t EpilogueScratch(int64_t channels) { return 2 * RoundUp(PixelsPerBlock(channels) * channels, 16); }

void RunEpilogue(const Epilogue& epilogue, const EpilogueBlock& block, float* scratch) {
  BlockRunner(epilogue, block, scratch).Run();
}

}  // namespace octavo
#endif
