#include "passes/channel_affine.h"

#include <algorithm>
#include <span>
#include <utility>

namespace octavo {
namespace {

struct Contraction {
  int64_t axis = 0;      // of the output
  int64_t channels = 0;  // along it
};

// How `node` computes channels from constant weights and a constant bias; nothing when it does not.
std::optional<Contraction> Describe(const Rewriter& rewriter, const Node& node) {
  const Graph& graph = rewriter.graph();
  const bool conv = node.Is("Conv") || node.Is("ConvTranspose");
  const bool gemm = node.Is("Gemm");
  if (!conv && !gemm && !node.Is("MatMul")) return std::nullopt;
  if (!IsFloat32(graph, node.input(1)) || !graph.value(node.input(1)).is_constant()) return std::nullopt;
  const Dims& out = rewriter.dims(node.output(0));
  const int64_t rank = static_cast<int64_t>(out.size());
  if (rank < 2 || (!conv && rewriter.dims(node.input(1)).size() != 2)) return std::nullopt;
  const int64_t axis = conv ? 1 : rank - 1;
  const int64_t channels = out[static_cast<size_t>(axis)];
  if (node.has_input(2)) {
    const Value& bias = graph.value(node.input(2));
    if (conv ? !bias.is_constant() || bias.dims != Dims{channels} || bias.dtype != DType::kFloat32
             : !ChannelValues(bias, rank, axis, channels)) {
      return std::nullopt;
    }
  }
  return Contraction{axis, channels};
}

// Calls fn(channel, begin, count) for each run of weights that belong to one output channel.
template <typename Fn>
void ForEachChannelRun(const Node& node, const Dims& dims, Fn&& fn) {
  const int64_t size = ElementCount(dims);
  const bool rows = node.Is("Conv") || (node.Is("Gemm") && node.Int("transB", 0) != 0);
  if (rows) {  // [channels, ...]
    const int64_t run = dims[0] == 0 ? 0 : size / dims[0];
    for (int64_t c = 0; c < dims[0]; ++c) fn(c, c * run, run);
    return;
  }
  if (node.Is("ConvTranspose")) {  // [inputs, channels / group, kernel...]
    const int64_t group = node.Int("group", 1);
    const int64_t per_group = dims[1], inputs_per_group = dims[0] / group;
    const int64_t run = dims[0] * per_group == 0 ? 0 : size / (dims[0] * per_group);
    for (int64_t i = 0; i < dims[0]; ++i) {
      for (int64_t c = 0; c < per_group; ++c) fn(i / inputs_per_group * per_group + c, (i * per_group + c) * run, run);
    }
    return;
  }
  for (int64_t k = 0; k < dims[0]; ++k) {  // [inputs, channels]
    for (int64_t c = 0; c < dims[1]; ++c) fn(c, k * dims[1] + c, int64_t{1});
  }
}

Tensor ScaledWeights(const Node& node, const Tensor& weights, const std::vector<double>& scale) {
  const auto in = weights.values<float>();
  Tensor scaled = Tensor::FromValues<float>(weights.dims(), in);
  const auto out = scaled.mutable_values<float>();
  if (out.size() != in.size()) return {};
  ForEachChannelRun(node, weights.dims(), [&](int64_t channel, int64_t begin, int64_t count) {
    const double factor = scale[static_cast<size_t>(channel)];
    for (int64_t i = begin; i < begin + count; ++i) {
      out[static_cast<size_t>(i)] = static_cast<float>(in[static_cast<size_t>(i)] * factor);
    }
  });
  return scaled;
}

// The bias that `target` adds now, per channel, in the units of its output.
std::vector<double> PresentBias(const Rewriter& rewriter, const ScalableContraction& target) {
  const Node& node = rewriter.graph().node(target.contraction);
  ValueId bias = node.Is("MatMul") ? kNoValue : node.input(2);
  if (target.bias_add != kNoNode) bias = OtherOperand(rewriter.graph().node(target.bias_add), node.output(0));
  if (bias == kNoValue) return std::vector<double>(static_cast<size_t>(target.channels), 0.0);
  const auto values = ChannelValues(rewriter.value(bias), 1, 0, target.channels);
  const auto wide =
      values ? values : ChannelValues(rewriter.value(bias), target.axis + 1, target.axis, target.channels);
  std::vector<double> present(wide->begin(), wide->end());
  if (node.Is("Gemm")) {
    for (double& value : present) value *= static_cast<double>(node.Float("beta", 1.0f));
  }
  return present;
}

}  // namespace

std::optional<ScalableContraction> FindScalable(const Rewriter& rewriter, ValueId value) {
  const Node* node = rewriter.Producer(value);
  if (node == nullptr || rewriter.OnlyReader(value) == kNoNode) return std::nullopt;
  if (const auto direct = Describe(rewriter, *node)) {
    return ScalableContraction{rewriter.ProducerId(value), kNoNode, direct->axis, direct->channels};
  }
  if (!node->Is("Add")) return std::nullopt;
  for (const ValueId product : node->inputs) {
    const Node* matmul = rewriter.Producer(product, "MatMul");
    if (matmul == nullptr || rewriter.OnlyReader(product) == kNoNode) continue;
    const auto found = Describe(rewriter, *matmul);
    if (!found || rewriter.dims(product) != rewriter.dims(value)) continue;
    if (!ChannelValues(rewriter.value(OtherOperand(*node, product)), found->axis + 1, found->axis, found->channels))
      continue;
    return ScalableContraction{rewriter.ProducerId(product), rewriter.ProducerId(value), found->axis, found->channels};
  }
  return std::nullopt;
}

void FoldAffine(Rewriter& rewriter, const ScalableContraction& target, ValueId result, const std::vector<double>& scale,
                const std::vector<double>& shift) {
  const Node node = rewriter.graph().node(target.contraction);
  const std::vector<double> present = PresentBias(rewriter, target);
  std::vector<float> bias(static_cast<size_t>(target.channels));
  for (size_t c = 0; c < bias.size(); ++c) bias[c] = static_cast<float>(present[c] * scale[c] + shift[c]);
  const bool scales = std::any_of(scale.begin(), scale.end(), [](double s) { return s != 1.0; });
  const bool has_bias = target.bias_add != kNoNode || node.has_input(2) ||
                        std::any_of(shift.begin(), shift.end(), [](double s) { return s != 0.0; });

  const ValueId old_weights = node.input(1);
  ValueId weights = old_weights;
  if (scales) {
    weights = rewriter.AddConstant(rewriter.value(old_weights).name + "/scaled",
                                   ScaledWeights(node, rewriter.value(old_weights).constant, scale));
  }
  std::vector<ValueId> inputs{node.input(0), weights};
  ValueId bias_value = kNoValue;
  if (has_bias) {
    bias_value =
        rewriter.AddConstant(rewriter.value(result).name + "/bias", Tensor::FromVector<float>({target.channels}, bias));
  }
  const NodeId last = rewriter.ProducerId(result);
  rewriter.graph().node(last).name = node.name;
  if (node.Is("MatMul") && has_bias) {
    const Dims dims = rewriter.dims(result);
    const ValueId product =
        rewriter.AddNode(node.name + "/product", "", "MatMul", inputs, DType::kFloat32, dims, node.attributes);
    rewriter.Become(last, "", "Add", {product, bias_value});
    return;
  }
  if (has_bias) inputs.push_back(bias_value);
  std::map<std::string, Attribute> attributes = node.attributes;
  if (node.Is("Gemm")) attributes["beta"] = 1.0f;
  rewriter.Become(last, "", node.op, inputs, std::move(attributes));
}

}  // namespace octavo
