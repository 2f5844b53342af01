// Softmax([(] (q * s1) . (k^T * s2) [* or / s3] [+ mask]) . v   ->  octavo.Attention(q, k, v, mask) {scale: s1 * s2 *
// s3} Softmax is over the last axis. k^T is mostly a Transpose, which the new one swallows (k = Transpose(k^T)); an
// identity is left out.
#include <algorithm>
#include <cmath>

#include "passes/rewriter.h"
#include "passes/rewrites.h"

namespace octavo {
namespace {

struct Scaled {
  ValueId value = kNoValue;
  double scale = 1.0;
};

struct AttentionMatch {
  Scaled query, transposed_key;
  ValueId values = kNoValue, mask = kNoValue;
  double scale = 1.0;
};

class AttentionMatcher {
 public:
  explicit AttentionMatcher(const Rewriter& rewriter) : rewriter_(rewriter), graph_(rewriter.graph()) {}

  // `tail` is the product of probabilities and v.
  std::optional<AttentionMatch> Match(NodeId tail) {
    const Node& product = graph_.node(tail);
    if (!product.Is("MatMul") || !IsFloat32(graph_, product.output(0))) return std::nullopt;
    interior_ = {tail};
    const Node* softmax = Take(product.input(0), "Softmax");
    if (softmax == nullptr || !IsOverLastAxis(*softmax)) return std::nullopt;
    AttentionMatch match;
    match.values = product.input(1);
    ValueId scores = softmax->input(0);
    if (const Node* masked = rewriter_.Producer(scores, "Add")) {
      const size_t masks = IsScoreChain(masked->input(0)) ? 1 : 0;
      match.mask = masked->input(masks);
      Take(scores, "Add");
      if (rewriter_.dims(masked->input(1 - masks)) != rewriter_.dims(scores)) return std::nullopt;
      scores = masked->input(1 - masks);
    }
    const Scaled unscaled = WithoutScale(scores);
    const Node* similarity = Take(unscaled.value, "MatMul");
    if (similarity == nullptr) return std::nullopt;
    match.query = WithoutScale(similarity->input(0));
    match.transposed_key = WithoutScale(similarity->input(1));
    match.scale = unscaled.scale * match.query.scale * match.transposed_key.scale;
    if (!ShapesFit(match) || !rewriter_.IsEnclosed(interior_, product.output(0))) return std::nullopt;
    return match;
  }

 private:
  const Node* Take(ValueId value, std::string_view op) {
    const Node* node = rewriter_.Producer(value, op);
    if (node != nullptr) interior_.push_back(rewriter_.ProducerId(value));
    return node;
  }

  bool IsOverLastAxis(const Node& softmax) const {
    const int64_t rank = static_cast<int64_t>(rewriter_.dims(softmax.input(0)).size());
    const int64_t axis = softmax.Int("axis", graph_.opset() >= 13 ? -1 : 1);
    return rank >= 3 && WrapAxis(axis, rank) == rank - 1;
  }

  bool IsScoreChain(ValueId value) const {
    for (int step = 0; step < 4; ++step) {
      const Node* node = rewriter_.Producer(value);
      if (node == nullptr) return false;
      if (node->Is("MatMul")) return true;
      if (!node->Is("Mul") && !node->Is("Div")) return false;
      value = UniformValue(rewriter_.value(node->input(1))) ? node->input(0) : node->input(1);
    }
    return false;
  }

  // Strips products with and divisions by one number that nobody else reads.
  Scaled WithoutScale(ValueId value) {
    Scaled scaled{value, 1.0};
    while (rewriter_.OnlyReader(scaled.value) != kNoNode) {
      const Node* node = rewriter_.Producer(scaled.value);
      if (node == nullptr || (!node->Is("Mul") && !node->Is("Div"))) break;
      const std::optional<double> right = UniformValue(rewriter_.value(node->input(1)));
      const std::optional<double> left = node->Is("Mul") ? UniformValue(rewriter_.value(node->input(0))) : std::nullopt;
      if (!right && !left) break;
      const ValueId inner = right ? node->input(0) : node->input(1);
      const double factor = node->Is("Div") ? 1.0 / *right : right.value_or(left.value_or(1.0));
      if (rewriter_.dims(inner) != rewriter_.dims(scaled.value) || !std::isfinite(factor)) break;
      interior_.push_back(rewriter_.ProducerId(scaled.value));
      scaled = {inner, scaled.scale * factor};
    }
    return scaled;
  }

  bool ShapesFit(const AttentionMatch& match) const {
    const Dims& q = rewriter_.dims(match.query.value);
    const Dims& k = rewriter_.dims(match.transposed_key.value);
    const Dims& v = rewriter_.dims(match.values);
    const size_t rank = q.size();
    if (rank < 3 || k.size() != rank || v.size() != rank) return false;
    const auto batch_end = static_cast<std::ptrdiff_t>(rank - 2);
    if (!std::equal(q.begin(), q.begin() + batch_end, k.begin())) return false;
    if (!std::equal(q.begin(), q.begin() + batch_end, v.begin())) return false;
    if (match.mask == kNoValue) return true;
    return IsFloat32(graph_, match.mask) && rewriter_.dims(match.mask).size() <= rank;
  }

  const Rewriter& rewriter_;
  const Graph& graph_;
  std::vector<NodeId> interior_;
};

// The value whose last two axes are those of `value` swapped.
ValueId SwapLastTwo(Rewriter& rewriter, ValueId value) {
  const Dims dims = rewriter.dims(value);
  const size_t rank = dims.size();
  ValueId source = value;
  std::vector<int64_t> perm(rank);
  for (size_t i = 0; i < rank; ++i) perm[i] = static_cast<int64_t>(i);
  if (const Node* transpose = rewriter.Producer(value, "Transpose"); transpose != nullptr && transpose->Has("perm")) {
    source = transpose->input(0);
    perm = transpose->Ints("perm");
  }
  std::swap(perm[rank - 1], perm[rank - 2]);
  if (std::is_sorted(perm.begin(), perm.end())) return source;
  Dims swapped = dims;
  std::swap(swapped[rank - 1], swapped[rank - 2]);
  return rewriter.AddNode(rewriter.value(value).name + "/swapped", "", "Transpose", {source},
                          rewriter.value(value).dtype, swapped, {{"perm", perm}});
}

}  // namespace

int RewriteAttention(Graph& graph) {
  Rewriter rewriter(graph);
  int rewrites = 0;
  for (NodeId id = 0, count = rewriter.node_count(); id < count; ++id) {
    if (graph.node(id).removed) continue;
    const auto match = AttentionMatcher(rewriter).Match(id);
    if (!match) continue;
    const ValueId key = SwapLastTwo(rewriter, match->transposed_key.value);
    std::vector<ValueId> inputs{match->query.value, key, match->values};
    if (match->mask != kNoValue) inputs.push_back(match->mask);
    rewriter.Become(id, kOctavoDomain, "Attention", inputs, {{"scale", static_cast<float>(match->scale)}});
    ++rewrites;
  }
  return rewrites;
}

}  // namespace octavo
