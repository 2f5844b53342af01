// Batches of matrix products over any strides.
#pragma once

#include "kernels/generic/elements.h"
#include "kernels/generic/multiply.h"
#include "kernels/strided.h"

namespace octavo {

// Integers wrap; floating-point sums are taken in double.
template <typename T>
using ProductAccumulator = std::conditional_t<std::is_integral_v<T>, uint64_t, double>;

// y[row, column] = sum over k of a[row, k] * b[k, column], for every element of `batch` (offsets of a, b and y).
struct MatrixProduct {
  StridedLoop<3> batch;
  int64_t rows = 1, columns = 1, depth = 1;
  int64_t a_row = 0, a_depth = 0;
  int64_t b_depth = 0, b_column = 0;
  int64_t y_row = 0, y_column = 0;

  // The same product as y^T = b^T a^T when that has more columns: columns are what is packed and shared out.
  bool IsBetterTransposed() const { return rows > columns; }
};

// finish(row, column, sum) gives the value to store; row and column are those of y.
template <typename T, typename Finish>
BoundKernel BindProduct(const MatrixProduct& product, int threads, Finish finish) {
  using Acc = ProductAccumulator<T>;
  const bool flips = product.IsBetterTransposed();
  MatrixProduct p = product;
  if (flips) {
    std::swap(p.rows, p.columns);
    std::swap(p.a_row, p.b_column);
    std::swap(p.a_depth, p.b_depth);
    std::swap(p.y_row, p.y_column);
  }
  const int64_t slot_size = PanelScratch(p.depth);
  BoundKernel kernel;
  kernel.scratch_bytes = static_cast<size_t>(threads * slot_size) * sizeof(Acc);
  kernel.run = [p, flips, threads, slot_size, finish](const KernelArgs& args) {
    const int64_t panels = (p.columns + kPanelColumns - 1) / kPanelColumns;
    ForTasks(threads, p.batch.count() * panels, [&](int64_t task, int64_t slot) {
      const std::array<int64_t, 3> offsets = p.batch.OffsetsOf(task / panels);
      const T* a = static_cast<const T*>(args.inputs[flips ? 1 : 0]) + offsets[flips ? 1 : 0];
      const T* b = static_cast<const T*>(args.inputs[flips ? 0 : 1]) + offsets[flips ? 0 : 1];
      T* y = static_cast<T*>(args.outputs[0]) + offsets[2];
      const auto fill_row = [&](int64_t i, Acc* out) {
        for (int64_t k = 0; k < p.depth; ++k) out[k * kTile] = static_cast<Acc>(Load(a[i * p.a_row + k * p.a_depth]));
      };
      const auto fill_column = [&](int64_t j, Acc* out) {
        for (int64_t k = 0; k < p.depth; ++k) {
          out[k * kTile] = static_cast<Acc>(Load(b[j * p.b_column + k * p.b_depth]));
        }
      };
      const auto put = [&](int64_t i, int64_t j, Acc sum) {
        y[i * p.y_row + j * p.y_column] = Store<T>(flips ? finish(args, j, i, sum) : finish(args, i, j, sum));
      };
      const int64_t begin = task % panels * kPanelColumns;
      MultiplyPanel(p.rows, begin, std::min(begin + kPanelColumns, p.columns), p.depth,
                    static_cast<Acc*>(args.scratch) + slot * slot_size, fill_row, fill_column, put);
    });
    return Status();
  };
  return kernel;
}

template <typename T>
BoundKernel BindProduct(const MatrixProduct& product, int threads) {
  return BindProduct<T>(product, threads, [](const KernelArgs&, int64_t, int64_t, auto sum) { return sum; });
}

}  // namespace octavo
