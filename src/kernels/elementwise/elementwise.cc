#include "kernels/elementwise/elementwise.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>
#include <string>
#include <utility>

#include "base/parallel.h"
#include "graph/rounding.h"
#include "kernels/generic/elementwise.h"
#include "kernels/integer/epilogue.h"
#include "kernels/simd/convert.h"
#include "kernels/simd/targets.h"
#include "kernels/strided.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/elementwise/elementwise.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/simd/gelu-inl.h"
#include "kernels/simd/math-inl.h"
#include "kernels/simd/rough-inl.h"
#include "kernels/simd/vectors-inl.h"

#ifndef OCTAVO_KERNELS_ELEMENTWISE_ONCE_
#define OCTAVO_KERNELS_ELEMENTWISE_ONCE_
namespace octavo {

enum class UnaryOp {
  kRelu,
  kLeakyRelu,
  kSigmoid,
  kTanh,
  kErf,
  kExp,
  kLog,
  kSqrt,
  kReciprocal,
  kReciprocalSqrt,
  kNeg,
  kAbs,
  kSquare,
  kClip,
  kGelu,
  kGeluTanh,
  kRoughGelu,
  kRoughGeluTanh,
  kSilu,
  kRoughSilu,
  kHardSwish,
  kHardSigmoid,
  kRoundToBFloat16,
  kRoundToFloat16,
};
enum class BinaryOp { kAdd, kSub, kMul, kDiv, kMin, kMax };

// y[i] = op(x[i]); y may be x.
using UnaryRowFn = void (*)(const float* x, float* y, size_t n, const UnaryParameters& parameters);
// y[i] = op(a[i], b[i]); y may be a or b. A scalar operand is a[0] or b[0].
using BinaryRowFn = void (*)(const float* a, const float* b, float* y, size_t n);
struct BinaryRows {
  BinaryRowFn both, scalar_a, scalar_b;
};

}  // namespace octavo
#endif

