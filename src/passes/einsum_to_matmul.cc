// Einsum of two operands whose every label is a batch (in both operands and the result), a contraction (in both
// operands only), or free (in one operand and the result)
//   ->  Transpose(Reshape(MatMul(Reshape(Transpose(a)), Reshape(Transpose(b)))))
// a becomes [batch..., rows, contracted], b [batch..., contracted, columns]. What changes nothing is left out.
#include <algorithm>

#include "passes/rewriter.h"
#include "passes/rewrites.h"

namespace octavo {
namespace {

struct Terms {
  std::string a, b, out;
};

// "bct, bcs -> bts" taken apart; nothing for ellipses, repeated labels, an implicit result, or not two operands.
std::optional<Terms> Parse(std::string equation) {
  std::erase(equation, ' ');
  const size_t comma = equation.find(','), arrow = equation.find("->");
  if (comma == std::string::npos || arrow == std::string::npos || comma > arrow) return std::nullopt;
  Terms terms{equation.substr(0, comma), equation.substr(comma + 1, arrow - comma - 1), equation.substr(arrow + 2)};
  for (const std::string* term : {&terms.a, &terms.b, &terms.out}) {
    std::string sorted = *term;
    std::sort(sorted.begin(), sorted.end());
    if (std::adjacent_find(sorted.begin(), sorted.end()) != sorted.end()) return std::nullopt;
    if (!std::all_of(sorted.begin(), sorted.end(), [](unsigned char c) { return std::isalpha(c) != 0; })) {
      return std::nullopt;
    }
  }
  return terms;
}

bool Contains(const std::string& term, char label) { return term.find(label) != std::string::npos; }

struct Plan {
  std::string batch, rows, columns, contracted;
};

std::optional<Plan> PlanOf(const Terms& terms) {
  Plan plan;
  for (const char label : terms.out) {
    const bool in_a = Contains(terms.a, label), in_b = Contains(terms.b, label);
    if (!in_a && !in_b) return std::nullopt;
    (in_a && in_b ? plan.batch : in_a ? plan.rows : plan.columns) += label;
  }
  for (const char label : terms.a) {
    if (Contains(terms.out, label)) continue;
    if (!Contains(terms.b, label)) return std::nullopt;
    plan.contracted += label;
  }
  for (const char label : terms.b) {
    if (!Contains(terms.out, label) && !Contains(terms.a, label)) return std::nullopt;
  }
  return plan;
}

class EinsumRewrite {
 public:
  EinsumRewrite(Rewriter& rewriter, NodeId id, Terms terms, Plan plan)
      : rewriter_(rewriter), id_(id), terms_(std::move(terms)), plan_(std::move(plan)) {}

  bool Run() {
    const Node node = rewriter_.graph().node(id_);
    if (!ReadSizes(terms_.a, rewriter_.dims(node.input(0))) || !ReadSizes(terms_.b, rewriter_.dims(node.input(1)))) {
      return false;
    }
    result_ = node.output(0);
    const int64_t k = SizeOf(plan_.contracted), m = SizeOf(plan_.rows), n = SizeOf(plan_.columns);
    const ValueId a = Arrange(node.input(0), terms_.a, plan_.batch + plan_.rows + plan_.contracted, WithBatch({m, k}));
    const ValueId b =
        Arrange(node.input(1), terms_.b, plan_.batch + plan_.contracted + plan_.columns, WithBatch({k, n}));
    Finish(a, b, WithBatch({m, n}));
    return true;
  }

 private:
  bool ReadSizes(const std::string& term, const Dims& dims) {
    if (term.size() != dims.size()) return false;
    for (size_t i = 0; i < term.size(); ++i) {
      const auto [it, is_new] = sizes_.emplace(term[i], dims[i]);
      if (dims[i] == 0 || (!is_new && it->second != dims[i])) return false;
    }
    return true;
  }

  Dims DimsOf(const std::string& labels) const {
    Dims dims;
    for (const char label : labels) dims.push_back(sizes_.at(label));
    return dims;
  }

  int64_t SizeOf(const std::string& labels) const { return ElementCount(DimsOf(labels)); }

  Dims WithBatch(Dims matrix) const {
    Dims dims = DimsOf(plan_.batch);
    dims.insert(dims.end(), matrix.begin(), matrix.end());
    return dims;
  }

  static std::vector<int64_t> PermBetween(const std::string& from, const std::string& to) {
    std::vector<int64_t> perm;
    for (const char label : to) perm.push_back(static_cast<int64_t>(from.find(label)));
    return perm;
  }

  std::string Name(std::string_view suffix) const { return rewriter_.value(result_).name + "/" + std::string(suffix); }

  // `value`, laid out as `from`, transposed to `to` and reshaped to `dims`.
  ValueId Arrange(ValueId value, const std::string& from, const std::string& to, const Dims& dims) {
    const DType dtype = rewriter_.value(value).dtype;
    if (from != to) {
      value = rewriter_.AddNode(Name("transposed"), "", "Transpose", {value}, dtype, DimsOf(to),
                                {{"perm", PermBetween(from, to)}});
    }
    if (rewriter_.dims(value) == dims) return value;
    const ValueId shape = rewriter_.AddConstant(Name("shape"), Int64Constant(dims));
    return rewriter_.AddNode(Name("matrix"), "", "Reshape", {value, shape}, dtype, dims);
  }

  // The product, reshaped and transposed to the result where it is not laid out so already.
  void Finish(ValueId a, ValueId b, const Dims& product_dims) {
    const DType dtype = rewriter_.value(result_).dtype;
    const std::string order = plan_.batch + plan_.rows + plan_.columns;
    const Dims ordered = DimsOf(order);
    const bool transposes = order != terms_.out, reshapes = ordered != product_dims;
    if (!transposes && !reshapes) {
      rewriter_.Become(id_, "", "MatMul", {a, b});
      return;
    }
    ValueId value = rewriter_.AddNode(Name("product"), "", "MatMul", {a, b}, dtype, product_dims);
    ValueId shape = kNoValue;
    if (reshapes) shape = rewriter_.AddConstant(Name("shape"), Int64Constant(ordered));
    if (reshapes && transposes) {
      value = rewriter_.AddNode(Name("labelled"), "", "Reshape", {value, shape}, dtype, ordered);
    }
    if (transposes) {
      rewriter_.Become(id_, "", "Transpose", {value}, {{"perm", PermBetween(order, terms_.out)}});
    } else {
      rewriter_.Become(id_, "", "Reshape", {value, shape});
    }
  }

  Rewriter& rewriter_;
  NodeId id_;
  Terms terms_;
  Plan plan_;
  ValueId result_ = kNoValue;
  std::map<char, int64_t> sizes_;
};

}  // namespace

int RewriteEinsum(Graph& graph) {
  Rewriter rewriter(graph);
  int rewrites = 0;
  for (NodeId id = 0, count = rewriter.node_count(); id < count; ++id) {
    const Node& node = graph.node(id);
    if (node.removed || !node.Is("Einsum") || node.inputs.size() != 2) continue;
    const auto terms = Parse(node.String("equation", ""));
    if (!terms) continue;
    const auto plan = PlanOf(*terms);
    if (plan && EinsumRewrite(rewriter, id, *terms, *plan).Run()) ++rewrites;
  }
  return rewrites;
}

}  // namespace octavo
