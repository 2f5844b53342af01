#include "kernels/generic/movement.h"

#include <algorithm>
#include <memory>
#include <optional>
#include <utility>

#include "graph/infer_dims.h"
#include "graph/infer_movement.h"
#include "kernels/generic/elementwise.h"
#include "kernels/generic/rows.h"
#include "kernels/generic/strided_convert.h"

namespace octavo {
namespace {

using InferArgs = std::span<const InferInput>;

int64_t BytesOf(const Operand& operand, int64_t elements) {
  return elements * static_cast<int64_t>(SizeOf(operand.dtype));
}

// A shape that two layouts share.
struct CommonShape {
  Dims dims, a_strides, b_strides;
};

// Splits both shapes (of equal element count, none 0) into dimensions that nest alike, from the innermost out;
// nothing where, say, 2x3 meets 3x2.
std::optional<CommonShape> Refine(const Dims& a, const Dims& a_strides, const Dims& b, const Dims& b_strides) {
  CommonShape common;
  size_t i = a.size(), j = b.size();
  int64_t a_rest = 1, b_rest = 1, a_step = 0, b_step = 0;
  for (;;) {
    while (a_rest == 1 && i > 0) {
      a_rest = a[--i];
      a_step = a_strides[i];
    }
    while (b_rest == 1 && j > 0) {
      b_rest = b[--j];
      b_step = b_strides[j];
    }
    if (a_rest == 1 && b_rest == 1) break;
    const int64_t piece = std::min(a_rest, b_rest);
    if (a_rest % piece != 0 || b_rest % piece != 0) return std::nullopt;
    common.dims.push_back(piece);
    common.a_strides.push_back(a_step);
    common.b_strides.push_back(b_step);
    a_rest /= piece;
    b_rest /= piece;
    a_step *= piece;
    b_step *= piece;
  }
  std::reverse(common.dims.begin(), common.dims.end());
  std::reverse(common.a_strides.begin(), common.a_strides.end());
  std::reverse(common.b_strides.begin(), common.b_strides.end());
  return common;
}

// Adjacent dimensions that are one in memory, as one.
void MergeDims(Dims& dims, Dims& strides) {
  Dims merged, steps;
  for (size_t d = 0; d < dims.size(); ++d) {
    if (dims[d] == 1) continue;
    if (!merged.empty() && steps.back() == strides[d] * dims[d]) {
      merged.back() *= dims[d];
      steps.back() = strides[d];
    } else {
      merged.push_back(dims[d]);
      steps.push_back(strides[d]);
    }
  }
  dims = std::move(merged);
  strides = std::move(steps);
}

// Copies input 0 to output 0 element by element in row-major order: Reshape and everything like it.
Result<BoundKernel> BindReshape(const BindContext& context, InferArgs) {
  const Operand& x = context.inputs[0];
  const Operand& y = context.outputs[0];
  const size_t bytes = SizeOf(x.dtype);
  const int64_t count = ElementCount(x.dims);
  if (count == 0) return RunPieces({}, 1);
  Dims from = x.dims, from_strides = x.strides, to = y.dims, to_strides = y.strides;
  MergeDims(from, from_strides);
  MergeDims(to, to_strides);
  if (const auto common = Refine(from, from_strides, to, to_strides)) {
    OCTAVO_ASSIGN(StridedCopy copy, StridedCopy::Make(bytes, common->dims, common->a_strides, common->b_strides));
    return RunPieces({{.copy = std::move(copy)}}, context.threads);
  }
  // Neither side is contiguous and their dimensions cross: by way of a contiguous copy.
  OCTAVO_ASSIGN(StridedCopy pack, StridedCopy::Make(bytes, x.dims, x.strides, ContiguousStrides(x.dims)));
  OCTAVO_ASSIGN(StridedCopy unpack, StridedCopy::Make(bytes, y.dims, ContiguousStrides(y.dims), y.strides));
  BoundKernel kernel;
  kernel.scratch_bytes = static_cast<size_t>(count) * bytes;
  kernel.run = [pack = std::move(pack), unpack = std::move(unpack), threads = context.threads](const KernelArgs& args) {
    pack.Run(args.inputs[0], args.scratch, threads);
    unpack.Run(args.scratch, args.outputs[0], threads);
    return Status();
  };
  return kernel;
}

// The mask of a Dropout that drops nothing: all true (or all 1, below opset 10).
Result<StridedConvert> DropoutMask(const Operand& mask) {
  return StridedConvert::Make(DType::kBool, mask.dtype, mask.dims, Dims(mask.dims.size(), 0), mask.strides);
}

Result<BoundKernel> BindDropout(const BindContext& context, InferArgs inputs) {
  OCTAVO_ASSIGN(BoundKernel kernel, BindReshape(context, inputs));
  if (context.outputs.size() < 2 || !context.outputs[1].present) return kernel;
  OCTAVO_ASSIGN(StridedConvert mask, DropoutMask(context.outputs[1]));
  kernel.run = [copy = std::move(kernel.run), mask = std::move(mask),
                threads = context.threads](const KernelArgs& args) {
    static constexpr bool kKept = true;
    mask.Run(&kKept, args.outputs[1], threads);
    return args.outputs[0] != nullptr ? copy(args) : Status();
  };
  return kernel;
}

Result<BoundKernel> BindTranspose(const BindContext& context, InferArgs) {
  const Operand& x = context.inputs[0];
  const Operand& y = context.outputs[0];
  OCTAVO_ASSIGN(const std::vector<int64_t> perm, ResolveTranspose(context.node, static_cast<int64_t>(x.dims.size())));
  Dims from;
  for (const int64_t axis : perm) from.push_back(x.strides[static_cast<size_t>(axis)]);
  OCTAVO_ASSIGN(StridedCopy copy, StridedCopy::Make(SizeOf(x.dtype), y.dims, from, y.strides));
  return RunPieces({{.copy = std::move(copy)}}, context.threads);
}

Result<BoundKernel> BindExpand(const BindContext& context, InferArgs) {
  const Operand& x = context.inputs[0];
  const Operand& y = context.outputs[0];
  const Dims from = BroadcastStrides(x.dims, x.strides, y.dims);
  OCTAVO_ASSIGN(StridedCopy copy, StridedCopy::Make(SizeOf(x.dtype), y.dims, from, y.strides));
  return RunPieces({{.copy = std::move(copy)}}, context.threads);
}

Result<BoundKernel> BindConcat(const BindContext& context, InferArgs) {
  const Operand& y = context.outputs[0];
  const auto rank = static_cast<int64_t>(y.dims.size());
  OCTAVO_ASSIGN(const int64_t axis, NormalizeAxis(context.node.Int("axis", 1), rank));
  std::vector<CopyPiece> pieces;
  int64_t at = 0;
  for (size_t i = 0; i < context.inputs.size(); ++i) {
    const Operand& x = context.inputs[i];
    OCTAVO_ASSIGN(StridedCopy copy, StridedCopy::Make(SizeOf(x.dtype), x.dims, x.strides, y.strides));
    pieces.push_back(
        {.copy = std::move(copy), .input = i, .to_bytes = BytesOf(y, at * y.strides[static_cast<size_t>(axis)])});
    at += x.dims[static_cast<size_t>(axis)];
  }
  return RunPieces(std::move(pieces), context.threads);
}

Result<BoundKernel> BindSplit(const BindContext& context, InferArgs inputs) {
  const Operand& x = context.inputs[0];
  OCTAVO_ASSIGN(const SplitPlan plan, ResolveSplit(context.node, inputs));
  std::vector<CopyPiece> pieces;
  int64_t at = 0;
  for (size_t i = 0; i < context.outputs.size(); ++i) {
    const Operand& y = context.outputs[i];
    const int64_t from = at;
    at += plan.sizes[i];
    if (!y.present) continue;
    OCTAVO_ASSIGN(StridedCopy copy, StridedCopy::Make(SizeOf(x.dtype), y.dims, x.strides, y.strides));
    pieces.push_back({.copy = std::move(copy),
                      .output = i,
                      .from_bytes = BytesOf(x, from * x.strides[static_cast<size_t>(plan.axis)])});
  }
  return RunPieces(std::move(pieces), context.threads);
}

Result<BoundKernel> BindSlice(const BindContext& context, InferArgs inputs) {
  const Operand& x = context.inputs[0];
  const Operand& y = context.outputs[0];
  OCTAVO_ASSIGN(const std::vector<SliceAxis> plan, ResolveSlice(context.node, inputs));
  Dims from = x.strides;
  int64_t start = 0;
  for (size_t d = 0; d < plan.size(); ++d) {
    start += plan[d].start * x.strides[d];
    from[d] *= plan[d].step;
  }
  if (ElementCount(y.dims) == 0) return RunPieces({}, 1);
  OCTAVO_ASSIGN(StridedCopy copy, StridedCopy::Make(SizeOf(x.dtype), y.dims, from, y.strides));
  return RunPieces({{.copy = std::move(copy), .from_bytes = BytesOf(x, start)}}, context.threads);
}

// Zeros, and the middle of the input in the middle of the output.
Result<BoundKernel> BindCenterCropPad(const BindContext& context, InferArgs inputs) {
  const Operand& x = context.inputs[0];
  const Operand& y = context.outputs[0];
  OCTAVO_ASSIGN(const std::vector<CenterAxis> plan, ResolveCenterCropPad(context.node, inputs));
  Dims middle;
  int64_t from = 0, to = 0;
  for (size_t d = 0; d < plan.size(); ++d) {
    middle.push_back(plan[d].count);
    from += plan[d].from * x.strides[d];
    to += plan[d].to * y.strides[d];
  }
  if (ElementCount(y.dims) == 0) return RunPieces({}, 1);
  OCTAVO_ASSIGN(StridedCopy zeros, StridedCopy::Make(SizeOf(y.dtype), y.dims, Dims(y.dims.size(), 0), y.strides));
  std::vector<CopyPiece> pieces;
  if (ElementCount(middle) > 0) {
    OCTAVO_ASSIGN(StridedCopy copy, StridedCopy::Make(SizeOf(x.dtype), middle, x.strides, y.strides));
    pieces.push_back({.copy = std::move(copy), .from_bytes = BytesOf(x, from), .to_bytes = BytesOf(y, to)});
  }
  BoundKernel kernel;
  kernel.run = [zeros = std::move(zeros), copy = RunPieces(std::move(pieces), context.threads),
                threads = context.threads](const KernelArgs& args) {
    constexpr uint64_t kZero = 0;  // of every type
    zeros.Run(&kZero, args.outputs[0], threads);
    return copy.run(args);
  };
  return kernel;
}

// Every axis is two: which repeat, and where in it.
Result<BoundKernel> BindTile(const BindContext& context, InferArgs) {
  const Operand& x = context.inputs[0];
  const Operand& y = context.outputs[0];
  if (ElementCount(y.dims) == 0) return RunPieces({}, 1);
  Dims dims, from, to;
  for (size_t d = 0; d < x.dims.size(); ++d) {
    dims.insert(dims.end(), {y.dims[d] / x.dims[d], x.dims[d]});
    from.insert(from.end(), {0, x.strides[d]});
    to.insert(to.end(), {y.strides[d] * x.dims[d], y.strides[d]});
  }
  OCTAVO_ASSIGN(StridedCopy copy, StridedCopy::Make(SizeOf(x.dtype), dims, from, to));
  return RunPieces({{.copy = std::move(copy)}}, context.threads);
}

// Between a depth side of (N, C * b * b, H, W) and a space side of (N, C, H * b, W * b): the strides of both over the
// loops (N, C, row in block, column in block, H, W). DCR has the block's position before the channel, CRD after it.
Result<StridedCopy> BlockCopy(const Operand& depth, const Operand& space, int64_t block, bool crd, bool to_space) {
  const int64_t channels = space.dims[1];
  const Dims dims = {space.dims[0], channels, block, block, depth.dims[2], depth.dims[3]};
  const int64_t d = depth.strides[1];
  const Dims at_depth = {depth.strides[0],
                         crd ? d * block * block : d,
                         crd ? d * block : d * block * channels,
                         crd ? d : d * channels,
                         depth.strides[2],
                         depth.strides[3]};
  const Dims at_space = {space.strides[0], space.strides[1],         space.strides[2],
                         space.strides[3], space.strides[2] * block, space.strides[3] * block};
  const size_t bytes = SizeOf(space.dtype);
  return to_space ? StridedCopy::Make(bytes, dims, at_depth, at_space)
                  : StridedCopy::Make(bytes, dims, at_space, at_depth);
}

Result<BoundKernel> BindDepthToSpace(const BindContext& context, InferArgs) {
  const bool crd = context.node.String("mode", "DCR") == "CRD";
  OCTAVO_ASSIGN(StridedCopy copy,
                BlockCopy(context.inputs[0], context.outputs[0], context.node.Int("blocksize", 1), crd, true));
  return RunPieces({{.copy = std::move(copy)}}, context.threads);
}

Result<BoundKernel> BindSpaceToDepth(const BindContext& context, InferArgs) {
  OCTAVO_ASSIGN(StridedCopy copy,
                BlockCopy(context.outputs[0], context.inputs[0], context.node.Int("blocksize", 1), false, false));
  return RunPieces({{.copy = std::move(copy)}}, context.threads);
}

Result<BoundKernel> BindCast(const BindContext& context, InferArgs) {
  const Operand& x = context.inputs[0];
  const Operand& y = context.outputs[0];
  OCTAVO_ASSIGN(StridedConvert convert, StridedConvert::Make(x.dtype, y.dtype, x.dims, x.strides, y.strides));
  BoundKernel kernel;
  kernel.run = [convert = std::move(convert), threads = context.threads](const KernelArgs& args) {
    convert.Run(args.inputs[0], args.outputs[0], threads);
    return Status();
  };
  return kernel;
}

template <typename T>
void RunWhere(const StridedLoop<4>& loop, int threads, const KernelArgs& args) {
  const auto* condition = static_cast<const uint8_t*>(args.inputs[0]);
  const T* a = static_cast<const T*>(args.inputs[1]);
  const T* b = static_cast<const T*>(args.inputs[2]);
  T* y = static_cast<T*>(args.outputs[0]);
  const std::array<int64_t, 4> step = loop.inner_steps();
  ParallelFor(threads, loop.count(), kElementGrain, [&](int64_t begin, int64_t end) {
    loop.ForElements(begin, end, [&](const auto& at, int64_t n) {
      for (int64_t i = 0; i < n; ++i) {
        const T if_true = a[at[1] + i * step[1]];
        const T if_false = b[at[2] + i * step[2]];
        y[at[3] + i * step[3]] = condition[at[0] + i * step[0]] != 0 ? if_true : if_false;
      }
    });
  });
}

Result<BoundKernel> BindWhere(const BindContext& context, InferArgs) {
  const auto loop =
      ElementwiseLoop<3>(context.outputs[0], {&context.inputs[0], &context.inputs[1], &context.inputs[2]});
  BoundKernel kernel;
  kernel.run = [loop, threads = context.threads, bytes = SizeOf(context.outputs[0].dtype)](const KernelArgs& args) {
    if (bytes == 1) RunWhere<uint8_t>(loop, threads, args);
    if (bytes == 2) RunWhere<uint16_t>(loop, threads, args);
    if (bytes == 4) RunWhere<uint32_t>(loop, threads, args);
    if (bytes == 8) RunWhere<uint64_t>(loop, threads, args);
    return Status();
  };
  return kernel;
}

constexpr GenericKernelRow kRows[] = {
    {"", "Cast", BindChecked<BindCast>},
    {"", "CastLike", BindChecked<BindCast>},
    {"", "CenterCropPad", BindChecked<BindCenterCropPad>},
    {"", "Concat", BindChecked<BindConcat>},
    {"", "ConstantOfShape", BindChecked<BindConstantOfShape>},
    {"", "DepthToSpace", BindChecked<BindDepthToSpace>},
    {"", "Dropout", BindChecked<BindDropout>},
    {"", "Expand", BindChecked<BindExpand>},
    {"", "Flatten", BindChecked<BindReshape>},
    {"", "Gather", BindChecked<BindGather>},
    {"", "GatherElements", BindChecked<BindGatherElements>},
    {"", "GatherND", BindChecked<BindGatherNd>},
    {"", "Identity", BindChecked<BindReshape>},
    {"", "Pad", BindChecked<BindPad>},
    {"", "Range", BindChecked<BindRange>},
    {"", "Reshape", BindChecked<BindReshape>},
    {"", "Shape", BindChecked<BindShape>},
    {"", "Size", BindChecked<BindSize>},
    {"", "Slice", BindChecked<BindSlice>},
    {"", "SpaceToDepth", BindChecked<BindSpaceToDepth>},
    {"", "Split", BindChecked<BindSplit>},
    {"", "Squeeze", BindChecked<BindReshape>},
    {"", "Tile", BindChecked<BindTile>},
    {"", "Transpose", BindChecked<BindTranspose>},
    {"", "Unsqueeze", BindChecked<BindReshape>},
    {"", "Where", BindChecked<BindWhere>},
};

}  // namespace

std::vector<InferInput> InferInputsOf(const BindContext& context) {
  std::vector<InferInput> inputs;
  for (const Operand& operand : context.inputs) {
    inputs.push_back({operand.present, operand.dtype, operand.dims, operand.constant});
  }
  return inputs;
}

Status CheckOutputs(const BindContext& context, InferArgs inputs) {
  OCTAVO_ASSIGN(const std::vector<InferOutput> inferred, InferNode(context.node, context.opset, inputs));
  for (size_t i = 0; i < context.outputs.size(); ++i) {
    const Operand& output = context.outputs[i];
    if (!output.present) continue;
    if (i < inferred.size() && inferred[i].dtype == output.dtype && inferred[i].dims == output.dims) continue;
    return InternalError("output " + std::to_string(i) + " of " + ToString(output.dims) +
                         " is not what its inputs give");
  }
  return {};
}

BoundKernel RunPieces(std::vector<CopyPiece> pieces, int threads) {
  BoundKernel kernel;
  kernel.run = [pieces = std::move(pieces), threads](const KernelArgs& args) {
    for (const CopyPiece& piece : pieces) {
      piece.copy.Run(static_cast<const std::byte*>(args.inputs[piece.input]) + piece.from_bytes,
                     static_cast<std::byte*>(args.outputs[piece.output]) + piece.to_bytes, threads);
    }
    return Status();
  };
  return kernel;
}

std::span<const GenericKernelRow> MovementKernels() { return kRows; }

}  // namespace octavo
