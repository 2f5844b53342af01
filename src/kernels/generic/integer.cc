// MatMulInteger, ConvInteger, QLinearMatMul, QLinearConv, DynamicQuantizeLinear: the older forms of quantized models,
// as the standard defines them. What is built for speed are Q/DQ graphs (docs/numerics.md).
#include <cmath>
#include <utility>

#include "base/parallel.h"
#include "kernels/generic/contraction.h"
#include "kernels/generic/index_reader.h"
#include "kernels/generic/movement.h"
#include "kernels/generic/product.h"
#include "kernels/generic/rows.h"
#include "kernels/generic/window.h"

namespace octavo {
namespace {

using InferArgs = std::span<const InferInput>;

// Zero points or scales: one number, or one per row, column or channel.
template <typename Value>
struct Parameter {
  Value (*read)(const void*, int64_t) = nullptr;
  size_t input = 0;
  int64_t step = 0;
  Value absent{};

  Value At(const KernelArgs& args, int64_t index) const {
    return read == nullptr ? absent : read(args.inputs[input], index * step);
  }
};

template <typename Value>
Parameter<Value> ParameterOf(const BindContext& context, size_t input) {
  Parameter<Value> parameter;
  parameter.input = input;
  if (input >= context.inputs.size() || !context.inputs[input].present) return parameter;
  const Operand& operand = context.inputs[input];
  parameter.read = ReaderOf<Value>(operand.dtype);
  if (ElementCount(operand.dims) != 1) parameter.step = operand.strides[0];
  return parameter;
}

// What happens to a 32-bit sum in `row` of a and `column` of b (for convolutions: 0 and the output channel).
struct Finish {
  bool quantizes = false;
  Parameter<double> a_scale, b_scale, y_scale;
  Parameter<int64_t> y_zero_point, bias;

