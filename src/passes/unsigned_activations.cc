// QuantizeLinear to int8 read by DequantizeLinear only  ->  the same in uint8, zero points 128 higher: the same real
// values, in the form that integer kernels multiply on every instruction set.
#include "graph/quantization.h"
#include "passes/rewriter.h"
#include "passes/rewrites.h"

namespace octavo {
namespace {

Tensor ShiftedZeroPoint(const QuantizeParams& params, const Dims& dims) {
  std::vector<uint8_t> shifted;
  for (const int32_t zero : params.zero_points) shifted.push_back(static_cast<uint8_t>(zero + 128));
  return Tensor::FromVector<uint8_t>(dims, shifted);
}

void Shift(Rewriter& rewriter, NodeId id, const QuantizeParams& params) {
  Graph& graph = rewriter.graph();
  const Dims dims = rewriter.value(graph.node(id).input(1)).dims;
  const ValueId zero = rewriter.AddConstant(graph.node(id).name + "_zero_point", ShiftedZeroPoint(params, dims));
  std::vector<ValueId> inputs = graph.node(id).inputs;
  inputs.resize(3);
  inputs[2] = zero;
  std::map<std::string, Attribute> attributes = graph.node(id).attributes;
  attributes.erase("output_dtype");
  const std::string op = graph.node(id).op;
  rewriter.Become(id, "", op, std::move(inputs), std::move(attributes));
}

bool MakeUnsigned(Rewriter& rewriter, NodeId id) {
  Graph& graph = rewriter.graph();
  const Node& node = graph.node(id);
  if (node.removed || !IsQuantize(node) || rewriter.IsOutput(node.output(0))) return false;
  const ValueId integers = node.output(0);
  if (rewriter.value(integers).dtype != DType::kInt8) return false;
  const Result<QuantizeParams> params = QuantizeParamsOf(graph, node);
  if (!params.ok()) return false;
  std::vector<std::pair<NodeId, QuantizeParams>> readers;
  for (const NodeId reader : rewriter.Readers(integers)) {
    if (!IsDequantize(graph.node(reader))) return false;
    Result<QuantizeParams> read = QuantizeParamsOf(graph, graph.node(reader));
    if (!read.ok()) return false;
    readers.emplace_back(reader, *std::move(read));
  }
  Shift(rewriter, id, *params);
  for (const auto& [reader, read] : readers) Shift(rewriter, reader, read);
  graph.value(integers).dtype = DType::kUInt8;
  return true;
}

}  // namespace

int MakeActivationsUnsigned(Graph& graph) {
  Rewriter rewriter(graph);
  int rewrites = 0;
  for (NodeId id = 0; id < rewriter.node_count(); ++id) {
    if (MakeUnsigned(rewriter, id)) ++rewrites;
  }
  return rewrites;
}

}  // namespace octavo
