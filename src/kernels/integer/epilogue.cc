#include "kernels/integer/epilogue.h"

#include <algorithm>
#include <type_traits>
#include <utility>

#include "base/rounding.h"
#include "graph/quantization.h"
#include "kernels/simd/convert.h"
#include "kernels/simd/targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/integer/epilogue.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/integer/quantize-inl.h"
#include "kernels/simd/gelu-inl.h"
#include "kernels/simd/rough-inl.h"
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

// A block that passes through registers once: one function at most, then a factor per channel, then one operand that is
// added, then one output.
struct FusedBlock {
  const EpilogueBlock* block = nullptr;
  ChannelTerms terms{};
  const float* factor = nullptr;             // of the block's channels; null: none
  const EpilogueOperand* operand = nullptr;  // the first; null: none
  const EpilogueOutput* output = nullptr;    // the first
};
using FusedFn = void (*)(const FusedBlock& fused);

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

template <class D>
HWY_INLINE int64_t QuantizeWhole(D d, const float* from, uint8_t* to, int64_t begin, int64_t n,
                                 const ByteTerms<D>& terms) {
  const auto value = [&](int64_t i) HWY_ATTR { return hn::LoadU(d, from + i); };
  return QuantizeValues(d, value, to, begin, n, terms);
}

constexpr int32_t LowestOf(bool is_signed) { return is_signed ? -128 : 0; }

void QuantizeRow(const float* from, void* to, int64_t n, float scale, int32_t zero_point, bool is_signed) {
  const int32_t lowest = LowestOf(is_signed);
  auto* bytes = static_cast<uint8_t*>(to);
  const int64_t done = QuantizeWhole(kTag, from, bytes, 0, n, MakeByteTerms(kTag, scale, zero_point, lowest));
  const hn::CappedTag<float, 1> one;
  QuantizeWhole(one, from, bytes, done, n, MakeByteTerms(one, scale, zero_point, lowest));
}

template <class D>
HWY_INLINE int64_t QuantizeByChannel(D d, const float* from, uint8_t* to, int64_t begin, int64_t n,
                                     const ChannelQuantizer& by, int64_t first, int32_t lowest) {
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t i = begin;
  for (; i + lanes <= n; i += lanes) {
    const hn::Vec<D> v[1] = {hn::LoadU(d, from + i)};
    hn::Vec<hn::RebindToUnsigned<D>> q[1];
    QuantizeToBytes(d, v, ChannelByteTerms(d, by, first + i, lowest), q);
    StoreBytes(d, q[0], to + i);
  }
  return i;
}

