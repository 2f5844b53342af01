// Softmax([(] (q * s1) . (k^T * s2) [* or / s3] [+ mask]) . v   ->  octavo.Attention(q, k, v, mask) {scale: s1 * s2 *
// s3} Softmax is over the last axis. k^T is mostly a Transpose, which the new one swallows (k = Transpose(k^T)); an
// identity is left out.
#include <algorithm>
#include <cmath>

#include "passes/rewriter.h"
#include "passes/rewrites.h"

namespace octavo {
namespace {

struct AttentionMatch {
  NodeId similarity = kNoNode;  // the MatMul of q and k^T
  std::vector<NodeId> factors;  // products with and divisions by one number, which `scale` stands for
  ValueId values = kNoValue, mask = kNoValue;
  double scale = 1.0;
};

// What a product or quotient with one number multiplies or divides.
ValueId FactorOperand(const Rewriter& rewriter, const Node& node) {
  return UniformValue(rewriter.value(node.input(1))) ? node.input(0) : node.input(1);
}

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
    scores = SkipFactors(scores, false, match);
    interior_.insert(interior_.end(), match.factors.begin(), match.factors.end());
    if (Take(scores, "MatMul") == nullptr) return std::nullopt;
    match.similarity = rewriter_.ProducerId(scores);
    SkipFactors(graph_.node(match.similarity).input(0), true, match);
    SkipFactors(graph_.node(match.similarity).input(1), true, match);
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

  // Walks up through factors (and `views` in between) that nobody else reads, and notes the factors in `match`.
  ValueId SkipFactors(ValueId value, bool views, AttentionMatch& match) const {
    while (rewriter_.OnlyReader(value) != kNoNode) {
      const Node* node = rewriter_.Producer(value);
      if (node == nullptr) break;
      if (views && (node->Is("Reshape") || node->Is("Transpose"))) {
        value = node->input(0);
        continue;
      }
      const std::optional<double> factor = FactorOf(*node);
      if (!factor) break;
      match.scale *= *factor;
      match.factors.push_back(rewriter_.ProducerId(value));
      value = FactorOperand(rewriter_, *node);
    }
    return value;
  }

  // The number that `node` multiplies its operand by.
  std::optional<double> FactorOf(const Node& node) const {
    if (!node.Is("Mul") && !node.Is("Div")) return std::nullopt;
    std::optional<double> number = UniformValue(rewriter_.value(node.input(1)));
    if (!number && node.Is("Mul")) number = UniformValue(rewriter_.value(node.input(0)));
    if (!number || rewriter_.dims(FactorOperand(rewriter_, node)) != rewriter_.dims(node.output(0)))
      return std::nullopt;
    const double factor = node.Is("Div") ? 1.0 / *number : *number;
    return std::isfinite(factor) ? std::optional(factor) : std::nullopt;
  }

  bool ShapesFit(const AttentionMatch& match) const {
    const Node& similarity = graph_.node(match.similarity);
    const Dims& q = rewriter_.dims(similarity.input(0));
    const Dims& k = rewriter_.dims(similarity.input(1));
    const Dims& v = rewriter_.dims(match.values);
    const size_t rank = q.size();
    if (rank < 3 || k.size() != rank || v.size() != rank) return false;
    const auto batch_end = static_cast<std::ptrdiff_t>(rank - 2);
    if (!std::equal(q.begin(), q.begin() + batch_end, k.begin())) return false;
    if (!std::equal(q.begin(), q.begin() + batch_end, v.begin())) return false;
    return match.mask == kNoValue || IsFloat32(graph_, match.mask);
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
    for (const NodeId factor : match->factors) {
      rewriter.Bypass(factor, FactorOperand(rewriter, graph.node(factor)));
    }
    const ValueId query = graph.node(match->similarity).input(0);
    const ValueId key = SwapLastTwo(rewriter, graph.node(match->similarity).input(1));
    std::vector<ValueId> inputs{query, key, match->values};
    if (match->mask != kNoValue) inputs.push_back(match->mask);
    rewriter.Become(id, kOctavoDomain, "Attention", inputs, {{"scale", static_cast<float>(match->scale)}});
    ++rewrites;
  }
  return rewrites;
}

}  // namespace octavo
