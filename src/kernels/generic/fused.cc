// Attention and LinearAttention of domain "octavo", computed in double.
#include <cmath>
#include <limits>

#include "kernels/generic/elements.h"
#include "kernels/generic/multiply.h"
#include "kernels/generic/rows.h"
#include "kernels/strided.h"

namespace octavo {
namespace {

// The last two dimensions of an operand; the ones before them are its batch.
struct Matrix {
  int64_t rows = 0, columns = 0;
  int64_t row_step = 0, column_step = 0;
  Dims batch = {}, batch_strides = {};
};

Result<Matrix> LastMatrix(const Operand& operand) {
  const size_t rank = operand.dims.size();
  if (rank < 2 || rank > kMaxRank) return InvalidArgument("an operand of rank " + std::to_string(rank));
  Matrix matrix{operand.dims[rank - 2], operand.dims[rank - 1], operand.strides[rank - 2], operand.strides[rank - 1]};
  matrix.batch.assign(operand.dims.begin(), operand.dims.end() - 2);
  matrix.batch_strides.assign(operand.strides.begin(), operand.strides.end() - 2);
  return matrix;
}

// Strides of the operand's batch over `batch`, or an error when it does not broadcast to it.
Result<Dims> BatchStrides(const Matrix& matrix, const Dims& batch) {
  bool fits = matrix.batch.size() <= batch.size();
  for (size_t d = 0; fits && d < matrix.batch.size(); ++d) {
    fits = matrix.batch[d] == 1 || matrix.batch[d] == batch[batch.size() - matrix.batch.size() + d];
  }
  if (!fits) return InvalidArgument("the operands' batches do not fit the output");
  return BroadcastStrides(matrix.batch, matrix.batch_strides, batch);
}

// Attention: softmax(scale * q k^T + mask) v

constexpr int64_t kQueryBlock = 16;  // queries whose scores are held at once

struct Attention {
  StridedLoop<5> batch;  // q, k, v, mask, y
  Matrix q, k, v, mask, y;
  double scale = 1;
  bool has_mask = false, guarded = false;
  int threads = 1;