void QuantizeChannelsRow(const float* from, void* to, int64_t n, const ChannelQuantizer& by, int64_t first,
                         bool is_signed) {
  const int32_t lowest = LowestOf(is_signed);
  auto* bytes = static_cast<uint8_t*>(to);
  const int64_t done = QuantizeByChannel(kTag, from, bytes, 0, n, by, first, lowest);
  QuantizeByChannel(hn::CappedTag<float, 1>(), from, bytes, done, n, by, first, lowest);
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

// ---- blocks that pass through registers ----

using Unary = RowFunction::Kind;
enum class Addend { kNone, kFloat, kBytes };
enum class Form { kFloat, kBytes, kBytesByChannel };

template <Unary kUnary, class D, class V = hn::Vec<D>>
HWY_INLINE V ApplyUnary(D d, V v) {
  if constexpr (kUnary == Unary::kRelu) return MaxElseSecond(hn::Zero(d), v);
  if constexpr (kUnary == Unary::kRoughGelu) return RoughGelu<GeluErfForm>(d, v);
  if constexpr (kUnary == Unary::kRoughGeluTanh) return RoughGelu<GeluTanhForm>(d, v);
  if constexpr (kUnary == Unary::kRoughSilu) return RoughSilu(d, v);
  return v;
}

// kPixels neighbouring pixels from p on, the lanes of `d` from channel c on.
template <Unary kUnary, bool kFactor, Addend kAddend, Form kForm, int kPixels, class D>
HWY_INLINE void RunGroup(D d, const FusedBlock& fused, const ByteTerms<D>& tensor_terms, int64_t p, int64_t c) {
  const hn::RebindToSigned<D> di;
  const EpilogueBlock& b = *fused.block;
  const auto compensation = hn::LoadU(di, fused.terms.compensation + c);
  const auto multiplier = hn::LoadU(d, fused.terms.multiplier + c), bias = hn::LoadU(d, fused.terms.bias + c);
  hn::Vec<D> v[kPixels];
  for (int i = 0; i < kPixels; ++i) {
    const auto sum = hn::Add(hn::LoadU(di, b.accumulators + (p + i) * b.accumulator_stride + c), compensation);
    v[i] = ApplyUnary<kUnary>(d, hn::MulAdd(hn::ConvertTo(d, sum), multiplier, bias));
    if constexpr (kFactor) v[i] = hn::Mul(v[i], hn::LoadU(d, fused.factor + c));
    const int64_t at = (p + i) * b.operand_strides[0] + c;
    if constexpr (kAddend == Addend::kFloat) {
      v[i] = hn::Add(v[i], hn::LoadU(d, static_cast<const float*>(b.operands[0]) + at));
    } else if constexpr (kAddend == Addend::kBytes) {
      const hn::Rebind<uint8_t, D> bytes;
      const auto q = hn::Sub(hn::PromoteTo(di, hn::LoadU(bytes, static_cast<const uint8_t*>(b.operands[0]) + at)),
                             hn::Set(di, fused.operand->zero_point));
      v[i] = hn::Add(v[i], hn::Mul(hn::ConvertTo(d, q), hn::Set(d, fused.operand->scale)));
    }
  }
  if constexpr (kForm == Form::kFloat) {
    for (int i = 0; i < kPixels; ++i) {
      hn::StoreU(v[i], d, static_cast<float*>(b.outputs[0]) + (p + i) * b.output_strides[0] + c);
    }
  } else {
    hn::Vec<hn::RebindToUnsigned<D>> q[kPixels];
    if constexpr (kForm == Form::kBytes) {
      QuantizeToBytes(d, v, tensor_terms, q);
    } else {
      const int32_t lowest = LowestByte(fused.output->dtype);
      QuantizeToBytes(d, v, ChannelByteTerms(d, fused.output->channels, b.channel_begin + c, lowest), q);
    }
    for (int i = 0; i < kPixels; ++i) {
      StoreBytes(d, q[i], static_cast<uint8_t*>(b.outputs[0]) + (p + i) * b.output_strides[0] + c);
    }
  }
}

template <Unary kUnary, bool kFactor, Addend kAddend, Form kForm>
void RunFused(const FusedBlock& fused) {
  constexpr int kPixels = kForm == Form::kFloat ? 1 : 4;
  const hn::CappedTag<float, 1> one;
  const EpilogueOutput& output = *fused.output;
  const int32_t lowest = LowestByte(output.dtype);
  const auto terms = MakeByteTerms(kTag, output.scale, output.zero_point, lowest);
  const auto terms_of_one = MakeByteTerms(one, output.scale, output.zero_point, lowest);
  const auto lanes = static_cast<int64_t>(hn::Lanes(kTag));
  const int64_t channels = fused.block->channels, pixels = fused.block->pixels;
  const auto rows = [&](auto count, int64_t p) HWY_ATTR {
    constexpr int kCount = decltype(count)::value;
    int64_t c = 0;
    for (; c + lanes <= channels; c += lanes) {
      RunGroup<kUnary, kFactor, kAddend, kForm, kCount>(kTag, fused, terms, p, c);
    }
    for (; c < channels; ++c) RunGroup<kUnary, kFactor, kAddend, kForm, kCount>(one, fused, terms_of_one, p, c);
  };
  int64_t p = 0;
  for (; p + kPixels <= pixels; p += kPixels) rows(std::integral_constant<int, kPixels>(), p);
  for (; p < pixels; ++p) rows(std::integral_constant<int, 1>(), p);
}

template <Unary kUnary>
FusedFn FusedUnary(bool factor) {
  if (factor) return RunFused<kUnary, true, Addend::kNone, Form::kBytes>;
  return RunFused<kUnary, false, Addend::kNone, Form::kBytes>;
}

// Null where the block passes through memory.
FusedFn FusedOfTarget(Unary unary, bool factor, const EpilogueOperand* operand, const EpilogueOutput& output) {
  const bool is_float = output.dtype == DType::kFloat32;
  if (!is_float && SizeOf(output.dtype) != 1) return nullptr;
  if (operand != nullptr) {
    if (unary != Unary::kOther || factor || !output.channels.empty()) return nullptr;
    if (operand->dtype == DType::kFloat32) {
      return is_float ? RunFused<Unary::kOther, false, Addend::kFloat, Form::kFloat>
                      : RunFused<Unary::kOther, false, Addend::kFloat, Form::kBytes>;
    }
    if (operand->dtype != DType::kUInt8) return nullptr;
    return is_float ? RunFused<Unary::kOther, false, Addend::kBytes, Form::kFloat>
                    : RunFused<Unary::kOther, false, Addend::kBytes, Form::kBytes>;
  }
  if (is_float) {
    return unary == Unary::kOther && !factor ? RunFused<Unary::kOther, false, Addend::kNone, Form::kFloat> : nullptr;
  }
  if (!output.channels.empty()) {
    if (unary != Unary::kOther) return nullptr;
    return factor ? RunFused<Unary::kOther, true, Addend::kNone, Form::kBytesByChannel>
                  : RunFused<Unary::kOther, false, Addend::kNone, Form::kBytesByChannel>;
  }
  switch (unary) {
    case Unary::kOther:
      return FusedUnary<Unary::kOther>(factor);
    case Unary::kRelu:
      return FusedUnary<Unary::kRelu>(factor);
    case Unary::kRoughGelu:
      return FusedUnary<Unary::kRoughGelu>(factor);
    case Unary::kRoughGeluTanh:
      return FusedUnary<Unary::kRoughGeluTanh>(factor);
    case Unary::kRoughSilu:
      return FusedUnary<Unary::kRoughSilu>(factor);
  }
  return nullptr;
}

EpilogueRows RowsOfTarget() { return {ToRealRows, AddRow, MulRow}; }
QuantizeRows QuantizeRowsOfTarget() { return {QuantizeRow, DequantizeRow, QuantizeChannelsRow}; }

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace octavo
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace octavo {
namespace {

HWY_EXPORT(RowsOfTarget);
HWY_EXPORT(FusedOfTarget);
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
    if (!output.channels.empty()) {
      for (int64_t p = 0; p < pixels_; ++p) {
        void* data = At(block_.outputs[index], (first_ + p) * block_.output_strides[index], output.dtype);
        quantize_.quantize_channels(y_ + p * block_.channels, data, block_.channels, output.channels,
                                    block_.channel_begin, output.dtype == DType::kInt8);
      }
      return;
    }
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

// What passes the block through registers; null where the epilogue is none that is done so.
FusedFn FuseBlock(const Epilogue& epilogue, const EpilogueBlock& block, FusedBlock& fused) {
  if (epilogue.parts != 1 || epilogue.outputs.size() != 1 || block.row_compensation != nullptr) return nullptr;
  RowFunction::Kind unary = RowFunction::Kind::kOther;
  auto stage = epilogue.stages.begin();
  const auto end = epilogue.stages.end();
  if (stage != end && stage->kind == EpilogueStage::Kind::kUnary) {
    unary = stage->unary.kind;
    if (unary == RowFunction::Kind::kOther) return nullptr;
    ++stage;
  }
  if (stage != end && stage->kind == EpilogueStage::Kind::kMulChannel) {
    fused.factor = stage->channel.data() + block.channel_begin;
    ++stage;
  }
  if (stage != end && stage->kind == EpilogueStage::Kind::kAdd) {
    if (stage->operand != 0) return nullptr;
    fused.operand = &epilogue.operands[0];
    ++stage;
  }
  if (stage != end) return nullptr;
  const int64_t c = block.channel_begin;
  fused.block = &block;
  fused.terms = {block.compensation != nullptr ? block.compensation : epilogue.compensation.data() + c,
                 epilogue.multiplier.data() + c, epilogue.bias.data() + c};
  fused.output = &epilogue.outputs[0];
  return HWY_DYNAMIC_DISPATCH(FusedOfTarget)(unary, fused.factor != nullptr, fused.operand, *fused.output);
}

}  // namespace

QuantizeRows ChooseQuantizeRows() { return HWY_DYNAMIC_DISPATCH(QuantizeRowsOfTarget)(); }

int64_t EpilogueScratch(int64_t channels) { return 2 * RoundUp(PixelsPerBlock(channels) * channels, 16); }

ChannelQuantizer ChannelQuantizer::Create(std::vector<float> scales, const std::vector<int32_t>& zero_points) {
  ChannelQuantizer result;
  for (const float scale : scales) result.inverses.push_back(1.0f / scale);
  result.zero_points.assign(zero_points.begin(), zero_points.end());
  result.scales = std::move(scales);
  return result;
}

void RunEpilogue(const Epilogue& epilogue, const EpilogueBlock& block, float* scratch) {
  FusedBlock fused;
  if (const FusedFn run = FuseBlock(epilogue, block, fused)) {
    run(fused);
    return;
  }
  BlockRunner(epilogue, block, scratch).Run();
}

}  // namespace octavo
#endif
