#include "kernels/integer/quantize_linear.h"

#include <algorithm>
#include <array>

#include "base/parallel.h"
#include "graph/quantization.h"
#include "kernels/integer/epilogue.h"
#include "kernels/integer/rows_to_bytes.h"
#include "kernels/simd/convert.h"
#include "kernels/strided.h"

namespace octavo {
namespace {

constexpr int64_t kBlock = 1024;
constexpr int64_t kGrain = 16384;

bool IsReal(DType dtype) { return dtype == DType::kFloat32 || dtype == DType::kBFloat16; }
bool IsByte(DType dtype) { return dtype == DType::kUInt8 || dtype == DType::kInt8; }

// How one operand of a row lies, and how n of its elements get from there to a dense block and back.
struct Lane {
  DType dtype = DType::kUndefined;
  int64_t step = 1;
  size_t size = 1;

  bool dense() const { return step == 1; }
  const char* At(const void* data, int64_t i) const {
    return static_cast<const char*>(data) + i * static_cast<int64_t>(size);
  }
  char* At(void* data, int64_t i) const { return static_cast<char*>(data) + i * static_cast<int64_t>(size); }
};

template <typename T>
const T* Gather(const Lane& lane, const void* from, int64_t n, T* block) {
  const T* x = static_cast<const T*>(from);
  if (lane.dense()) return x;
  for (int64_t i = 0; i < n; ++i) block[i] = x[i * lane.step];
  return block;
}

template <typename T>
void Scatter(const Lane& lane, const T* block, int64_t n, void* to) {
  T* y = static_cast<T*>(to);
  for (int64_t i = 0; i < n; ++i) y[i * lane.step] = block[i];
}

struct Plan {
  StridedLoop<2> loop;
  Lane from, to;
  float scale = 1;
  int32_t zero_point = 0;
  QuantizeRows rows{};
  RowConversions conversions{};
  int threads = 1;

  void QuantizeBlock(const void* x, void* y, int64_t n) const {
    alignas(64) float real[kBlock];
    alignas(64) uint16_t narrow[kBlock];
    alignas(64) uint8_t bytes[kBlock];
    const float* source = real;
    if (from.dtype == DType::kFloat32) {
      source = Gather(from, x, n, real);
    } else {
      conversions.widen(Gather(from, x, n, narrow), real, static_cast<size_t>(n));
    }
    rows.quantize(source, to.dense() ? y : bytes, n, scale, zero_point, to.dtype == DType::kInt8);
    if (!to.dense()) Scatter(to, bytes, n, y);
  }

  void DequantizeBlock(const void* x, void* y, int64_t n) const {
    alignas(64) float real[kBlock];
    alignas(64) uint16_t narrow[kBlock];
    alignas(64) uint8_t bytes[kBlock];
    const uint8_t* source = Gather(from, x, n, bytes);
    float* target = to.dense() && to.dtype == DType::kFloat32 ? static_cast<float*>(y) : real;
    rows.dequantize(source, target, n, scale, zero_point, from.dtype == DType::kInt8);
    if (target != real) return;
    if (to.dtype == DType::kFloat32) {
      Scatter(to, real, n, y);
      return;
    }
    conversions.narrow(real, to.dense() ? static_cast<uint16_t*>(y) : narrow, static_cast<size_t>(n));
    if (!to.dense()) Scatter(to, narrow, n, y);
  }

  template <void (Plan::*kRun)(const void*, void*, int64_t) const>
  void Run(const KernelArgs& args) const {
    ParallelFor(threads, loop.count(), kGrain, [&](int64_t begin, int64_t end) {
      loop.ForElements(begin, end, [&](const auto& at, int64_t n) {
        for (int64_t i = 0; i < n; i += kBlock) {
          const int64_t count = std::min(kBlock, n - i);
          (this->*kRun)(from.At(args.inputs[0], at[0] + i * from.step), to.At(args.outputs[0], at[1] + i * to.step),
                        count);
        }
      });
    });
  }
};

Result<QuantizeParams> ParamsOf(const BindContext& context, DType integers) {
  const Operand &x = context.inputs[0], &scale = context.inputs[1];
  const bool has_zero_point = context.inputs.size() > 2 && context.inputs[2].present;
  if (scale.constant == nullptr || (has_zero_point && context.inputs[2].constant == nullptr)) {
    return Unsupported("its scale is computed");
  }
  return MakeQuantizeParams(context.node, static_cast<int64_t>(x.dims.size()), integers, *scale.constant,
                            has_zero_point ? *context.inputs[2].constant : Tensor());
}

Result<Plan> MakePlan(const BindContext& context, const QuantizeParams& params) {
  const Operand &x = context.inputs[0], &y = context.outputs[0];
  if (!params.per_tensor()) return Unsupported("scales per slice");
  Plan plan;
  plan.scale = params.scales[0];
  plan.zero_point = params.zero_points[0];
  Dims dims = x.dims;
  std::array<Dims, 2> strides{x.strides, y.strides};
  OrderByStride(1, dims, strides);
  plan.loop = StridedLoop<2>(dims, strides);
  plan.from = {x.dtype, plan.loop.inner_steps()[0], SizeOf(x.dtype)};
  plan.to = {y.dtype, plan.loop.inner_steps()[1], SizeOf(y.dtype)};
  // A loop of one element has no steps.
  if (plan.loop.inner_size() == 1) plan.from.step = plan.to.step = 1;
  plan.rows = ChooseQuantizeRows();
  plan.conversions = ChooseRowConversions();
  plan.threads = context.threads;
  return plan;
}

}  // namespace

Result<BoundKernel> BindFastQuantize(const BindContext& context) {
  if (!IsReal(context.inputs[0].dtype) || !IsByte(context.outputs[0].dtype)) return Unsupported("types");
  OCTAVO_ASSIGN(const QuantizeParams params, ParamsOf(context, context.outputs[0].dtype));
  if (!params.per_tensor()) {
    const EpilogueOutput output{context.outputs[0].dtype, 1, 0,
                                ChannelQuantizer::Create(params.scales, params.zero_points)};
    return BindChannelQuantize(context.inputs[0], context.outputs[0], static_cast<size_t>(params.axis), {}, output,
                               context.threads);
  }
  OCTAVO_ASSIGN(Plan plan, MakePlan(context, params));
  BoundKernel kernel;
  kernel.run = [plan = std::move(plan)](const KernelArgs& args) {
    plan.Run<&Plan::QuantizeBlock>(args);
    return Status();
  };
  return kernel;
}

Result<BoundKernel> BindFastDequantize(const BindContext& context) {
  if (!IsByte(context.inputs[0].dtype) || !IsReal(context.outputs[0].dtype)) return Unsupported("types");
  OCTAVO_ASSIGN(const QuantizeParams params, ParamsOf(context, context.inputs[0].dtype));
  OCTAVO_ASSIGN(Plan plan, MakePlan(context, params));
  BoundKernel kernel;
  kernel.run = [plan = std::move(plan)](const KernelArgs& args) {
    plan.Run<&Plan::DequantizeBlock>(args);
    return Status();
  };
  return kernel;
}

}  // namespace octavo
