#include "engine/integer_attention.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <utility>

#include "base/rounding.h"
#include "engine/attention_blocks.h"
#include "graph/quantization.h"
#include "kernels/attention/integer_rows.h"
#include "kernels/batch_matrix.h"
#include "kernels/integer/epilogue.h"
#include "kernels/simd/convert.h"
#include "kernels/strided.h"

namespace octavo {

namespace {

// AMX multiplies 64 bytes at a time; what lies beyond the last key are zeros.
constexpr int64_t kKeyPadding = 64;
// 255 * 128 * 65793 < 2^31: the sums of products, and those that zero points add.
constexpr int64_t kMostTerms = 32000;

// Bytes of a matrix, signed or not, read as the other kind by flipping the highest bit.
struct ByteMatrix {
  BatchMatrix matrix;
  float scale = 1;
  int32_t zero_point = 0;
  uint8_t flip = 0;

  static Result<ByteMatrix> Create(const ByteOperand& operand, DType wanted) {
    ByteMatrix result;
    OCTAVO_ASSIGN(result.matrix, AnyBatchMatrixOf(operand.operand));
    if (SizeOf(operand.operand.dtype) != 1) return Unsupported("not 8 bits");
    result.scale = operand.scale;
    result.zero_point = operand.zero_point;
    if (operand.operand.dtype != wanted) {
      result.flip = 0x80;
      result.zero_point += wanted == DType::kInt8 ? -128 : 128;
    }
    return result;
  }
  bool rows_contiguous() const { return matrix.column_step == 1 || matrix.columns == 1; }
  bool columns_contiguous() const { return matrix.row_step == 1 || matrix.rows == 1; }
};

class IntegerAttention {
 public:
  static Result<std::shared_ptr<IntegerAttention>> Create(OneDnnBuilder& onednn, const IntegerAttentionSpec& spec) {
    auto attention = std::make_shared<IntegerAttention>();
    OCTAVO_RETURN_IF_ERROR(attention->Build(onednn, spec));
    return attention;
  }

  size_t scratch_bytes() const { return static_cast<size_t>(blocks_.parts() * part_bytes_); }

  Status Run(const KernelArgs& args) const {
    return blocks_.Run(
        batch_,
        [&](int part, const auto& at) {
          char* scratch = ScratchOf(args, part);
          OCTAVO_RETURN_IF_ERROR(PackKeys(part, static_cast<const uint8_t*>(args.inputs[1]) + at[1], scratch));
          return PackValues(part, static_cast<const uint8_t*>(args.inputs[2]) + at[2], scratch);
        },
        [&](int part, const auto& at, int64_t first) {
          return RunBlock(args, at, part, first, ScratchOf(args, part));
        });
  }

 private:
  Status Build(OneDnnBuilder& onednn, const IntegerAttentionSpec& spec) {
    if (!OneDnnSumsExactly()) return Unsupported("this CPU has no exact products of bytes");
    OCTAVO_ASSIGN(q_, ByteMatrix::Create(spec.q, DType::kUInt8));
    OCTAVO_ASSIGN(k_, ByteMatrix::Create(spec.k, DType::kInt8));
    OCTAVO_ASSIGN(v_, ByteMatrix::Create(spec.v, DType::kInt8));
    OCTAVO_ASSIGN(y_, SizeOf(spec.y.dtype) == 1 ? AnyBatchMatrixOf(spec.y) : BatchMatrixOf(spec.y));
    y_scale_ = spec.y_scale;
    y_zero_point_ = spec.y_zero_point;
    depth_ = q_.matrix.columns;
    queries_ = q_.matrix.rows;
    keys_ = k_.matrix.columns;
    width_ = v_.matrix.columns;
    if (k_.matrix.rows != depth_ || v_.matrix.rows != keys_ || y_.rows != queries_ || y_.columns != width_) {
      return Unsupported("the shapes of q, k, v and the output do not fit");
    }
    if (std::min({queries_, keys_, depth_, width_}) < 1) return Unsupported("its sums are empty");
    if (std::max(keys_, depth_) > kMostTerms) return Unsupported("its sums may not fit 32 bits");
    if (!q_.rows_contiguous() || !v_.rows_contiguous() || (y_.column_step != 1 && width_ > 1)) {
      return Unsupported("channels are no neighbours");
    }
    if (!k_.rows_contiguous() && !k_.columns_contiguous())
      return Unsupported("neither channels nor keys are neighbours");
    std::array<Dims, 4> batch;
    OCTAVO_ASSIGN(batch[0], BatchStridesOver(q_.matrix, y_.batch));
    OCTAVO_ASSIGN(batch[1], BatchStridesOver(k_.matrix, y_.batch));
    OCTAVO_ASSIGN(batch[2], BatchStridesOver(v_.matrix, y_.batch));
    batch[3] = y_.batch_strides;
    batch_ = StridedLoop<4>(y_.batch, batch);
    score_scale_ = q_.scale * k_.scale;
    numerator_scale_ = spec.numerator_scale;
    numerator_zero_ = spec.numerator_zero_point + (spec.numerator_dtype == DType::kInt8 ? 128 : 0);
    product_scale_ = numerator_scale_ * v_.scale;
    if (!IsUsableScale(score_scale_) || !IsUsableScale(product_scale_)) return Unsupported("the product of its scales");
    const int threads = std::max(1, spec.threads);
    padded_ = RoundUp(keys_, kKeyPadding);
    blocks_ = AttentionBlocks(queries_, padded_, batch_.count(), threads);
    // k as it lies: keys behind each other, or channels behind each other.
    const int64_t row_step = k_.rows_contiguous() ? padded_ : 1, column_step = k_.rows_contiguous() ? 1 : depth_;
    OCTAVO_ASSIGN(score_,
                  onednn.Product({DType::kUInt8, blocks_.rows, depth_, padded_, row_step, column_step, threads}));
    OCTAVO_ASSIGN(combine_, onednn.Product({DType::kUInt8, blocks_.rows, padded_, width_, width_, 1, threads}));
    PlaceScratch();
    return {};
  }

