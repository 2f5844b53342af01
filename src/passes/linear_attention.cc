// EfficientViT's ReLU linear attention, as exported, on (..., channels, tokens):
//   v1 = Pad(v, one row of ones below);  o = (v1 . Relu(k)^T) . Relu(q);  y = o[:-1] / (o[-1:] + epsilon)
//   ->  octavo.LinearAttention(q, k, v) {epsilon}
// The row of ones makes o's last row the sum that normalizes each token. Slices may be one Split.
// Relu(q) and Relu(k) may be quantized and dequantized before they are multiplied: then q and k are what is
// dequantized, to which Relu does nothing.
#include "passes/linear_attention.h"

#include <algorithm>

#include "graph/quantization.h"
#include "passes/rewriter.h"
#include "passes/rewrites.h"

namespace octavo {
namespace {

struct Rows {
  ValueId source = kNoValue;
  int64_t begin = 0, count = 0;  // along the axis before the last
};

class LinearAttentionMatcher {
 public:
  explicit LinearAttentionMatcher(const Rewriter& rewriter) : rewriter_(rewriter), graph_(rewriter.graph()) {}

  std::optional<LinearAttentionMatch> Match(NodeId tail) {
    const Node& quotient = graph_.node(tail);
    if (!quotient.Is("Div") || !IsFloat32(graph_, quotient.output(0))) return std::nullopt;
    interior_ = {tail};
    found_ = {};
    found_.quotient = tail;
    const std::optional<Rows> numerator = RowsOf(quotient.input(0));
    const Node* shifted = Take(quotient.input(1), "Add");
    if (!numerator || shifted == nullptr) return std::nullopt;
    std::optional<double> epsilon = UniformValue(rewriter_.value(shifted->input(1)));
    const std::optional<Rows> denominator = RowsOf(epsilon ? shifted->input(0) : shifted->input(1));
    if (!epsilon) epsilon = UniformValue(rewriter_.value(shifted->input(0)));
    if (!epsilon || *epsilon < 0 || !denominator || denominator->source != numerator->source) return std::nullopt;
    if (numerator->begin != 0 || denominator->begin != numerator->count || denominator->count != 1) return std::nullopt;
    found_.epsilon = *epsilon;
    if (!MatchProducts(numerator->source, numerator->count)) return std::nullopt;
    if (!rewriter_.IsEnclosed(interior_, quotient.output(0))) return std::nullopt;
    return std::move(found_);
  }

 private:
  const Node* Take(ValueId value, std::string_view op) {
    const Node* node = rewriter_.Producer(value, op);
    if (node != nullptr) interior_.push_back(rewriter_.ProducerId(value));
    return node;
  }

  int64_t Rank(ValueId value) const { return static_cast<int64_t>(rewriter_.dims(value).size()); }

  std::optional<Rows> RowsOf(ValueId value) {
    if (const Node* split = Take(value, "Split")) return SplitRows(*split, value);
    const Node* slice = Take(value, "Slice");
    if (slice == nullptr) return std::nullopt;
    const auto starts = ConstantInts(graph_, slice->input(1));
    const auto axes = ConstantInts(graph_, slice->input(3));
    const auto steps = slice->has_input(4) ? ConstantInts(graph_, slice->input(4)) : std::vector<int64_t>{1};
    if (!starts || starts->size() != 1 || !axes || axes->size() != 1 || !steps || *steps != std::vector<int64_t>{1}) {
      return std::nullopt;
    }
    const Dims& dims = rewriter_.dims(slice->input(0));
    const int64_t rank = Rank(slice->input(0));
    if (rank < 3 || WrapAxis(axes->front(), rank) != rank - 2) return std::nullopt;
    const int64_t size = dims[static_cast<size_t>(rank - 2)];
    const int64_t begin = starts->front() < 0 ? starts->front() + size : starts->front();
    return Rows{slice->input(0), begin, rewriter_.dims(value)[static_cast<size_t>(rank - 2)]};
  }

  std::optional<Rows> SplitRows(const Node& split, ValueId value) const {
    const int64_t rank = Rank(split.input(0));
    if (rank < 3 || WrapAxis(split.Int("axis", 0), rank) != rank - 2) return std::nullopt;
    Rows rows{split.input(0), 0, 0};
    for (const ValueId output : split.outputs) {
      if (output == kNoValue) return std::nullopt;
      rows.count = rewriter_.dims(output)[static_cast<size_t>(rank - 2)];
      if (output == value) return rows;
      rows.begin += rows.count;
    }
    return std::nullopt;
  }

  // (v1 . Relu(k)^T) . Relu(q)
  bool MatchProducts(ValueId product, int64_t value_channels) {
    const Node* outer = Take(product, "MatMul");
    if (outer == nullptr) return false;
    const NodeId outer_id = rewriter_.ProducerId(product), inner_id = rewriter_.ProducerId(outer->input(0));
    const Node* inner = Take(outer->input(0), "MatMul");
    if (inner == nullptr) return false;
    found_.products = {outer_id, inner_id};
    found_.query = {outer->input(1), outer_id};
    const Node* transposed = Take(inner->input(1), "Transpose");
    if (transposed == nullptr || !SwapsLastTwo(*transposed)) return false;
    found_.key = {transposed->input(0), rewriter_.ProducerId(inner->input(1))};
    found_.values = {WithoutRowOfOnes(inner->input(0)), rewriter_.ProducerId(inner->input(0))};
    found_.inputs = {WithoutRelu(found_.query.value), WithoutRelu(found_.key.value), found_.values.value};
    const std::vector<ValueId>& inputs = found_.inputs;
    return std::find(inputs.begin(), inputs.end(), kNoValue) == inputs.end() && ShapesFit(inputs, value_channels);
  }

