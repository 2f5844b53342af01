// Kernels that apply one function to every element, with broadcasting.
#pragma once

#include <algorithm>
#include <array>
#include <utility>

#include "base/parallel.h"
#include "kernels/generic/elements.h"
#include "kernels/strided.h"

namespace octavo {

// Elements that one thread takes at least: about 10 us of simple arithmetic.
inline constexpr int64_t kElementGrain = 16384;

inline Status CheckBroadcast(const BindContext& context) {
  const Dims& target = context.outputs[0].dims;
  if (target.size() > kMaxRank) return Unsupported("rank " + std::to_string(target.size()) + " is too high");
  for (const Operand& input : context.inputs) {
    if (!input.present) continue;
    bool fits = input.dims.size() <= target.size();
    for (size_t d = 0; fits && d < input.dims.size(); ++d) {
      fits = input.dims[d] == 1 || input.dims[d] == target[target.size() - input.dims.size() + d];
    }
    if (!fits) return InvalidArgument(ToString(input.dims) + " does not broadcast to " + ToString(target));
  }
  return {};
}

// The loop over output 0, its operands the given inputs and, last, the output.
template <size_t kInputs>
StridedLoop<kInputs + 1> ElementwiseLoop(const Operand& output, const std::array<const Operand*, kInputs>& inputs) {
  Dims dims = output.dims;
  std::array<Dims, kInputs + 1> strides;
  for (size_t k = 0; k < kInputs; ++k) strides[k] = BroadcastStrides(inputs[k]->dims, inputs[k]->strides, dims);
  strides[kInputs] = output.strides;
  OrderByStride(kInputs, dims, strides);
  return StridedLoop<kInputs + 1>(dims, strides);
}

// y[i] = fn(a[i]). The loops of float have the common steps as constants, so that they vectorize.
template <typename A, typename Y, typename Fn>
void UnaryRow(const A* a, int64_t step_a, Y* y, int64_t step_y, int64_t n, const Fn& fn) {
  if (std::is_same_v<A, float> && step_a == 1 && step_y == 1) {
    for (int64_t i = 0; i < n; ++i) y[i] = Store<Y>(fn(Load(a[i])));
  } else {
    for (int64_t i = 0; i < n; ++i) y[i * step_y] = Store<Y>(fn(Load(a[i * step_a])));
  }
}

// y[i] = fn(a[i], b[i]).
template <typename A, typename B, typename Y, typename Fn>
void BinaryRow(const A* a, int64_t step_a, const B* b, int64_t step_b, Y* y, int64_t step_y, int64_t n, const Fn& fn) {
  if constexpr (std::is_same_v<A, float> && std::is_same_v<B, float>) {
    if (step_y == 1 && step_a == 1 && step_b == 1) {
      for (int64_t i = 0; i < n; ++i) y[i] = Store<Y>(fn(a[i], b[i]));
      return;
    }
    if (step_y == 1 && step_a == 1 && step_b == 0) {
      const float fixed = *b;
      for (int64_t i = 0; i < n; ++i) y[i] = Store<Y>(fn(a[i], fixed));
      return;
    }
    if (step_y == 1 && step_a == 0 && step_b == 1) {
      const float fixed = *a;
      for (int64_t i = 0; i < n; ++i) y[i] = Store<Y>(fn(fixed, b[i]));
      return;
    }
  }
  for (int64_t i = 0; i < n; ++i) y[i * step_y] = Store<Y>(fn(Load(a[i * step_a]), Load(b[i * step_b])));
}

template <typename A, typename Y, typename Fn>
void RunUnary(const StridedLoop<2>& loop, int threads, const void* input, void* output, const Fn& fn) {
  const A* a = static_cast<const A*>(input);
  Y* y = static_cast<Y*>(output);
  const std::array<int64_t, 2> step = loop.inner_steps();
  ParallelFor(threads, loop.count(), kElementGrain, [&](int64_t begin, int64_t end) {
    loop.ForElements(begin, end,
                     [&](const auto& at, int64_t n) { UnaryRow(a + at[0], step[0], y + at[1], step[1], n, fn); });
  });
}

template <typename A, typename B, typename Y, typename Fn>
void RunBinary(const StridedLoop<3>& loop, int threads, const void* left, const void* right, void* output,
               const Fn& fn) {
  const A* a = static_cast<const A*>(left);
  const B* b = static_cast<const B*>(right);
  Y* y = static_cast<Y*>(output);
  const std::array<int64_t, 3> step = loop.inner_steps();
  ParallelFor(threads, loop.count(), kElementGrain, [&](int64_t begin, int64_t end) {
    loop.ForElements(begin, end, [&](const auto& at, int64_t n) {
      BinaryRow(a + at[0], step[0], b + at[1], step[1], y + at[2], step[2], n, fn);
    });
  });
}

// Output 0 = fn(input 0), both of one type of the list.
template <typename TypeList, typename Fn>
Result<BoundKernel> BindUnary(const BindContext& context, Fn fn) {
  OCTAVO_RETURN_IF_ERROR(CheckBroadcast(context));
  return ForDType(TypeList(), context.inputs[0].dtype, [&]<typename T>(std::type_identity<T>) -> Result<BoundKernel> {
    BoundKernel kernel;
    kernel.run = [loop = ElementwiseLoop<1>(context.outputs[0], {&context.inputs[0]}), threads = context.threads,
                  fn](const KernelArgs& args) {
      RunUnary<T, T>(loop, threads, args.inputs[0], args.outputs[0], fn);
      return Status();
    };
    return kernel;
  });
}

// Output 0 = fn(input 0, input 1), all of one type of the list.
template <typename TypeList, typename Fn>
Result<BoundKernel> BindBinary(const BindContext& context, Fn fn) {
  OCTAVO_RETURN_IF_ERROR(CheckBroadcast(context));
  if (context.inputs[0].dtype != context.inputs[1].dtype) return InvalidArgument("the operands differ in type");
  return ForDType(TypeList(), context.inputs[0].dtype, [&]<typename T>(std::type_identity<T>) -> Result<BoundKernel> {
    BoundKernel kernel;
    kernel.run = [loop = ElementwiseLoop<2>(context.outputs[0], {&context.inputs[0], &context.inputs[1]}),
                  threads = context.threads, fn](const KernelArgs& args) {
      RunBinary<T, T, T>(loop, threads, args.inputs[0], args.inputs[1], args.outputs[0], fn);
      return Status();
    };
    return kernel;
  });
}

}  // namespace octavo