  void PlaceScratch() {
    const int64_t rows = blocks_.rows;
    ScratchLayout scratch;
    keys_at_ = scratch.Place(static_cast<int64_t>(score_->packed_bytes));
    values_at_ = scratch.Place(static_cast<int64_t>(combine_->packed_bytes));
    copy_at_ = scratch.Place(padded_ * std::max(depth_, width_));
    queries_at_ = scratch.Place(rows * depth_);
    scores_at_ = scratch.Place(rows * padded_ * 4);
    numerators_at_ = scratch.Place(rows * padded_);
    sums_at_ = scratch.Place(rows * width_ * 4);
    real_at_ = scratch.Place(width_ * 4);
    key_terms_at_ = scratch.Place(keys_ * 4);
    value_terms_at_ = scratch.Place(width_ * 4);
    library_at_ = scratch.Place(static_cast<int64_t>(std::max(score_->scratch_bytes, combine_->scratch_bytes)));
    part_bytes_ = scratch.bytes();
  }

  char* ScratchOf(const KernelArgs& args, int part) const {
    return static_cast<char*>(args.scratch) + part * part_bytes_;
  }

  // Keys as int8, zeros beyond the last, and what q's zero point adds to each key's score.
  Status PackKeys(int part, const uint8_t* k, char* scratch) const {
    auto* copy = reinterpret_cast<uint8_t*>(scratch + copy_at_);
    auto* terms = reinterpret_cast<int32_t*>(scratch + key_terms_at_);
    std::fill_n(terms, keys_, 0);
    const auto* bytes = reinterpret_cast<const int8_t*>(copy);
    if (k_.rows_contiguous()) {
      for (int64_t d = 0; d < depth_; ++d) {
        uint8_t* row = copy + d * padded_;
        functions_.flip(k + d * k_.matrix.row_step, keys_, k_.flip, row);
        std::fill(row + keys_, row + padded_, uint8_t{0});
        if (q_.zero_point == 0) continue;
        for (int64_t key = 0; key < keys_; ++key) terms[key] += bytes[d * padded_ + key];
      }
    } else {
      for (int64_t key = 0; key < keys_; ++key) {
        functions_.flip(k + key * k_.matrix.column_step, depth_, k_.flip, copy + key * depth_);
        if (q_.zero_point == 0) continue;
        int32_t sum = 0;
        for (int64_t d = 0; d < depth_; ++d) sum += bytes[key * depth_ + d];
        terms[key] = sum;
      }
      std::fill(copy + keys_ * depth_, copy + padded_ * depth_, uint8_t{0});
    }
    for (int64_t key = 0; key < keys_; ++key) terms[key] *= -q_.zero_point;
    return score_->Pack(part, copy, scratch + keys_at_, scratch + library_at_);
  }

  // Values as int8, zeros beyond the last, and what the numerators' zero point adds to each channel.
  Status PackValues(int part, const uint8_t* v, char* scratch) const {
    auto* copy = reinterpret_cast<uint8_t*>(scratch + copy_at_);
    auto* terms = reinterpret_cast<int32_t*>(scratch + value_terms_at_);
    std::fill_n(terms, width_, 0);
    for (int64_t key = 0; key < keys_; ++key) {
      functions_.flip(v + key * v_.matrix.row_step, width_, v_.flip, copy + key * width_);
      if (numerator_zero_ == 0) continue;
      for (int64_t c = 0; c < width_; ++c) terms[c] += static_cast<int8_t>(copy[key * width_ + c]);
    }
    for (int64_t c = 0; c < width_; ++c) terms[c] *= -numerator_zero_;
    std::fill(copy + keys_ * width_, copy + padded_ * width_, uint8_t{0});
    return combine_->Pack(part, copy, scratch + values_at_, scratch + library_at_);
  }

