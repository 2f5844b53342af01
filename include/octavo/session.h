// The engine: compiles a graph for given input shapes and runs it.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "octavo/graph.h"
#include "octavo/passes.h"
#include "octavo/tensor.h"

namespace octavo {

class Tuning;

enum class Precision : uint8_t {
  kFloat32,
  kBFloat16,  // contractions on bfloat16 operands with float32 accumulation; normalization, softmax, divisions in
              // float32
  // What an FP16 deployment computes: every weight and every float value is rounded to IEEE half, infinities included;
  // each op computes on them in float32. It measures FP16 and is slower than float32. docs/numerics.md has the rules.
  kFloat16,
};

// A value where it lies while a plan runs; valid during the call that hands it over.
struct TensorView {
  DType dtype = DType::kUndefined;
  Dims dims;
  Dims strides;  // in elements
  const void* data = nullptr;
};

struct SessionOptions {
  int threads = 0;  // 0: every core this process may run on
  Precision precision = Precision::kFloat32;
  std::vector<std::string> disabled_passes;
  // At Precision::kFloat16: nodes, by name, that compute in float32 and hand float32 to each other.
  std::vector<std::string> float32_nodes;
  // Further values, by name, that Run returns after the graph's outputs. A value that is observed is not fused away.
  std::vector<std::string> observed;
  // Values, by name, that are handed to `watch` as soon as each is made, on the thread that runs; `index` counts in
  // `watched`. Unlike an observed value, a watched one is not copied and its memory is used again right afterwards.
  // It is not fused away either, and it is in the type that the plan keeps it in (float32 at Precision::kFloat32).
  std::vector<std::string> watched;
  std::function<void(size_t index, const TensorView& value)> watch;
  // Kernels chosen by measurement among those that give the same bits (octavo/tuning.h); null: the built-in choice.
  // Sessions may share it. Results do not depend on it.
  std::shared_ptr<Tuning> tuning;
};

// One step of a compiled plan, for `inspect` and `bench`.
struct StepInfo {
  std::string node;    // name of the (first) graph node it came from
  std::string op;      // op and what was fused into it: "Conv+Gelu+Add"
  std::string kernel;  // what computes it: "onednn brgconv:avx512_core", "layer_norm avx3", "generic"
  std::string
      precision;  // "fp32"; "bf16", "fp16": on operands rounded to it; "int8": both multiplicands are 8-bit integers
  Dims output_dims;
  int64_t macs = 0;
  int64_t bytes_read = 0, bytes_written = 0;  // operands and constant weights, each counted once
  double milliseconds = 0;                    // of the last profiled run; 0 before
};

// A QuantizeLinear or DequantizeLinear that is a step of its own, or weights that were widened while compiling.
struct UnfusedQuantization {
  std::string node, op;
  std::string reason;
};

struct PlanInfo {
  std::vector<StepInfo> steps;
  std::vector<PassReport> passes;
  int64_t arena_bytes = 0;   // activations and scratch, planned once
  int64_t weight_bytes = 0;  // packed weights held by the session
  double compile_seconds = 0;
  std::vector<UnfusedQuantization> unfused;
  // Multiply-accumulates of the given graph's Conv, ConvTranspose, Gemm, MatMul and Einsum nodes, and how many of them
  // this plan computes with both multiplicands 8-bit.
  int64_t contraction_macs = 0, int8_macs = 0;
  double int8_macs_share() const {
    return contraction_macs == 0 ? 0 : static_cast<double>(int8_macs) / static_cast<double>(contraction_macs);
  }
};

// When a step began and ended: nanoseconds since RunProfile::start.
struct StepSpan {
  int64_t begin_ns = 0, end_ns = 0;
};

// What a profiled run took, step by step.
struct RunProfile {
  std::chrono::steady_clock::time_point start;  // the inputs were checked and the plan was found
  int64_t total_ns = 0;                         // until the outputs were complete
  std::vector<StepSpan> steps;                  // as PlanInfo::steps
};

// A model ready to run. Run plans memory once per set of input shapes (and of the values of inputs that shapes depend
// on: a Reshape to a shape that is an input, a NonZero) and keeps the plan and the packed weights.
// Thread safety: one Run at a time per Session; different Sessions are independent. On one ISA and one thread,
// equal inputs give equal bits.
class Session {
 public:
  // Takes the graph over and keeps its constants, for plans of other input shapes. Errors: as the passes', kUnsupported
  // ops.
  static Result<Session> Create(Graph graph, const SessionOptions& options = {});
  Session(Session&&) noexcept;
  Session& operator=(Session&&) noexcept;
  ~Session();

  // Names, types and declared shapes (-1 where dynamic) of inputs; names of outputs, observed values at the end.
  const std::vector<Value>& inputs() const;
  const std::vector<std::string>& output_names() const;

  // Plans for these input shapes (in the order of inputs()) without running. Errors: shapes that do not fit, by node.
  // A model in which a shape depends on the values of inputs cannot be prepared so; the error says which node asks.
  Status Prepare(const std::vector<Dims>& input_dims);
  // Plans for these inputs. Where shapes depend on the values of inputs, the plan is for those values too, and Run with
  // other values makes another plan; what depends on such inputs alone is computed while planning.
  Status Prepare(std::span<const Tensor> inputs);
  // Types and shapes of the outputs for the prepared shapes, in the order of output_names().
  struct OutputInfo {
    DType dtype;
    Dims dims;
  };
  Result<std::vector<OutputInfo>> OutputInfos(const std::vector<Dims>& input_dims);

  // Runs on `inputs`, in the order of inputs(); returns new tensors in the order of output_names().
  // Errors: a wrong count, type or shape (named), or a value that breaks an op's contract.
  Result<std::vector<Tensor>> Run(std::span<const Tensor> inputs);
  // By name; every input must be given and nothing else.
  Result<std::vector<Tensor>> Run(const std::map<std::string, Tensor>& inputs);
  // Runs into `outputs`, which must have the types and shapes of OutputInfos. Allocates nothing once prepared.
  // `profile`, where it is not null, is filled: two readings of the clock per step (about 50 ns together), and no
  // allocation once its vector has the plan's length. Null costs nothing. It belongs to the calling thread until the
  // call returns.
  Status RunInto(std::span<const Tensor> inputs, std::span<Tensor> outputs, RunProfile* profile = nullptr);

  // Another session of the same model and options, for a thread of its own: it shares the model's constants and the
  // weights that oneDNN has packed, and plans by itself; activations, scratch and the few weights that own kernels pack
  // are not shared. Either may be used, and destroyed, whatever the other does.
  Session Duplicate() const;

  // Runs once and fills StepInfo::milliseconds.
  Status Profile(std::span<const Tensor> inputs);
  // The plan of the last Prepare/Run.
  const PlanInfo& plan() const;

 private:
  struct Impl;
  explicit Session(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// "avx512_core_amx", "avx512_core_vnni", "avx2", ...: the instruction set that kernels use in this process.
std::string IsaInUse();

// Names that LimitIsa knows, from the widest on.
std::vector<std::string> IsaLimits();

// Holds every kernel of this process, oneDNN's and Octavo's, to an instruction set ("avx2") that this CPU has. Before
// the first session. Errors: an unknown name, one that this CPU lacks, oneDNN already in use with another.
Status LimitIsa(const std::string& isa);

}  // namespace octavo
