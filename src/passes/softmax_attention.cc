// Softmax([(] (q * s1) . (k^T * s2) [* or / s3] [+ mask]...) . v
//   ->  octavo.Attention(q, k, v, masks) {scale: s1 * s2 * s3}
// Softmax is over the last axis. k^T is mostly a Transpose, which the new one swallows (k = Transpose(k^T)); an
// identity is left out. Several masks are added up first.
//
// Where(IsNaN(p), 0, p) between the Softmax p and the product  ->  {guarded: 1}
//
// Reshape(Reshape(scores) + mask), where the inner Reshape splits the first axis and the outer one joins it again (the
// shifted windows of Swin)  ->  Attention over the split axes, between Reshapes of q, k, v and of its result
#include <algorithm>
#include <cmath>

#include "graph/infer_dims.h"
#include "passes/rewriter.h"
#include "passes/rewrites.h"

namespace octavo {
namespace {

struct AttentionMatch {
  NodeId similarity = kNoNode;  // the MatMul of q and k^T
  std::vector<NodeId> factors;  // products with and divisions by one number, which `scale` stands for
  ValueId values = kNoValue;
  std::vector<ValueId> masks;      // of the product's scores, outermost first
  ValueId window_mask = kNoValue;  // of scores whose first axis is `windows`
  Dims windows;
  double scale = 1.0;
  bool guarded = false;
};

// What `dims` has instead of the first axis of `joined`, when all else is alike; else nothing.
std::optional<Dims> SplitOfFirstAxis(const Dims& dims, const Dims& joined) {
  if (joined.empty() || dims.size() <= joined.size()) return std::nullopt;
  const auto rest = dims.end() - static_cast<std::ptrdiff_t>(joined.size() - 1);
  if (!std::equal(rest, dims.end(), joined.begin() + 1)) return std::nullopt;
  return Dims(dims.begin(), rest);  // its product is right: a Reshape keeps the count
}

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
    AttentionMatch match;
    match.values = product.input(1);
    const Node* softmax = Take(TakeGuard(product.input(0), match), "Softmax");
    if (softmax == nullptr || !IsOverLastAxis(*softmax)) return std::nullopt;
    ValueId scores = softmax->input(0);
    if (!TakeWindowMask(scores, match)) return std::nullopt;
    while (rewriter_.Producer(scores, "Add") != nullptr) {
      const auto [unmasked, mask] = TakeMask(scores);
      if (unmasked == kNoValue) return std::nullopt;
      match.masks.push_back(mask);
      scores = unmasked;
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

  // True when `value` is a product, scaled, masked and reshaped at most.
  bool IsScoreChain(ValueId value, int steps = 8) const {
    const Node* node = rewriter_.Producer(value);
    if (node == nullptr || steps == 0) return false;
    if (node->Is("MatMul")) return true;
    if (node->Is("Add")) return IsScoreChain(node->input(0), steps - 1) || IsScoreChain(node->input(1), steps - 1);
    if (node->Is("Reshape")) return IsScoreChain(node->input(0), steps - 1);
    return (node->Is("Mul") || node->Is("Div")) && IsScoreChain(FactorOperand(rewriter_, *node), steps - 1);
  }

  // What the Add that makes `scores` adds up: scores of the same shape and their mask; absent values where it does not.
  std::pair<ValueId, ValueId> TakeMask(ValueId scores) {
    const Node* add = Take(scores, "Add");
    if (add == nullptr) return {kNoValue, kNoValue};
    const size_t mask = IsScoreChain(add->input(0)) ? 1 : 0;
    const ValueId unmasked = add->input(1 - mask);
    if (rewriter_.dims(unmasked) != rewriter_.dims(scores) || !IsFloat32(graph_, add->input(mask)))
      return {kNoValue, kNoValue};
    return {unmasked, add->input(mask)};
  }

  // Goes to the scores before Reshape(Reshape(scores) + mask), where that is what makes `scores`. False where a Reshape
  // makes it and it is not that.
  bool TakeWindowMask(ValueId& scores, AttentionMatch& match) {
    const Node* join = rewriter_.Producer(scores, "Reshape");
    if (join == nullptr) return true;
    const ValueId split = join->input(0);
    const std::optional<Dims> windows = SplitOfFirstAxis(rewriter_.dims(split), rewriter_.dims(scores));
    Take(scores, "Reshape");
    const auto [unmasked, mask] = TakeMask(split);
    if (!windows || unmasked == kNoValue) return false;
    const Node* splitter = Take(unmasked, "Reshape");
    if (splitter == nullptr || rewriter_.dims(splitter->input(0)) != rewriter_.dims(scores)) return false;
    match.window_mask = mask;
    match.windows = *windows;
    scores = splitter->input(0);
    return true;
  }

  // The softmax behind Where(IsNaN(softmax), 0, softmax), or `probabilities` as they are.
  ValueId TakeGuard(ValueId probabilities, AttentionMatch& match) {
    const Node* where = rewriter_.Producer(probabilities, "Where");
    if (where == nullptr) return probabilities;
    const Node* test = rewriter_.Producer(where->input(0), "IsNaN");
    const ValueId softmax = where->input(2);
    if (test == nullptr || test->input(0) != softmax || !IsUniform(rewriter_.value(where->input(1)), 0.0) ||
        rewriter_.dims(softmax) != rewriter_.dims(probabilities)) {
      return probabilities;
    }
    interior_.push_back(rewriter_.ProducerId(where->input(0)));
    interior_.push_back(rewriter_.ProducerId(probabilities));
    match.guarded = true;
    return softmax;
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
    return true;
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

// `value` with `windows` in place of its first axis.
ValueId SplitFirstAxis(Rewriter& rewriter, ValueId value, const Dims& windows) {
  Dims dims = windows;
  dims.insert(dims.end(), rewriter.dims(value).begin() + 1, rewriter.dims(value).end());
  const ValueId shape = rewriter.AddConstant("windows", Int64Constant(dims));
  const DType dtype = rewriter.value(value).dtype;
  return rewriter.AddNode(rewriter.value(value).name + "/windows", "", "Reshape", {value, shape}, dtype, dims);
}

// A mask of scores whose first axis is split into `windows`, of which `rank` axes are left when it is joined.
ValueId SplitMask(Rewriter& rewriter, ValueId mask, const Dims& windows, size_t rank) {
  const Dims& dims = rewriter.dims(mask);
  if (dims.size() < rank) return mask;
  return SplitFirstAxis(rewriter, mask, dims[0] == 1 ? Dims(windows.size(), 1) : windows);
}

ValueId AddMasks(Rewriter& rewriter, ValueId a, ValueId b) {
  if (a == kNoValue || b == kNoValue) return a == kNoValue ? b : a;
  const Result<Dims> dims = Broadcast(rewriter.dims(a), rewriter.dims(b));  // both broadcast to the scores
  return rewriter.AddNode(rewriter.value(a).name + "/masks", "", "Add", {a, b}, DType::kFloat32, *dims);
}

void Fuse(Rewriter& rewriter, NodeId tail, const AttentionMatch& match) {
  const Graph& graph = rewriter.graph();
  for (const NodeId factor : match.factors) {
    rewriter.Bypass(factor, FactorOperand(rewriter, graph.node(factor)));
  }
  std::vector<ValueId> inputs{graph.node(match.similarity).input(0),
                              SwapLastTwo(rewriter, graph.node(match.similarity).input(1)), match.values};
  const size_t rank = rewriter.dims(inputs[0]).size();
  const bool windowed = match.window_mask != kNoValue;
  ValueId mask = match.window_mask;
  for (const ValueId of_scores : match.masks) {
    mask = AddMasks(rewriter, mask, windowed ? SplitMask(rewriter, of_scores, match.windows, rank) : of_scores);
  }
  std::map<std::string, Attribute> attributes{{"scale", static_cast<float>(match.scale)}};
  if (match.guarded) attributes["guarded"] = int64_t{1};
  if (windowed) {
    for (ValueId& input : inputs) input = SplitFirstAxis(rewriter, input, match.windows);
  }
  if (mask != kNoValue) inputs.push_back(mask);
  if (!windowed) return rewriter.Become(tail, kOctavoDomain, "Attention", inputs, std::move(attributes));
  const ValueId result = graph.node(tail).output(0);
  const Dims joined = rewriter.dims(result);
  Dims dims = match.windows;
  dims.insert(dims.end(), joined.begin() + 1, joined.end());
  const ValueId attention = rewriter.AddNode(rewriter.value(result).name + "/windows", kOctavoDomain, "Attention",
                                             inputs, DType::kFloat32, dims, std::move(attributes));
  rewriter.Become(tail, "", "Reshape", {attention, rewriter.AddConstant("joined", Int64Constant(joined))});
}

}  // namespace

int RewriteAttention(Graph& graph) {
  Rewriter rewriter(graph);
  int rewrites = 0;
  for (NodeId id = 0, count = rewriter.node_count(); id < count; ++id) {
    if (graph.node(id).removed) continue;
    const auto match = AttentionMatcher(rewriter).Match(id);
    if (!match) continue;
    Fuse(rewriter, id, *match);
    ++rewrites;
  }
  return rewrites;
}

}  // namespace octavo
