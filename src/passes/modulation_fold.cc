// A diffusion UNet's modulation, where scale and bias of an octavo.GroupNorm are computed from a Gemm's columns by
// products and sums with constants, Reshape and Split:
//   s, a = Split(Gemm(e, W, b));  GroupNorm(x, gamma * (s + 1), beta * (s + 1) + a)
//   ->  scale, bias = Split(Gemm(e, W', b'));  GroupNorm(x, scale, bias)
// All of it is affine in the Gemm's columns, so constants go into W and b (combined in double, rounded to float once).
#include <algorithm>

#include "passes/rewriter.h"
#include "passes/rewrites.h"

namespace octavo {
namespace {

// Columns of a [rows, columns] value:  column c = constant[c] + sum over terms  factor[c] * gemm[:, first + c].
struct AffineColumns {
  std::map<int64_t, std::vector<double>> terms;  // first column in the Gemm -> factors
  std::vector<double> constant;
};

class ModulationExpansion {
 public:
  ModulationExpansion(const Rewriter& rewriter, int64_t rows) : rewriter_(rewriter), rows_(rows) {}

  std::optional<AffineColumns> Expand(ValueId value, int steps = 12) {
    const int64_t columns = ColumnsOf(value);
    const NodeId id = rewriter_.ProducerId(value);
    if (columns < 0 || id == kNoNode || steps == 0) return std::nullopt;
    const Node& node = rewriter_.graph().node(id);
    interior_.push_back(id);
    if (node.Is("Gemm")) return ExpandGemm(id, columns);
    if (node.Is("Reshape")) {
      return ColumnsOf(node.input(0)) == columns ? Expand(node.input(0), steps - 1) : std::nullopt;
    }
    if (node.Is("Split")) return ExpandSplit(node, value, columns, steps - 1);
    if (node.Is("Add") || node.Is("Mul")) return ExpandBinary(node, columns, steps - 1);
    return std::nullopt;
  }

  NodeId gemm() const { return gemm_; }
  const std::vector<NodeId>& interior() const { return interior_; }

 private:
  // The columns of [rows, columns, 1, ...]; -1 for other shapes.
  int64_t ColumnsOf(ValueId value) const {
    const Dims& dims = rewriter_.dims(value);
    const bool fits = dims.size() >= 2 && dims[0] == rows_ &&
                      std::all_of(dims.begin() + 2, dims.end(), [](int64_t dim) { return dim == 1; });
    return fits && IsFloat32(rewriter_.graph(), value) ? dims[1] : -1;
  }

  std::optional<AffineColumns> ExpandGemm(NodeId id, int64_t columns) {
    const Node& node = rewriter_.graph().node(id);
    if (gemm_ != kNoNode && gemm_ != id) return std::nullopt;
    if (node.Int("transA", 0) != 0 || !rewriter_.value(node.input(1)).is_constant()) return std::nullopt;
    if (node.has_input(2) && !ChannelValues(rewriter_.value(node.input(2)), 2, 1, columns)) return std::nullopt;
    gemm_ = id;
    const auto count = static_cast<size_t>(columns);
    return AffineColumns{{{0, std::vector<double>(count, 1.0)}}, std::vector<double>(count, 0.0)};
  }

  std::optional<AffineColumns> ExpandSplit(const Node& split, ValueId value, int64_t columns, int steps) {
    const int64_t rank = static_cast<int64_t>(rewriter_.dims(split.input(0)).size());
    if (WrapAxis(split.Int("axis", 0), rank) != 1) return std::nullopt;
    int64_t first = 0;
    for (const ValueId output : split.outputs) {
      if (output == value) break;
      if (output == kNoValue) return std::nullopt;
      first += rewriter_.dims(output)[1];
    }
    const std::optional<AffineColumns> whole = Expand(split.input(0), steps);
    if (!whole) return std::nullopt;
    const auto part = [&](const std::vector<double>& all) {
      return std::vector<double>(all.begin() + first, all.begin() + first + columns);
    };
    AffineColumns columns_of_part{{}, part(whole->constant)};
    for (const auto& [start, factors] : whole->terms) columns_of_part.terms[start + first] = part(factors);
    return columns_of_part;
  }

  std::optional<AffineColumns> ExpandBinary(const Node& node, int64_t columns, int steps) {
    const int64_t rank = static_cast<int64_t>(rewriter_.dims(node.output(0)).size());
    for (size_t i = 0; i < 2; ++i) {
      const Value& operand = rewriter_.value(node.inputs[i]);
      if (!operand.is_constant()) continue;
      const auto constant = ChannelValues(operand, rank, 1, columns);
      if (!constant || ColumnsOf(node.inputs[1 - i]) != columns) return std::nullopt;
      std::optional<AffineColumns> expanded = Expand(node.inputs[1 - i], steps);
      if (expanded) Apply(node.Is("Mul"), *constant, *expanded);
      return expanded;
    }
    if (!node.Is("Add") || ColumnsOf(node.inputs[0]) != columns || ColumnsOf(node.inputs[1]) != columns) {
      return std::nullopt;
    }
    std::optional<AffineColumns> sum = Expand(node.inputs[0], steps);
    const std::optional<AffineColumns> other = Expand(node.inputs[1], steps);
    if (!sum || !other) return std::nullopt;
    for (size_t c = 0; c < sum->constant.size(); ++c) sum->constant[c] += other->constant[c];
    for (const auto& [first, factors] : other->terms) {
      std::vector<double>& mine = sum->terms.try_emplace(first, factors.size(), 0.0).first->second;
      for (size_t c = 0; c < factors.size(); ++c) mine[c] += factors[c];
    }
    return sum;
  }

