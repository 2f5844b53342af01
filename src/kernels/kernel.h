// The contract between a node and the code that computes it.
//
// A kernel is bound once to a node, its operands' shapes and strides; running it afterwards allocates nothing.
// Operands are strided: the engine lays convolution outputs out channels-last and makes Transpose, Slice and most
// Reshapes plain changes of strides. Generic kernels accept any strides.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "octavo/graph.h"

namespace octavo {

struct Operand {
  bool present = false;  // false: an optional input or output that is absent
  DType dtype = DType::kUndefined;
  Dims dims;
  Dims strides;                      // in elements, same rank as dims; 0 where a dimension is broadcast
  const Tensor* constant = nullptr;  // the value, when known at bind time (contiguous); outlives the kernel
};

// A Mul by constants per channel and a QuantizeLinear per tensor that a kernel does behind its node: outputs[0] is then
// of 8 bits, round(y * factor / scale) + zero_point, and takes the place of the node's result.
struct QuantizedTail {
  std::vector<float> factor;  // along the node's channels; empty: none
  float scale = 1;
  int32_t zero_point = 0;
};

struct BindContext {
  const Node& node;
  int64_t opset;
  std::span<const Operand> inputs;
  std::span<const Operand> outputs;
  int threads;
  const QuantizedTail* tail = nullptr;  // only for kernels that are asked for one (fast_table.h); outlived by them
};

// Pointers to the first element of each operand (null where absent); inputs and outputs never overlap.
struct KernelArgs {
  const void* const* inputs;
  void* const* outputs;
  void* scratch;  // BoundKernel::scratch_bytes, aligned to 64
};

struct BoundKernel {
  // Errors only for values that break the op's contract (a Gather index out of range). Allocates nothing.
  std::function<Status(const KernelArgs&)> run;
  size_t scratch_bytes = 0;
};

// A plan, once it is made, as a kernel: it says scratch_bytes() and does Run(args), which gives a Status or nothing.
template <typename Plan>
BoundKernel KernelOf(Plan plan) {
  BoundKernel kernel;
  kernel.scratch_bytes = plan.scratch_bytes();
  kernel.run = [plan = std::move(plan)](const KernelArgs& args) {
    if constexpr (std::is_void_v<decltype(plan.Run(args))>) {
      plan.Run(args);
      return Status();
    } else {
      return plan.Run(args);
    }
  };
  return kernel;
}
// One that cannot be copied, as std::function would.
template <typename Plan>
BoundKernel KernelOf(std::shared_ptr<Plan> plan) {
  BoundKernel kernel;
  kernel.scratch_bytes = plan->scratch_bytes();
  kernel.run = [plan = std::move(plan)](const KernelArgs& args) { return plan->Run(args); };
  return kernel;
}

// Errors: an attribute or operand that the kernel does not handle; the caller adds the node's name.
using BindFn = Result<BoundKernel> (*)(const BindContext& context);

// The generic kernel of an op: complete semantics, any strides, plain C++. Null when there is none.
BindFn FindGenericKernel(std::string_view domain, std::string_view op);

// Runs one node on contiguous tensors through its generic kernel: constant folding, tests.
// inputs[i] is undefined() where the node's optional input is absent.
Result<std::vector<Tensor>> EvaluateNode(const Node& node, int64_t opset, std::span<const Tensor> inputs);

// Runs a graph node by node with generic kernels: the slow reference that passes and the engine are tested against.
// `inputs` in the order of graph.inputs; returns the outputs in the order of graph.outputs.
Result<std::vector<Tensor>> EvaluateGraph(const Graph& graph, std::span<const Tensor> inputs);

}  // namespace octavo