HWY_BEFORE_NAMESPACE();
namespace octavo {
namespace HWY_NAMESPACE {
namespace {

using V = FloatVec;
constexpr FloatTag kTag;

struct ReluOp {
  static HWY_INLINE V Apply(V x, const UnaryParameters&) { return MaxElseSecond(hn::Zero(kTag), x); }
};
struct LeakyReluOp {
  static HWY_INLINE V Apply(V x, const UnaryParameters& p) {
    return hn::IfThenElse(hn::Lt(x, hn::Zero(kTag)), hn::Mul(hn::Set(kTag, p.first), x), x);
  }
};
struct SigmoidOp {
  static HWY_INLINE V Apply(V x, const UnaryParameters&) { return FastSigmoid(kTag, x); }
};
struct TanhOp {
  static HWY_INLINE V Apply(V x, const UnaryParameters&) { return FastTanh(kTag, x); }
};
struct ErfOp {
  static HWY_INLINE V Apply(V x, const UnaryParameters&) { return FastErf(kTag, x); }
};
struct ExpOp {
  static HWY_INLINE V Apply(V x, const UnaryParameters&) { return FastExp(kTag, x); }
};
struct LogOp {
  static HWY_INLINE V Apply(V x, const UnaryParameters&) { return FastLog(kTag, x); }
};
struct SqrtOp {
  static HWY_INLINE V Apply(V x, const UnaryParameters&) { return hn::Sqrt(x); }
};
struct ReciprocalOp {
  static HWY_INLINE V Apply(V x, const UnaryParameters&) { return hn::Div(hn::Set(kTag, 1.0f), x); }
};
struct ReciprocalSqrtOp {
  static HWY_INLINE V Apply(V x, const UnaryParameters&) { return hn::Div(hn::Set(kTag, 1.0f), hn::Sqrt(x)); }
};
struct NegOp {
  static HWY_INLINE V Apply(V x, const UnaryParameters&) { return hn::Neg(x); }
};
struct AbsOp {
  static HWY_INLINE V Apply(V x, const UnaryParameters&) { return hn::Abs(x); }
};
struct SquareOp {
  static HWY_INLINE V Apply(V x, const UnaryParameters&) { return hn::Mul(x, x); }
};
struct ClipOp {
  static HWY_INLINE V Apply(V x, const UnaryParameters& p) { return ClampKeepingNan(kTag, x, p.first, p.second); }
};
// x/2 (1 + erf(x / sqrt 2))
struct GeluOp {
  static HWY_INLINE V Apply(V x, const UnaryParameters&) {
    const V erf = FastErf(kTag, hn::Mul(x, hn::Set(kTag, 0.70710678118654752440f)));
    const V half = hn::Mul(x, hn::Set(kTag, 0.5f));
    return hn::MulAdd(half, erf, half);
  }
};
// x/2 (1 + tanh u) = x sigmoid(2u), u = sqrt(2/pi) (x + 0.044715 x^3)
struct GeluTanhOp {
  static HWY_INLINE V Apply(V x, const UnaryParameters&) {
    constexpr float kTwoSqrt2OverPi = 1.59576912160573071175f;
    const V square = hn::Mul(x, x);
    const V slope = hn::MulAdd(square, hn::Set(kTag, 0.044715f * kTwoSqrt2OverPi), hn::Set(kTag, kTwoSqrt2OverPi));
    return hn::Div(x, hn::Add(hn::Set(kTag, 1.0f), FastExp(kTag, hn::Neg(hn::Mul(x, slope)))));
  }
};
struct RoughGeluOp {
  static HWY_INLINE V Apply(V x, const UnaryParameters&) { return RoughGelu<GeluErfForm>(kTag, x); }
};
struct RoughGeluTanhOp {
  static HWY_INLINE V Apply(V x, const UnaryParameters&) { return RoughGelu<GeluTanhForm>(kTag, x); }
};
struct RoughSiluOp {
  static HWY_INLINE V Apply(V x, const UnaryParameters&) { return RoughSilu(kTag, x); }
};
struct SiluOp {
  static HWY_INLINE V Apply(V x, const UnaryParameters& p) {
    const V argument = hn::Mul(hn::Set(kTag, p.first), x);
    return hn::Div(x, hn::Add(hn::Set(kTag, 1.0f), FastExp(kTag, hn::Neg(argument))));
  }
};
struct HardSwishOp {
  static HWY_INLINE V Apply(V x, const UnaryParameters&) {
    const V gate = hn::MulAdd(x, hn::Set(kTag, 1.0f / 6), hn::Set(kTag, 0.5f));
    return hn::Mul(x, ClampKeepingNan(kTag, gate, 0.0f, 1.0f));
  }
};
struct HardSigmoidOp {
  static HWY_INLINE V Apply(V x, const UnaryParameters& p) {
    const V gate = hn::MulAdd(x, hn::Set(kTag, p.first), hn::Set(kTag, p.second));
    return ClampKeepingNan(kTag, gate, 0.0f, 1.0f);
  }
};

// A float's lower bits are rounded away in its integer form: the carry of a mantissa that rounds up reaches the
// exponent.
template <int kDropped>
HWY_INLINE hn::Vec<hn::RebindToUnsigned<FloatTag>> RoundedBits(V x) {
  const hn::RebindToUnsigned<FloatTag> d;
  constexpr uint32_t kBelowHalf = (1u << (kDropped - 1)) - 1;
  const auto bits = hn::BitCast(d, x);
  const auto odd = hn::And(hn::ShiftRight<kDropped>(bits), hn::Set(d, 1u));
  return hn::And(hn::Add(bits, hn::Add(odd, hn::Set(d, kBelowHalf))), hn::Set(d, ~((1u << kDropped) - 1)));
}
struct RoundToBFloat16Op {
  static HWY_INLINE V Apply(V x, const UnaryParameters&) {
    return hn::IfThenElse(hn::Eq(x, x), hn::BitCast(kTag, RoundedBits<16>(x)), x);
  }
};
// Below 2^-14 a float16 is a multiple of 2^-24, which is the last bit of a float32 from 0.5 on.
struct RoundToFloat16Op {
  static HWY_INLINE V Apply(V x, const UnaryParameters&) {
    const V magnitude = hn::Abs(x), anchor = hn::Set(kTag, 0.5f);
    const V normal = hn::BitCast(kTag, RoundedBits<13>(magnitude));
    const V infinity = hn::Set(kTag, std::numeric_limits<float>::infinity());
    const V bounded = hn::IfThenElse(hn::Gt(normal, hn::Set(kTag, 65504.0f)), infinity, normal);
    const V tiny = hn::Sub(hn::Add(magnitude, anchor), anchor);
    const V rounded = hn::IfThenElse(hn::Lt(magnitude, hn::Set(kTag, 0x1p-14f)), tiny, bounded);
    return hn::IfThenElse(hn::Eq(x, x), hn::CopySign(rounded, x), x);
  }
};

// The last vector may overlap the one before; it is computed before anything is written, so y may be x.
template <class Op>
void UnaryRowOf(const float* x, float* y, size_t n, const UnaryParameters& parameters) {
  const size_t lanes = hn::Lanes(kTag);
  if (n < lanes) {
    StoreFirst(Op::Apply(LoadFirst(kTag, x, n), parameters), kTag, y, n);
    return;
  }
  const V last = Op::Apply(hn::LoadU(kTag, x + n - lanes), parameters);
  for (size_t i = 0; i + lanes <= n; i += lanes) hn::StoreU(Op::Apply(hn::LoadU(kTag, x + i), parameters), kTag, y + i);
  hn::StoreU(last, kTag, y + n - lanes);
}

UnaryRowFn UnaryRowOfTarget(UnaryOp op) {
  switch (op) {
    case UnaryOp::kRelu:
      return UnaryRowOf<ReluOp>;
    case UnaryOp::kLeakyRelu:
      return UnaryRowOf<LeakyReluOp>;
    case UnaryOp::kSigmoid:
      return UnaryRowOf<SigmoidOp>;
    case UnaryOp::kTanh:
      return UnaryRowOf<TanhOp>;
    case UnaryOp::kErf:
      return UnaryRowOf<ErfOp>;
    case UnaryOp::kExp:
      return UnaryRowOf<ExpOp>;
    case UnaryOp::kLog:
      return UnaryRowOf<LogOp>;
    case UnaryOp::kSqrt:
      return UnaryRowOf<SqrtOp>;
    case UnaryOp::kReciprocal:
      return UnaryRowOf<ReciprocalOp>;
    case UnaryOp::kReciprocalSqrt:
      return UnaryRowOf<ReciprocalSqrtOp>;
    case UnaryOp::kNeg:
      return UnaryRowOf<NegOp>;
    case UnaryOp::kAbs:
      return UnaryRowOf<AbsOp>;
    case UnaryOp::kSquare:
      return UnaryRowOf<SquareOp>;
    case UnaryOp::kClip:
      return UnaryRowOf<ClipOp>;
    case UnaryOp::kGelu:
      return UnaryRowOf<GeluOp>;
    case UnaryOp::kGeluTanh:
      return UnaryRowOf<GeluTanhOp>;
    case UnaryOp::kRoughGelu:
      return UnaryRowOf<RoughGeluOp>;
    case UnaryOp::kRoughGeluTanh:
      return UnaryRowOf<RoughGeluTanhOp>;
    case UnaryOp::kSilu:
      return UnaryRowOf<SiluOp>;
    case UnaryOp::kRoughSilu:
      return UnaryRowOf<RoughSiluOp>;
    case UnaryOp::kHardSwish:
      return UnaryRowOf<HardSwishOp>;
    case UnaryOp::kHardSigmoid:
      return UnaryRowOf<HardSigmoidOp>;
    case UnaryOp::kRoundToBFloat16:
      return UnaryRowOf<RoundToBFloat16Op>;
    case UnaryOp::kRoundToFloat16:
      return UnaryRowOf<RoundToFloat16Op>;
  }
  return nullptr;
}

struct AddOp {
  static HWY_INLINE V Apply(V a, V b) { return hn::Add(a, b); }
};
struct SubOp {
  static HWY_INLINE V Apply(V a, V b) { return hn::Sub(a, b); }
};
struct MulOp {
  static HWY_INLINE V Apply(V a, V b) { return hn::Mul(a, b); }
};
struct DivOp {
  static HWY_INLINE V Apply(V a, V b) { return hn::Div(a, b); }
};
// NaN wins, whichever side it is on.
struct MinOp {
  static HWY_INLINE V Apply(V a, V b) { return hn::IfThenElse(hn::Eq(a, a), MinElseSecond(a, b), a); }
};
struct MaxOp {
  static HWY_INLINE V Apply(V a, V b) { return hn::IfThenElse(hn::Eq(a, a), MaxElseSecond(a, b), a); }
};

struct Varying {
  static HWY_INLINE V Load(const float* p, size_t i) { return hn::LoadU(kTag, p + i); }
  static HWY_INLINE V LoadShort(const float* p, size_t n) { return LoadFirst(kTag, p, n); }
};
struct Fixed {
  static HWY_INLINE V Load(const float* p, size_t) { return hn::Set(kTag, *p); }
  static HWY_INLINE V LoadShort(const float* p, size_t) { return hn::Set(kTag, *p); }
};

template <class Op, class A, class B>
void BinaryRowOf(const float* a, const float* b, float* y, size_t n) {
  const size_t lanes = hn::Lanes(kTag);
  if (n < lanes) {
    StoreFirst(Op::Apply(A::LoadShort(a, n), B::LoadShort(b, n)), kTag, y, n);
    return;
  }
  const V last = Op::Apply(A::Load(a, n - lanes), B::Load(b, n - lanes));
  for (size_t i = 0; i + lanes <= n; i += lanes) hn::StoreU(Op::Apply(A::Load(a, i), B::Load(b, i)), kTag, y + i);
  hn::StoreU(last, kTag, y + n - lanes);
}

template <class Op>
BinaryRows BinaryRowsOf() {
  return {BinaryRowOf<Op, Varying, Varying>, BinaryRowOf<Op, Fixed, Varying>, BinaryRowOf<Op, Varying, Fixed>};
}

BinaryRows BinaryRowsOfTarget(BinaryOp op) {
  switch (op) {
    case BinaryOp::kAdd:
      return BinaryRowsOf<AddOp>();
    case BinaryOp::kSub:
      return BinaryRowsOf<SubOp>();
    case BinaryOp::kMul:
      return BinaryRowsOf<MulOp>();
    case BinaryOp::kDiv:
      return BinaryRowsOf<DivOp>();
    case BinaryOp::kMin:
      return BinaryRowsOf<MinOp>();
    case BinaryOp::kMax:
      return BinaryRowsOf<MaxOp>();
  }
  return {};
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace octavo
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace octavo {
namespace {

HWY_EXPORT(UnaryRowOfTarget);
HWY_EXPORT(BinaryRowsOfTarget);

// Elements that pass through L1 at a time: three blocks of float take 6 KB.
constexpr int64_t kBlock = 512;

bool IsFloat(const Operand& operand) {
  return operand.present && (operand.dtype == DType::kFloat32 || operand.dtype == DType::kBFloat16);
}

// One operand of a row: how its elements lie in memory.
struct RowAccess {
  DType dtype = DType::kUndefined;
  int64_t step = 0;

  bool direct() const { return dtype == DType::kFloat32 && step == 1; }

  const void* At(const void* data, int64_t offset) const {
    return static_cast<const char*>(data) + offset * static_cast<int64_t>(SizeOf(dtype));
  }
  void* At(void* data, int64_t offset) const {
    return static_cast<char*>(data) + offset * static_cast<int64_t>(SizeOf(dtype));
  }
};

// n elements as contiguous floats, or the one element of a broadcast operand: in place, or copied into `block`.
const float* Gather(const RowAccess& access, const void* from, int64_t n, float* block,
                    const RowConversions& conversions) {
  if (access.direct()) return static_cast<const float*>(from);
  if (access.step == 0) n = 1;
  if (access.dtype == DType::kFloat32) {
    const float* x = static_cast<const float*>(from);
    for (int64_t i = 0; i < n; ++i) block[i] = x[i * access.step];
    return block;
  }
  const uint16_t* x = static_cast<const uint16_t*>(from);
  if (access.step == 1) {
    conversions.widen(x, block, static_cast<size_t>(n));
  } else {
    for (int64_t i = 0; i < n; ++i) block[i] = BFloat16ToFloat(x[i * access.step]);
  }
  return block;
}

// The opposite: does nothing where the row was computed in place.
void Scatter(const RowAccess& access, const float* block, int64_t n, void* to, const RowConversions& conversions) {
  if (access.direct()) return;
  if (access.dtype == DType::kFloat32) {
    float* y = static_cast<float*>(to);
    for (int64_t i = 0; i < n; ++i) y[i * access.step] = block[i];
    return;
  }
  uint16_t* y = static_cast<uint16_t*>(to);
  if (access.step == 1) {
    conversions.narrow(block, y, static_cast<size_t>(n));
  } else {
    for (int64_t i = 0; i < n; ++i) y[i * access.step] = FloatToBFloat16(block[i]);
  }
}

template <size_t N>
std::array<RowAccess, N + 1> RowAccesses(const StridedLoop<N + 1>& loop, const std::array<const Operand*, N>& inputs,
                                         const Operand& output) {
  std::array<RowAccess, N + 1> rows;
  for (size_t k = 0; k < N; ++k) rows[k] = {inputs[k]->dtype, loop.inner_steps()[k]};
  rows[N] = {output.dtype, loop.inner_steps()[N]};
  return rows;
}

// Rows of results to 8 bits.
struct RowQuantizer {
  QuantizeRows rows{};
  float scale = 1;
  int32_t zero_point = 0;

  // Errors: Unsupported where `context` has no tail without factors for bytes that are neighbours.
  static Result<RowQuantizer> Create(const BindContext& context, const RowAccess& output) {
    const QuantizedTail* tail = context.tail;
    if (tail == nullptr || SizeOf(output.dtype) != 1) return Unsupported("only float32 and bfloat16 are fast");
    if (!tail->factor.empty()) return Unsupported("factors behind it");
    if (output.step != 1) return Unsupported("bytes are no neighbours");
    return RowQuantizer{ChooseQuantizeRows(), tail->scale, tail->zero_point};
  }
  void Run(const float* row, void* to, int64_t n, DType dtype) const {
    rows.quantize(row, to, n, scale, zero_point, dtype == DType::kInt8);
  }
};

// A row of results in the form that the output has.
void Store(const RowAccess& access, const float* row, int64_t n, void* to, const RowConversions& conversions,
           const RowQuantizer& quantizer) {
  if (SizeOf(access.dtype) == 1) {
    quantizer.Run(row, to, n, access.dtype);
  } else {
    Scatter(access, row, n, to, conversions);
  }
}

struct UnaryPlan {
  StridedLoop<2> loop;
  std::array<RowAccess, 2> rows;
  UnaryRowFn fn = nullptr;
  RowConversions conversions{};
  RowQuantizer quantizer{};
  int threads = 1;

  void RunRow(const void* x, void* y, int64_t n, const UnaryParameters& parameters) const {
    // A row whose only element is broadcast has step 0; the output of such a loop has one element too.
    alignas(64) float in[kBlock], out[kBlock];
    const bool whole = rows[0].direct() && rows[1].direct();
    const int64_t block = whole ? n : kBlock;
    for (int64_t i = 0; i < n; i += block) {
      const int64_t count = std::min(block, n - i);
      const float* source = Gather(rows[0], rows[0].At(x, i * rows[0].step), count, in, conversions);
      void* target = rows[1].At(y, i * rows[1].step);
      float* result = rows[1].direct() ? static_cast<float*>(target) : out;
      if (rows[0].step == 0) {
        float value;
        fn(source, &value, 1, parameters);
        std::fill_n(result, count, value);
      } else {
        fn(source, result, static_cast<size_t>(count), parameters);
      }
      Store(rows[1], result, count, target, conversions, quantizer);
    }
  }

  void Run(const KernelArgs& args, const UnaryParameters& parameters) const {
    ParallelFor(threads, loop.count(), kElementGrain, [&](int64_t begin, int64_t end) {
      loop.ForElements(begin, end, [&](const auto& at, int64_t n) {
        RunRow(rows[0].At(args.inputs[0], at[0]), rows[1].At(args.outputs[0], at[1]), n, parameters);
      });
    });
  }
};

Result<UnaryPlan> PlanUnary(const BindContext& context, UnaryOp op) {
  OCTAVO_RETURN_IF_ERROR(CheckBroadcast(context));
  const Operand& x = context.inputs[0];
  const Operand& y = context.outputs[0];
  if (!IsFloat(x)) return Unsupported("only float32 and bfloat16 are fast");
  UnaryPlan plan;
  plan.loop = ElementwiseLoop<1>(y, {&x});
  plan.rows = RowAccesses<1>(plan.loop, {&x}, y);
  if (!IsFloat(y)) {
    OCTAVO_ASSIGN(plan.quantizer, RowQuantizer::Create(context, plan.rows[1]));
  }
  plan.fn = HWY_DYNAMIC_DISPATCH(UnaryRowOfTarget)(op);
  plan.conversions = ChooseRowConversions();
  plan.threads = context.threads;
  return plan;
}

Result<BoundKernel> BindUnaryOp(const BindContext& context, UnaryOp op, UnaryParameters parameters = {}) {
  OCTAVO_ASSIGN(UnaryPlan plan, PlanUnary(context, op));
  BoundKernel kernel;
  kernel.run = [plan = std::move(plan), parameters](const KernelArgs& args) {
    plan.Run(args, parameters);
    return Status();
  };
  return kernel;
}

struct BinaryPlan {
  StridedLoop<3> loop;
  std::array<RowAccess, 3> rows;
  BinaryRowFn fn = nullptr;
  RowConversions conversions{};
  RowQuantizer quantizer{};
  int threads = 1;

  void RunRow(const void* a, const void* b, void* y, int64_t n) const {
    alignas(64) float block_a[kBlock], block_b[kBlock], block_y[kBlock];
    const auto in_place = [](const RowAccess& row) {
      return row.direct() || (row.dtype == DType::kFloat32 && row.step == 0);
    };
    const int64_t block = in_place(rows[0]) && in_place(rows[1]) && rows[2].direct() ? n : kBlock;
    for (int64_t i = 0; i < n; i += block) {
      const int64_t count = std::min(block, n - i);
      const float* left = Gather(rows[0], rows[0].At(a, i * rows[0].step), count, block_a, conversions);
      const float* right = Gather(rows[1], rows[1].At(b, i * rows[1].step), count, block_b, conversions);
      void* target = rows[2].At(y, i * rows[2].step);
      float* result = rows[2].direct() ? static_cast<float*>(target) : block_y;
      fn(left, right, result, static_cast<size_t>(count));
      Store(rows[2], result, count, target, conversions, quantizer);
    }
  }

  void RunBroadcastRow(const void* a, const void* b, void* y, int64_t n) const {
    for (int64_t i = 0; i < n; ++i) RunRow(a, b, rows[2].At(y, i * rows[2].step), 1);
  }

  void Run(const KernelArgs& args) const {
    const bool both_broadcast = rows[0].step == 0 && rows[1].step == 0;
    ParallelFor(threads, loop.count(), kElementGrain, [&](int64_t begin, int64_t end) {
      loop.ForElements(begin, end, [&](const auto& at, int64_t n) {
        const void* a = rows[0].At(args.inputs[0], at[0]);
        const void* b = rows[1].At(args.inputs[1], at[1]);
        void* y = rows[2].At(args.outputs[0], at[2]);
        both_broadcast ? RunBroadcastRow(a, b, y, n) : RunRow(a, b, y, n);
      });
    });
  }
};

Result<BoundKernel> BindBinaryOp(const BindContext& context, BinaryOp op) {
  OCTAVO_RETURN_IF_ERROR(CheckBroadcast(context));
  if (context.inputs.size() != 2) return Unsupported("only two operands are fast");
  const Operand& a = context.inputs[0];
  const Operand& b = context.inputs[1];
  const Operand& y = context.outputs[0];
  if (!IsFloat(a) || !IsFloat(b)) return Unsupported("only float32 and bfloat16 are fast");
  BinaryPlan plan;
  plan.loop = ElementwiseLoop<2>(y, {&a, &b});
  plan.rows = RowAccesses<2>(plan.loop, {&a, &b}, y);
  if (!IsFloat(y)) {
    OCTAVO_ASSIGN(plan.quantizer, RowQuantizer::Create(context, plan.rows[2]));
  }
  const BinaryRows fns = HWY_DYNAMIC_DISPATCH(BinaryRowsOfTarget)(op);
  plan.fn = plan.rows[0].step == 0 ? fns.scalar_a : plan.rows[1].step == 0 ? fns.scalar_b : fns.both;
  plan.conversions = ChooseRowConversions();
  plan.threads = context.threads;
  BoundKernel kernel;
  kernel.run = [plan = std::move(plan)](const KernelArgs& args) {
    plan.Run(args);
    return Status();
  };
  return kernel;
}

float LoadScalar(DType dtype, const void* data) {
  if (dtype == DType::kFloat32) return *static_cast<const float*>(data);
  return BFloat16ToFloat(*static_cast<const uint16_t*>(data));
}

struct ParameterizedUnary {
  UnaryOp op = UnaryOp::kRelu;
  UnaryParameters parameters;
};

Result<ParameterizedUnary> FindUnary(const Node& node) {
  static constexpr std::pair<std::string_view, UnaryOp> kOps[] = {
      {"Relu", UnaryOp::kRelu},
      {"LeakyRelu", UnaryOp::kLeakyRelu},
      {"Sigmoid", UnaryOp::kSigmoid},
      {"Tanh", UnaryOp::kTanh},
      {"Erf", UnaryOp::kErf},
      {"Exp", UnaryOp::kExp},
      {"Log", UnaryOp::kLog},
      {"Sqrt", UnaryOp::kSqrt},
      {"Reciprocal", UnaryOp::kReciprocal},
      {"Neg", UnaryOp::kNeg},
      {"Abs", UnaryOp::kAbs},
      {"Silu", UnaryOp::kSilu},
      {"HardSwish", UnaryOp::kHardSwish},
      {"HardSigmoid", UnaryOp::kHardSigmoid},
      {"Gelu", UnaryOp::kGelu},
      {"RoundTo", UnaryOp::kRoundToBFloat16},
  };
  ParameterizedUnary unary;
  const auto* found =
      std::find_if(std::begin(kOps), std::end(kOps), [&](const auto& row) { return row.first == node.op; });
  if (found == std::end(kOps)) return Unsupported("no fast elementwise kernel");
  unary.op = found->second;
  if (unary.op == UnaryOp::kGelu) {
    const std::string form = node.String("approximate", "none");
    if (form != "none" && form != "tanh") return InvalidArgument("approximate is '" + form + "', not none or tanh");
    if (form == "tanh") unary.op = UnaryOp::kGeluTanh;
  }
  if (RoundedTo(node) == DType::kFloat16) unary.op = UnaryOp::kRoundToFloat16;
  if (unary.op == UnaryOp::kLeakyRelu) unary.parameters.first = node.Float("alpha", 0.01f);
  if (unary.op == UnaryOp::kSilu) unary.parameters.first = node.Float("alpha", 1.0f);
  if (unary.op == UnaryOp::kHardSigmoid) unary.parameters = {node.Float("alpha", 0.2f), node.Float("beta", 0.5f)};
  return unary;
}

RowFunction RowFunctionOf(UnaryOp op, const UnaryParameters& parameters) {
  RowFunction::Kind kind = RowFunction::Kind::kOther;
  if (op == UnaryOp::kRelu) kind = RowFunction::Kind::kRelu;
  if (op == UnaryOp::kRoughGelu) kind = RowFunction::Kind::kRoughGelu;
  if (op == UnaryOp::kRoughGeluTanh) kind = RowFunction::Kind::kRoughGeluTanh;
  if (op == UnaryOp::kRoughSilu) kind = RowFunction::Kind::kRoughSilu;
  return {kind, HWY_DYNAMIC_DISPATCH(UnaryRowOfTarget)(op), parameters};
}

constexpr UnaryParameters kNoBounds{std::numeric_limits<float>::lowest(), std::numeric_limits<float>::max()};

}  // namespace

Result<RowFunction> FindRowFunction(const Graph& graph, const Node& node) {
  if (!node.Is("Clip")) {
    OCTAVO_ASSIGN(const ParameterizedUnary unary, FindUnary(node));
    return RowFunctionOf(unary.op, unary.parameters);
  }
  UnaryParameters bounds = kNoBounds;
  if (graph.opset() < 11) bounds = {node.Float("min", bounds.first), node.Float("max", bounds.second)};
  for (size_t i : {1u, 2u}) {
    if (!node.has_input(i)) continue;
    const Tensor& bound = graph.value(node.input(i)).constant;
    if (bound.dtype() != DType::kFloat32 || bound.size() != 1) return Unsupported("a bound is not a float constant");
    (i == 1 ? bounds.first : bounds.second) = bound.values<float>()[0];
  }
  return RowFunctionOf(UnaryOp::kClip, bounds);
}

Result<RowFunction> FindRoughRowFunction(const Graph& graph, const Node& node) {
  if (node.Is("Clip")) return FindRowFunction(graph, node);
  OCTAVO_ASSIGN(const ParameterizedUnary unary, FindUnary(node));
  switch (unary.op) {
    case UnaryOp::kGelu:
      return RowFunctionOf(UnaryOp::kRoughGelu, unary.parameters);
    case UnaryOp::kGeluTanh:
      return RowFunctionOf(UnaryOp::kRoughGeluTanh, unary.parameters);
    case UnaryOp::kSilu:
      if (unary.parameters.first == 1.0f) return RowFunctionOf(UnaryOp::kRoughSilu, unary.parameters);
      return RowFunctionOf(unary.op, unary.parameters);
    default:
      return RowFunctionOf(unary.op, unary.parameters);
  }
}

Result<BoundKernel> BindFastUnary(const BindContext& context) {
  OCTAVO_ASSIGN(const ParameterizedUnary unary, FindUnary(context.node));
  return BindUnaryOp(context, unary.op, unary.parameters);
}

Result<BoundKernel> BindFastClip(const BindContext& context) {
  OCTAVO_ASSIGN(UnaryPlan plan, PlanUnary(context, UnaryOp::kClip));
  std::array<DType, 2> bounds{};  // kUndefined: absent
  for (size_t i = 0; i < 2 && i + 1 < context.inputs.size(); ++i) {
    const Operand& bound = context.inputs[i + 1];
    if (!bound.present) continue;
    if (!IsFloat(bound) || ElementCount(bound.dims) != 1) return Unsupported("a bound is not a float scalar");
    bounds[i] = bound.dtype;
  }
  UnaryParameters attributes = kNoBounds;
  if (context.opset < 11) {
    attributes = {context.node.Float("min", attributes.first), context.node.Float("max", attributes.second)};
  }
  BoundKernel kernel;
  kernel.run = [plan = std::move(plan), bounds, attributes](const KernelArgs& args) {
    UnaryParameters parameters = attributes;
    if (bounds[0] != DType::kUndefined) parameters.first = LoadScalar(bounds[0], args.inputs[1]);
    if (bounds[1] != DType::kUndefined) parameters.second = LoadScalar(bounds[1], args.inputs[2]);
    plan.Run(args, parameters);
    return Status();
  };
  return kernel;
}

Result<BoundKernel> BindFastBinary(const BindContext& context) {
  static constexpr std::pair<std::string_view, BinaryOp> kOps[] = {
      {"Add", BinaryOp::kAdd}, {"Sub", BinaryOp::kSub}, {"Mul", BinaryOp::kMul},
      {"Div", BinaryOp::kDiv}, {"Min", BinaryOp::kMin}, {"Max", BinaryOp::kMax},
  };
  for (const auto& [name, op] : kOps) {
    if (context.node.op == name) return BindBinaryOp(context, op);
  }
  return Unsupported("no fast elementwise kernel");
}

Result<BoundKernel> BindFastPow(const BindContext& context) {
  if (context.inputs.size() != 2 || context.inputs[1].constant == nullptr) return Unsupported("the exponent varies");
  if (context.inputs[1].constant->size() != 1 || context.inputs[1].dims.size() > context.outputs[0].dims.size()) {
    return Unsupported("the exponent is no scalar");
  }
  OCTAVO_ASSIGN(const std::vector<float> exponent, ToFloats(*context.inputs[1].constant));
  if (exponent[0] == 2.0f) return BindUnaryOp(context, UnaryOp::kSquare);
  if (exponent[0] == 0.5f) return BindUnaryOp(context, UnaryOp::kSqrt);
  if (exponent[0] == -0.5f) return BindUnaryOp(context, UnaryOp::kReciprocalSqrt);
  return Unsupported("only the exponents 2, 0.5 and -0.5 are fast");
}

}  // namespace octavo
#endif
