// d = x - ReduceMean(x, axis);  y = d / Sqrt(ReduceMean(d^2, axis) + epsilon) [* scale] [+ bias]
//   ->  octavo.LayerNorm(x, scale, bias) {axis, epsilon}
// The division may be a product with Reciprocal(Sqrt(.)), 1 / Sqrt(.) or Pow(., -0.5); the square Mul(d, d) or Pow(d,
// 2). Scale and bias are constants that vary along the axis only.
//
// LayerNormalization(x, scale, bias) over the last axis, its mean and deviation unread  ->  octavo.LayerNorm
#include "passes/rewriter.h"
#include "passes/rewrites.h"

namespace octavo {
namespace {

struct Core {
  ValueId x = kNoValue;
  int64_t axis = 0;
  double epsilon = 0;
};

class LayerNormMatcher {
 public:
  explicit LayerNormMatcher(const Rewriter& rewriter) : rewriter_(rewriter) {}

  // What `tail`, a Div or Mul, normalizes.
  std::optional<Core> Match(NodeId tail) {
    const Node& node = rewriter_.graph().node(tail);
    if (!IsFloat32(rewriter_.graph(), node.output(0))) return std::nullopt;
    if (node.Is("Div")) return MatchOperands(tail, node.input(0), Deviation(node.input(1)));
    if (!node.Is("Mul")) return std::nullopt;
    if (auto core = MatchOperands(tail, node.input(0), InverseDeviation(node.input(1)))) return core;
    return MatchOperands(tail, node.input(1), InverseDeviation(node.input(0)));
  }

 private:
  const Node* Take(ValueId value, std::string_view op) {
    const Node* node = rewriter_.Producer(value, op);
    if (node != nullptr) interior_.push_back(rewriter_.ProducerId(value));
    return node;
  }

  // variance + epsilon, from its square root.
  ValueId Deviation(ValueId value) {
    interior_.clear();
    if (const Node* root = Take(value, "Sqrt")) return root->input(0);
    return PowerBase(value, 0.5);
  }

  // variance + epsilon, from one over its square root.
  ValueId InverseDeviation(ValueId value) {
    interior_.clear();
    if (const Node* inverse = Take(value, "Reciprocal")) return RootBase(inverse->input(0));
    if (const Node* quotient = rewriter_.Producer(value, "Div")) {
      if (!IsUniform(rewriter_.value(quotient->input(0)), 1.0)) return kNoValue;
      Take(value, "Div");
      return RootBase(quotient->input(1));
    }
    return PowerBase(value, -0.5);
  }

  ValueId RootBase(ValueId value) {
    if (const Node* root = Take(value, "Sqrt")) return root->input(0);
    return PowerBase(value, 0.5);
  }

  ValueId PowerBase(ValueId value, double exponent) {
    const Node* power = rewriter_.Producer(value, "Pow");
    if (power == nullptr || !IsUniform(rewriter_.value(power->input(1)), exponent)) return kNoValue;
    return Take(value, "Pow")->input(0);
  }

  // The one axis that a ReduceMean with kept dimensions is over.
  std::optional<int64_t> MeanAxis(const Node& mean) const {
    const auto axes = ReduceAxes(rewriter_.graph(), mean);
    if (!axes || axes->size() != 1 || mean.Int("keepdims", 1) == 0) return std::nullopt;
    return axes->front();
  }

  // The operand of a square.
  ValueId Squared(ValueId value) {
    if (const Node* power = rewriter_.Producer(value, "Pow")) {
      if (!IsUniform(rewriter_.value(power->input(1)), 2.0)) return kNoValue;
      return Take(value, "Pow")->input(0);
    }
    const Node* product = Take(value, "Mul");
    return product != nullptr && product->input(0) == product->input(1) ? product->input(0) : kNoValue;
  }

  std::optional<Core> MatchOperands(NodeId tail, ValueId centered, ValueId shifted_variance) {
    if (shifted_variance == kNoValue) return std::nullopt;
    const Node* shifted = Take(shifted_variance, "Add");
    if (shifted == nullptr) return std::nullopt;
    std::optional<double> epsilon = UniformValue(rewriter_.value(shifted->input(1)));
    const ValueId variance = epsilon ? shifted->input(0) : shifted->input(1);
    if (!epsilon) epsilon = UniformValue(rewriter_.value(shifted->input(0)));
    const Node* variance_mean = Take(variance, "ReduceMean");
    if (!epsilon || *epsilon < 0 || variance_mean == nullptr) return std::nullopt;
    if (Squared(variance_mean->input(0)) != centered) return std::nullopt;
    const Node* difference = Take(centered, "Sub");
    if (difference == nullptr) return std::nullopt;
    const Node* mean = Take(difference->input(1), "ReduceMean");
    if (mean == nullptr || mean->input(0) != difference->input(0)) return std::nullopt;
    const std::optional<int64_t> axis = MeanAxis(*mean);
    if (!axis || axis != MeanAxis(*variance_mean)) return std::nullopt;
    interior_.push_back(tail);
    const ValueId result = rewriter_.graph().node(tail).output(0);
    if (rewriter_.dims(result) != rewriter_.dims(difference->input(0))) return std::nullopt;
    if (!rewriter_.IsEnclosed(interior_, result)) return std::nullopt;
    return Core{difference->input(0), *axis, *epsilon};
  }

