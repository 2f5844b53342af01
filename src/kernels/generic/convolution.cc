// Conv and ConvTranspose in one to three spatial dimensions: one matrix product per image and group, whose columns are
// output positions and whose depth runs over input channels and kernel positions.
#include "kernels/generic/contraction.h"
#include "kernels/generic/elements.h"
#include "kernels/generic/multiply.h"
#include "kernels/generic/window.h"

namespace octavo {
namespace {

using Position = std::array<int64_t, kSpatial>;

// One step of the depth: an input channel and a kernel position.
struct Tap {
  int64_t channel_offset;  // of the input channel within its group
  Position shift;          // kernel position times dilation
  int64_t weight_offset;
};

struct Convolution {
  Windows windows;
  bool transposed = false;
  bool has_bias = false;
  int64_t batch = 1, groups = 1;
  int64_t rows = 1;  // output channels per group
  int64_t x_batch = 0, x_group = 0;
  int64_t y_batch = 0, y_group = 0, y_channel = 0;
  int64_t w_group = 0, w_row = 0;
  int64_t bias_step = 0;
  std::vector<Tap> taps;
  int threads = 1;

  int64_t positions() const { return windows[0].output * windows[1].output * windows[2].output; }
};

// Weights are (output channel, input channel in group, kernel...), transposed (input channel, output channel in group,
// kernel...).
std::vector<Tap> ListTaps(const Convolution& conv, const Operand& weight, int64_t channels, int64_t x_channel) {
  std::vector<Tap> taps;
  const Windows& w = conv.windows;
  const int64_t w_channel = weight.strides[conv.transposed ? 0 : 1];
  for (int64_t c = 0; c < channels; ++c) {
    Position k;
    for (k[0] = 0; k[0] < w[0].kernel; ++k[0]) {
      for (k[1] = 0; k[1] < w[1].kernel; ++k[1]) {
        for (k[2] = 0; k[2] < w[2].kernel; ++k[2]) {
          Tap tap{c * x_channel, {}, c * w_channel};
          for (size_t d = 0; d < kSpatial; ++d) {
            tap.shift[d] = k[d] * w[d].dilation;
            tap.weight_offset += k[d] * w[d].kernel_step;
          }
          taps.push_back(tap);
        }
      }
    }
  }
  return taps;
}

Result<Convolution> ReadConvolution(const BindContext& context, bool transposed) {
  const Operand& x = context.inputs[0];
  const Operand& weight = context.inputs[1];
  const Operand& y = context.outputs[0];
  Convolution conv;
  conv.transposed = transposed;
  conv.threads = context.threads;
  conv.groups = context.node.Int("group", 1);
  OCTAVO_ASSIGN(const std::vector<WindowAxis> axes, transposed ? ResolveConvTranspose(context.node, x.dims, weight.dims)
                                                               : ResolveConv(context.node, x.dims, weight.dims));
  OCTAVO_ASSIGN(conv.windows, PlaceInMemory(axes, x, &weight, y));
  const int64_t channels = x.dims[1] / conv.groups;
  conv.batch = x.dims[0];
  conv.rows = y.dims[1] / conv.groups;
  conv.x_batch = x.strides[0];
  conv.x_group = channels * x.strides[1];
  conv.y_batch = y.strides[0];
  conv.y_channel = y.strides[1];
  conv.y_group = conv.rows * y.strides[1];
  conv.w_row = weight.strides[transposed ? 1 : 0];
  conv.w_group = transposed ? channels * weight.strides[0] : conv.rows * weight.strides[0];
  conv.has_bias = context.inputs.size() > 2 && context.inputs[2].present;
  if (conv.has_bias) conv.bias_step = context.inputs[2].strides[0];
  conv.taps = ListTaps(conv, weight, channels, x.strides[1]);
  return conv;
}

// Where output position `o`, through a kernel position `shift` away, reads the input; false outside of it.
bool FindInput(const Window& w, bool transposed, int64_t o, int64_t shift, int64_t& offset) {
  int64_t at = transposed ? o + w.pad_begin - shift : o * w.stride - w.pad_begin + shift;
  if (transposed) {
    if (at < 0 || at % w.stride != 0) return false;
    at /= w.stride;
  }
  if (at < 0 || at >= w.input) return false;
  offset += at * w.input_step;
  return true;
}

Position PositionOf(const Windows& w, int64_t index) {
  return {index / (w[1].output * w[2].output), index / w[2].output % w[1].output, index % w[2].output};
}

// The inputs that output position `index` sees, one per tap; 0 in the padding.
template <typename T>
void FillColumn(const Convolution& conv, const T* x, int64_t index, double* out) {
  const Windows& w = conv.windows;
  const Position o = PositionOf(w, index);
  for (size_t k = 0; k < conv.taps.size(); ++k) {
    const Tap& tap = conv.taps[k];
    int64_t offset = tap.channel_offset;
    bool inside = true;
    for (size_t d = 0; inside && d < kSpatial; ++d) {
      inside = FindInput(w[d], conv.transposed, o[d], tap.shift[d], offset);
    }
    out[static_cast<int64_t>(k) * kTile] = inside ? static_cast<double>(Load(x[offset])) : 0.0;
  }
}

template <typename T>
void RunConvolution(const Convolution& conv, const KernelArgs& args) {
  const int64_t depth = static_cast<int64_t>(conv.taps.size());
  const int64_t panels = (conv.positions() + kPanelColumns - 1) / kPanelColumns;
  const Windows& w = conv.windows;
  ForTasks(conv.threads, conv.batch * conv.groups * panels, [&](int64_t task, int64_t slot) {
    const int64_t begin = task % panels * kPanelColumns;
    const int64_t group = task / panels % conv.groups, image = task / panels / conv.groups;
    const T* x = static_cast<const T*>(args.inputs[0]) + image * conv.x_batch + group * conv.x_group;
    const T* weight = static_cast<const T*>(args.inputs[1]) + group * conv.w_group;
    const T* bias =
        conv.has_bias ? static_cast<const T*>(args.inputs[2]) + group * conv.rows * conv.bias_step : nullptr;
    T* y = static_cast<T*>(args.outputs[0]) + image * conv.y_batch + group * conv.y_group;
    const auto fill_row = [&](int64_t row, double* out) {
      for (int64_t k = 0; k < depth; ++k) {
        out[k * kTile] =
            static_cast<double>(Load(weight[row * conv.w_row + conv.taps[static_cast<size_t>(k)].weight_offset]));
      }
    };
    const auto fill_column = [&](int64_t column, double* out) { FillColumn(conv, x, column, out); };
    const auto put = [&](int64_t row, int64_t column, double sum) {
      const Position o = PositionOf(w, column);
      if (bias != nullptr) sum += static_cast<double>(Load(bias[row * conv.bias_step]));
      y[row * conv.y_channel + o[0] * w[0].output_step + o[1] * w[1].output_step + o[2] * w[2].output_step] =
          Store<T>(sum);
    };
    MultiplyPanel(conv.rows, begin, std::min(begin + kPanelColumns, conv.positions()), depth,
                  static_cast<double*>(args.scratch) + slot * PanelScratch(depth), fill_row, fill_column, put);
  });
}

Result<BoundKernel> BindConvolution(const BindContext& context, bool transposed) {
  OCTAVO_ASSIGN(const Convolution conv, ReadConvolution(context, transposed));
  return ForDType(FloatTypes(), context.inputs[0].dtype, [&]<typename T>(std::type_identity<T>) {
    BoundKernel kernel;
    const int64_t slot = PanelScratch(static_cast<int64_t>(conv.taps.size()));
    kernel.scratch_bytes = static_cast<size_t>(slot * conv.threads) * sizeof(double);
    kernel.run = [conv](const KernelArgs& args) {
      RunConvolution<T>(conv, args);
      return Status();
    };
    return Result<BoundKernel>(std::move(kernel));
  });
}

}  // namespace

Result<BoundKernel> BindConv(const BindContext& context) { return BindConvolution(context, /*transposed=*/false); }

Result<BoundKernel> BindConvTranspose(const BindContext& context) {
  return BindConvolution(context, /*transposed=*/true);
}

}  // namespace octavo
