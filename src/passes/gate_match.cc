#include "passes/gate_match.h"

#include <algorithm>
#include <cmath>

namespace octavo {
namespace {

// Longest chain that exporters put between x and the gate or between the gate and the result is 6 nodes (tanh GELU).
constexpr int kMaxSteps = 8;
constexpr int kMaxPower = 4;
constexpr size_t kMaxCandidates = 32;

GatePolynomial Sum(const GatePolynomial& a, const GatePolynomial& b, double sign) {
  GatePolynomial sum = a;
  for (const auto& [powers, coefficient] : b) sum[powers] += sign * coefficient;
  return sum;
}

std::optional<GatePolynomial> Product(const GatePolynomial& a, const GatePolynomial& b) {
  GatePolynomial product;
  for (const auto& [pa, ca] : a) {
    for (const auto& [pb, cb] : b) {
      const std::pair<int, int> powers{pa.first + pb.first, pa.second + pb.second};
      if (powers.first > kMaxPower || powers.second > kMaxPower) return std::nullopt;
      product[powers] += ca * cb;
    }
  }
  return product;
}

// The polynomial's value when it is a constant other than zero.
std::optional<double> ConstantOf(const GatePolynomial& polynomial) {
  if (polynomial.size() != 1) return std::nullopt;
  const auto& [powers, coefficient] = *polynomial.begin();
  if (powers != std::pair(0, 0) || coefficient == 0.0) return std::nullopt;
  return coefficient;
}

bool Equal(const GatePolynomial& found, const GatePolynomial& wanted) {
  for (const auto& [powers, coefficient] : found) {
    const auto it = wanted.find(powers);
    if (it == wanted.end() ? coefficient != 0.0 : !IsNear(coefficient, it->second)) return false;
  }
  return std::all_of(wanted.begin(), wanted.end(), [&](const auto& term) { return found.contains(term.first); });
}

// Expands values into polynomials of x and the gate's output, noting the nodes it walks through.
class Expansion {
 public:
  Expansion(const Rewriter& rewriter, ValueId x, ValueId gate_output)
      : rewriter_(rewriter), x_(x), gate_output_(gate_output) {}

  std::optional<GatePolynomial> Expand(ValueId value, int steps = kMaxSteps) {
    if (value == x_) return GatePolynomial{{{1, 0}, 1.0}};
    if (value == gate_output_) return GatePolynomial{{{0, 1}, 1.0}};
    if (value == kNoValue) return std::nullopt;
    if (rewriter_.value(value).is_constant()) {
      const std::optional<double> uniform = UniformValue(rewriter_.value(value));
      return uniform ? std::optional(GatePolynomial{{{0, 0}, *uniform}}) : std::nullopt;
    }
    const Node* node = rewriter_.Producer(value);
    if (node == nullptr || steps == 0 || rewriter_.dims(value) != rewriter_.dims(x_)) return std::nullopt;
    std::optional<GatePolynomial> expanded = ExpandNode(*node, steps - 1);
    if (expanded) nodes_.push_back(rewriter_.ProducerId(value));
    return expanded;
  }

  std::vector<NodeId>& nodes() { return nodes_; }

 private:
  std::optional<GatePolynomial> ExpandNode(const Node& node, int steps) {
    if (!node.domain.empty()) return std::nullopt;
    const bool binary =
        node.op == "Add" || node.op == "Sub" || node.op == "Mul" || node.op == "Div" || node.op == "Pow";
    if (!binary && node.op != "Neg") return std::nullopt;
    const std::optional<GatePolynomial> a = Expand(node.input(0), steps);
    if (!a) return std::nullopt;
    if (node.op == "Neg") return Product(*a, {{{0, 0}, -1.0}});
    const std::optional<GatePolynomial> b = Expand(node.input(1), steps);
    if (!b) return std::nullopt;
    if (node.op == "Add") return Sum(*a, *b, 1.0);
    if (node.op == "Sub") return Sum(*a, *b, -1.0);
    if (node.op == "Mul") return Product(*a, *b);
    const std::optional<double> constant = ConstantOf(*b);
    if (!constant) return std::nullopt;
    if (node.op == "Div") return Product(*a, {{{0, 0}, 1.0 / *constant}});
    return Power(*a, *constant);
  }

  static std::optional<GatePolynomial> Power(const GatePolynomial& base, double exponent) {
    if (exponent != 1.0 && exponent != 2.0 && exponent != 3.0) return std::nullopt;
    std::optional<GatePolynomial> power = base;
    for (int i = 1; i < static_cast<int>(exponent) && power; ++i) power = Product(*power, base);
    return power;
  }

  const Rewriter& rewriter_;
  ValueId x_, gate_output_;
  std::vector<NodeId> nodes_;
};

// Values that x may be: the gate's input and what it is computed from, nearest first.
std::vector<ValueId> Candidates(const Rewriter& rewriter, ValueId start) {
  std::vector<ValueId> found{start};
  for (size_t i = 0; i < found.size() && found.size() < kMaxCandidates; ++i) {
    const Node* node = rewriter.Producer(found[i]);
    if (node == nullptr) continue;
    for (const ValueId input : node->inputs) {
      if (input == kNoValue || rewriter.value(input).is_constant()) continue;
      if (std::find(found.begin(), found.end(), input) == found.end()) found.push_back(input);
    }
  }
  return found;
}

// Follows the only readers of the gate's output until the result is reached.
std::optional<GateMatch> FindTail(const Rewriter& rewriter, NodeId gate, ValueId x, const GatePolynomial& result,
                                  const std::vector<NodeId>& argument_nodes) {
  const ValueId gate_output = rewriter.graph().node(gate).output(0);
  ValueId at = gate_output;
  for (int step = 0; step < kMaxSteps; ++step) {
    const NodeId reader = rewriter.OnlyReader(at);
    if (reader == kNoNode || rewriter.graph().node(reader).outputs.size() != 1) return std::nullopt;
    at = rewriter.graph().node(reader).output(0);
    Expansion expansion(rewriter, x, gate_output);
    const std::optional<GatePolynomial> polynomial = expansion.Expand(at);
    if (!polynomial) return std::nullopt;
    if (!Equal(*polynomial, result)) continue;
    std::vector<NodeId>& interior = expansion.nodes();
    interior.insert(interior.end(), argument_nodes.begin(), argument_nodes.end());
    interior.push_back(gate);
    if (!rewriter.IsEnclosed(interior, at)) return std::nullopt;
    return GateMatch{x, reader};
  }
  return std::nullopt;
}

}  // namespace

std::optional<GateMatch> MatchGate(const Rewriter& rewriter, NodeId gate, const GatePolynomial& argument,
                                   const GatePolynomial& result) {
  const Node& node = rewriter.graph().node(gate);
  if (!IsFloat32(rewriter.graph(), node.input(0)) || rewriter.value(node.input(0)).is_constant()) return std::nullopt;
  for (const ValueId x : Candidates(rewriter, node.input(0))) {
    if (rewriter.dims(x) != rewriter.dims(node.input(0))) continue;
    Expansion expansion(rewriter, x, kNoValue);
    const std::optional<GatePolynomial> polynomial = expansion.Expand(node.input(0));
    if (!polynomial || !Equal(*polynomial, argument)) continue;
    if (const auto match = FindTail(rewriter, gate, x, result, expansion.nodes())) return match;
  }
  return std::nullopt;
}

}  // namespace octavo
