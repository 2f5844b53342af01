#include "kernels/generic/pool.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "base/parallel.h"
#include "kernels/generic/elements.h"
#include "kernels/generic/window.h"
#include "kernels/strided.h"

namespace octavo {
namespace {

struct Pool {
  Windows windows;
  int64_t batch = 1, channels = 1;
  std::array<int64_t, 2> x_steps{}, y_steps{}, index_steps{};  // over batch and channels
  std::array<int64_t, kSpatial> index_spatial_steps{};
  bool counts_padding = false;
  bool column_major = false;
  bool has_indices = false;
  int threads = 1;
};

Result<Pool> PlacePool(const BindContext& context, const std::vector<WindowAxis>& axes) {
  const Operand& x = context.inputs[0];
  const Operand& y = context.outputs[0];
  Pool pool;
  OCTAVO_ASSIGN(pool.windows, PlaceInMemory(axes, x, nullptr, y));
  pool.batch = x.dims[0];
  pool.channels = x.dims[1];
  pool.x_steps = {x.strides[0], x.strides[1]};
  pool.y_steps = {y.strides[0], y.strides[1]};
  pool.counts_padding = context.node.Int("count_include_pad", 0) != 0;
  pool.column_major = context.node.Int("storage_order", 0) != 0;
  pool.threads = context.threads;
  if (context.outputs.size() < 2 || !context.outputs[1].present) return pool;
  const Operand& indices = context.outputs[1];
  pool.has_indices = true;
  pool.index_steps = {indices.strides[0], indices.strides[1]};
  for (size_t d = 2; d < indices.dims.size(); ++d) {
    pool.index_spatial_steps[kSpatial - indices.dims.size() + d] = indices.strides[d];
  }
  return pool;
}

Result<Pool> ReadPool(const BindContext& context) {
  OCTAVO_ASSIGN(const std::vector<WindowAxis> axes, ResolvePool(context.node, context.inputs[0].dims));
  return PlacePool(context, axes);
}

using Position = std::array<int64_t, kSpatial>;

// The kernel positions [first, last) of a window that fall into [low, high) of its dimension.
struct Span {
  int64_t start;  // input position of kernel position 0
  int64_t first, last;
  int64_t count() const { return std::max<int64_t>(0, last - first); }
};
Span Clip(const Window& window, int64_t output, int64_t low, int64_t high) {
  const int64_t start = output * window.stride - window.pad_begin;
  const int64_t d = window.dilation;
  const int64_t first = start >= low ? 0 : (low - start + d - 1) / d;
  const int64_t last = start >= high ? 0 : std::min(window.kernel, (high - start + d - 1) / d);
  return {start, first, std::max(first, last)};
}

// Calls fn(position) for the input positions under the window at `output` that lie within the input.
template <typename Fn>
void ForWindow(const Windows& windows, const Position& output, Fn&& fn) {
  std::array<Span, kSpatial> spans;
  for (size_t d = 0; d < kSpatial; ++d) spans[d] = Clip(windows[d], output[d], 0, windows[d].input);
  Position at;
  for (int64_t i = spans[0].first; i < spans[0].last; ++i) {
    at[0] = spans[0].start + i * windows[0].dilation;
    for (int64_t j = spans[1].first; j < spans[1].last; ++j) {
      at[1] = spans[1].start + j * windows[1].dilation;
      for (int64_t k = spans[2].first; k < spans[2].last; ++k) {
        at[2] = spans[2].start + k * windows[2].dilation;
        fn(static_cast<const Position&>(at));
      }
    }
  }
}

int64_t InputOffset(const Windows& w, const Position& at) {
  return at[0] * w[0].input_step + at[1] * w[1].input_step + at[2] * w[2].input_step;
}
int64_t OutputOffset(const Windows& w, const Position& at) {
  return at[0] * w[0].output_step + at[1] * w[1].output_step + at[2] * w[2].output_step;
}

// Calls fn(batch, channel, output position) for every output element, in parallel.
template <typename Fn>
void ForOutputs(const Pool& pool, Fn&& fn) {
  const Windows& w = pool.windows;
  const int64_t planes = pool.batch * pool.channels;
  const int64_t work = w[0].output * w[1].output * w[2].output * w[0].kernel * w[1].kernel * w[2].kernel;
  const int64_t grain = std::max<int64_t>(1, 16384 / std::max<int64_t>(1, work));
  ParallelFor(pool.threads, planes, grain, [&](int64_t begin, int64_t end) {
    Position at;
    for (int64_t plane = begin; plane < end; ++plane) {
      for (at[0] = 0; at[0] < w[0].output; ++at[0]) {
        for (at[1] = 0; at[1] < w[1].output; ++at[1]) {
          for (at[2] = 0; at[2] < w[2].output; ++at[2]) {
            fn(plane / pool.channels, plane % pool.channels, static_cast<const Position&>(at));
          }
        }
      }
    }
  });
}

// What the sum is divided by: the elements under the window; with count_include_pad those in the padding too, but not
// the ones beyond it that ceil_mode reaches.
int64_t AverageDivisor(const Pool& pool, const Position& output, int64_t covered) {
  if (!pool.counts_padding) return covered;
  int64_t count = 1;
  for (size_t d = 0; d < kSpatial; ++d) {
    const Window& w = pool.windows[d];
    count *= Clip(w, output[d], -w.pad_begin, w.input + w.pad_end).count();
  }
  return count;
}

template <typename T>
BoundKernel BindTypedAverage(const Pool& pool) {
  BoundKernel kernel;
  kernel.run = [pool](const KernelArgs& args) {
    const T* x = static_cast<const T*>(args.inputs[0]);
    T* y = static_cast<T*>(args.outputs[0]);
    ForOutputs(pool, [&](int64_t n, int64_t c, const Position& output) {
      const T* plane = x + n * pool.x_steps[0] + c * pool.x_steps[1];
      double sum = 0;
      int64_t covered = 0;
      ForWindow(pool.windows, output, [&](const Position& at) {
        sum += static_cast<double>(Load(plane[InputOffset(pool.windows, at)]));
        ++covered;
      });
      const int64_t divisor = AverageDivisor(pool, output, covered);
      y[n * pool.y_steps[0] + c * pool.y_steps[1] + OutputOffset(pool.windows, output)] =
          Store<T>(divisor == 0 ? 0.0 : sum / static_cast<double>(divisor));
    });
    return Status();
  };
  return kernel;
}

int64_t FlatIndex(const Pool& pool, int64_t n, int64_t c, const Position& at) {
  const Windows& w = pool.windows;
  const int64_t plane = (n * pool.channels + c) * w[0].input * w[1].input * w[2].input;
  if (!pool.column_major) return plane + (at[0] * w[1].input + at[1]) * w[2].input + at[2];
  return plane + at[0] + w[0].input * (at[1] + w[1].input * at[2]);
}

template <typename T>
BoundKernel BindTypedMax(const Pool& pool) {
  BoundKernel kernel;
  kernel.run = [pool](const KernelArgs& args) {
    const T* x = static_cast<const T*>(args.inputs[0]);
    T* y = static_cast<T*>(args.outputs[0]);
    int64_t* indices = pool.has_indices ? static_cast<int64_t*>(args.outputs[1]) : nullptr;
    ForOutputs(pool, [&](int64_t n, int64_t c, const Position& output) {
      const T* plane = x + n * pool.x_steps[0] + c * pool.x_steps[1];
      auto largest = std::numeric_limits<ComputeType<T>>::lowest();
      Position where{-1, -1, -1};
      ForWindow(pool.windows, output, [&](const Position& at) {
        const auto value = Load(plane[InputOffset(pool.windows, at)]);
        if (!(value > largest) && where[0] >= 0) return;
        largest = value;
        where = at;
      });
      y[n * pool.y_steps[0] + c * pool.y_steps[1] + OutputOffset(pool.windows, output)] = Store<T>(largest);
      if (indices == nullptr) return;
      int64_t at = n * pool.index_steps[0] + c * pool.index_steps[1];
      for (size_t d = 0; d < kSpatial; ++d) at += output[d] * pool.index_spatial_steps[d];
      indices[at] = where[0] < 0 ? -1 : FlatIndex(pool, n, c, where);
    });
    return Status();
  };
  return kernel;
}

// (sum of |x|^p)^(1/p); padding adds nothing.
template <typename T>
BoundKernel BindTypedLp(const Pool& pool, double p) {
  BoundKernel kernel;
  kernel.run = [pool, p](const KernelArgs& args) {
    ForOutputs(pool, [&](int64_t n, int64_t c, const Position& output) {
      const T* plane = static_cast<const T*>(args.inputs[0]) + n * pool.x_steps[0] + c * pool.x_steps[1];
      double sum = 0;
      ForWindow(pool.windows, output, [&](const Position& at) {
        sum += std::pow(std::abs(static_cast<double>(Load(plane[InputOffset(pool.windows, at)]))), p);
      });
      static_cast<T*>(args.outputs[0])[n * pool.y_steps[0] + c * pool.y_steps[1] + OutputOffset(pool.windows, output)] =
          Store<T>(std::pow(sum, 1 / p));
    });
    return Status();
  };
  return kernel;
}

// The window of a global pool.
std::vector<WindowAxis> WholeInput(const Dims& x) {
  std::vector<WindowAxis> axes;
  for (size_t d = 2; d < x.size(); ++d) axes.push_back({.kernel = x[d], .input = x[d], .output = 1});
  return axes;
}

Result<BoundKernel> BindLp(const BindContext& context, const std::vector<WindowAxis>& axes) {
  OCTAVO_ASSIGN(const Pool pool, PlacePool(context, axes));
  const auto p = static_cast<double>(context.node.Int("p", 2));
  return ForDType(FloatTypes(), context.inputs[0].dtype,
                  [&]<typename T>(std::type_identity<T>) { return Result<BoundKernel>(BindTypedLp<T>(pool, p)); });
}

}  // namespace

Result<BoundKernel> BindLpPool(const BindContext& context) {
  OCTAVO_ASSIGN(const std::vector<WindowAxis> axes, ResolvePool(context.node, context.inputs[0].dims));
  return BindLp(context, axes);
}

Result<BoundKernel> BindGlobalLpPool(const BindContext& context) {
  if (context.node.Int("p", 2) < 1) return InvalidArgument("p is not positive");
  return BindLp(context, WholeInput(context.inputs[0].dims));
}

// Zeros, and each element where its index says. Indices count in the shape that the attributes give, which lies at the
// start of the output's.
Result<BoundKernel> BindMaxUnpool(const BindContext& context) {
  const Operand &x = context.inputs[0], &indices = context.inputs[1], &y = context.outputs[0];
  OCTAVO_ASSIGN(const Dims shape, ResolveUnpool(context.node, x.dims));
  const StridedLoop<2> loop(x.dims, {x.strides, indices.strides});
  const StridedLoop<1> all(y.dims, {y.strides});
  return ForDType(NumericTypes(), x.dtype, [&]<typename T>(std::type_identity<T>) {
    BoundKernel kernel;
    kernel.run = [loop, all, shape, strides = y.strides, count = ElementCount(shape)](const KernelArgs& args) {
      T* out = static_cast<T*>(args.outputs[0]);
      all.ForEach([&](const auto& at) { out[at[0]] = Store<T>(0); });
      Status status;
      loop.ForEach([&](const auto& at) {
        int64_t index = static_cast<const int64_t*>(args.inputs[1])[at[1]], offset = 0;
        if (index < 0 || index >= count) {
          status = InvalidArgument("index " + std::to_string(index) + " is out of range");
          return;
        }
        for (size_t d = shape.size(); d-- > 0; index /= shape[d]) offset += index % shape[d] * strides[d];
        out[offset] = static_cast<const T*>(args.inputs[0])[at[0]];
      });
      return status;
    };
    return Result<BoundKernel>(std::move(kernel));
  });
}

Result<BoundKernel> BindAveragePool(const BindContext& context) {
  OCTAVO_ASSIGN(const Pool pool, ReadPool(context));
  return ForDType(FloatTypes(), context.inputs[0].dtype,
                  [&]<typename T>(std::type_identity<T>) { return Result<BoundKernel>(BindTypedAverage<T>(pool)); });
}

Result<BoundKernel> BindMaxPool(const BindContext& context) {
  OCTAVO_ASSIGN(const Pool pool, ReadPool(context));
  using PooledTypes = decltype(Join(FloatTypes(), Types<int8_t, uint8_t>()));
  return ForDType(PooledTypes(), context.inputs[0].dtype,
                  [&]<typename T>(std::type_identity<T>) { return Result<BoundKernel>(BindTypedMax<T>(pool)); });
}

}  // namespace octavo