  int64_t score_count() const { return kQueryBlock * k.rows; }
  int64_t slot_size() const { return score_count() + PanelScratch(std::max(q.columns, k.rows)); }
};

Result<Attention> ReadAttention(const BindContext& context) {
  const auto in = context.inputs;
  Attention attention;
  attention.threads = context.threads;
  attention.scale = static_cast<double>(context.node.Float("scale", 1.0f));
  attention.guarded = context.node.Int("guarded", 0) != 0;
  attention.has_mask = in.size() > 3 && in[3].present;
  OCTAVO_ASSIGN(attention.q, LastMatrix(in[0]));
  OCTAVO_ASSIGN(attention.k, LastMatrix(in[1]));
  OCTAVO_ASSIGN(attention.v, LastMatrix(in[2]));
  OCTAVO_ASSIGN(attention.y, LastMatrix(context.outputs[0]));
  const Matrix &q = attention.q, &k = attention.k, &v = attention.v, &y = attention.y;
  if (q.columns != k.columns || k.rows != v.rows || y.rows != q.rows || y.columns != v.columns) {
    return InvalidArgument("the shapes of q, k, v and the output do not fit");
  }
  if (attention.has_mask) {
    // A mask of fewer than two dimensions is broadcast over the queries.
    Operand mask = in[3];
    while (mask.dims.size() < 2) {
      mask.dims.insert(mask.dims.begin(), 1);
      mask.strides.insert(mask.strides.begin(), 0);
    }
    OCTAVO_ASSIGN(attention.mask, LastMatrix(mask));
    Matrix& m = attention.mask;
    if ((m.rows != 1 && m.rows != q.rows) || (m.columns != 1 && m.columns != k.rows)) {
      return InvalidArgument("the mask does not fit the scores");
    }
    if (m.rows == 1) m.row_step = 0;
    if (m.columns == 1) m.column_step = 0;
  }
  OCTAVO_ASSIGN(Dims q_batch, BatchStrides(q, y.batch));
  OCTAVO_ASSIGN(Dims k_batch, BatchStrides(k, y.batch));
  OCTAVO_ASSIGN(Dims v_batch, BatchStrides(v, y.batch));
  Dims mask_batch(y.batch.size(), 0);
  if (attention.has_mask) {
    OCTAVO_ASSIGN(mask_batch, BatchStrides(attention.mask, y.batch));
  }
  attention.batch = StridedLoop<5>(y.batch, {q_batch, k_batch, v_batch, mask_batch, y.batch_strides});
  return attention;
}

// Softmax of one row in place. A row that is masked everywhere (all -infinity) gives NaN, as the chain of ops does, or
// zeros where it is `guarded`.
void SoftmaxInPlace(double* row, int64_t n, bool guarded) {
  double largest = -std::numeric_limits<double>::infinity(), sum = 0;
  for (int64_t i = 0; i < n; ++i) largest = row[i] > largest || std::isnan(row[i]) ? row[i] : largest;
  for (int64_t i = 0; i < n; ++i) sum += row[i] = std::exp(row[i] - largest);
  if (guarded && std::isnan(sum)) return void(std::fill_n(row, n, 0.0));
  for (int64_t i = 0; i < n; ++i) row[i] /= sum;
}

// The block's queries [begin, end) of one batch element.
template <typename T>
void AttendBlock(const Attention& a, const T* q, const T* k, const T* v, const T* mask, T* y, int64_t begin,
                 int64_t end, double* scratch) {
  double* scores = scratch;
  double* panel = scratch + a.score_count();
  const int64_t keys = a.k.rows;
  const auto fill_query = [&](int64_t i, double* out) {
    const T* row = q + (begin + i) * a.q.row_step;
    for (int64_t d = 0; d < a.q.columns; ++d) out[d * kTile] = static_cast<double>(Load(row[d * a.q.column_step]));
  };
  const auto fill_key = [&](int64_t j, double* out) {
    const T* row = k + j * a.k.row_step;
    for (int64_t d = 0; d < a.k.columns; ++d) out[d * kTile] = static_cast<double>(Load(row[d * a.k.column_step]));
  };
  const auto put_score = [&](int64_t i, int64_t j, double sum) {
    double score = a.scale * sum;
    if (mask != nullptr) {
      score += static_cast<double>(Load(mask[(begin + i) * a.mask.row_step + j * a.mask.column_step]));
    }
    scores[i * keys + j] = score;
  };
  for (int64_t j = 0; j < keys; j += kPanelColumns) {
    MultiplyPanel(end - begin, j, std::min(j + kPanelColumns, keys), a.q.columns, panel, fill_query, fill_key,
                  put_score);
  }
  for (int64_t i = 0; i < end - begin; ++i) SoftmaxInPlace(scores + i * keys, keys, a.guarded);
  const auto fill_weights = [&](int64_t i, double* out) {
    for (int64_t j = 0; j < keys; ++j) out[j * kTile] = scores[i * keys + j];
  };
  const auto fill_value = [&](int64_t c, double* out) {
    for (int64_t j = 0; j < keys; ++j) {
      out[j * kTile] = static_cast<double>(Load(v[j * a.v.row_step + c * a.v.column_step]));
    }
  };
  const auto put = [&](int64_t i, int64_t c, double sum) {
    y[(begin + i) * a.y.row_step + c * a.y.column_step] = Store<T>(sum);
  };
  for (int64_t c = 0; c < a.v.columns; c += kPanelColumns) {
    MultiplyPanel(end - begin, c, std::min(c + kPanelColumns, a.v.columns), keys, panel, fill_weights, fill_value, put);
  }
}

template <typename T>
BoundKernel BindTypedAttention(const Attention& attention) {
  BoundKernel kernel;
  kernel.scratch_bytes = static_cast<size_t>(attention.slot_size() * attention.threads) * sizeof(double);
  kernel.run = [attention](const KernelArgs& args) {
    const Attention& a = attention;
    const int64_t blocks = (a.q.rows + kQueryBlock - 1) / kQueryBlock;
    ForTasks(a.threads, a.batch.count() * blocks, [&](int64_t task, int64_t slot) {
      const std::array<int64_t, 5> at = a.batch.OffsetsOf(task / blocks);
      const auto input = [&](size_t i) { return static_cast<const T*>(args.inputs[i]) + at[i]; };
      const int64_t begin = task % blocks * kQueryBlock;
      AttendBlock(a, input(0), input(1), input(2), a.has_mask ? input(3) : nullptr,
                  static_cast<T*>(args.outputs[0]) + at[4], begin, std::min(begin + kQueryBlock, a.q.rows),
                  static_cast<double*>(args.scratch) + slot * a.slot_size());
    });
    return Status();
  };
  return kernel;
}

Status CheckSameType(const BindContext& context) {
  for (const Operand& input : context.inputs) {
    if (input.present && input.dtype != context.outputs[0].dtype) {
      return InvalidArgument("the operands differ in type");
    }
  }
  return {};
}

Result<BoundKernel> BindAttention(const BindContext& context) {
  OCTAVO_RETURN_IF_ERROR(CheckSameType(context));
  OCTAVO_ASSIGN(const Attention attention, ReadAttention(context));
  return ForDType(FloatTypes(), context.outputs[0].dtype, [&]<typename T>(std::type_identity<T>) {
    return Result<BoundKernel>(BindTypedAttention<T>(attention));
  });
}

// LinearAttention: (v relu(k)^T relu(q)) / (sum over tokens of relu(k) . relu(q) + epsilon), channels before tokens

struct LinearAttention {
  StridedLoop<4> batch;  // q, k, v, y
  Matrix q, k, v, y;     // rows are channels, columns tokens
  double epsilon = 1e-5;
  int threads = 1;

