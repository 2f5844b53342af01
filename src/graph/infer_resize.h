// Resize, resolved; shape inference, kernels and lowering share it.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "graph/op_table.h"

namespace octavo {

enum class ResizeMode : uint8_t { kNearest, kLinear, kCubic };
enum class ResizeCoordinates : uint8_t {
  kHalfPixel,
  kHalfPixelSymmetric,
  kPytorchHalfPixel,
  kAlignCorners,
  kAsymmetric,
  kTfCropAndResize,
  kTfHalfPixelForNearest,  // opset 11 only: (x + 0.5) / scale
};
enum class ResizeNearest : uint8_t { kRoundPreferFloor, kRoundPreferCeil, kFloor, kCeil };

struct ResizeAxis {
  bool resized = false;  // false: the axis is copied as it is
  int64_t input = 0;
  int64_t output = 0;
  float scale = 1;                   // output / input as the node states or implies it
  float roi_start = 0, roi_end = 1;  // of kTfCropAndResize, in units of the axis' last index
};

struct ResizePlan {
  ResizeMode mode = ResizeMode::kNearest;
  ResizeCoordinates coordinates = ResizeCoordinates::kHalfPixel;
  ResizeNearest nearest = ResizeNearest::kRoundPreferFloor;
  float cubic_coeff_a = -0.75f;
  float extrapolation_value = 0;
  bool exclude_outside = false;
  bool antialias = false;
  std::vector<ResizeAxis> axes;  // one per axis of X
};

Result<ResizePlan> ResolveResize(const Node& node, int64_t opset, std::span<const InferInput> inputs);

}  // namespace octavo
