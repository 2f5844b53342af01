// LayerNormalization, InstanceNormalization, GroupNormalization, BatchNormalization and the forms of them that passes
// make. Sums are taken in double.
#include <cmath>

#include "base/parallel.h"
#include "kernels/generic/elements.h"
#include "kernels/generic/normalize.h"
#include "kernels/generic/rows.h"
#include "kernels/strided.h"

namespace octavo {
namespace {

constexpr int64_t kGrain = 16384;  // elements read that are worth a thread's start

// An attribute that shape inference has found to be in range.
size_t AxisOf(const BindContext& context, int64_t fallback) {
  const int64_t axis = context.node.Int("axis", fallback);
  return static_cast<size_t>(axis < 0 ? axis + static_cast<int64_t>(context.inputs[0].dims.size()) : axis);
}

// A normalization of input 0 into output 0, both still over the input's own axes.
Normalization NormalizationOf(const BindContext& context, float default_epsilon) {
  const Operand& x = context.inputs[0];
  Normalization n(x.dims);
  n.x = x.strides;
  n.y = context.outputs[0].strides;
  n.x_type = x.dtype;
  n.has_scale = context.inputs.size() > 1 && context.inputs[1].present;
  n.has_bias = context.inputs.size() > 2 && context.inputs[2].present;
  if (n.has_scale) n.scale_type = context.inputs[1].dtype;
  n.epsilon = static_cast<double>(context.node.Float("epsilon", default_epsilon));
  n.threads = context.threads;
  return n;
}

bool HasDims(const Operand& operand, const Dims& dims) { return operand.dims == dims; }

Status CheckScaleAndBias(const BindContext& context) {
  const auto in = context.inputs;
  if (in.size() > 2 && in[1].present && in[2].present && in[1].dtype != in[2].dtype) {
    return InvalidArgument("scale and bias differ in type");
  }
  return {};
}

Result<BoundKernel> BindLayerNormalization(const BindContext& context) {
  OCTAVO_RETURN_IF_ERROR(CheckScaleAndBias(context));
  Normalization n = NormalizationOf(context, 1e-5f);
  const size_t axis = AxisOf(context, -1);
  for (size_t d = axis; d < n.dims.size(); ++d) n.reduced[d] = true;
  for (size_t i = 1; i < std::min<size_t>(3, context.inputs.size()); ++i) {
    const Operand& operand = context.inputs[i];
    if (!operand.present) continue;
    bool fits = operand.dims.size() <= n.dims.size();
    for (size_t d = 0; fits && d < operand.dims.size(); ++d) {
      fits = operand.dims[d] == 1 || operand.dims[d] == n.dims[n.dims.size() - operand.dims.size() + d];
    }
    if (!fits) return InvalidArgument("scale or bias does not broadcast to the input");
    (i == 1 ? n.scale : n.bias) = BroadcastStrides(operand.dims, operand.strides, n.dims);
  }
  for (size_t i = 1; i < std::min<size_t>(3, context.outputs.size()); ++i) {
    const Operand& operand = context.outputs[i];
    if (!operand.present) continue;
    if (operand.dtype != DType::kFloat32) return UnsupportedDType(operand.dtype);
    (i == 1 ? n.has_mean : n.has_inverse_deviation) = true;
    (i == 1 ? n.mean : n.inverse_deviation) = operand.strides;
  }
  return BindNormalization(n);
}

// octavo::LayerNorm: one axis, scale and bias along it.
Result<BoundKernel> BindLayerNorm(const BindContext& context) {
  OCTAVO_RETURN_IF_ERROR(CheckScaleAndBias(context));
  Normalization n = NormalizationOf(context, 1e-5f);
  const size_t axis = AxisOf(context, -1);
  n.reduced[axis] = true;
  for (size_t i = 1; i < std::min<size_t>(3, context.inputs.size()); ++i) {
    const Operand& operand = context.inputs[i];
    if (!operand.present) continue;
    if (!HasDims(operand, {n.dims[axis]})) return InvalidArgument("scale or bias is not as long as the axis");
    (i == 1 ? n.scale : n.bias)[axis] = operand.strides[0];
  }
  return BindNormalization(n);
}

Result<BoundKernel> BindInstanceNormalization(const BindContext& context) {
  OCTAVO_RETURN_IF_ERROR(CheckScaleAndBias(context));
  Normalization n = NormalizationOf(context, 1e-5f);
  if (n.dims.size() < 2) return InvalidArgument("the input has no channels");
  for (size_t d = 2; d < n.dims.size(); ++d) n.reduced[d] = true;
  for (size_t i : {1, 2}) {
    if (!HasDims(context.inputs[i], {n.dims[1]})) return InvalidArgument("scale or bias is not one per channel");
    (i == 1 ? n.scale : n.bias)[1] = context.inputs[i].strides[0];
  }
  return BindNormalization(n);
}

// `strides` over (N, C, spatial...) as strides over (N, groups, C / groups, spatial...).
Dims SplitChannels(const Dims& strides, int64_t channels_per_group) {
  Dims result = strides;
  result.insert(result.begin() + 1, strides[1] * channels_per_group);
  return result;
}

// The views of x and y with the channels split into groups; mean and variance are taken within a group.
Result<Normalization> GroupedNormalization(const BindContext& context) {
  OCTAVO_RETURN_IF_ERROR(CheckScaleAndBias(context));
  const Normalization flat = NormalizationOf(context, 1e-5f);
  const int64_t groups = context.node.Int("num_groups", 1);
  if (flat.dims.size() < 2 || groups < 1 || flat.dims[1] % groups != 0) {
    return InvalidArgument("the channels cannot be split into " + std::to_string(groups) + " groups");
  }
  Dims dims = flat.dims;
  dims[1] /= groups;
  dims.insert(dims.begin() + 1, groups);
  Normalization n(dims);
  n.x = SplitChannels(flat.x, dims[2]);
  n.y = SplitChannels(flat.y, dims[2]);
  n.x_type = flat.x_type;
  n.scale_type = flat.scale_type;
  n.has_scale = flat.has_scale;
  n.has_bias = flat.has_bias;
  n.epsilon = flat.epsilon;
  n.threads = flat.threads;
  for (size_t d = 2; d < dims.size(); ++d) n.reduced[d] = true;
  return n;
}

// Opset 18 has one scale and bias per group, opset 21 one per channel.
Result<BoundKernel> BindGroupNormalization(const BindContext& context) {
  OCTAVO_ASSIGN(Normalization n, GroupedNormalization(context));
  const bool per_group = context.opset < 21;
  const int64_t expected = per_group ? n.dims[1] : n.dims[1] * n.dims[2];
  for (size_t i : {1, 2}) {
    const Operand& operand = context.inputs[i];
    if (!HasDims(operand, {expected})) return InvalidArgument("scale or bias does not have the expected length");
    Dims& strides = i == 1 ? n.scale : n.bias;
    strides[1] = per_group ? operand.strides[0] : operand.strides[0] * n.dims[2];
    strides[2] = per_group ? 0 : operand.strides[0];
  }
  return BindNormalization(n);
}

// octavo::GroupNorm: scale and bias are [C] or [N or 1, C].
Result<BoundKernel> BindGroupNorm(const BindContext& context) {
  OCTAVO_ASSIGN(Normalization n, GroupedNormalization(context));
  const std::string activation = context.node.String("activation", "none");
  if (activation != "none" && activation != "silu") return InvalidArgument("activation is '" + activation + "'");
  n.silu = activation == "silu";
  const int64_t channels = n.dims[1] * n.dims[2];
  for (size_t i = 1; i < std::min<size_t>(3, context.inputs.size()); ++i) {
    const Operand& operand = context.inputs[i];
    if (!operand.present) continue;
    const bool per_image = HasDims(operand, {n.dims[0], channels});
    if (!per_image && !HasDims(operand, {1, channels}) && !HasDims(operand, {channels})) {
      return InvalidArgument("scale or bias is not one per channel");
    }
    Dims& strides = i == 1 ? n.scale : n.bias;
    strides[0] = per_image ? operand.strides[0] : 0;
    strides[1] = operand.strides.back() * n.dims[2];
    strides[2] = operand.strides.back();
  }
  return BindNormalization(n);
}

// y = (x - mean) / sqrt(variance + epsilon) * scale + bias, all four per channel.
template <typename T, typename P>
BoundKernel BindTypedBatchNormalization(const StridedLoop<6>& loop, double epsilon, int threads) {
  BoundKernel kernel;
  kernel.run = [loop, epsilon, threads](const KernelArgs& args) {
    const T* x = static_cast<const T*>(args.inputs[0]);
    std::array<const P*, 4> parameters;  // scale, bias, mean, variance
    for (size_t i = 0; i < 4; ++i) parameters[i] = static_cast<const P*>(args.inputs[i + 1]);
    T* y = static_cast<T*>(args.outputs[0]);
    ParallelFor(threads, loop.count(), kGrain, [&](int64_t begin, int64_t end) {
      loop.ForEachIn(begin, end, [&](const auto& at) {
        const auto parameter = [&](size_t i) { return static_cast<double>(Load(parameters[i][at[i + 1]])); };
        const double centered = static_cast<double>(Load(x[at[0]])) - parameter(2);
        y[at[5]] = Store<T>(centered / std::sqrt(parameter(3) + epsilon) * parameter(0) + parameter(1));
      });
    });
    return Status();
  };
  return kernel;
}

Result<BoundKernel> BindBatchNormalization(const BindContext& context) {
  const auto in = context.inputs;
  const Operand& x = in[0];
  if (context.node.Int("training_mode", 0) != 0) return Unsupported("training_mode is not supported");
  if (x.dims.size() < 2 || x.dims.size() > kMaxRank) return InvalidArgument("the input has no channels");
  std::array<Dims, 6> strides;
  strides[0] = x.strides;
  strides[5] = context.outputs[0].strides;
  for (size_t i = 1; i < 5; ++i) {
    if (!HasDims(in[i], {x.dims[1]})) return InvalidArgument("a parameter is not one per channel");
    if (in[i].dtype != in[1].dtype) return InvalidArgument("the parameters differ in type");
    strides[i] = Dims(x.dims.size(), 0);
    strides[i][1] = in[i].strides[0];
  }
  Dims dims = x.dims;
  OrderByStride(5, dims, strides);
  const StridedLoop<6> loop(dims, strides);
  const double epsilon = static_cast<double>(context.node.Float("epsilon", 1e-5f));
  return ForDType(FloatTypes(), x.dtype, [&]<typename T>(std::type_identity<T>) -> Result<BoundKernel> {
    if (in[1].dtype == x.dtype) return BindTypedBatchNormalization<T, T>(loop, epsilon, context.threads);
    if (in[1].dtype == DType::kFloat32) return BindTypedBatchNormalization<T, float>(loop, epsilon, context.threads);
    return UnsupportedDType(in[1].dtype);
  });
}

}  // namespace

std::span<const GenericKernelRow> LayerNormalizationKernels() {
  static constexpr GenericKernelRow kRows[] = {
      {"", "LayerNormalization", BindLayerNormalization}, {"", "InstanceNormalization", BindInstanceNormalization},
      {"", "GroupNormalization", BindGroupNormalization}, {"", "BatchNormalization", BindBatchNormalization},
      {kOctavoDomain, "LayerNorm", BindLayerNorm},        {kOctavoDomain, "GroupNorm", BindGroupNorm},
  };
  return kRows;
}

}  // namespace octavo