  // Per thread: v relu(k)^T with the sum of relu(k) as its last row, and one token's channels.
  int64_t slot_size() const { return (v.rows + 1) * k.rows + k.rows; }
};

Result<LinearAttention> ReadLinearAttention(const BindContext& context) {
  const auto in = context.inputs;
  LinearAttention a;
  a.threads = context.threads;
  a.epsilon = static_cast<double>(context.node.Float("epsilon", 1e-5f));
  OCTAVO_ASSIGN(a.q, LastMatrix(in[0]));
  OCTAVO_ASSIGN(a.k, LastMatrix(in[1]));
  OCTAVO_ASSIGN(a.v, LastMatrix(in[2]));
  OCTAVO_ASSIGN(a.y, LastMatrix(context.outputs[0]));
  if (a.q.rows != a.k.rows || a.k.columns != a.v.columns || a.y.rows != a.v.rows || a.y.columns != a.q.columns) {
    return InvalidArgument("the shapes of q, k, v and the output do not fit");
  }
  OCTAVO_ASSIGN(Dims q_batch, BatchStrides(a.q, a.y.batch));
  OCTAVO_ASSIGN(Dims k_batch, BatchStrides(a.k, a.y.batch));
  OCTAVO_ASSIGN(Dims v_batch, BatchStrides(a.v, a.y.batch));
  a.batch = StridedLoop<4>(a.y.batch, {q_batch, k_batch, v_batch, a.y.batch_strides});
  return a;
}

// channels[d] = relu(x[d, token])
template <typename T>
void LoadRelu(const Matrix& x, const T* data, int64_t token, double* channels) {
  for (int64_t d = 0; d < x.rows; ++d) {
    const double value = static_cast<double>(Load(data[d * x.row_step + token * x.column_step]));
    channels[d] = value > 0 || std::isnan(value) ? value : 0;
  }
}

// state[e, d] = sum over tokens of v[e, token] * relu(k[d, token]); its last row is the sum of relu(k).
template <typename T>
void SumKeysAndValues(const LinearAttention& a, const T* k, const T* v, double* state, double* channels) {
  const int64_t depth = a.k.rows;
  std::fill(state, state + (a.v.rows + 1) * depth, 0.0);
  for (int64_t token = 0; token < a.k.columns; ++token) {
    LoadRelu(a.k, k, token, channels);
    for (int64_t e = 0; e <= a.v.rows; ++e) {
      const double value =
          e == a.v.rows ? 1.0 : static_cast<double>(Load(v[e * a.v.row_step + token * a.v.column_step]));
      for (int64_t d = 0; d < depth; ++d) state[e * depth + d] += value * channels[d];
    }
  }
}

double Dot(const double* a, const double* b, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += a[i] * b[i];
  return sum;
}

template <typename T>
void AttendLinearly(const LinearAttention& a, const T* q, const double* state, T* y, double* channels) {
  const int64_t depth = a.q.rows;
  for (int64_t token = 0; token < a.q.columns; ++token) {
    LoadRelu(a.q, q, token, channels);
    const double divisor = Dot(state + a.v.rows * depth, channels, depth) + a.epsilon;
    for (int64_t e = 0; e < a.v.rows; ++e) {
      y[e * a.y.row_step + token * a.y.column_step] = Store<T>(Dot(state + e * depth, channels, depth) / divisor);
    }
  }
}

template <typename T>
BoundKernel BindTypedLinearAttention(const LinearAttention& attention) {
  BoundKernel kernel;
  kernel.scratch_bytes = static_cast<size_t>(attention.slot_size() * attention.threads) * sizeof(double);
  kernel.run = [attention](const KernelArgs& args) {
    const LinearAttention& a = attention;
    ForTasks(a.threads, a.batch.count(), [&](int64_t task, int64_t slot) {
      const std::array<int64_t, 4> at = a.batch.OffsetsOf(task);
      double* state = static_cast<double*>(args.scratch) + slot * a.slot_size();
      double* channels = state + (a.v.rows + 1) * a.k.rows;
      SumKeysAndValues(a, static_cast<const T*>(args.inputs[1]) + at[1], static_cast<const T*>(args.inputs[2]) + at[2],
                       state, channels);
      AttendLinearly(a, static_cast<const T*>(args.inputs[0]) + at[0], state, static_cast<T*>(args.outputs[0]) + at[3],
                     channels);
    });
    return Status();
  };
  return kernel;
}

Result<BoundKernel> BindLinearAttention(const BindContext& context) {
  OCTAVO_RETURN_IF_ERROR(CheckSameType(context));
  OCTAVO_ASSIGN(const LinearAttention attention, ReadLinearAttention(context));
  return ForDType(FloatTypes(), context.outputs[0].dtype, [&]<typename T>(std::type_identity<T>) {
    return Result<BoundKernel>(BindTypedLinearAttention<T>(attention));
  });
}

}  // namespace

std::span<const GenericKernelRow> FusedKernels() {
  static constexpr GenericKernelRow kRows[] = {
      {kOctavoDomain, "Attention", BindAttention},
      {kOctavoDomain, "LinearAttention", BindLinearAttention},
  };
  return kRows;
}

}  // namespace octavo