  static void Apply(bool product, const std::vector<float>& constant, AffineColumns& columns) {
    for (size_t c = 0; c < constant.size(); ++c) {
      const auto number = static_cast<double>(constant[c]);
      columns.constant[c] = product ? columns.constant[c] * number : columns.constant[c] + number;
      if (!product) continue;
      for (auto& [first, factors] : columns.terms) factors[c] *= number;
    }
  }

  const Rewriter& rewriter_;
  int64_t rows_;
  NodeId gemm_ = kNoNode;
  std::vector<NodeId> interior_;
};

// Weights [outputs, inputs] and bias of the Gemm that computes `parts` one after another.
struct FoldedGemm {
  std::vector<float> weights, bias;
};

FoldedGemm FoldParts(const Rewriter& rewriter, const Node& gemm, const std::vector<AffineColumns>& parts) {
  const Tensor& weights = rewriter.value(gemm.input(1)).constant;
  const auto values = weights.values<float>();
  const bool rows = gemm.Int("transB", 0) != 0;
  const int64_t inputs = weights.dims()[rows ? 1 : 0], outputs = weights.dims()[rows ? 0 : 1];
  const auto alpha = static_cast<double>(gemm.Float("alpha", 1.0f));
  const auto beta = static_cast<double>(gemm.Float("beta", 1.0f));
  std::vector<float> old_bias(static_cast<size_t>(outputs), 0.0f);
  if (gemm.has_input(2)) old_bias = *ChannelValues(rewriter.value(gemm.input(2)), 2, 1, outputs);
  FoldedGemm folded;
  for (const AffineColumns& part : parts) {
    for (size_t c = 0; c < part.constant.size(); ++c) {
      std::vector<double> row(static_cast<size_t>(inputs), 0.0);
      double bias = part.constant[c];
      for (const auto& [first, factors] : part.terms) {
        const int64_t column = first + static_cast<int64_t>(c);
        bias += factors[c] * beta * static_cast<double>(old_bias[static_cast<size_t>(column)]);
        for (int64_t k = 0; k < inputs; ++k) {
          const int64_t at = rows ? column * inputs + k : k * outputs + column;
          row[static_cast<size_t>(k)] += factors[c] * alpha * static_cast<double>(values[static_cast<size_t>(at)]);
        }
      }
      folded.weights.insert(folded.weights.end(), row.begin(), row.end());
      folded.bias.push_back(static_cast<float>(bias));
    }
  }
  return folded;
}

bool Fold(Rewriter& rewriter, NodeId id) {
  const Node norm = rewriter.graph().node(id);
  const ValueId scale = norm.input(1), bias = norm.input(2);
  const Dims dims = rewriter.dims(scale);
  if (dims.size() != 2 || rewriter.dims(bias) != dims || scale == bias) return false;
  ModulationExpansion expansion(rewriter, dims[0]);
  const std::optional<AffineColumns> scale_columns = expansion.Expand(scale);
  const std::optional<AffineColumns> bias_columns = scale_columns ? expansion.Expand(bias) : std::nullopt;
  if (!bias_columns || expansion.gemm() == kNoNode) return false;
  // One Split of the Gemm is what this leaves behind.
  if (rewriter.ProducerId(scale) == rewriter.ProducerId(bias)) return false;
  std::vector<NodeId> interior = expansion.interior();
  interior.push_back(id);
  if (!rewriter.IsEnclosed(interior, norm.output(0))) return false;

  const Node gemm = rewriter.graph().node(expansion.gemm());
  const FoldedGemm folded = FoldParts(rewriter, gemm, {*scale_columns, *bias_columns});
  const int64_t outputs = 2 * dims[1];
  const std::string name = rewriter.value(gemm.output(0)).name;
  const ValueId weights =
      rewriter.AddConstant(name + "/modulation_weights",
                           Tensor::FromVector<float>({outputs, rewriter.dims(gemm.input(0))[1]}, folded.weights));
  const ValueId offsets =
      rewriter.AddConstant(name + "/modulation_bias", Tensor::FromVector<float>({outputs}, folded.bias));
  const ValueId both = rewriter.AddNode(name + "/modulation", "", "Gemm", {gemm.input(0), weights, offsets},
                                        DType::kFloat32, {dims[0], outputs}, {{"transB", int64_t{1}}});
  rewriter.AddSplit(name + "/modulation_split", both, {scale, bias}, 1);
  return true;
}

}  // namespace

int FoldModulation(Graph& graph) {
  Rewriter rewriter(graph);
  int rewrites = 0;
  for (NodeId id = 0, count = rewriter.node_count(); id < count; ++id) {
    const Node& node = graph.node(id);
    if (!node.removed && node.Is("GroupNorm", kOctavoDomain) && Fold(rewriter, id)) ++rewrites;
  }
  return rewrites;
}

}  // namespace octavo