  // What octavo.LinearAttention, which has a Relu of its own, may read for `value`; kNoValue where that could be
  // negative.
  ValueId WithoutRelu(ValueId value) {
    if (const Node* relu = Take(value, "Relu")) return relu->input(0);
    const Node* dequantize = rewriter_.Producer(value);
    if (dequantize == nullptr || !IsDequantize(*dequantize)) return kNoValue;
    const Node* quantize = rewriter_.Producer(dequantize->input(0));
    if (quantize == nullptr || !IsQuantize(*quantize)) return kNoValue;
    return rewriter_.Producer(quantize->input(0), "Relu") != nullptr ? value : kNoValue;
  }

  bool ShapesFit(const std::vector<ValueId>& inputs, int64_t value_channels) const {
    const Dims &q = rewriter_.dims(inputs[0]), &k = rewriter_.dims(inputs[1]), &v = rewriter_.dims(inputs[2]);
    const size_t rank = q.size();
    if (rank < 3 || k.size() != rank || v.size() != rank) return false;
    const auto batch_end = static_cast<std::ptrdiff_t>(rank - 2);
    return std::equal(q.begin(), q.begin() + batch_end, k.begin()) &&
           std::equal(q.begin(), q.begin() + batch_end, v.begin()) && q[rank - 2] == k[rank - 2] &&
           k[rank - 1] == v[rank - 1] && v[rank - 2] == value_channels;
  }

  bool SwapsLastTwo(const Node& transpose) const {
    std::vector<int64_t> wanted;
    for (int64_t i = 0; i < Rank(transpose.input(0)); ++i) wanted.push_back(i);
    if (wanted.size() < 2) return false;
    std::swap(wanted[wanted.size() - 1], wanted[wanted.size() - 2]);
    return transpose.Ints("perm") == wanted;
  }

  ValueId WithoutRowOfOnes(ValueId value) {
    if (const Node* concat = Take(value, "Concat")) {
      const int64_t rank = Rank(value);
      if (concat->inputs.size() != 2 || WrapAxis(concat->Int("axis", 0), rank) != rank - 2) return kNoValue;
      const ValueId ones = concat->input(1);
      return IsUniform(rewriter_.value(ones), 1.0) && rewriter_.dims(ones)[static_cast<size_t>(rank - 2)] == 1
                 ? concat->input(0)
                 : kNoValue;
    }
    const Node* pad = Take(value, "Pad");
    if (pad == nullptr || pad->String("mode", "constant") != "constant") return kNoValue;
    const bool attribute = pad->Has("pads");
    const bool ones = attribute ? pad->Float("value", 0.0f) == 1.0f
                                : pad->has_input(2) && IsUniform(rewriter_.value(pad->input(2)), 1.0);
    return ones && AddsOneRow(*pad, attribute) ? pad->input(0) : kNoValue;
  }

  bool AddsOneRow(const Node& pad, bool attribute) const {
    const auto amounts = attribute ? std::optional(pad.Ints("pads")) : ConstantInts(graph_, pad.input(1));
    const auto rank = static_cast<size_t>(Rank(pad.input(0)));
    if (!amounts) return false;
    std::vector<int64_t> axes(rank);
    for (size_t i = 0; i < rank; ++i) axes[i] = static_cast<int64_t>(i);
    if (pad.has_input(3)) {
      const auto given = ConstantInts(graph_, pad.input(3));
      if (!given) return false;
      axes = *given;
    }
    if (amounts->size() != 2 * axes.size()) return false;
    int64_t rows = 0;
    for (size_t i = 0; i < amounts->size(); ++i) {
      const bool is_row_end = i >= axes.size() && WrapAxis(axes[i - axes.size()], static_cast<int64_t>(rank)) ==
                                                      static_cast<int64_t>(rank) - 2;
      if (!is_row_end && (*amounts)[i] != 0) return false;
      if (is_row_end) rows += (*amounts)[i];
    }
    return rows == 1;
  }

  const Rewriter& rewriter_;
  const Graph& graph_;
  std::vector<NodeId> interior_;
  LinearAttentionMatch found_;
};

}  // namespace

std::vector<LinearAttentionMatch> FindLinearAttention(const Graph& graph) {
  Graph copy = graph;
  const Rewriter rewriter(copy);
  std::vector<LinearAttentionMatch> matches;
  for (NodeId id = 0; id < rewriter.node_count(); ++id) {
    if (copy.node(id).removed) continue;
    if (auto found = LinearAttentionMatcher(rewriter).Match(id)) matches.push_back(std::move(*found));
  }
  return matches;
}

int RewriteLinearAttention(Graph& graph) {
  Rewriter rewriter(graph);
  int rewrites = 0;
  for (NodeId id = 0; id < rewriter.node_count(); ++id) {
    if (graph.node(id).removed) continue;
    const auto found = LinearAttentionMatcher(rewriter).Match(id);
    if (!found) continue;
    rewriter.Become(id, kOctavoDomain, "LinearAttention", found->inputs,
                    {{"epsilon", static_cast<float>(found->epsilon)}});
    ++rewrites;
  }
  return rewrites;
}

}  // namespace octavo
