// Transpose(DequantizeLinear(8-bit constant))  ->  DequantizeLinear(transposed constant), and the same for Reshape and
// its like where the scale is per tensor or its axis outlives them: weights then reach their contraction straight from
// a DequantizeLinear.
#include <algorithm>
#include <array>
#include <optional>
#include <string_view>

#include "graph/op_table.h"
#include "graph/quantization.h"
#include "kernels/kernel.h"
#include "passes/rewriter.h"
#include "passes/rewrites.h"

namespace octavo {
namespace {

// Where `axis` of the input of a Transpose is in its output.
int64_t TransposedAxis(const Node& transpose, int64_t axis, int64_t rank) {
  std::vector<int64_t> permutation = transpose.Ints("perm");
  for (int64_t d = 0; d < rank; ++d) {
    const int64_t from = permutation.empty() ? rank - 1 - d : permutation[static_cast<size_t>(d)];
    if (from == axis) return d;
  }
  return axis;
}

// The axis of `to` that has the slices of `axis` of `from`, both row-major views of the same elements: as long, and
// with as many elements outside it. None where the view cuts slices up or joins them.
std::optional<int64_t> ReshapedAxis(const Dims& from, int64_t axis, const Dims& to) {
  const int64_t size = from[static_cast<size_t>(axis)];
  const auto outside = [](const Dims& dims, size_t d) {
    return ElementCount({dims.begin(), dims.begin() + static_cast<std::ptrdiff_t>(d)});
  };
  for (size_t d = 0; d < to.size(); ++d) {
    if (to[d] == size && outside(to, d) == outside(from, static_cast<size_t>(axis))) return static_cast<int64_t>(d);
  }
  return std::nullopt;
}

// Where the scales' axis is after the view.
std::optional<int64_t> MovedAxis(const Node& view, int64_t axis, const Dims& from, const Dims& to) {
  if (view.Is("Transpose")) return TransposedAxis(view, axis, static_cast<int64_t>(from.size()));
  return ReshapedAxis(from, axis, to);
}

bool MoveView(Rewriter& rewriter, NodeId id) {
  const Graph& graph = rewriter.graph();
  const Node& view = graph.node(id);
  if (view.removed || view.outputs.size() != 1 || view.inputs.empty()) return false;
  const OpTraits* traits = FindOp(view.domain, view.op);
  if (traits == nullptr || traits->op_class != OpClass::kView || rewriter.IsOutput(view.output(0))) return false;
  const Node* dequantize = rewriter.Producer(view.input(0), "DequantizeLinear");
  if (dequantize == nullptr) return false;
  const Value& integers = rewriter.value(dequantize->input(0));
  if (!integers.is_constant() || SizeOf(integers.dtype) != 1) return false;
  const Result<QuantizeParams> params = QuantizeParamsOf(graph, *dequantize);
  if (!params.ok()) return false;
  constexpr std::array<std::string_view, 5> kViews = {"Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten"};
  if (std::find(kViews.begin(), kViews.end(), view.op) == kViews.end()) return false;
  std::vector<Tensor> inputs{integers.constant};
  for (size_t i = 1; i < view.inputs.size(); ++i) {
    if (view.has_input(i) && !rewriter.value(view.input(i)).is_constant()) return false;
    inputs.push_back(view.has_input(i) ? rewriter.value(view.input(i)).constant : Tensor());
  }
  const Result<std::vector<Tensor>> moved = EvaluateNode(view, graph.opset(), inputs);
  if (!moved.ok()) return false;

  std::map<std::string, Attribute> attributes = dequantize->attributes;
  if (!params->per_tensor()) {
    const auto axis = MovedAxis(view, params->axis, integers.dims, (*moved)[0].dims());
    if (!axis) return false;
    attributes["axis"] = *axis;
  }
  std::vector<ValueId> operands = dequantize->inputs;
  const std::string name = integers.name;
  operands[0] = rewriter.AddConstant(name, (*moved)[0]);
  rewriter.Become(id, "", "DequantizeLinear", std::move(operands), std::move(attributes));
  return true;
}

}  // namespace

int MoveViewsBeforeDequantize(Graph& graph) {
  Rewriter rewriter(graph);
  int rewrites = 0;
  for (NodeId id = 0; id < rewriter.node_count(); ++id) {
    if (MoveView(rewriter, id)) ++rewrites;
  }
  return rewrites;
}

}  // namespace octavo
