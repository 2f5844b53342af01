#include "kernels/kernel.h"

#include <omp.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "graph/op_table.h"
#include "graph/shape_inference.h"
#include "kernels/generic/rows.h"

namespace octavo {
namespace {

constexpr size_t kScratchAlignment = 64;

Operand ContiguousOperand(const Tensor& tensor) {
  Operand operand;
  if (!tensor.defined()) return operand;
  operand.present = true;
  operand.dtype = tensor.dtype();
  operand.dims = tensor.dims();
  operand.strides = ContiguousStrides(tensor.dims());
  return operand;
}

Result<std::shared_ptr<void>> AllocateScratch(size_t bytes) {
  if (bytes == 0) return std::shared_ptr<void>();
  const size_t rounded = (bytes + kScratchAlignment - 1) / kScratchAlignment * kScratchAlignment;
  std::shared_ptr<void> scratch(std::aligned_alloc(kScratchAlignment, rounded), std::free);
  if (!scratch) return IoError("no memory for " + std::to_string(bytes) + " bytes of scratch");
  return scratch;
}

// Binds the node's generic kernel to contiguous tensors and runs it once; fills `outputs`.
Status RunNode(const Node& node, int64_t opset, int threads, std::span<const Tensor> inputs,
               std::span<Tensor> outputs) {
  const BindFn bind = FindGenericKernel(node.domain, node.op);
  if (bind == nullptr) return Unsupported("no kernel for this op");
  std::vector<Operand> input_operands, output_operands;
  std::vector<const void*> input_data;
  std::vector<void*> output_data;
  for (const Tensor& tensor : inputs) {
    input_operands.push_back(ContiguousOperand(tensor));
    if (tensor.defined()) input_operands.back().constant = &tensor;
    input_data.push_back(tensor.data());
  }
  for (Tensor& tensor : outputs) {
    output_operands.push_back(ContiguousOperand(tensor));
    output_data.push_back(tensor.mutable_data());
  }
  OCTAVO_ASSIGN(const BoundKernel kernel, bind({node, opset, input_operands, output_operands, threads}));
  OCTAVO_ASSIGN(const std::shared_ptr<void> scratch, AllocateScratch(kernel.scratch_bytes));
  return kernel.run({input_data.data(), output_data.data(), scratch.get()});
}

// One output tensor per output of the node; undefined where the output is not wanted.
Result<std::vector<Tensor>> EvaluateWithThreads(const Node& node, int64_t opset, int threads,
                                                std::span<const Tensor> inputs) {
  std::vector<InferInput> infer_inputs(inputs.size());
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (!inputs[i].defined()) continue;
    infer_inputs[i] = {true, inputs[i].dtype(), inputs[i].dims(), &inputs[i]};
  }
  OCTAVO_ASSIGN(const std::vector<InferOutput> inferred, InferNode(node, opset, infer_inputs));
  std::vector<Tensor> outputs(std::max(node.outputs.size(), size_t{1}));
  if (inferred.size() < outputs.size()) return InternalError("shape inference gave too few outputs");
  for (size_t i = 0; i < outputs.size(); ++i) {
    if (i < node.outputs.size() && node.outputs[i] == kNoValue) continue;
    OCTAVO_ASSIGN(outputs[i], Tensor::Create(inferred[i].dtype, inferred[i].dims));
  }
  OCTAVO_RETURN_IF_ERROR(RunNode(node, opset, threads, inputs, outputs));
  return outputs;
}

bool HasStaticShapes(const Graph& graph) {
  for (const Node& node : graph.nodes) {
    if (node.removed) continue;
    for (ValueId id : node.outputs) {
      if (id != kNoValue && !graph.value(id).has_static_shape()) return false;
    }
  }
  return true;
}

Status CheckInputs(const Graph& graph, std::span<const Tensor> inputs) {
  if (inputs.size() != graph.inputs.size()) {
    return InvalidArgument("the graph has " + std::to_string(graph.inputs.size()) + " inputs, " +
                           std::to_string(inputs.size()) + " were given");
  }
  for (size_t i = 0; i < inputs.size(); ++i) {
    const Value& value = graph.value(graph.inputs[i]);
    if (!inputs[i].defined() || inputs[i].dtype() != value.dtype) {
      return InvalidArgument("input '" + value.name + "' is not of type " + std::string(NameOf(value.dtype)));
    }
  }
  return {};
}

// The graph with concrete shapes: `graph` itself, or `bound`, which is filled when there are dynamic ones.
Result<const Graph*> WithStaticShapes(const Graph& graph, std::span<const Tensor> inputs, Graph& bound) {
  bool is_static = HasStaticShapes(graph);
  std::map<std::string, Dims> dims;
  for (size_t i = 0; i < inputs.size(); ++i) {
    const Value& value = graph.value(graph.inputs[i]);
    is_static = is_static && value.has_static_shape() && value.dims == inputs[i].dims();
    dims[value.name] = inputs[i].dims();
  }
  if (is_static) return &graph;
  bound = graph;
  OCTAVO_RETURN_IF_ERROR(BindShapes(bound, dims));
  return &bound;
}

// How many readers each value has; a graph output counts as one that never finishes.
std::vector<int> CountReaders(const Graph& graph) {
  std::vector<int> readers(graph.values.size(), 0);
  for (const Node& node : graph.nodes) {
    if (node.removed) continue;
    for (ValueId id : node.inputs) {
      if (id != kNoValue) ++readers[static_cast<size_t>(id)];
    }
  }
  for (ValueId id : graph.outputs) ++readers[static_cast<size_t>(id)];
  return readers;
}

Status EvaluateInto(const Graph& graph, const Node& node, std::vector<Tensor>& tensors, std::vector<int>& readers) {
  std::vector<Tensor> inputs;
  for (ValueId id : node.inputs) inputs.push_back(id == kNoValue ? Tensor() : tensors[static_cast<size_t>(id)]);
  const auto opset = graph.opsets.find(node.domain);
  const int64_t version = opset == graph.opsets.end() ? graph.opset() : opset->second;
  auto outputs = EvaluateWithThreads(node, version, omp_get_max_threads(), inputs);
  if (!outputs.ok()) return outputs.status().WithPrefix(graph.Describe(node) + ": ");
  for (size_t i = 0; i < node.outputs.size(); ++i) {
    const ValueId id = node.outputs[i];
    if (id != kNoValue && readers[static_cast<size_t>(id)] > 0) {
      tensors[static_cast<size_t>(id)] = std::move((*outputs)[i]);
    }
  }
  for (ValueId id : node.inputs) {
    if (id != kNoValue && --readers[static_cast<size_t>(id)] == 0) tensors[static_cast<size_t>(id)] = Tensor();
  }
  return {};
}

using KernelKey = std::pair<std::string_view, std::string_view>;  // domain, op

std::map<KernelKey, BindFn> JoinTables() {
  std::map<KernelKey, BindFn> kernels;
  for (const auto rows : {MovementKernels(), ResizeKernels(), SelectionKernels(), ScatterKernels(), ArithmeticKernels(),
                          ActivationKernels(), ReductionKernels(), LayerNormalizationKernels(), NormalizationKernels(),
                          LossKernels(), ContractionKernels(), QuantizeKernels(), IntegerKernels(), SignalKernels(),
                          GridKernels(), SamplingKernels(), FusedKernels()}) {
    for (const GenericKernelRow& row : rows) kernels.emplace(KernelKey(row.domain, row.op), row.bind);
  }
  return kernels;
}

}  // namespace