  Status RunBlock(const KernelArgs& args, const std::array<int64_t, 4>& at, int part, int64_t first,
                  char* scratch) const {
    const int64_t count = std::min(blocks_.rows, queries_ - first);
    auto* queries = reinterpret_cast<uint8_t*>(scratch + queries_at_);
    auto* scores = reinterpret_cast<int32_t*>(scratch + scores_at_);
    auto* numerators = reinterpret_cast<uint8_t*>(scratch + numerators_at_);
    auto* sums = reinterpret_cast<int32_t*>(scratch + sums_at_);
    auto* real = reinterpret_cast<float*>(scratch + real_at_);
    const auto* key_terms = reinterpret_cast<const int32_t*>(scratch + key_terms_at_);
    const auto* value_terms = reinterpret_cast<const int32_t*>(scratch + value_terms_at_);
    const auto* q = static_cast<const uint8_t*>(args.inputs[0]) + at[0] + first * q_.matrix.row_step;
    for (int64_t r = 0; r < count; ++r)
      functions_.flip(q + r * q_.matrix.row_step, depth_, q_.flip, queries + r * depth_);
    OCTAVO_RETURN_IF_ERROR(score_->Run(part, queries, scratch + keys_at_, scores, scratch + library_at_));
    std::array<float, AttentionBlocks::kMostRows> divisors;
    std::array<int32_t, AttentionBlocks::kMostRows> totals;
    for (int64_t r = 0; r < count; ++r) {
      int32_t row = static_cast<int32_t>(depth_) * q_.zero_point * k_.zero_point;
      if (k_.zero_point != 0) row -= k_.zero_point * SumOf(queries + r * depth_);
      const auto i = static_cast<size_t>(r);
      divisors[i] = functions_.exponentiate({scores + r * padded_, key_terms, row, score_scale_, keys_},
                                            numerator_scale_, numerator_zero_, numerators + r * padded_, &totals[i]);
      // Against zeros; left as they are they would be read before they were written.
      std::fill(numerators + r * padded_ + keys_, numerators + (r + 1) * padded_, uint8_t{0});
    }
    OCTAVO_RETURN_IF_ERROR(combine_->Run(part, numerators, scratch + values_at_, sums, scratch + library_at_));
    char* y = static_cast<char*>(y_.At(args.outputs[0], at[3]));
    for (int64_t r = 0; r < count; ++r) {
      const auto i = static_cast<size_t>(r);
      const int32_t row = static_cast<int32_t>(keys_) * numerator_zero_ * v_.zero_point - v_.zero_point * totals[i];
      void* to = y_.At(y, (first + r) * y_.row_step);
      const bool direct = y_.dtype == DType::kFloat32;
      functions_.divide({sums + r * width_, value_terms, row, product_scale_, width_}, divisors[i],
                        direct ? static_cast<float*>(to) : real);
      if (SizeOf(y_.dtype) == 1) {
        quantize_.quantize(real, to, width_, y_scale_, y_zero_point_, y_.dtype == DType::kInt8);
      } else if (!direct) {
        conversions_.narrow(real, static_cast<uint16_t*>(to), static_cast<size_t>(width_));
      }
    }
    return {};
  }

  int32_t SumOf(const uint8_t* bytes) const {
    int32_t sum = 0;
    for (int64_t d = 0; d < depth_; ++d) sum += bytes[d];
    return sum;
  }

  ByteMatrix q_, k_, v_;
  BatchMatrix y_;
  StridedLoop<4> batch_;
  std::shared_ptr<PackedProduct> score_, combine_;
  IntegerAttentionRows functions_ = ChooseIntegerAttentionRows();
  RowConversions conversions_ = ChooseRowConversions();
  QuantizeRows quantize_ = ChooseQuantizeRows();
  float y_scale_ = 1;
  int32_t y_zero_point_ = 0;
  float score_scale_ = 1, numerator_scale_ = 1, product_scale_ = 1;
  int32_t numerator_zero_ = 0;
  AttentionBlocks blocks_;
  int64_t depth_ = 0, queries_ = 0, keys_ = 0, width_ = 0, padded_ = 0, part_bytes_ = 0;
  int64_t keys_at_ = 0, values_at_ = 0, copy_at_ = 0, queries_at_ = 0, scores_at_ = 0, numerators_at_ = 0, sums_at_ = 0,
          real_at_ = 0, key_terms_at_ = 0, value_terms_at_ = 0, library_at_ = 0;
};

// Follows readers of one value.
class Matcher {
 public:
  Matcher(const Graph& graph, const std::vector<std::vector<NodeId>>& uses) : graph_(graph), uses_(uses) {}

