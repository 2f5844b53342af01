// Ops on regions: RoiAlign and DeformConv, which read between the elements; Col2Im, which adds overlapping blocks up;
// NonMaxSuppression.
#include <algorithm>
#include <cmath>
#include <utility>

#include "base/parallel.h"
#include "graph/infer_sampling.h"
#include "graph/infer_window.h"
#include "kernels/generic/elements.h"
#include "kernels/generic/movement.h"
#include "kernels/generic/rows.h"
#include "kernels/strided.h"

namespace octavo {
namespace {

using InferArgs = std::span<const InferInput>;

// A plane read between its elements: the four neighbours of a position and their weights, none when it is outside.
struct Bilinear {
  std::array<int64_t, 4> offset{};
  std::array<double, 4> weight{};
};

// RoiAlign: positions up to one element outside are clamped to the border.
Bilinear ClampedNeighbours(double y, double x, int64_t height, int64_t width, int64_t row_step, int64_t step) {
  Bilinear taps;
  if (!(y >= -1 && y <= static_cast<double>(height) && x >= -1 && x <= static_cast<double>(width))) return taps;
  const auto split = [](double at, int64_t size, std::array<int64_t, 2>& low_high) {
    at = std::clamp(at, 0.0, static_cast<double>(size - 1));
    low_high[0] = static_cast<int64_t>(at);
    low_high[1] = std::min(low_high[0] + 1, size - 1);
    return at - static_cast<double>(low_high[0]);
  };
  std::array<int64_t, 2> ys, xs;
  const double fy = split(y, height, ys), fx = split(x, width, xs);
  for (size_t k = 0; k < 4; ++k) {
    taps.offset[k] = ys[k / 2] * row_step + xs[k % 2] * step;
    taps.weight[k] = (k / 2 == 0 ? 1 - fy : fy) * (k % 2 == 0 ? 1 - fx : fx);
  }
  return taps;
}

// DeformConv: what is outside counts as 0.
Bilinear ZeroPaddedNeighbours(double y, double x, int64_t height, int64_t width, int64_t row_step, int64_t step) {
  Bilinear taps;
  if (!(y > -1 && y < static_cast<double>(height) && x > -1 && x < static_cast<double>(width))) return taps;
  const double y0 = std::floor(y), x0 = std::floor(x);
  for (size_t k = 0; k < 4; ++k) {
    const int64_t row = static_cast<int64_t>(y0) + static_cast<int64_t>(k / 2);
    const int64_t column = static_cast<int64_t>(x0) + static_cast<int64_t>(k % 2);
    if (row < 0 || row >= height || column < 0 || column >= width) continue;
    taps.offset[k] = row * row_step + column * step;
    taps.weight[k] = (k / 2 == 0 ? 1 - (y - y0) : y - y0) * (k % 2 == 0 ? 1 - (x - x0) : x - x0);
  }
  return taps;
}

struct RoiAlign {
  Dims x_dims, x, y_dims, y, rois;
  int64_t index_step = 0;
  int64_t sampling_ratio = 0;
  double scale = 1;
  bool half_pixel = true, is_max = false;
};

// One axis of a region: where it begins, how long a bin is, and how many samples a bin has.
struct RoiAxis {
  double start, bin;
  int64_t samples;
};

Result<RoiAxis> PlaceRoi(const RoiAlign& r, double from, double to, int64_t bins) {
  constexpr double kMaxSamples = 4096;
  const double offset = r.half_pixel ? 0.5 : 0.0, start = from * r.scale - offset;
  double length = to * r.scale - offset - start;
  if (!r.half_pixel) length = std::max(length, 1.0);
  RoiAxis axis{start, length / static_cast<double>(bins), r.sampling_ratio};
  const double samples = std::ceil(axis.bin);
  if (r.sampling_ratio > 0) return axis;
  if (!(samples <= kMaxSamples)) return InvalidArgument("a region is too large to be sampled, or is not a number");
  axis.samples = std::max<int64_t>(0, static_cast<int64_t>(samples));
  return axis;
}

template <typename T>
double PoolBin(const RoiAlign& r, const T* plane, const RoiAxis& ys, const RoiAxis& xs, int64_t ph, int64_t pw) {
  double result = 0;
  bool first = true;
  for (int64_t i = 0; i < ys.samples; ++i) {
    const double y =
        ys.start +
        (static_cast<double>(ph) + (static_cast<double>(i) + 0.5) / static_cast<double>(ys.samples)) * ys.bin;
    for (int64_t j = 0; j < xs.samples; ++j) {
      const double x =
          xs.start +
          (static_cast<double>(pw) + (static_cast<double>(j) + 0.5) / static_cast<double>(xs.samples)) * xs.bin;
      const Bilinear taps = ClampedNeighbours(y, x, r.x_dims[2], r.x_dims[3], r.x[2], r.x[3]);
      for (size_t k = 0; k < 4; ++k) {
        const double term = taps.weight[k] * static_cast<double>(Load(plane[taps.offset[k]]));
        if (!r.is_max) {
          result += term;
        } else if (first || term > result) {
          result = term;
        }
        first = false;
      }
    }
  }
  return r.is_max ? result : result / static_cast<double>(std::max<int64_t>(1, ys.samples * xs.samples));
}

template <typename T>
Status RunRoiAlign(const RoiAlign& r, const KernelArgs& args) {
  for (int64_t n = 0; n < r.y_dims[0]; ++n) {
    const T* roi = static_cast<const T*>(args.inputs[1]) + n * r.rois[0];
    const int64_t image = static_cast<const int64_t*>(args.inputs[2])[n * r.index_step];
    if (image < 0 || image >= r.x_dims[0]) {
      return InvalidArgument("batch index " + std::to_string(image) + " is out of range");
    }
    const auto side = [&](int64_t k) { return static_cast<double>(Load(roi[k * r.rois[1]])); };
    OCTAVO_ASSIGN(const RoiAxis xs, PlaceRoi(r, side(0), side(2), r.y_dims[3]));
    OCTAVO_ASSIGN(const RoiAxis ys, PlaceRoi(r, side(1), side(3), r.y_dims[2]));
    for (int64_t c = 0; c < r.y_dims[1]; ++c) {
      const T* plane = static_cast<const T*>(args.inputs[0]) + image * r.x[0] + c * r.x[1];
      T* y = static_cast<T*>(args.outputs[0]) + n * r.y[0] + c * r.y[1];
      for (int64_t ph = 0; ph < r.y_dims[2]; ++ph) {
        for (int64_t pw = 0; pw < r.y_dims[3]; ++pw) {
          y[ph * r.y[2] + pw * r.y[3]] = Store<T>(PoolBin(r, plane, ys, xs, ph, pw));
        }
      }
    }
  }
  return {};
}

Result<BoundKernel> BindRoiAlign(const BindContext& context, InferArgs) {
  const Node& node = context.node;
  const Operand &x = context.inputs[0], &y = context.outputs[0];
  const bool half_pixel =
      context.opset >= 16 && node.String("coordinate_transformation_mode", "half_pixel") == "half_pixel";
  const int64_t ratio = node.Int("sampling_ratio", 0);
  if (ratio > 4096) return Unsupported("a sampling_ratio of " + std::to_string(ratio));
  if (x.dims[2] < 1 || x.dims[3] < 1) return InvalidArgument("its input is empty");
  const RoiAlign r{x.dims,
                   x.strides,
                   y.dims,
                   y.strides,
                   context.inputs[1].strides,
                   context.inputs[2].strides[0],
                   ratio,
                   static_cast<double>(node.Float("spatial_scale", 1.0f)),
                   half_pixel,
                   node.String("mode", "avg") == "max"};
  return ForDType(FloatTypes(), x.dtype, [&]<typename T>(std::type_identity<T>) {
    BoundKernel kernel;
    kernel.run = [r](const KernelArgs& args) { return RunRoiAlign<T>(r, args); };
    return Result<BoundKernel>(std::move(kernel));
  });
}

// DeformConv: a convolution whose taps each read at their own offset, weighted by their own mask.
struct DeformConv {
  WindowAxis rows, columns;
  Dims x, w, offset, mask, y, y_dims;
  int64_t bias_step = 0;
  int64_t in_channels = 1, out_channels = 1;  // per group
  int64_t channels_per_offset = 1;            // that share offsets
  bool has_bias = false, has_mask = false;
  int threads = 1;
};

template <typename T>
double DeformedSum(const DeformConv& d, const KernelArgs& args, int64_t image, int64_t out, int64_t i, int64_t j) {
  const T* weight = static_cast<const T*>(args.inputs[1]) + out * d.w[0];
  const int64_t first = out / d.out_channels * d.in_channels, taps = d.rows.kernel * d.columns.kernel;
  double sum = d.has_bias ? static_cast<double>(Load(static_cast<const T*>(args.inputs[3])[out * d.bias_step])) : 0.0;
  for (int64_t c = 0; c < d.in_channels; ++c) {
    const T* x = static_cast<const T*>(args.inputs[0]) + image * d.x[0] + (first + c) * d.x[1];
    const int64_t group = (first + c) / d.channels_per_offset;
    for (int64_t tap = 0; tap < taps; ++tap) {
      const int64_t kh = tap / d.columns.kernel, kw = tap % d.columns.kernel;
      const T* offset = static_cast<const T*>(args.inputs[2]) + image * d.offset[0] +
                        (group * taps + tap) * 2 * d.offset[1] + i * d.offset[2] + j * d.offset[3];
      const double y = static_cast<double>(i * d.rows.stride - d.rows.pad_begin + kh * d.rows.dilation) +
                       static_cast<double>(Load(offset[0]));
      const double at = static_cast<double>(j * d.columns.stride - d.columns.pad_begin + kw * d.columns.dilation) +
                        static_cast<double>(Load(offset[d.offset[1]]));
      const Bilinear near = ZeroPaddedNeighbours(y, at, d.rows.input, d.columns.input, d.x[2], d.x[3]);
      double value = 0;
      for (size_t k = 0; k < 4; ++k) {
        // What has no weight is not read: an infinity there is not looked at.
        if (near.weight[k] != 0) value += near.weight[k] * static_cast<double>(Load(x[near.offset[k]]));
      }
      if (d.has_mask) {
        const T* mask = static_cast<const T*>(args.inputs[4]) + image * d.mask[0] + (group * taps + tap) * d.mask[1];
        value *= static_cast<double>(Load(mask[i * d.mask[2] + j * d.mask[3]]));
      }
      sum += value * static_cast<double>(Load(weight[c * d.w[1] + kh * d.w[2] + kw * d.w[3]]));
    }
  }
  return sum;
}

Result<BoundKernel> BindDeformConv(const BindContext& context, InferArgs) {
  const auto in = context.inputs;
  const Operand& y = context.outputs[0];
  OCTAVO_ASSIGN(const std::vector<WindowAxis> axes, ResolveConv(context.node, in[0].dims, in[1].dims));
  DeformConv d;
  d.rows = axes[0];
  d.columns = axes[1];
  d.x = in[0].strides;
  d.w = in[1].strides;
  d.offset = in[2].strides;
  d.y = y.strides;
  d.y_dims = y.dims;
  d.has_bias = in.size() > 3 && in[3].present;
  d.has_mask = in.size() > 4 && in[4].present;
  if (d.has_bias) d.bias_step = in[3].strides[0];
  if (d.has_mask) d.mask = in[4].strides;
  d.in_channels = in[1].dims[1];
  d.out_channels = y.dims[1] / context.node.Int("group", 1);
  d.channels_per_offset = in[0].dims[1] / context.node.Int("offset_group", 1);
  d.threads = context.threads;
  return ForDType(FloatTypes(), y.dtype, [&]<typename T>(std::type_identity<T>) {
    BoundKernel kernel;
    kernel.run = [d](const KernelArgs& args) {
      ParallelFor(d.threads, d.y_dims[0] * d.y_dims[1], 1, [&](int64_t begin, int64_t end) {
        for (int64_t plane = begin; plane < end; ++plane) {
          const int64_t image = plane / d.y_dims[1], out = plane % d.y_dims[1];
          T* to = static_cast<T*>(args.outputs[0]) + image * d.y[0] + out * d.y[1];
          for (int64_t i = 0; i < d.y_dims[2]; ++i) {
            for (int64_t j = 0; j < d.y_dims[3]; ++j) {
              to[i * d.y[2] + j * d.y[3]] = Store<T>(DeformedSum<T>(d, args, image, out, i, j));
            }
          }
        }
      });
      return Status();
    };
    return Result<BoundKernel>(std::move(kernel));
  });
}

// Col2Im: every element of the image is the sum of the block elements that lie on it.

struct Col2Im {
  std::vector<Col2ImAxis> axes;
  Dims y_dims, y, columns;  // strides of the output and of the columns
  int64_t kernels = 1, positions = 1;
};

template <typename T>
double SumBlocks(const Col2Im& c, const T* columns, const std::array<int64_t, kMaxRank>& at) {
  double sum = 0;
  for (int64_t kernel = 0; kernel < c.kernels; ++kernel) {
    int64_t rest = kernel, position = 0, scale = 1;
    bool meets = true;
    for (size_t d = c.axes.size(); d-- > 0 && meets;) {
      const Col2ImAxis& axis = c.axes[d];
      const int64_t start = at[d] + axis.pad_begin - rest % axis.kernel * axis.dilation;
      rest /= axis.kernel;
      meets = start >= 0 && start % axis.stride == 0 && start / axis.stride < axis.output;
      position += start / axis.stride * scale;
      scale *= axis.output;
    }
    if (meets) sum += static_cast<double>(Load(columns[kernel * c.columns[1] + position * c.columns[2]]));
  }
  return sum;
}

Result<BoundKernel> BindCol2Im(const BindContext& context, InferArgs inputs) {
  const Operand& y = context.outputs[0];
  Col2Im c;
  OCTAVO_ASSIGN(c.axes, ResolveCol2Im(context.node, inputs));
  for (const Col2ImAxis& axis : c.axes) c.kernels *= axis.kernel;
  c.y_dims = y.dims;
  c.y = y.strides;
  c.columns = context.inputs[0].strides;
  return ForDType(FloatTypes(), y.dtype, [&]<typename T>(std::type_identity<T>) {
    BoundKernel kernel;
    kernel.run = [c, threads = context.threads, count = ElementCount(y.dims)](const KernelArgs& args) {
      ParallelFor(threads, count, 256, [&](int64_t begin, int64_t end) {
        for (int64_t e = begin; e < end; ++e) {
          std::array<int64_t, kMaxRank> at{};
          int64_t rest = e, offset = 0;
          for (size_t d = c.y_dims.size(); d-- > 2; rest /= c.y_dims[d]) {
            at[d - 2] = rest % c.y_dims[d];
            offset += at[d - 2] * c.y[d];
          }
          const int64_t image = rest / c.y_dims[1], channel = rest % c.y_dims[1];
          const T* columns =
              static_cast<const T*>(args.inputs[0]) + image * c.columns[0] + channel * c.kernels * c.columns[1];
          static_cast<T*>(args.outputs[0])[image * c.y[0] + channel * c.y[1] + offset] =
              Store<T>(SumBlocks(c, columns, at));
        }
      });
      return Status();
    };
    return Result<BoundKernel>(std::move(kernel));
  });
}

Result<BoundKernel> BindNonMaxSuppression(const BindContext& context, InferArgs inputs) {
  OCTAVO_ASSIGN(std::vector<int64_t> selected, SelectBoxes(context.node, inputs));
  return WriteValues(context.outputs[0], 0, std::move(selected));
}

}  // namespace

std::span<const GenericKernelRow> SamplingKernels() {
  static constexpr GenericKernelRow kRows[] = {
      {"", "Col2Im", BindChecked<BindCol2Im>},
      {"", "DeformConv", BindChecked<BindDeformConv>},
      {"", "NonMaxSuppression", BindChecked<BindNonMaxSuppression>},
      {"", "RoiAlign", BindChecked<BindRoiAlign>},
  };
  return kRows;
}

}  // namespace octavo