  // sum * (a_scale * b_scale / y_scale), rounded to even, plus the zero point. Scales are float.
  template <typename Y>
  Y operator()(const KernelArgs& args, int32_t sum, int64_t row, int64_t column) const {
    if (!quantizes) return static_cast<Y>(sum);
    const auto scale = static_cast<float>(a_scale.At(args, row)) * static_cast<float>(b_scale.At(args, column)) /
                       static_cast<float>(y_scale.At(args, 0));
    const auto total = static_cast<float>(static_cast<int64_t>(sum) + bias.At(args, column));
    return Saturate<Y>(std::nearbyint(static_cast<double>(total * scale)) +
                       static_cast<double>(y_zero_point.At(args, 0)));
  }
};

using OutputTypes = Types<int8_t, uint8_t, int32_t>;

Result<BoundKernel> BindIntegerProduct(const BindContext& context, size_t b_input,
                                       const Parameter<int64_t>& a_zero_point, const Parameter<int64_t>& b_zero_point,
                                       const Finish& finish) {
  const Operand &a = context.inputs[0], &b = context.inputs[b_input], &y = context.outputs[0];
  OCTAVO_ASSIGN(const MatrixProduct p, MatMulProduct(a, b, y));
  const IntReader read_a = ReaderOf<int64_t>(a.dtype), read_b = ReaderOf<int64_t>(b.dtype);
  return ForDType(OutputTypes(), y.dtype, [&]<typename Y>(std::type_identity<Y>) {
    BoundKernel kernel;
    kernel.run = [=, threads = context.threads](const KernelArgs& args) {
      ParallelFor(threads, p.batch.count() * p.rows, 1, [&](int64_t begin, int64_t end) {
        for (int64_t task = begin; task < end; ++task) {
          const std::array<int64_t, 3> at = p.batch.OffsetsOf(task / p.rows);
          const int64_t row = task % p.rows, a_zero = a_zero_point.At(args, row);
          for (int64_t column = 0; column < p.columns; ++column) {
            const int64_t b_zero = b_zero_point.At(args, column);
            uint32_t sum = 0;  // wraps as int32 does
            for (int64_t k = 0; k < p.depth; ++k) {
              const int64_t left = read_a(args.inputs[0], at[0] + row * p.a_row + k * p.a_depth) - a_zero;
              const int64_t right = read_b(args.inputs[b_input], at[1] + column * p.b_column + k * p.b_depth) - b_zero;
              sum += static_cast<uint32_t>(left * right);
            }
            static_cast<Y*>(args.outputs[0])[at[2] + row * p.y_row + column * p.y_column] =
                finish.operator()<Y>(args, static_cast<int32_t>(sum), row, column);
          }
        }
      });
      return Status();
    };
    return Result<BoundKernel>(std::move(kernel));
  });
}

Result<BoundKernel> BindMatMulInteger(const BindContext& context, InferArgs) {
  return BindIntegerProduct(context, 1, ParameterOf<int64_t>(context, 2), ParameterOf<int64_t>(context, 3), {});
}

Result<BoundKernel> BindQLinearMatMul(const BindContext& context, InferArgs) {
  Finish finish{true,
                ParameterOf<double>(context, 1),
                ParameterOf<double>(context, 4),
                ParameterOf<double>(context, 6),
                ParameterOf<int64_t>(context, 7),
                {}};
  return BindIntegerProduct(context, 3, ParameterOf<int64_t>(context, 2), ParameterOf<int64_t>(context, 5), finish);
}

struct IntegerConvolution {
  Windows windows;
  int64_t batch = 1, channels = 1, rows = 1;  // input channels and output channels per group
  int64_t groups = 1;
  Dims x, w, y;  // strides of the first two axes
  IntReader read_x = nullptr, read_w = nullptr;
  size_t w_input = 1;
  Parameter<int64_t> x_zero_point, w_zero_point;
};

// The sum at output position `o` of channel `row` of `group`. Padding holds the zero point: it adds nothing.
int32_t SumAt(const IntegerConvolution& c, const KernelArgs& args, int64_t image, int64_t group, int64_t row,
              const std::array<int64_t, kSpatial>& o) {
  const Windows& w = c.windows;
  const int64_t x_zero = c.x_zero_point.At(args, 0), w_zero = c.w_zero_point.At(args, group * c.rows + row);
  uint32_t sum = 0;
  for (int64_t channel = 0; channel < c.channels; ++channel) {
    const int64_t x_base = image * c.x[0] + (group * c.channels + channel) * c.x[1];
    const int64_t w_base = (group * c.rows + row) * c.w[0] + channel * c.w[1];
    std::array<int64_t, kSpatial> k;
    for (k[0] = 0; k[0] < w[0].kernel; ++k[0]) {
      for (k[1] = 0; k[1] < w[1].kernel; ++k[1]) {
        for (k[2] = 0; k[2] < w[2].kernel; ++k[2]) {
          int64_t x_at = x_base, w_at = w_base;
          bool inside = true;
          for (size_t d = 0; d < kSpatial; ++d) {
            const int64_t position = o[d] * w[d].stride - w[d].pad_begin + k[d] * w[d].dilation;
            inside &= position >= 0 && position < w[d].input;
            x_at += position * w[d].input_step;
            w_at += k[d] * w[d].kernel_step;
          }
          if (!inside) continue;
          const int64_t product =
              (c.read_x(args.inputs[0], x_at) - x_zero) * (c.read_w(args.inputs[c.w_input], w_at) - w_zero);
          sum += static_cast<uint32_t>(product);
        }
      }
    }
  }
  return static_cast<int32_t>(sum);
}

Result<BoundKernel> BindConvolution(const BindContext& context, size_t w_input, const Finish& finish) {
  const Operand &x = context.inputs[0], &weight = context.inputs[w_input], &y = context.outputs[0];
  IntegerConvolution c;
  OCTAVO_ASSIGN(const std::vector<WindowAxis> axes, ResolveConv(context.node, x.dims, weight.dims));
  OCTAVO_ASSIGN(c.windows, PlaceInMemory(axes, x, &weight, y));
  c.groups = context.node.Int("group", 1);
  c.batch = x.dims[0];
  c.channels = x.dims[1] / c.groups;
  c.rows = y.dims[1] / c.groups;
  c.x = x.strides;
  c.w = weight.strides;
  c.y = y.strides;
  c.read_x = ReaderOf<int64_t>(x.dtype);
  c.read_w = ReaderOf<int64_t>(weight.dtype);
  c.w_input = w_input;
  c.x_zero_point = ParameterOf<int64_t>(context, 2);
  c.w_zero_point = ParameterOf<int64_t>(context, w_input == 1 ? 3 : 5);
  return ForDType(OutputTypes(), y.dtype, [&]<typename Y>(std::type_identity<Y>) {
    BoundKernel kernel;
    kernel.run = [c, finish, threads = context.threads](const KernelArgs& args) {
      const int64_t rows = c.groups * c.rows;
      ParallelFor(threads, c.batch * rows, 1, [&](int64_t begin, int64_t end) {
        for (int64_t task = begin; task < end; ++task) {
          const int64_t image = task / rows, row = task % rows;
          Y* out = static_cast<Y*>(args.outputs[0]) + image * c.y[0] + row * c.y[1];
          std::array<int64_t, kSpatial> o;
          for (o[0] = 0; o[0] < c.windows[0].output; ++o[0]) {
            for (o[1] = 0; o[1] < c.windows[1].output; ++o[1]) {
              for (o[2] = 0; o[2] < c.windows[2].output; ++o[2]) {
                const int32_t sum = SumAt(c, args, image, row / c.rows, row % c.rows, o);
                out[o[0] * c.windows[0].output_step + o[1] * c.windows[1].output_step +
                    o[2] * c.windows[2].output_step] = finish.operator()<Y>(args, sum, 0, row);
              }
            }
          }
        }
      });
      return Status();
    };
    return Result<BoundKernel>(std::move(kernel));
  });
}

Result<BoundKernel> BindConvInteger(const BindContext& context, InferArgs) { return BindConvolution(context, 1, {}); }

Result<BoundKernel> BindQLinearConv(const BindContext& context, InferArgs) {
  return BindConvolution(
      context, 3,
      {true, ParameterOf<double>(context, 1), ParameterOf<double>(context, 4), ParameterOf<double>(context, 6),
       ParameterOf<int64_t>(context, 7), ParameterOf<int64_t>(context, 8)});
}

// To uint8 over the range of x and 0.
Result<BoundKernel> BindDynamicQuantizeLinear(const BindContext& context, InferArgs) {
  const Operand& x = context.inputs[0];
  const auto outputs = context.outputs;
  for (const Operand& output : outputs) {
    if (!output.present) return Unsupported("it leaves out an output");
  }
  if (outputs.size() != 3) return Unsupported("it leaves out an output");
  BoundKernel kernel;
  kernel.run = [loop = StridedLoop<2>(x.dims, {x.strides, outputs[0].strides})](const KernelArgs& args) {
    const auto* from = static_cast<const float*>(args.inputs[0]);
    float low = 0, high = 0;
    loop.ForEach([&](const auto& at) {
      low = std::min(low, from[at[0]]);
      high = std::max(high, from[at[0]]);
    });
    const float scale = (high == low ? 1.0f : high - low) / 255.0f;
    const auto zero_point = Saturate<uint8_t>(std::nearbyint(static_cast<double>(0.0f - low / scale)));
    loop.ForEach([&](const auto& at) {
      static_cast<uint8_t*>(args.outputs[0])[at[1]] =
          Saturate<uint8_t>(std::nearbyint(static_cast<double>(from[at[0]] / scale)) + zero_point);
    });
    *static_cast<float*>(args.outputs[1]) = scale;
    *static_cast<uint8_t*>(args.outputs[2]) = zero_point;
    return Status();
  };
  return kernel;
}

}  // namespace

std::span<const GenericKernelRow> IntegerKernels() {
  static constexpr GenericKernelRow kRows[] = {
      {"", "ConvInteger", BindChecked<BindConvInteger>},
      {"", "DynamicQuantizeLinear", BindChecked<BindDynamicQuantizeLinear>},
      {"", "MatMulInteger", BindChecked<BindMatMulInteger>},
      {"", "QLinearConv", BindChecked<BindQLinearConv>},
      {"", "QLinearMatMul", BindChecked<BindQLinearMatMul>},
  };
  return kRows;
}

}  // namespace octavo
