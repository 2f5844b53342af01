// The precision that TensorRT is expected to give each node of a strongly typed network; docs/targets/tensorrt.md has
// the rules' sources.
#include <fmt/format.h>

#include <algorithm>

#include "graph/op_table.h"
#include "graph/quantization.h"
#include "graph/shape_inference.h"
#include "octavo/inspect.h"
#include "octavo/tensorrt.h"
#include "targets/target_tables.h"

namespace octavo {
namespace {

// Matrix products narrower than this are slower in INT8 than in FP16.
constexpr int64_t kNarrowProduct = 16;

std::string PrecisionName(DType type) {
  switch (type) {
    case DType::kFloat32:
      return "FP32";
    case DType::kFloat16:
      return "FP16";
    case DType::kBFloat16:
      return "BF16";
    default:
      break;
  }
  std::string name(NameOf(type));
  std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) { return std::toupper(c); });
  return name;
}

class LayerExpecter {
 public:
  explicit LayerExpecter(const Graph& graph) : graph_(graph), uses_(graph.Uses()), int8_(graph.nodes.size()) {}

  std::vector<TensorRtLayer> Run() {
    std::vector<TensorRtLayer> layers;
    for (size_t n = 0; n < graph_.nodes.size(); ++n) {
      const Node& node = graph_.nodes[n];
      if (node.removed) continue;
      TensorRtLayer layer = Expect(static_cast<NodeId>(n), node);
      layer.node = node.name;
      layer.op = node.op;
      layers.push_back(std::move(layer));
    }
    return layers;
  }

 private:
  const Node* Producer(ValueId id) const {
    const NodeId producer = id == kNoValue ? kNoNode : graph_.value(id).producer;
    return producer == kNoNode ? nullptr : &graph_.node(producer);
  }
  bool IsDequantized(ValueId id) const {
    const Node* node = Producer(id);
    return node != nullptr && IsDequantize(*node);
  }
  // Dequantized, also through ops that DequantizeLinear moves through.
  bool IsDequantizedBefore(ValueId id, int steps = 8) const {
    const Node* node = Producer(id);
    if (node == nullptr || steps == 0) return false;
    return IsDequantize(*node) ||
           (kTensorRtTarget.Commutes(node->op) && IsDequantizedBefore(node->input(0), steps - 1));
  }
  // Every reader quantizes it, also behind ops that QuantizeLinear moves through.
  bool IsQuantizedBehind(ValueId id, int steps = 8) const {
    const auto& readers = uses_[static_cast<size_t>(id)];
    if (readers.empty() || graph_.IsOutput(id) || steps == 0) return false;
    return std::all_of(readers.begin(), readers.end(), [&](NodeId reader) {
      const Node& node = graph_.node(reader);
      if (IsQuantize(node)) return true;
      return kTensorRtTarget.Commutes(node.op) && node.output(0) != kNoValue &&
             IsQuantizedBehind(node.output(0), steps - 1);
    });
  }
  DType ResultType(const Node& node) const {
    return node.output(0) == kNoValue ? DType::kUndefined : graph_.value(node.output(0)).dtype;
  }
  TensorRtLayer AsTyped(const Node& node, std::string rule) const {
    return {{}, {}, PrecisionName(ResultType(node)), std::move(rule)};
  }
  static TensorRtLayer Int8(std::string rule) { return {{}, {}, "INT8", std::move(rule)}; }
  static TensorRtLayer None(std::string rule) { return {{}, {}, "-", std::move(rule)}; }

  TensorRtLayer Expect(NodeId id, const Node& node) {
    const OpTraits* traits = FindOp(node.domain, node.op);
    if (IsQuantize(node)) return ExpectQuantize(node);
    if (IsDequantize(node)) return ExpectDequantize(node);
    if (traits != nullptr && traits->quantizable_inputs != 0) return ExpectContraction(id, node, *traits);
    const DType type = ResultType(node);
    if (type != DType::kFloat32 && type != DType::kFloat16 && type != DType::kBFloat16) {
      return AsTyped(node, "no floats: shapes, indices or conditions");
    }
    if (node.Is("Cast")) return AsTyped(node, "a Cast says the type of what follows");
    if (kTensorRtTarget.Commutes(node.op)) return ExpectMover(node);
    if (node.Is("Concat")) return ExpectConcat(node);
    if (node.Is("Add")) return ExpectAdd(id, node);
    if ((node.Is("Relu") || node.Is("Clip")) && IsBehindInt8(node.input(0))) {
      int8_[static_cast<size_t>(id)] = true;
      return Int8("joins the INT8 contraction before it");
    }
    if (node.Is("Softmax") && IsDequantizedBefore(node.input(0))) {
      return AsTyped(node, "Softmax computes in floats between INT8 products");
    }
    return AsTyped(node, type == DType::kFloat32 ? "strongly typed: its inputs are float32"
                                                 : "strongly typed: its inputs are 16 bits wide");
  }

  TensorRtLayer ExpectQuantize(const Node& node) const {
    const Node* producer = Producer(node.input(0));
    const bool alone = uses_[static_cast<size_t>(node.input(0))].size() == 1 && !graph_.IsOutput(node.input(0));
    if (producer == nullptr) return {{}, {}, "INT8", "a kernel of its own: it reads an input of the model"};
    if (alone) return None("part of what makes its input");
    return {{}, {}, "INT8", "a kernel of its own: others read its input as floats"};
  }

