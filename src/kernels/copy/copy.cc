#include "kernels/copy/copy.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <utility>
#include <vector>

#include "base/parallel.h"

namespace octavo {
namespace {

// A block is one cache line of float wide where `from` has neighbours and 1 KB long where `to` has; the opposite where
// `to` has only few neighbours, as a picture's three channels.
constexpr int64_t kBlockShort = 16;
constexpr int64_t kBlockLong = 256;
// Elements that one thread takes at least.
constexpr int64_t kCopyGrain = 16384;

template <typename T>
void CopyElements(const void* from_data, int64_t from_step, void* to_data, int64_t to_step, int64_t n) {
  const T* from = static_cast<const T*>(from_data);
  T* to = static_cast<T*>(to_data);
  if (from_step == 0 && to_step == 1) {
    std::fill_n(to, n, *from);
    return;
  }
  for (int64_t i = 0; i < n; ++i) to[i * to_step] = from[i * from_step];
}

void WidenElements(const void* from_data, int64_t from_step, void* to_data, int64_t to_step, int64_t n) {
  const uint16_t* from = static_cast<const uint16_t*>(from_data);
  float* to = static_cast<float*>(to_data);
  for (int64_t i = 0; i < n; ++i) to[i * to_step] = BFloat16ToFloat(from[i * from_step]);
}

void NarrowElements(const void* from_data, int64_t from_step, void* to_data, int64_t to_step, int64_t n) {
  const float* from = static_cast<const float*>(from_data);
  uint16_t* to = static_cast<uint16_t*>(to_data);
  for (int64_t i = 0; i < n; ++i) to[i * to_step] = FloatToBFloat16(from[i * from_step]);
}

// Loops of size 1 dropped, loops that are one for both operands merged.
void MergeLoops(Dims& dims, std::array<Dims, 2>& strides) {
  Dims sizes;
  std::array<Dims, 2> steps;
  for (size_t d = 0; d < dims.size(); ++d) {
    if (dims[d] == 1) continue;
    const bool merges =
        !sizes.empty() && steps[0].back() == strides[0][d] * dims[d] && steps[1].back() == strides[1][d] * dims[d];
    if (merges) {
      sizes.back() *= dims[d];
      for (size_t k = 0; k < 2; ++k) steps[k].back() = strides[k][d];
    } else {
      sizes.push_back(dims[d]);
      for (size_t k = 0; k < 2; ++k) steps[k].push_back(strides[k][d]);
    }
  }
  dims = std::move(sizes);
  strides = std::move(steps);
}

bool Broadcasts(const Dims& from, const Dims& to) {
  if (from.size() > to.size()) return false;
  for (size_t d = 0; d < from.size(); ++d) {
    if (from[d] != 1 && from[d] != to[to.size() - from.size() + d]) return false;
  }
  return true;
}

void Erase(Dims& values, size_t d) { values.erase(values.begin() + static_cast<int64_t>(d)); }

}  // namespace

CopyPlan::RowFn CopyPlan::ChooseRow(DType from, DType to) {
  if (from == DType::kBFloat16 && to == DType::kFloat32) return WidenElements;
  if (from == DType::kFloat32 && to == DType::kBFloat16) return NarrowElements;
  if (from != to) return nullptr;
  switch (SizeOf(from)) {
    case 1:
      return CopyElements<uint8_t>;
    case 2:
      return CopyElements<uint16_t>;
    case 4:
      return CopyElements<uint32_t>;
    case 8:
      return CopyElements<uint64_t>;
    default:
      return nullptr;
  }
}

Result<CopyPlan> CopyPlan::Create(const Operand& from, const Operand& to, int threads) {
  if (!from.present || !to.present) return InvalidArgument("an operand is absent");
  if (to.dims.size() > kMaxRank) return Unsupported("rank " + std::to_string(to.dims.size()) + " is too high");
  if (!Broadcasts(from.dims, to.dims)) {
    return InvalidArgument(ToString(from.dims) + " does not broadcast to " + ToString(to.dims));
  }
  CopyPlan plan;
  plan.row_ = ChooseRow(from.dtype, to.dtype);
  if (plan.row_ == nullptr) return Unsupported("only float32 and bfloat16 are converted by a copy");
  plan.from_size_ = static_cast<int64_t>(SizeOf(from.dtype));
  plan.to_size_ = static_cast<int64_t>(SizeOf(to.dtype));
  plan.threads_ = threads;
  plan.bytes_ = from.dtype == to.dtype;
  plan.widens_ = !plan.bytes_ && from.dtype == DType::kBFloat16;
  plan.narrows_ = !plan.bytes_ && !plan.widens_;
  plan.conversions_ = ChooseRowConversions();
  Dims dims = to.dims;
  std::array<Dims, 2> strides = {BroadcastStrides(from.dims, from.strides, dims), to.strides};
  OrderByStride(1, dims, strides);
  MergeLoops(dims, strides);
  const size_t i = dims.size() - 1;
  if (dims.size() >= 2 && strides[1][i] == 1 && strides[0][i] != 1) {
    for (size_t j = 0; j < i; ++j) {
      if (strides[0][j] != 1 || strides[1][j] <= 0) continue;
      plan.transpose_ = ChooseTranspose(from.dtype, to.dtype);
      plan.ni_ = dims[i];
      plan.nj_ = dims[j];
      plan.block_i_ = plan.ni_ < kBlockShort ? kBlockShort : kBlockLong;
      plan.block_j_ = plan.ni_ < kBlockShort ? kBlockLong : kBlockShort;
      plan.from_stride_ = strides[0][i];
      plan.to_stride_ = strides[1][j];
      for (size_t d : {i, j}) {
        Erase(dims, d);
        for (Dims& s : strides) Erase(s, d);
      }
      break;
    }
  }
  plan.loop_ = StridedLoop<2>(dims, strides);
  return plan;
}

void CopyPlan::Run(const void* from, void* to) const {
  const char* source = static_cast<const char*>(from);
  char* target = static_cast<char*>(to);
  transpose_ != nullptr ? RunBlocks(source, target) : RunRows(source, target);
}

void CopyPlan::RunRows(const char* from, char* to) const {
  const auto step = loop_.inner_steps();
  const bool rows = step[0] == 1 && step[1] == 1;
  ParallelFor(threads_, loop_.count(), kCopyGrain, [&](int64_t begin, int64_t end) {
    loop_.ForElements(begin, end, [&](const auto& at, int64_t n) {
      const void* x = from + at[0] * from_size_;
      void* y = to + at[1] * to_size_;
      if (!rows) {
        row_(x, step[0], y, step[1], n);
      } else if (bytes_) {
        std::memcpy(y, x, static_cast<size_t>(n * to_size_));
      } else if (widens_) {
        conversions_.widen(static_cast<const uint16_t*>(x), static_cast<float*>(y), static_cast<size_t>(n));
      } else {
        conversions_.narrow(static_cast<const float*>(x), static_cast<uint16_t*>(y), static_cast<size_t>(n));
      }
    });
  });
}

// Blocks of one plane are numbered along i first: each thread then writes runs of neighbouring rows.
void CopyPlan::RunBlock(const char* from, char* to, int64_t block) const {
  const int64_t blocks_i = (ni_ + block_i_ - 1) / block_i_;
  const int64_t i = block % blocks_i * block_i_, j = block / blocks_i * block_j_;
  transpose_(from + (i * from_stride_ + j) * from_size_, from_stride_, to + (j * to_stride_ + i) * to_size_, to_stride_,
             std::min(block_i_, ni_ - i), std::min(block_j_, nj_ - j));
}

void CopyPlan::RunBlocks(const char* from, char* to) const {
  const int64_t per_plane = (ni_ + block_i_ - 1) / block_i_ * ((nj_ + block_j_ - 1) / block_j_);
  const int64_t block_size = std::min(ni_, block_i_) * std::min(nj_, block_j_);
  const int64_t grain = std::max<int64_t>(1, kCopyGrain / std::max<int64_t>(1, block_size));
  ParallelFor(threads_, loop_.count() * per_plane, grain, [&](int64_t begin, int64_t end) {
    int64_t block = begin % per_plane;
    loop_.ForEachIn(begin / per_plane, (end + per_plane - 1) / per_plane, [&](const auto& at) {
      const int64_t last = std::min(per_plane, block + end - begin);
      begin += last - block;
      for (; block < last; ++block) RunBlock(from + at[0] * from_size_, to + at[1] * to_size_, block);
      block = 0;
    });
  });
}

Result<BoundKernel> BindCopy(const Operand& from, const Operand& to, int threads) {
  OCTAVO_ASSIGN(CopyPlan plan, CopyPlan::Create(from, to, threads));
  BoundKernel kernel;
  kernel.run = [plan = std::move(plan)](const KernelArgs& args) {
    plan.Run(args.inputs[0], args.outputs[0]);
    return Status();
  };
  return kernel;
}

Result<BoundKernel> BindFastTranspose(const BindContext& context) {
  Operand from = context.inputs[0];
  const size_t rank = from.dims.size();
  std::vector<int64_t> order(rank);
  for (size_t d = 0; d < rank; ++d) order[d] = static_cast<int64_t>(rank - 1 - d);
  order = context.node.Ints("perm", order);
  if (order.size() != rank) return InvalidArgument("perm has the wrong length");
  for (size_t d = 0; d < rank; ++d) {
    if (order[d] < 0 || order[d] >= static_cast<int64_t>(rank)) return InvalidArgument("perm is out of range");
    from.dims[d] = context.inputs[0].dims[static_cast<size_t>(order[d])];
    from.strides[d] = context.inputs[0].strides[static_cast<size_t>(order[d])];
  }
  return BindCopy(from, context.outputs[0], context.threads);
}

namespace {

Result<size_t> AxisOf(const Node& node, int64_t fallback, size_t rank) {
  const int64_t axis = node.Int("axis", fallback), n = static_cast<int64_t>(rank);
  if (axis < -n || axis >= n) return InvalidArgument("axis is out of range");
  return static_cast<size_t>(axis < 0 ? axis + n : axis);
}

// A copy between one whole operand and a part of another one, which starts `offset` bytes in.
struct PartCopy {
  CopyPlan plan;
  size_t operand;
  int64_t offset;
};

}  // namespace

Result<BoundKernel> BindFastConcat(const BindContext& context) {
  const Operand& output = context.outputs[0];
  OCTAVO_ASSIGN(const size_t axis, AxisOf(context.node, 1, output.dims.size()));
  std::vector<PartCopy> parts;
  int64_t position = 0;
  for (size_t k = 0; k < context.inputs.size(); ++k) {
    const Operand& input = context.inputs[k];
    if (!input.present || input.dims.size() != output.dims.size()) return InvalidArgument("the ranks differ");
    const int64_t offset = position * output.strides[axis] * static_cast<int64_t>(SizeOf(output.dtype));
    Operand part = output;
    part.dims[axis] = input.dims[axis];
    position += input.dims[axis];
    if (position > output.dims[axis]) return InvalidArgument("the inputs are longer than the output");
    if (ElementCount(input.dims) == 0) continue;
    OCTAVO_ASSIGN(CopyPlan plan, CopyPlan::Create(input, part, context.threads));
    parts.push_back({std::move(plan), k, offset});
  }
  BoundKernel kernel;
  kernel.run = [parts = std::move(parts)](const KernelArgs& args) {
    for (const PartCopy& part : parts) {
      part.plan.Run(args.inputs[part.operand], static_cast<char*>(args.outputs[0]) + part.offset);
    }
    return Status();
  };
  return kernel;
}

Result<BoundKernel> BindFastSplit(const BindContext& context) {
  const Operand& input = context.inputs[0];
  OCTAVO_ASSIGN(const size_t axis, AxisOf(context.node, 0, input.dims.size()));
  std::vector<PartCopy> parts;
  int64_t position = 0;
  for (size_t k = 0; k < context.outputs.size(); ++k) {
    const Operand& output = context.outputs[k];
    // The length of an output that nobody wants is not known here.
    if (!output.present || output.dims.size() != input.dims.size()) return Unsupported("an output is absent");
    const int64_t offset = position * input.strides[axis] * static_cast<int64_t>(SizeOf(input.dtype));
    Operand part = input;
    part.dims[axis] = output.dims[axis];
    position += output.dims[axis];
    if (position > input.dims[axis]) return InvalidArgument("the outputs are longer than the input");
    if (ElementCount(output.dims) == 0) continue;
    OCTAVO_ASSIGN(CopyPlan plan, CopyPlan::Create(part, output, context.threads));
    parts.push_back({std::move(plan), k, offset});
  }
  BoundKernel kernel;
  kernel.run = [parts = std::move(parts)](const KernelArgs& args) {
    for (const PartCopy& part : parts) {
      part.plan.Run(static_cast<const char*>(args.inputs[0]) + part.offset, args.outputs[part.operand]);
    }
    return Status();
  };
  return kernel;
}

namespace {

// Input k as integers; `fallback` where it is absent.
Result<std::vector<int64_t>> ConstantInts(const BindContext& context, size_t k, std::vector<int64_t> fallback) {
  if (k >= context.inputs.size() || !context.inputs[k].present) return fallback;
  if (context.inputs[k].constant == nullptr) return Unsupported("a bound of the slice is not constant");
  return ToInt64s(*context.inputs[k].constant);
}

// The first position of a slice of a dimension of size `size`, as ONNX clamps it.
int64_t SliceStart(int64_t start, int64_t step, int64_t size) {
  if (start < 0) start += size;
  return std::clamp<int64_t>(start, 0, step > 0 ? size : size - 1);
}

}  // namespace

// The lengths of the slice are the output's.
Result<BoundKernel> BindFastSlice(const BindContext& context) {
  if (context.opset < 10) return Unsupported("bounds as attributes");
  Operand from = context.inputs[0];
  OCTAVO_ASSIGN(const std::vector<int64_t> starts, ConstantInts(context, 1, {}));
  std::vector<int64_t> all(starts.size()), ones(starts.size(), 1);
  for (size_t i = 0; i < all.size(); ++i) all[i] = static_cast<int64_t>(i);
  OCTAVO_ASSIGN(const std::vector<int64_t> axes, ConstantInts(context, 3, all));
  OCTAVO_ASSIGN(const std::vector<int64_t> steps, ConstantInts(context, 4, ones));
  if (axes.size() != starts.size() || steps.size() != starts.size())
    return InvalidArgument("the bounds' counts differ");
  const int64_t rank = static_cast<int64_t>(from.dims.size());
  if (context.outputs[0].dims.size() != from.dims.size()) return InvalidArgument("the ranks differ");
  if (ElementCount(context.outputs[0].dims) == 0) return Unsupported("nothing to copy");
  int64_t offset = 0;
  for (size_t i = 0; i < starts.size(); ++i) {
    if (axes[i] < -rank || axes[i] >= rank || steps[i] == 0) return InvalidArgument("a bound is out of range");
    const size_t d = static_cast<size_t>(axes[i] < 0 ? axes[i] + rank : axes[i]);
    const int64_t size = context.inputs[0].dims[d], length = context.outputs[0].dims[d];
    const int64_t start = SliceStart(starts[i], steps[i], size);
    // A step beyond the size is taken once at most; the check keeps start + (length - 1) * step from overflowing.
    const int64_t step = std::clamp<int64_t>(steps[i], -size, size);
    const int64_t last = start + (length - 1) * step;
    if (last < 0 || last >= size) return InvalidArgument("the slice leaves its input");
    offset += start * from.strides[d];
    from.dims[d] = length;
    from.strides[d] *= step;
  }
  OCTAVO_ASSIGN(CopyPlan plan, CopyPlan::Create(from, context.outputs[0], context.threads));
  BoundKernel kernel;
  kernel.run = [plan = std::move(plan),
                bytes = offset * static_cast<int64_t>(SizeOf(from.dtype))](const KernelArgs& args) {
    plan.Run(static_cast<const char*>(args.inputs[0]) + bytes, args.outputs[0]);
    return Status();
  };
  return kernel;
}

Result<BoundKernel> BindFastExpand(const BindContext& context) {
  return BindCopy(context.inputs[0], context.outputs[0], context.threads);
}

Result<BoundKernel> BindFastCast(const BindContext& context) {
  return BindCopy(context.inputs[0], context.outputs[0], context.threads);
}

}  // namespace octavo
