#include "graph/infer_movement.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "graph/infer_dims.h"
#include "graph/infer_rules.h"

namespace octavo {
namespace {

int64_t RankOf(const InferInput& input) { return static_cast<int64_t>(input.dims.size()); }

Result<int64_t> CheckedProduct(int64_t a, int64_t b) {
  int64_t product = 0;
  if (__builtin_mul_overflow(a, b, &product)) return InvalidArgument("its output is too large");
  return product;
}

// Axes given by input `index` or by the attribute 'axes', normalized; nothing when neither is there.
Result<std::optional<std::vector<int64_t>>> ResolveAxes(const Node& node, InferArgs inputs, size_t index,
                                                        int64_t rank) {
  OCTAVO_ASSIGN(const auto axes, IntsFromInputOrAttribute(node, "axes", inputs, index));
  if (!axes) return std::optional<std::vector<int64_t>>();
  OCTAVO_ASSIGN(std::vector<int64_t> normalized, NormalizeAxes(*axes, rank));
  return std::optional(std::move(normalized));
}

// Position `at` on an axis of `dim` elements: negative ones count from the end, then clamped to [low, high].
int64_t ClampPosition(int64_t at, int64_t dim, int64_t low, int64_t high) {
  return std::clamp(at < 0 ? at + dim : at, low, high);
}

Result<SliceAxis> ResolveSliceAxis(int64_t start, int64_t end, int64_t step, int64_t dim) {
  if (step == 0) return InvalidArgument("a step of 0 slices nothing");
  if (dim == 0) return SliceAxis{0, 1, 0};
  // A step beyond the axis picks one element; bounding it keeps the sums below from overflowing.
  step = std::clamp(step, -dim, dim);
  SliceAxis axis{0, step, 0};
  if (step > 0) {
    axis.start = ClampPosition(start, dim, 0, dim);
    axis.count = std::max<int64_t>(0, (ClampPosition(end, dim, 0, dim) - axis.start + step - 1) / step);
  } else {
    axis.start = ClampPosition(start, dim, 0, dim - 1);
    axis.count = std::max<int64_t>(0, (axis.start - ClampPosition(end, dim, -1, dim - 1) - step - 1) / -step);
  }
  if (axis.count == 0) axis.start = 0;
  return axis;
}

Result<int64_t> PositiveBlock(const Node& node, const InferInput& input) {
  if (input.dims.size() != 4) return InvalidArgument("its input must have rank 4, not shape " + ToString(input.dims));
  const int64_t block = node.Int("blocksize", 0);
  if (block < 1 || block > kMaxExtent)
    return InvalidArgument("blocksize " + std::to_string(block) + " is out of range");
  return block;
}

Result<PadMode> ParsePadMode(const std::string& mode) {
  if (mode == "constant") return PadMode::kConstant;
  if (mode == "reflect") return PadMode::kReflect;
  if (mode == "edge") return PadMode::kEdge;
  if (mode == "wrap") return PadMode::kWrap;
  return InvalidArgument("mode '" + mode + "' is not one of constant, reflect, edge, wrap");
}

// Number of elements of Range in float types: ceil((limit - start) / delta), in double as the reference computes it.
Result<int64_t> FloatRangeCount(InferArgs inputs) {
  std::vector<double> values;
  for (const InferInput& input : inputs) {
    if (input.dtype == DType::kFloat64) {
      values.push_back(input.constant->values<double>()[0]);
    } else {
      OCTAVO_ASSIGN(const std::vector<float> value, ToFloats(*input.constant));
      values.push_back(static_cast<double>(value[0]));
    }
  }
  if (values[2] == 0) return InvalidArgument("its delta is 0");
  const double count = std::ceil((values[1] - values[0]) / values[2]);
  if (!(count < 0x1p40)) return InvalidArgument("it has no bound, or too many elements");  // NaN too
  return static_cast<int64_t>(std::max(count, 0.0));
}

Result<int64_t> IntRangeCount(InferArgs inputs) {
  std::vector<int64_t> values;
  for (const InferInput& input : inputs) {
    OCTAVO_ASSIGN(const std::vector<int64_t> value, ToInt64s(*input.constant));
    values.push_back(value[0]);
  }
  if (values[2] == 0) return InvalidArgument("its delta is 0");
  int64_t span = 0;
  if (__builtin_sub_overflow(values[1], values[0], &span)) return InvalidArgument("it has too many elements");
  if (span == 0 || (span > 0) != (values[2] > 0)) return 0;
  // Magnitudes are unsigned: that of INT64_MIN is no int64. The count is at most 2^63.
  const uint64_t distance = span < 0 ? 0 - static_cast<uint64_t>(span) : static_cast<uint64_t>(span);
  const uint64_t step = values[2] < 0 ? 0 - static_cast<uint64_t>(values[2]) : static_cast<uint64_t>(values[2]);
  const uint64_t count = (distance - 1) / step + 1;
  if (count > uint64_t{1} << 40) return InvalidArgument("it has too many elements");
  return static_cast<int64_t>(count);
}

// Target dims of Reshape with 0 (copy, unless allowzero) and at most one -1 resolved.
Result<Dims> ResolveReshape(const Node& node, const Dims& from, std::vector<int64_t> target) {
  const bool allow_zero = node.Int("allowzero", 0) != 0;
  int64_t known = 1;
  size_t inferred = target.size();
  for (size_t i = 0; i < target.size(); ++i) {
    if (target[i] == 0 && !allow_zero) {
      if (i >= from.size())
        return InvalidArgument("its shape copies dimension " + std::to_string(i) + " of " + ToString(from) +
                               ", which has no such dimension");
      target[i] = from[i];
    }
    if (target[i] < -1) return InvalidArgument("its shape holds " + std::to_string(target[i]));
    if (target[i] == -1) {
      if (inferred != target.size()) return InvalidArgument("its shape holds -1 more than once");
      inferred = i;
    } else {
      OCTAVO_ASSIGN(known, CheckedProduct(known, target[i]));
    }
  }
  const int64_t count = ElementCount(from);
  if (inferred != target.size()) {
    if (known == 0 || count % known != 0) {
      return InvalidArgument(ToString(from) + " does not reshape to " + ToString(target));
    }
    target[inferred] = count / known;
  } else if (known != count) {
    return InvalidArgument(ToString(from) + " does not reshape to " + ToString(target));
  }
  return target;
}

}  // namespace

Result<std::vector<SliceAxis>> ResolveSlice(const Node& node, InferArgs inputs) {
  const Dims& dims = inputs[0].dims;
  OCTAVO_ASSIGN(const auto starts, IntsFromInputOrAttribute(node, "starts", inputs, 1));
  OCTAVO_ASSIGN(const auto ends, IntsFromInputOrAttribute(node, "ends", inputs, 2));
  if (!starts || !ends) return InvalidArgument("its starts or ends are missing");
  OCTAVO_ASSIGN(auto axes, ResolveAxes(node, inputs, 3, RankOf(inputs[0])));
  if (!axes) {
    axes.emplace(starts->size());
    std::iota(axes->begin(), axes->end(), 0);
  }
  OCTAVO_ASSIGN(auto steps, IntsFromInputOrAttribute(node, "steps", inputs, 4));
  if (!steps) steps.emplace(starts->size(), 1);
  if (ends->size() != starts->size() || axes->size() != starts->size() || steps->size() != starts->size() ||
      starts->size() > dims.size()) {
    return InvalidArgument("its starts, ends, axes and steps differ in length, or are more than the axes of " +
                           ToString(dims));
  }
  std::vector<SliceAxis> plan(dims.size());
  for (size_t d = 0; d < dims.size(); ++d) plan[d].count = dims[d];
  for (size_t i = 0; i < starts->size(); ++i) {
    const auto axis = static_cast<size_t>((*axes)[i]);
    OCTAVO_ASSIGN(plan[axis], ResolveSliceAxis((*starts)[i], (*ends)[i], (*steps)[i], dims[axis]));
  }
  return plan;
}

Result<std::vector<int64_t>> ResolveTranspose(const Node& node, int64_t rank) {
  if (!node.Has("perm")) {
    std::vector<int64_t> reversed(static_cast<size_t>(rank));
    std::iota(reversed.rbegin(), reversed.rend(), 0);
    return reversed;
  }
  OCTAVO_ASSIGN(std::vector<int64_t> perm, NormalizeAxes(node.Ints("perm"), rank));
  if (static_cast<int64_t>(perm.size()) != rank) {
    return InvalidArgument("perm has " + std::to_string(perm.size()) + " entries for rank " + std::to_string(rank));
  }
  return perm;
}

Result<SplitPlan> ResolveSplit(const Node& node, InferArgs inputs) {
  SplitPlan plan;
  OCTAVO_ASSIGN(plan.axis, NormalizeAxis(node.Int("axis", 0), RankOf(inputs[0])));
  const int64_t dim = inputs[0].dims[static_cast<size_t>(plan.axis)];
  const auto count = static_cast<int64_t>(node.outputs.size());
  OCTAVO_ASSIGN(auto sizes, IntsFromInputOrAttribute(node, "split", inputs, 1));
  if (sizes) {
    plan.sizes = *std::move(sizes);
  } else {
    if (node.Int("num_outputs", count) != count) {
      return InvalidArgument("num_outputs is " + std::to_string(node.Int("num_outputs", count)) + ", but it has " +
                             std::to_string(count) + " outputs");
    }
    if (!node.Has("num_outputs") && dim % count != 0) {
      return InvalidArgument(std::to_string(dim) + " does not split into " + std::to_string(count) + " equal parts");
    }
    plan.sizes.assign(static_cast<size_t>(count), (dim + count - 1) / count);
    plan.sizes.back() = dim - plan.sizes[0] * (count - 1);
  }
  int64_t total = 0;
  for (const int64_t size : plan.sizes) {
    if (size < 0 || size > dim) return InvalidArgument("a part of " + std::to_string(size) + " elements does not fit");
    total += size;  // at most 2^40 each, and as many as the file has outputs or tensor elements
    if (total > dim) break;
  }
  if (total != dim || static_cast<int64_t>(plan.sizes.size()) != count) {
    return InvalidArgument("its parts do not add up to " + std::to_string(dim) + " in " + std::to_string(count) +
                           " outputs");
  }
  return plan;
}

Result<PadPlan> ResolvePad(const Node& node, InferArgs inputs) {
  const auto rank = inputs[0].dims.size();
  PadPlan plan;
  OCTAVO_ASSIGN(plan.mode, ParsePadMode(node.String("mode", "constant")));
  OCTAVO_ASSIGN(const auto pads, IntsFromInputOrAttribute(node, "pads", inputs, 1));
  if (!pads) return InvalidArgument("its pads are missing");
  OCTAVO_ASSIGN(auto axes, ResolveAxes(node, inputs, 3, RankOf(inputs[0])));
  if (!axes) {
    axes.emplace(rank);
    std::iota(axes->begin(), axes->end(), 0);
  }
  if (pads->size() != 2 * axes->size()) {
    return InvalidArgument("it has " + std::to_string(pads->size()) + " pads for " + std::to_string(axes->size()) +
                           " axes");
  }
  plan.begin.assign(rank, 0);
  plan.end.assign(rank, 0);
  for (size_t i = 0; i < axes->size(); ++i) {
    const auto axis = static_cast<size_t>((*axes)[i]);
    for (const int64_t pad : {(*pads)[i], (*pads)[i + axes->size()]}) {
      // 2^40 is the limit of a dimension.
      if (pad > int64_t{1} << 40 || pad < -(int64_t{1} << 40)) {
        return InvalidArgument("a pad of " + std::to_string(pad) + " is out of range");
      }
    }
    plan.begin[axis] = (*pads)[i];
    plan.end[axis] = (*pads)[i + axes->size()];
  }
  return plan;
}

Inferred InferShape(const Node& node, int64_t, InferArgs inputs) {
  const int64_t rank = RankOf(inputs[0]);
  const int64_t start = ClampPosition(node.Int("start", 0), rank, 0, rank);
  const int64_t end = ClampPosition(node.Int("end", rank), rank, 0, rank);
  return OneOutput(DType::kInt64, {std::max<int64_t>(0, end - start)});
}

Inferred InferSize(const Node&, int64_t, InferArgs) { return OneOutput(DType::kInt64, {}); }

Inferred InferReshape(const Node& node, int64_t, InferArgs inputs) {
  OCTAVO_ASSIGN(auto shape, IntsFromInputOrAttribute(node, "shape", inputs, 1));
  if (!shape) return InvalidArgument("its shape is missing");
  OCTAVO_ASSIGN(Dims dims, ResolveReshape(node, inputs[0].dims, *std::move(shape)));
  return OneOutput(inputs[0].dtype, std::move(dims));
}

Inferred InferFlatten(const Node& node, int64_t, InferArgs inputs) {
  const Dims& dims = inputs[0].dims;
  const int64_t rank = RankOf(inputs[0]);
  int64_t axis = node.Int("axis", 1);
  if (axis < -rank || axis > rank) return NormalizeAxis(axis, rank).status();
  if (axis < 0) axis += rank;
  const auto middle = dims.begin() + axis;
  return OneOutput(inputs[0].dtype, {ElementCount({dims.begin(), middle}), ElementCount({middle, dims.end()})});
}

Inferred InferTranspose(const Node& node, int64_t, InferArgs inputs) {
  OCTAVO_ASSIGN(const std::vector<int64_t> perm, ResolveTranspose(node, RankOf(inputs[0])));
  Dims dims;
  for (const int64_t axis : perm) dims.push_back(inputs[0].dims[static_cast<size_t>(axis)]);
  return OneOutput(inputs[0].dtype, std::move(dims));
}

Inferred InferSqueeze(const Node& node, int64_t, InferArgs inputs) {
  const Dims& from = inputs[0].dims;
  OCTAVO_ASSIGN(const auto axes, ResolveAxes(node, inputs, 1, RankOf(inputs[0])));
  std::vector<bool> dropped(from.size());
  for (size_t d = 0; d < from.size(); ++d) dropped[d] = !axes && from[d] == 1;
  for (const int64_t axis : axes.value_or(std::vector<int64_t>())) {
    if (from[static_cast<size_t>(axis)] != 1) {
      return InvalidArgument("axis " + std::to_string(axis) + " of " + ToString(from) + " is not 1");
    }
    dropped[static_cast<size_t>(axis)] = true;
  }
  Dims dims;
  for (size_t d = 0; d < from.size(); ++d) {
    if (!dropped[d]) dims.push_back(from[d]);
  }
  return OneOutput(inputs[0].dtype, std::move(dims));
}

Inferred InferUnsqueeze(const Node& node, int64_t, InferArgs inputs) {
  OCTAVO_ASSIGN(const auto axes, IntsFromInputOrAttribute(node, "axes", inputs, 1));
  if (!axes) return InvalidArgument("its axes are missing");
  const auto rank = inputs[0].dims.size() + axes->size();
  OCTAVO_ASSIGN(const std::vector<int64_t> added, NormalizeAxes(*axes, static_cast<int64_t>(rank)));
  Dims dims(rank, -1);
  for (const int64_t axis : added) dims[static_cast<size_t>(axis)] = 1;
  auto from = inputs[0].dims.begin();
  for (int64_t& dim : dims) {
    if (dim < 0) dim = *from++;
  }
  return OneOutput(inputs[0].dtype, std::move(dims));
}

Inferred InferConcat(const Node& node, int64_t, InferArgs inputs) {
  OCTAVO_RETURN_IF_ERROR(CheckSameDType(inputs));
  OCTAVO_ASSIGN(const int64_t axis, NormalizeAxis(node.Int("axis", 1), RankOf(inputs[0])));
  Dims dims = inputs[0].dims;
  for (size_t i = 1; i < inputs.size(); ++i) {
    Dims other = inputs[i].dims;
    if (other.size() != dims.size()) {
      return InvalidArgument("its inputs differ in rank: " + ToString(dims) + " and " + ToString(other));
    }
    const int64_t added = other[static_cast<size_t>(axis)];
    other[static_cast<size_t>(axis)] = dims[static_cast<size_t>(axis)];
    if (other != dims) {
      return InvalidArgument("its inputs differ beside the axis: " + ToString(inputs[0].dims) + " and " +
                             ToString(inputs[i].dims));
    }
    dims[static_cast<size_t>(axis)] += added;  // checked per step: each addend is at most 2^40
    OCTAVO_RETURN_IF_ERROR(CheckedElementCount(dims).status());
  }
  return OneOutput(inputs[0].dtype, std::move(dims));
}

Inferred InferSplit(const Node& node, int64_t, InferArgs inputs) {
  OCTAVO_ASSIGN(const SplitPlan plan, ResolveSplit(node, inputs));
  std::vector<InferOutput> outputs;
  for (const int64_t size : plan.sizes) {
    outputs.push_back({inputs[0].dtype, inputs[0].dims});
    outputs.back().dims[static_cast<size_t>(plan.axis)] = size;
  }
  return outputs;
}

Inferred InferSlice(const Node& node, int64_t, InferArgs inputs) {
  OCTAVO_ASSIGN(const std::vector<SliceAxis> plan, ResolveSlice(node, inputs));
  Dims dims;
  for (const SliceAxis& axis : plan) dims.push_back(axis.count);
  return OneOutput(inputs[0].dtype, std::move(dims));
}

Inferred InferGather(const Node& node, int64_t, InferArgs inputs) {
  const Dims& data = inputs[0].dims;
  OCTAVO_ASSIGN(const int64_t axis, NormalizeAxis(node.Int("axis", 0), RankOf(inputs[0])));
  Dims dims(data.begin(), data.begin() + axis);
  dims.insert(dims.end(), inputs[1].dims.begin(), inputs[1].dims.end());
  dims.insert(dims.end(), data.begin() + axis + 1, data.end());
  return OneOutput(inputs[0].dtype, std::move(dims));
}

Inferred InferGatherElements(const Node& node, int64_t, InferArgs inputs) {
  const Dims& data = inputs[0].dims;
  const Dims& indices = inputs[1].dims;
  OCTAVO_ASSIGN(const int64_t axis, NormalizeAxis(node.Int("axis", 0), RankOf(inputs[0])));
  bool fits = indices.size() == data.size();
  for (size_t d = 0; fits && d < data.size(); ++d) fits = static_cast<int64_t>(d) == axis || indices[d] <= data[d];
  if (!fits) return InvalidArgument("indices of " + ToString(indices) + " do not fit data of " + ToString(data));
  return OneOutput(inputs[0].dtype, indices);
}

Inferred InferGatherNd(const Node& node, int64_t, InferArgs inputs) {
  const Dims& data = inputs[0].dims;
  const Dims& indices = inputs[1].dims;
  const int64_t batch_dims = node.Int("batch_dims", 0);
  if (data.empty() || indices.empty()) return InvalidArgument("its inputs must have rank 1 or more");
  const auto limit = static_cast<int64_t>(std::min(data.size(), indices.size()));
  if (batch_dims < 0 || batch_dims >= limit) {
    return InvalidArgument("batch_dims " + std::to_string(batch_dims) + " is out of range");
  }
  if (!std::equal(data.begin(), data.begin() + batch_dims, indices.begin())) {
    return InvalidArgument("batch dimensions of " + ToString(data) + " and " + ToString(indices) + " differ");
  }
  const int64_t depth = indices.back();
  if (depth < 1 || depth > static_cast<int64_t>(data.size()) - batch_dims) {
    return InvalidArgument("index tuples of " + std::to_string(depth) + " do not fit data of " + ToString(data));
  }
  Dims dims(indices.begin(), indices.end() - 1);
  dims.insert(dims.end(), data.begin() + batch_dims + depth, data.end());
  return OneOutput(inputs[0].dtype, std::move(dims));
}

Inferred InferExpand(const Node&, int64_t, InferArgs inputs) {
  OCTAVO_ASSIGN(const std::vector<int64_t> shape, ConstantInts(inputs[1], "shape"));
  OCTAVO_RETURN_IF_ERROR(CheckedElementCount(shape).status());
  OCTAVO_ASSIGN(Dims dims, Broadcast(inputs[0].dims, shape));
  return OneOutput(inputs[0].dtype, std::move(dims));
}

Inferred InferTile(const Node&, int64_t, InferArgs inputs) {
  OCTAVO_ASSIGN(const std::vector<int64_t> repeats, ConstantInts(inputs[1], "repeats"));
  Dims dims = inputs[0].dims;
  if (repeats.size() != dims.size()) {
    return InvalidArgument("it has " + std::to_string(repeats.size()) + " repeats for shape " + ToString(dims));
  }
  for (size_t d = 0; d < dims.size(); ++d) {
    if (repeats[d] < 0) return InvalidArgument("it repeats " + std::to_string(repeats[d]) + " times");
    OCTAVO_ASSIGN(dims[d], CheckedProduct(dims[d], repeats[d]));
  }
  return OneOutput(inputs[0].dtype, std::move(dims));
}

Inferred InferPad(const Node& node, int64_t, InferArgs inputs) {
  OCTAVO_ASSIGN(const PadPlan plan, ResolvePad(node, inputs));
  Dims dims = inputs[0].dims;
  for (size_t d = 0; d < dims.size(); ++d) {
    const int64_t kept = dims[d] + std::min<int64_t>(plan.begin[d], 0) + std::min<int64_t>(plan.end[d], 0);
    dims[d] += plan.begin[d] + plan.end[d];
    if (kept < 0) return InvalidArgument("it crops more than there is of " + ToString(inputs[0].dims));
    if (kept == 0 && dims[d] > 0 && plan.mode != PadMode::kConstant) {
      return InvalidArgument("axis " + std::to_string(d) + " of " + ToString(inputs[0].dims) +
                             " has no elements to pad from");
    }
  }
  return OneOutput(inputs[0].dtype, std::move(dims));
}

Inferred InferConstantOfShape(const Node& node, int64_t, InferArgs inputs) {
  OCTAVO_ASSIGN(Dims dims, ConstantInts(inputs[0], "input"));
  const auto value = node.attributes.find("value");
  if (value == node.attributes.end()) return OneOutput(DType::kFloat32, std::move(dims));
  const auto* tensor = std::get_if<Tensor>(&value->second);
  if (tensor == nullptr || tensor->size() != 1) return InvalidArgument("its value must be a tensor of one element");
  return OneOutput(tensor->dtype(), std::move(dims));
}

Inferred InferRange(const Node&, int64_t, InferArgs inputs) {
  OCTAVO_RETURN_IF_ERROR(CheckSameDType(inputs));
  for (const InferInput& input : inputs) {
    if (ElementCount(input.dims) != 1) return InvalidArgument("its inputs must be scalars");
    if (input.constant == nullptr) {
      return Unsupported(
          "its length depends on the values of its inputs, which are not known before the model runs; "
          "make them constants");
    }
  }
  const DType dtype = inputs[0].dtype;
  const bool is_float =
      dtype == DType::kFloat32 || dtype == DType::kFloat64 || dtype == DType::kFloat16 || dtype == DType::kBFloat16;
  OCTAVO_ASSIGN(const int64_t count, is_float ? FloatRangeCount(inputs) : IntRangeCount(inputs));
  return OneOutput(dtype, {count});
}

Inferred InferDepthToSpace(const Node& node, int64_t, InferArgs inputs) {
  OCTAVO_ASSIGN(const int64_t block, PositiveBlock(node, inputs[0]));
  const std::string mode = node.String("mode", "DCR");
  if (mode != "DCR" && mode != "CRD") return InvalidArgument("mode '" + mode + "' is not one of DCR, CRD");
  const Dims& from = inputs[0].dims;
  if (from[1] % (block * block) != 0) {
    return InvalidArgument(std::to_string(from[1]) + " channels do not make blocks of " + std::to_string(block) + "x" +
                           std::to_string(block));
  }
  OCTAVO_ASSIGN(const int64_t height, CheckedProduct(from[2], block));
  OCTAVO_ASSIGN(const int64_t width, CheckedProduct(from[3], block));
  return OneOutput(inputs[0].dtype, {from[0], from[1] / (block * block), height, width});
}

Inferred InferSpaceToDepth(const Node& node, int64_t, InferArgs inputs) {
  OCTAVO_ASSIGN(const int64_t block, PositiveBlock(node, inputs[0]));
  const Dims& from = inputs[0].dims;
  if (from[2] % block != 0 || from[3] % block != 0) {
    return InvalidArgument(ToString(from) + " does not divide into blocks of " + std::to_string(block));
  }
  OCTAVO_ASSIGN(const int64_t channels, CheckedProduct(from[1], block * block));
  return OneOutput(inputs[0].dtype, {from[0], channels, from[2] / block, from[3] / block});
}

Result<std::vector<CenterAxis>> ResolveCenterCropPad(const Node& node, InferArgs inputs) {
  const Dims& dims = inputs[0].dims;
  OCTAVO_ASSIGN(const std::vector<int64_t> shape, ConstantInts(inputs[1], "shape"));
  std::vector<int64_t> axes(dims.size());
  std::iota(axes.begin(), axes.end(), 0);
  if (node.Has("axes")) {
    OCTAVO_ASSIGN(axes, NormalizeAxes(node.Ints("axes"), RankOf(inputs[0])));
  }
  if (axes.size() != shape.size()) {
    return InvalidArgument("its shape has " + std::to_string(shape.size()) + " entries for " +
                           std::to_string(axes.size()) + " axes");
  }
  std::vector<CenterAxis> plan;
  for (const int64_t dim : dims) plan.push_back({0, 0, dim, dim});
  for (size_t i = 0; i < axes.size(); ++i) {
    if (shape[i] < 0) return InvalidArgument("its shape holds " + std::to_string(shape[i]));
    CenterAxis& axis = plan[static_cast<size_t>(axes[i])];
    const int64_t dim = axis.output;
    axis.output = shape[i];
    axis.count = std::min(dim, shape[i]);
    axis.from = (dim - axis.count) / 2;
    axis.to = (shape[i] - axis.count) / 2;
  }
  return plan;
}

Inferred InferCenterCropPad(const Node& node, int64_t, InferArgs inputs) {
  OCTAVO_ASSIGN(const std::vector<CenterAxis> plan, ResolveCenterCropPad(node, inputs));
  Dims dims;
  for (const CenterAxis& axis : plan) dims.push_back(axis.output);
  return OneOutput(inputs[0].dtype, std::move(dims));
}

}  // namespace octavo
