#include "quantize/contraction_weights.h"

#include "graph/infer_window.h"

namespace octavo {
namespace {

// How many of `count` places o * stride - pad + k * dilation lie in [0, size).
int64_t CountInside(const WindowAxis& axis, int64_t k, int64_t count, int64_t size) {
  int64_t inside = 0;
  for (int64_t o = 0; o < count; ++o) {
    const int64_t at = o * axis.stride - axis.pad_begin + k * axis.dilation;
    inside += at >= 0 && at < size ? 1 : 0;
  }
  return inside;
}

std::vector<double> AxisShares(const WindowAxis& axis, bool transposed) {
  std::vector<double> shares;
  for (int64_t k = 0; k < axis.kernel; ++k) {
    const int64_t inside =
        transposed ? CountInside(axis, k, axis.input, axis.output) : CountInside(axis, k, axis.output, axis.input);
    shares.push_back(axis.output > 0 ? static_cast<double>(inside) / static_cast<double>(axis.output) : 0);
  }
  return shares;
}

}  // namespace

size_t ContractionWeights::At(int64_t o, int64_t i, int64_t k) const {
  const int64_t per_group = outputs / groups;
  const int64_t row = transposed ? o / per_group * inputs_per_group + i : o;
  const int64_t column = transposed ? o % per_group : i;
  const int64_t columns = transposed ? per_group : inputs_per_group;
  return static_cast<size_t>((row * columns + column) * window + k);
}

size_t ContractionWeights::Input(int64_t o, int64_t i) const {
  return static_cast<size_t>(o / (outputs / groups) * inputs_per_group + i);
}

std::optional<ContractionWeights> WeightsOf(const Graph& graph, const Node& node) {
  const bool is_window = node.Is("Conv") || node.Is("ConvTranspose");
  const bool is_product = node.Is("MatMul") || (node.Is("Gemm") && node.Int("transA", 0) == 0);
  if ((!is_window && !is_product) || !node.has_input(0) || !node.has_input(1)) return std::nullopt;
  const Value& operand = graph.value(node.input(0));
  const Value& constant = graph.value(node.input(1));
  const Dims& dims = constant.dims;
  if (!constant.is_constant() || constant.dtype != DType::kFloat32 || operand.dims.size() < 2) return std::nullopt;
  if (dims.size() < 2 || (is_product && dims.size() != 2)) return std::nullopt;
  ContractionWeights weights;
  weights.groups = node.Int("group", 1);
  weights.transposed = node.Is("ConvTranspose") || (is_product && node.Int("transB", 0) == 0);
  for (size_t d = 2; d < dims.size(); ++d) weights.window *= dims[d];
  weights.outputs = weights.transposed ? dims[1] * weights.groups : dims[0];
  weights.inputs_per_group = weights.transposed ? dims[0] / weights.groups : dims[1];
  if (is_product) {
    weights.operand_axis = static_cast<int>(operand.dims.size()) - 1;
    weights.result_axis = static_cast<int>(graph.value(node.output(0)).dims.size()) - 1;
  }
  return weights;
}

Result<std::vector<double>> WindowShares(const Graph& graph, const Node& node) {
  std::vector<double> shares = {1};
  const bool transposed = node.Is("ConvTranspose");
  if (!transposed && !node.Is("Conv")) return shares;
  const Dims& x = graph.value(node.input(0)).dims;
  const Dims& w = graph.value(node.input(1)).dims;
  OCTAVO_ASSIGN(const auto axes, transposed ? ResolveConvTranspose(node, x, w) : ResolveConv(node, x, w));
  for (const WindowAxis& axis : axes) {
    std::vector<double> product;
    for (const double share : shares) {
      for (const double next : AxisShares(axis, transposed)) product.push_back(share * next);
    }
    shares = std::move(product);
  }
  return shares;
}

}  // namespace octavo
