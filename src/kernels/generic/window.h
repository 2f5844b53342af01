// The sliding windows of convolutions and pools, as three spatial dimensions (missing ones have size 1).
#pragma once

#include <array>
#include <vector>

#include "graph/infer_window.h"
#include "kernels/kernel.h"

namespace octavo {

inline constexpr size_t kSpatial = 3;

// WindowAxis with the strides of its dimension in memory, in elements.
struct Window : WindowAxis {
  int64_t input_step = 0, output_step = 0, kernel_step = 0;
};
using Windows = std::array<Window, kSpatial>;

// `kernel` is null for pools, which have no weights.
inline Result<Windows> PlaceInMemory(const std::vector<WindowAxis>& axes, const Operand& input, const Operand* kernel,
                                     const Operand& output) {
  if (axes.size() > kSpatial) return Unsupported("more than three spatial dimensions");
  Windows windows;
  for (Window& window : windows) window.input = window.output = 1;
  for (size_t d = 0; d < axes.size(); ++d) {
    Window& window = windows[kSpatial - axes.size() + d];
    static_cast<WindowAxis&>(window) = axes[d];
    window.input_step = input.strides[d + 2];
    window.output_step = output.strides[d + 2];
    if (kernel != nullptr) window.kernel_step = kernel->strides[d + 2];
  }
  return windows;
}

}  // namespace octavo
