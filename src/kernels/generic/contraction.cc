#include "kernels/generic/contraction.h"

#include "kernels/generic/product.h"
#include "kernels/generic/rows.h"

namespace octavo {
namespace {

using ProductTypes = decltype(Join(FloatTypes(), Types<int32_t, int64_t, uint32_t, uint64_t>()));

// The operand as a stack of matrices: a vector gets the row or column it lacks.
struct MatrixView {
  Dims batch_dims, batch_strides;
  int64_t rows = 1, columns = 1;
  int64_t row_step = 0, column_step = 0;
};

MatrixView ViewAsMatrix(const Operand& operand, bool vector_is_row) {
  MatrixView view;
  const size_t rank = operand.dims.size();
  if (rank == 1) {
    (vector_is_row ? view.columns : view.rows) = operand.dims[0];
    (vector_is_row ? view.column_step : view.row_step) = operand.strides[0];
    return view;
  }
  view.batch_dims.assign(operand.dims.begin(), operand.dims.end() - 2);
  view.batch_strides.assign(operand.strides.begin(), operand.strides.end() - 2);
  view.rows = operand.dims[rank - 2];
  view.columns = operand.dims[rank - 1];
  view.row_step = operand.strides[rank - 2];
  view.column_step = operand.strides[rank - 1];
  return view;
}

}  // namespace

Result<MatrixProduct> MatMulProduct(const Operand& a, const Operand& b, const Operand& y) {
  if (a.dims.empty() || b.dims.empty()) return InvalidArgument("an operand is a scalar");
  const MatrixView left = ViewAsMatrix(a, /*vector_is_row=*/true);
  const MatrixView right = ViewAsMatrix(b, /*vector_is_row=*/false);
  if (left.columns != right.rows) {
    return InvalidArgument(ToString(a.dims) + " and " + ToString(b.dims) + " do not multiply");
  }
  const size_t matrix_rank = (a.dims.size() > 1 ? 1u : 0u) + (b.dims.size() > 1 ? 1u : 0u);
  if (y.dims.size() < matrix_rank || y.dims.size() > kMaxRank) return Unsupported("the output's rank does not fit");
  const size_t batch_rank = y.dims.size() - matrix_rank;
  if (left.batch_dims.size() > batch_rank || right.batch_dims.size() > batch_rank) {
    return InvalidArgument("the operands' batches do not fit the output");
  }
  const Dims batch(y.dims.begin(), y.dims.begin() + static_cast<int64_t>(batch_rank));
  const Dims y_batch(y.strides.begin(), y.strides.begin() + static_cast<int64_t>(batch_rank));
  MatrixProduct product;
  product.batch = StridedLoop<3>(batch, {BroadcastStrides(left.batch_dims, left.batch_strides, batch),
                                         BroadcastStrides(right.batch_dims, right.batch_strides, batch), y_batch});
  product.rows = left.rows;
  product.columns = right.columns;
  product.depth = left.columns;
  product.a_row = left.row_step;
  product.a_depth = left.column_step;
  product.b_depth = right.row_step;
  product.b_column = right.column_step;
  if (a.dims.size() > 1) product.y_row = y.strides[batch_rank];
  if (b.dims.size() > 1) product.y_column = y.strides.back();
  return product;
}

namespace {

Result<BoundKernel> BindMatMul(const BindContext& context) {
  const auto in = context.inputs;
  if (in[0].dtype != in[1].dtype) return InvalidArgument("the operands differ in type");
  OCTAVO_ASSIGN(const MatrixProduct product, MatMulProduct(in[0], in[1], context.outputs[0]));
  return ForDType(ProductTypes(), in[0].dtype, [&]<typename T>(std::type_identity<T>) {
    return Result<BoundKernel>(BindProduct<T>(product, context.threads));
  });
}

// alpha * A B + beta * C, A and B transposed on demand, C broadcast to the result.
Result<BoundKernel> BindGemm(const BindContext& context) {
  const auto in = context.inputs;
  const Operand& y = context.outputs[0];
  const bool has_c = in.size() > 2 && in[2].present;
  if (in[0].dtype != in[1].dtype || (has_c && in[2].dtype != in[0].dtype)) {
    return InvalidArgument("the operands differ in type");
  }
  if (in[0].dims.size() != 2 || in[1].dims.size() != 2) return InvalidArgument("an operand is not a matrix");
  std::array<Operand, 2> operands = {in[0], in[1]};
  constexpr std::array<const char*, 2> kFlags = {"transA", "transB"};
  for (size_t i = 0; i < 2; ++i) {
    if (context.node.Int(kFlags[i], 0) == 0) continue;
    std::swap(operands[i].dims[0], operands[i].dims[1]);
    std::swap(operands[i].strides[0], operands[i].strides[1]);
  }
  OCTAVO_ASSIGN(const MatrixProduct product, MatMulProduct(operands[0], operands[1], y));
  if (has_c) {
    const Dims& dims = in[2].dims;
    bool fits = dims.size() <= 2;
    for (size_t d = 0; fits && d < dims.size(); ++d) fits = dims[d] == 1 || dims[d] == y.dims[2 - dims.size() + d];
    if (!fits) return InvalidArgument("C does not broadcast to the result");
  }
  const Dims c_steps = has_c ? BroadcastStrides(in[2].dims, in[2].strides, y.dims) : Dims{0, 0};
  const double alpha = static_cast<double>(context.node.Float("alpha", 1.0f));
  const double beta = static_cast<double>(context.node.Float("beta", 1.0f));
  return ForDType(FloatTypes(), in[0].dtype, [&]<typename T>(std::type_identity<T>) {
    return Result<BoundKernel>(BindProduct<T>(product, context.threads,
                                              [alpha, beta, has_c, row_step = c_steps[0], column_step = c_steps[1]](
                                                  const KernelArgs& args, int64_t row, int64_t column, double sum) {
                                                if (!has_c) return alpha * sum;
                                                const T c = static_cast<const T*>(
                                                    args.inputs[2])[row * row_step + column * column_step];
                                                return alpha * sum + beta * static_cast<double>(Load(c));
                                              }));
  });
}

}  // namespace

std::span<const GenericKernelRow> ContractionKernels() {
  static constexpr GenericKernelRow kRows[] = {
      {"", "Conv", BindConv},     {"", "ConvTranspose", BindConvTranspose},
      {"", "MatMul", BindMatMul}, {"", "Gemm", BindGemm},
      {"", "Einsum", BindEinsum},
  };
  return kRows;
}

}  // namespace octavo