  TensorRtLayer ExpectDequantize(const Node& node) const {
    if (graph_.value(node.input(0)).is_constant())
      return None("weights, or a bias: quantized when the engine is built");
    for (const NodeId reader : uses_[static_cast<size_t>(node.output(0))]) {
      const OpTraits* traits = FindOp(graph_.node(reader).domain, graph_.node(reader).op);
      const bool takes = (traits != nullptr && traits->quantizable_inputs != 0) || graph_.node(reader).Is("Add") ||
                         graph_.node(reader).Is("Concat") || kTensorRtTarget.Commutes(graph_.node(reader).op);
      if (!takes)
        return AsTyped(node, "a kernel of its own: " + graph_.Describe(graph_.node(reader)) + " wants floats");
    }
    return None("part of what reads it");
  }

  TensorRtLayer ExpectContraction(NodeId id, const Node& node, const OpTraits& traits) {
    size_t operands = 0, quantized = 0, first_float = 0;
    for (size_t i = 0; i < node.inputs.size() && i < 32; ++i) {
      if ((traits.quantizable_inputs >> i & 1) == 0) continue;
      ++operands;
      if (IsDequantizedBefore(node.inputs[i])) {
        ++quantized;
      } else {
        first_float = i;
      }
    }
    if (quantized == 0) return AsTyped(node, "none of its multiplicands is quantized");
    if (quantized < operands) {
      return AsTyped(node,
                     fmt::format("multiplicand {} is not quantized: the others are dequantized first", first_float));
    }
    if (kTensorRtTarget.KeepsFloat(node.op)) return AsTyped(node, "TensorRT has no INT8 " + node.op);
    int8_[static_cast<size_t>(id)] = true;
    std::string rule = "every multiplicand is dequantized right before it";
    if (IsNarrow(node)) rule += fmt::format("; fewer than {} rows or columns, slower than in FP16", kNarrowProduct);
    return Int8(std::move(rule));
  }

  bool IsNarrow(const Node& node) const {
    if (node.op != "MatMul" && node.op != "Gemm") return false;
    const Dims& weight = graph_.value(node.input(1)).dims;
    return weight.size() >= 2 && std::min(weight.back(), weight[weight.size() - 2]) < kNarrowProduct;
  }

  TensorRtLayer ExpectMover(const Node& node) const {
    if (IsDequantizedBefore(node.input(0))) return Int8("DequantizeLinear moves behind it: it moves bytes");
    if (IsQuantizedBehind(node.output(0))) return Int8("QuantizeLinear moves before it: it moves bytes");
    return AsTyped(node, "moves elements of its input's type");
  }

  TensorRtLayer ExpectConcat(const Node& node) const {
    const bool all = std::all_of(node.inputs.begin(), node.inputs.end(), [&](ValueId id) { return IsDequantized(id); });
    if (!all) return AsTyped(node, "not all of its inputs are quantized");
    float scale = 0;
    for (const ValueId id : node.inputs) {
      const auto params = QuantizeParamsOf(graph_, *Producer(id));
      if (!params.ok() || !params->per_tensor() || (scale != 0 && params->scales[0] != scale)) {
        return AsTyped(node, "its inputs have different scales");
      }
      scale = params->scales[0];
    }
    return Int8("all of its inputs share a scale");
  }

  bool IsBehindInt8(ValueId id) const {
    const NodeId producer = id == kNoValue ? kNoNode : graph_.value(id).producer;
    return producer != kNoNode && int8_[static_cast<size_t>(producer)] && uses_[static_cast<size_t>(id)].size() == 1 &&
           !graph_.IsOutput(id);
  }

  TensorRtLayer ExpectAdd(NodeId id, const Node& node) {
    const ValueId a = node.input(0), b = node.input(1);
    const bool after_a = IsBehindInt8(a), after_b = IsBehindInt8(b);
    if (!after_a && !after_b) {
      if (IsDequantized(a) && IsDequantized(b)) return Int8("both operands are dequantized right before it");
      return AsTyped(node, "strongly typed: its inputs are " + std::string(NameOf(ResultType(node))));
    }
    const ValueId other = after_a ? b : a;
    if (graph_.value(other).is_constant()) {
      int8_[static_cast<size_t>(id)] = true;
      return Int8("a bias: joins the INT8 contraction before it");
    }
    if (!IsDequantizedBefore(other)) {
      return AsTyped(node, "a kernel of its own: the operand that the contraction does not make is not quantized");
    }
    int8_[static_cast<size_t>(id)] = true;
    return Int8("joins the INT8 contraction before it: its other operand is quantized");
  }

  const Graph& graph_;
  const std::vector<std::vector<NodeId>> uses_;
  std::vector<bool> int8_;  // by node: a contraction in INT8, or what it took in
};

}  // namespace

Result<std::vector<TensorRtLayer>> ExpectTensorRt(Graph graph, const std::map<std::string, Dims>& input_dims) {
  OCTAVO_ASSIGN(const auto dims, ChooseInputDims(graph, input_dims, nullptr));
  OCTAVO_RETURN_IF_ERROR(BindShapes(graph, dims));
  return LayerExpecter(graph).Run();
}

}  // namespace octavo
