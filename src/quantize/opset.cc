#include "quantize/opset.h"

#include <algorithm>

#include "passes/rewriter.h"

namespace octavo {
namespace {

constexpr int64_t kIrVersion = 7;  // of opset 13's release

// An attribute that opset 13 wants as an input.
struct MovedAttribute {
  std::string_view op, attribute;
  size_t input;
};
constexpr MovedAttribute kMoved[] = {
    {"Squeeze", "axes", 1}, {"Unsqueeze", "axes", 1}, {"ReduceSum", "axes", 1}, {"Split", "split", 1}};

// Attributes of forms that ended before opset 13 and are not rewritten here: a node that has one stays as it is.
struct EndedForm {
  std::string_view op, attribute;
};
constexpr EndedForm kEnded[] = {{"Slice", "starts"},  {"Pad", "pads"},      {"Clip", "min"}, {"Clip", "max"},
                                {"Dropout", "ratio"}, {"Resize", "scales"}, {"TopK", "k"},   {"Upsample", "mode"}};

Status CannotRaise(const Graph& graph, const Node& node) {
  return Unsupported("per-channel Q/DQ needs opset 13, the model states " + std::to_string(graph.opset()) + ", and " +
                     graph.Describe(node) +
                     " is written otherwise there: convert it with onnx.version_converter.convert_version(model, 13)");
}

// Before opset 13 these normalize over all axes from `axis` on (default 1), after it over `axis` alone (default -1).
bool NormalizesFlattened(const Node& node) { return node.Is("Softmax") || node.Is("LogSoftmax") || node.Is("Hardmax"); }

bool MeansTheSame(const Graph& graph, const Node& node) {
  if (!node.domain.empty()) return true;
  for (const auto& [op, attribute] : kEnded) {
    if (node.op == op && node.Has(attribute)) return false;
  }
  // Resize had (x, scales) before opset 11.
  if (node.op == "Upsample" || (node.op == "Resize" && graph.opset() < 11)) return false;
  if (!NormalizesFlattened(node)) return true;
  const Dims& dims = graph.value(node.input(0)).dims;
  const int64_t axis = WrapAxis(node.Int("axis", 1), static_cast<int64_t>(dims.size()));
  return axis >= 0 && std::all_of(dims.begin() + axis + 1, dims.end(), [](int64_t size) { return size == 1; });
}

void MoveAttributes(Graph& graph, NodeId id) {
  for (const auto& [op, attribute, input] : kMoved) {
    if (!graph.node(id).Is(op) || !graph.node(id).Has(attribute)) continue;
    const std::vector<int64_t> values = graph.node(id).Ints(attribute);
    const ValueId constant =
        graph.AddConstant(graph.node(id).name + "/" + std::string(attribute), Int64Constant(values));
    Node& node = graph.node(id);
    node.attributes.erase(std::string(attribute));
    node.inputs.resize(std::max(node.inputs.size(), input + 1), kNoValue);
    node.inputs[input] = constant;
  }
}

}  // namespace

Status RaiseOpset(Graph& graph) {
  graph.ir_version = std::max(graph.ir_version, kIrVersion);
  if (graph.opset() >= kQuantizingOpset) return {};
  for (const Node& node : graph.nodes) {
    if (!node.removed && !MeansTheSame(graph, node)) return CannotRaise(graph, node);
  }
  for (size_t n = 0; n < graph.nodes.size(); ++n) {
    const auto id = static_cast<NodeId>(n);
    if (graph.node(id).removed || !graph.node(id).domain.empty()) continue;
    MoveAttributes(graph, id);
    if (NormalizesFlattened(graph.node(id))) graph.node(id).attributes["axis"] = graph.node(id).Int("axis", 1);
  }
  graph.opsets[""] = kQuantizingOpset;
  return {};
}

}  // namespace octavo