BindFn FindGenericKernel(std::string_view domain, std::string_view op) {
  static const std::map<KernelKey, BindFn> kKernels = JoinTables();
  const auto found = kKernels.find({domain, op});
  return found == kKernels.end() ? nullptr : found->second;
}

Result<std::vector<Tensor>> EvaluateNode(const Node& node, int64_t opset, std::span<const Tensor> inputs) {
  return EvaluateWithThreads(node, opset, /*threads=*/1, inputs);
}

Result<std::vector<Tensor>> EvaluateGraph(const Graph& graph, std::span<const Tensor> inputs) {
  OCTAVO_RETURN_IF_ERROR(CheckInputs(graph, inputs));
  Graph bound;
  OCTAVO_ASSIGN(const Graph* const ready, WithStaticShapes(graph, inputs, bound));
  std::vector<Tensor> tensors(ready->values.size());
  for (size_t i = 0; i < ready->values.size(); ++i) tensors[i] = ready->values[i].constant;
  for (size_t i = 0; i < inputs.size(); ++i) tensors[static_cast<size_t>(ready->inputs[i])] = inputs[i];
  std::vector<int> readers = CountReaders(*ready);
  for (const Node& node : ready->nodes) {
    if (node.removed) continue;
    OCTAVO_RETURN_IF_ERROR(EvaluateInto(*ready, node, tensors, readers));
  }
  std::vector<Tensor> outputs;
  for (ValueId id : ready->outputs) outputs.push_back(tensors[static_cast<size_t>(id)]);
  return outputs;
}

}  // namespace octavo