  bool Match(NodeId scores, DeferredSoftmax& found) const {
    const Node& multiply = graph_.node(scores);
    if (!multiply.Is("MatMul")) return false;
    const ValueId s = multiply.output(0);
    const NodeId max = ReaderOf(s, "ReduceMax"), shifted = ReaderOf(s, "Sub");
    if (!HasReaders(s, 2) || max == kNoNode || shifted == kNoNode || !ReducesLast(max)) return false;
    const ValueId m = graph_.node(max).output(0);
    if (!HasReaders(m, 1) || graph_.node(shifted).input(0) != s || graph_.node(shifted).input(1) != m) return false;
    const NodeId exponential = OnlyReaderOf(graph_.node(shifted).output(0), "Exp");
    if (exponential == kNoNode) return false;
    const ValueId e = graph_.node(exponential).output(0);
    const NodeId quantize = ReaderOf(e, "QuantizeLinear"), sum = ReaderOf(e, "ReduceSum");
    if (!HasReaders(e, 2) || quantize == kNoNode || sum == kNoNode || !ReducesLast(sum)) return false;
    const NodeId dequantize = OnlyReaderOf(graph_.node(quantize).output(0), "DequantizeLinear");
    if (dequantize == kNoNode || !UndoesQuantize(graph_, graph_.node(quantize), graph_.node(dequantize))) return false;
    const ValueId rounded = graph_.node(dequantize).output(0);
    const NodeId product = OnlyReaderOf(rounded, "MatMul");
    if (product == kNoNode || graph_.node(product).input(0) != rounded) return false;
    const NodeId quotient = OnlyReaderOf(graph_.node(product).output(0), "Div");
    const ValueId divisor = graph_.node(sum).output(0);
    if (quotient == kNoNode || !HasReaders(divisor, 1)) return false;
    const Node& divide = graph_.node(quotient);
    if (divide.input(0) != graph_.node(product).output(0) || divide.input(1) != divisor) return false;
    if (graph_.value(divide.output(0)).dims != graph_.value(graph_.node(product).output(0)).dims) return false;
    found.scores = scores;
    found.product = product;
    found.quotient = quotient;
    found.quantize = quantize;
    found.inside = {scores, max, shifted, exponential, quantize, dequantize, product, sum};
    std::sort(found.inside.begin(), found.inside.end());
    return found.inside.back() < quotient;
  }

 private:
  bool HasReaders(ValueId value, size_t count) const {
    return uses_[static_cast<size_t>(value)].size() == count && !graph_.IsOutput(value);
  }
  NodeId ReaderOf(ValueId value, std::string_view op) const {
    for (const NodeId id : uses_[static_cast<size_t>(value)]) {
      if (graph_.node(id).Is(op)) return id;
    }
    return kNoNode;
  }
  NodeId OnlyReaderOf(ValueId value, std::string_view op) const {
    return HasReaders(value, 1) ? ReaderOf(value, op) : kNoNode;
  }
  // One axis, the last, which stays with size 1.
  bool ReducesLast(NodeId id) const {
    const Node& node = graph_.node(id);
    Dims wanted = graph_.value(node.input(0)).dims;
    if (wanted.size() < 2 || wanted.back() == 1) return false;
    wanted.back() = 1;
    return graph_.value(node.output(0)).dims == wanted;
  }
  const Graph& graph_;
  const std::vector<std::vector<NodeId>>& uses_;
};

}  // namespace

std::vector<DeferredSoftmax> FindDeferredSoftmax(const Graph& graph, const std::vector<std::vector<NodeId>>& uses) {
  std::vector<DeferredSoftmax> result;
  const Matcher matcher(graph, uses);
  for (NodeId id = 0; id < static_cast<NodeId>(graph.nodes.size()); ++id) {
    DeferredSoftmax found;
    if (!graph.node(id).removed && matcher.Match(id, found)) result.push_back(std::move(found));
  }
  return result;
}

Result<BoundKernel> BindIntegerAttention(OneDnnBuilder& onednn, const IntegerAttentionSpec& spec) {
  OCTAVO_ASSIGN(std::shared_ptr<IntegerAttention> attention, IntegerAttention::Create(onednn, spec));
  return KernelOf(std::move(attention));
}

}  // namespace octavo
