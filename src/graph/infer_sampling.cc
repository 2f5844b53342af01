#include "graph/infer_sampling.h"

#include <algorithm>
#include <cmath>

#include "graph/infer_dims.h"
#include "graph/infer_rules.h"
#include "graph/infer_window.h"

namespace octavo {
namespace {

// The one value of an optional input, as a float.
Result<float> OptionalFloat(InferArgs inputs, size_t index, float fallback) {
  const InferInput& input = InputAt(inputs, index);
  if (!input.present) return fallback;
  OCTAVO_ASSIGN(const std::vector<float> values, ToFloats(*input.constant));
  if (values.size() != 1) return InvalidArgument("input " + std::to_string(index) + " must be one number");
  return values[0];
}

// A box as its corners. Sides may come in either order.
struct Box {
  float x0, y0, x1, y1;
  float area() const { return (x1 - x0) * (y1 - y0); }
};

Box BoxAt(const float* b, bool is_center) {
  if (is_center) return {b[0] - b[2] / 2, b[1] - b[3] / 2, b[0] + b[2] / 2, b[1] + b[3] / 2};
  return {std::min(b[1], b[3]), std::min(b[0], b[2]), std::max(b[1], b[3]), std::max(b[0], b[2])};
}

bool Overlap(const Box& a, const Box& b, float threshold) {
  const float width = std::min(a.x1, b.x1) - std::max(a.x0, b.x0), height = std::min(a.y1, b.y1) - std::max(a.y0, b.y0);
  if (!(width > 0) || !(height > 0)) return false;
  const float both = width * height, either = a.area() + b.area() - both;
  return a.area() > 0 && b.area() > 0 && either > 0 && both / either > threshold;
}

Status CheckBoxes(InferArgs inputs) {
  const Dims &boxes = inputs[0].dims, &scores = inputs[1].dims;
  if (boxes.size() != 3 || boxes[2] != 4 || scores.size() != 3 || scores[0] != boxes[0] || scores[2] != boxes[1]) {
    return InvalidArgument("boxes of " + ToString(boxes) + " and scores of " + ToString(scores) + " do not fit");
  }
  if (inputs[0].dtype != DType::kFloat32 || inputs[1].dtype != DType::kFloat32) {
    return InvalidArgument("its boxes and scores must be float32");
  }
  for (const InferInput& input : inputs) {
    if (!input.present || input.constant != nullptr) continue;
    return Unsupported(
        "how many boxes it keeps depends on its inputs' values, which are not known before the model runs");
  }
  return {};
}

Result<int64_t> PositiveExtent(const Node& node, std::string_view name, int64_t fallback) {
  const int64_t value = node.Int(name, fallback);
  if (value >= 1 && value <= kMaxExtent) return value;
  return InvalidArgument("attribute '" + std::string(name) + "' is " + std::to_string(value));
}

}  // namespace

Result<std::vector<int64_t>> SelectBoxes(const Node& node, InferArgs inputs) {
  OCTAVO_RETURN_IF_ERROR(CheckBoxes(inputs));
  const bool is_center = node.Int("center_point_box", 0) != 0;
  int64_t limit = 0;
  if (InputAt(inputs, 2).present) {
    OCTAVO_ASSIGN(const std::vector<int64_t> values, ConstantInts(inputs[2], "max_output_boxes_per_class"));
    if (values.size() != 1) return InvalidArgument("max_output_boxes_per_class must be one number");
    limit = values[0];
  }
  OCTAVO_ASSIGN(const float overlap, OptionalFloat(inputs, 3, 0));
  const bool has_threshold = InputAt(inputs, 4).present;
  OCTAVO_ASSIGN(const float threshold, OptionalFloat(inputs, 4, 0));
  const int64_t batches = inputs[0].dims[0], count = inputs[0].dims[1], classes = inputs[1].dims[1];
  const std::span<const float> boxes = inputs[0].constant->values<float>(),
                               scores = inputs[1].constant->values<float>();
  std::vector<int64_t> selected;
  for (int64_t task = 0; task < batches * classes; ++task) {
    const float* score = scores.data() + task * count;
    const float* box = boxes.data() + task / classes * count * 4;
    std::vector<int64_t> candidates;
    for (int64_t i = 0; i < count; ++i) {
      if (!std::isnan(score[i]) && (!has_threshold || score[i] > threshold)) candidates.push_back(i);
    }
    std::stable_sort(candidates.begin(), candidates.end(), [&](int64_t a, int64_t b) { return score[a] > score[b]; });
    std::vector<Box> kept;
    for (const int64_t i : candidates) {
      if (static_cast<int64_t>(kept.size()) >= limit) break;
      const Box candidate = BoxAt(box + i * 4, is_center);
      const bool covered =
          std::any_of(kept.begin(), kept.end(), [&](const Box& b) { return Overlap(candidate, b, overlap); });
      if (covered) continue;
      kept.push_back(candidate);
      selected.insert(selected.end(), {task / classes, task % classes, i});
    }
  }
  return selected;
}

Result<std::vector<Col2ImAxis>> ResolveCol2Im(const Node& node, InferArgs inputs) {
  OCTAVO_ASSIGN(const std::vector<int64_t> image, ConstantInts(inputs[1], "image_shape"));
  OCTAVO_ASSIGN(const std::vector<int64_t> block, ConstantInts(inputs[2], "block_shape"));
  const size_t rank = image.size();
  if (rank == 0 || block.size() != rank) return InvalidArgument("its image_shape and block_shape differ in length");
  OCTAVO_ASSIGN(const auto dilations, ExtentAttribute(node, "dilations", rank, 1, 1));
  OCTAVO_ASSIGN(const auto strides, ExtentAttribute(node, "strides", rank, 1, 1));
  OCTAVO_ASSIGN(const auto pads, ExtentAttribute(node, "pads", 2 * rank, 0, 0));
  std::vector<Col2ImAxis> axes;
  int64_t kernels = 1, positions = 1;
  for (size_t d = 0; d < rank; ++d) {
    if (image[d] < 1 || image[d] > kMaxExtent || block[d] < 1 || block[d] > kMaxExtent) {
      return InvalidArgument("its image_shape or block_shape holds a size that is out of range");
    }
    Col2ImAxis axis{image[d], block[d], strides[d], dilations[d], pads[d], pads[d + rank], 0};
    const int64_t room = image[d] + pads[d] + pads[d + rank] - dilations[d] * (block[d] - 1) - 1;
    if (room < 0) return InvalidArgument("a block does not fit the image");
    axis.output = room / strides[d] + 1;
    if (__builtin_mul_overflow(kernels, block[d], &kernels) ||
        __builtin_mul_overflow(positions, axis.output, &positions)) {
      return InvalidArgument("its blocks are too many");
    }
    axes.push_back(axis);
  }
  const Dims& columns = inputs[0].dims;
  if (columns.size() != 3 || columns[1] % kernels != 0 || columns[2] != positions) {
    return InvalidArgument("columns of " + ToString(columns) + " do not fit blocks of " + ToString(block) + " at " +
                           std::to_string(positions) + " places");
  }
  return axes;
}

Inferred InferGridSample(const Node& node, int64_t, InferArgs inputs) {
  const Dims &x = inputs[0].dims, &grid = inputs[1].dims;
  if (x.size() != grid.size() || (x.size() != 4 && x.size() != 5) || x[0] != grid[0] ||
      grid.back() != static_cast<int64_t>(x.size()) - 2) {
    return InvalidArgument("input of " + ToString(x) + " and grid of " + ToString(grid) + " do not fit");
  }
  for (size_t d = 2; d < x.size(); ++d) {
    if (x[d] < 1 || x[d] > kMaxExtent) return InvalidArgument("input of " + ToString(x) + " cannot be sampled");
  }
  const std::string padding = node.String("padding_mode", "zeros"), mode = node.String("mode", "linear");
  if (padding != "zeros" && padding != "border" && padding != "reflection") {
    return InvalidArgument("padding_mode '" + padding + "' is not one of zeros, border, reflection");
  }
  // Opset 16 has the longer names.
  if (mode != "linear" && mode != "bilinear" && mode != "nearest" && mode != "cubic" && mode != "bicubic") {
    return InvalidArgument("mode '" + mode + "' is not one of linear, nearest, cubic");
  }
  Dims dims = {x[0], x[1]};
  dims.insert(dims.end(), grid.begin() + 1, grid.end() - 1);
  return OneOutput(inputs[0].dtype, std::move(dims));
}

Inferred InferAffineGrid(const Node&, int64_t, InferArgs inputs) {
  OCTAVO_ASSIGN(const std::vector<int64_t> size, ConstantInts(inputs[1], "size"));
  const auto spatial = static_cast<int64_t>(size.size()) - 2;
  if (spatial != 2 && spatial != 3) return InvalidArgument("its size must have 4 or 5 entries");
  OCTAVO_RETURN_IF_ERROR(CheckedElementCount(size).status());
  OCTAVO_RETURN_IF_ERROR(CheckDims(inputs[0], {size[0], spatial, spatial + 1}, "theta"));
  Dims dims = {size[0]};
  dims.insert(dims.end(), size.begin() + 2, size.end());
  dims.push_back(spatial);
  return OneOutput(inputs[0].dtype, std::move(dims));
}

Inferred InferRoiAlign(const Node& node, int64_t, InferArgs inputs) {
  const Dims& x = inputs[0].dims;
  if (x.size() != 4 || inputs[1].dims.size() != 2 || inputs[1].dims[1] != 4) {
    return InvalidArgument("input of " + ToString(x) + " and regions of " + ToString(inputs[1].dims) +
                           " must be N x C x H x W and R x 4");
  }
  OCTAVO_RETURN_IF_ERROR(CheckDims(inputs[2], {inputs[1].dims[0]}, "batch_indices"));
  if (inputs[1].dtype != inputs[0].dtype) return InvalidArgument("its regions differ from X in type");
  if (inputs[2].dtype != DType::kInt64) return InvalidArgument("its batch_indices must be int64");
  OCTAVO_ASSIGN(const int64_t height, PositiveExtent(node, "output_height", 1));
  OCTAVO_ASSIGN(const int64_t width, PositiveExtent(node, "output_width", 1));
  const std::string mode = node.String("mode", "avg");
  if (mode != "avg" && mode != "max") return InvalidArgument("mode '" + mode + "' is not one of avg, max");
  return OneOutput(inputs[0].dtype, {inputs[1].dims[0], x[1], height, width});
}

Inferred InferNonMaxSuppression(const Node& node, int64_t, InferArgs inputs) {
  OCTAVO_ASSIGN(const std::vector<int64_t> selected, SelectBoxes(node, inputs));
  return OneOutput(DType::kInt64, {static_cast<int64_t>(selected.size() / 3), 3});
}

Inferred InferCol2Im(const Node& node, int64_t, InferArgs inputs) {
  OCTAVO_ASSIGN(const std::vector<Col2ImAxis> axes, ResolveCol2Im(node, inputs));
  int64_t kernels = 1;
  Dims dims = {inputs[0].dims[0], 0};
  for (const Col2ImAxis& axis : axes) {
    kernels *= axis.kernel;
    dims.push_back(axis.image);
  }
  dims[1] = inputs[0].dims[1] / kernels;
  return OneOutput(inputs[0].dtype, std::move(dims));
}

Inferred InferDeformConv(const Node& node, int64_t opset, InferArgs inputs) {
  const Dims &x = inputs[0].dims, &w = inputs[1].dims;
  if (x.size() != 4) return Unsupported("it deforms an input of " + ToString(x) + "; N x C x H x W is supported");
  OCTAVO_ASSIGN(auto outputs, InferConv(node, opset, inputs.first(2)));
  const Dims& y = outputs[0].dims;
  OCTAVO_ASSIGN(const int64_t groups, PositiveExtent(node, "offset_group", 1));
  if (x[1] % groups != 0) return InvalidArgument(std::to_string(x[1]) + " channels do not divide into offset groups");
  const int64_t taps = w[2] * w[3];
  OCTAVO_RETURN_IF_ERROR(CheckDims(inputs[2], {x[0], groups * taps * 2, y[2], y[3]}, "offset"));
  if (InputAt(inputs, 3).present) OCTAVO_RETURN_IF_ERROR(CheckDims(inputs[3], {w[0]}, "B"));
  if (InputAt(inputs, 4).present) {
    OCTAVO_RETURN_IF_ERROR(CheckDims(inputs[4], {x[0], groups * taps, y[2], y[3]}, "mask"));
  }
  OCTAVO_RETURN_IF_ERROR(CheckSameDType(inputs));
  return outputs;
}

}  // namespace octavo