  const Rewriter& rewriter_;
  std::vector<NodeId> interior_;
};

// When the only reader of `at` is `op` with a constant that varies along `axis` at most: that constant's values, and
// `at` becomes the reader's output.
std::optional<std::vector<float>> TakeChannelConstant(const Rewriter& rewriter, std::string_view op, int64_t axis,
                                                      ValueId& at) {
  const NodeId reader = rewriter.OnlyReader(at);
  if (reader == kNoNode || !rewriter.graph().node(reader).Is(op)) return std::nullopt;
  const Node& node = rewriter.graph().node(reader);
  const ValueId constant = OtherOperand(node, at);
  const Dims& dims = rewriter.dims(at);
  if (constant == kNoValue || rewriter.dims(node.output(0)) != dims) return std::nullopt;
  auto values =
      ChannelValues(rewriter.value(constant), static_cast<int64_t>(dims.size()), axis, dims[static_cast<size_t>(axis)]);
  if (values) at = node.output(0);
  return values;
}

ValueId AddVector(Rewriter& rewriter, const std::string& name, const std::vector<float>& values) {
  return rewriter.AddConstant(name, Tensor::FromVector<float>({static_cast<int64_t>(values.size())}, values));
}

bool RewriteChain(Rewriter& rewriter, NodeId tail) {
  const std::optional<Core> core = LayerNormMatcher(rewriter).Match(tail);
  if (!core) return false;
  ValueId result = rewriter.graph().node(tail).output(0);
  const auto scale = TakeChannelConstant(rewriter, "Mul", core->axis, result);
  const auto bias = TakeChannelConstant(rewriter, "Add", core->axis, result);
  const std::string name = rewriter.value(result).name;
  std::vector<ValueId> inputs{core->x};
  if (scale || bias) inputs.push_back(scale ? AddVector(rewriter, name + "/scale", *scale) : kNoValue);
  if (bias) inputs.push_back(AddVector(rewriter, name + "/bias", *bias));
  rewriter.Become(rewriter.ProducerId(result), kOctavoDomain, "LayerNorm", inputs,
                  {{"axis", core->axis}, {"epsilon", static_cast<float>(core->epsilon)}});
  return true;
}

bool RewriteStandard(Rewriter& rewriter, NodeId id) {
  const Node& node = rewriter.graph().node(id);
  const Dims& dims = rewriter.dims(node.input(0));
  const int64_t rank = static_cast<int64_t>(dims.size());
  if (!IsFloat32(rewriter.graph(), node.input(0)) || rank == 0) return false;
  const int64_t axis = WrapAxis(node.Int("axis", -1), rank);
  if (axis != rank - 1) return false;
  for (size_t i = 1; i < node.inputs.size(); ++i) {
    if (node.has_input(i) && rewriter.dims(node.inputs[i]) != Dims{dims.back()}) return false;
  }
  for (size_t i = 1; i < node.outputs.size(); ++i) {
    const ValueId output = node.outputs[i];
    if (output != kNoValue && (rewriter.IsOutput(output) || !rewriter.Readers(output).empty())) return false;
  }
  const std::vector<ValueId> inputs = node.inputs;
  const float epsilon = node.Float("epsilon", 1e-5f);
  Graph& graph = rewriter.graph();
  for (size_t i = 1; i < graph.node(id).outputs.size(); ++i) {
    const ValueId output = graph.node(id).outputs[i];
    if (output != kNoValue) graph.value(output).producer = kNoNode;
  }
  graph.node(id).outputs.resize(1);
  rewriter.Become(id, kOctavoDomain, "LayerNorm", inputs, {{"axis", axis}, {"epsilon", epsilon}});
  return true;
}

}  // namespace

int RewriteLayerNorm(Graph& graph) {
  Rewriter rewriter(graph);
  int rewrites = 0;
  for (NodeId id = 0; id < rewriter.node_count(); ++id) {
    const Node& node = graph.node(id);
    if (node.removed) continue;
    const bool standard = node.Is("LayerNormalization");
    if (standard ? RewriteStandard(rewriter, id) : RewriteChain(rewriter, id)) ++rewrites;
  }
  return rewrites;
}

}  // namespace octavo
