// A compiled plan: steps over buffers whose places are fixed.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "kernels/kernel.h"
#include "octavo/session.h"

namespace octavo {

class PackedWeights;

// Where a step's operand lies: `offset` bytes into a buffer; buffer -1 for an absent operand.
struct Slot {
  int buffer = -1;
  int64_t offset = 0;
  int64_t bytes = 0;  // of its elements, for the profile
};

struct Buffer {
  enum class Kind : uint8_t { kArena, kConstant, kInput, kOutput } kind = Kind::kArena;
  int64_t bytes = 0;
  int external = -1;           // kInput, kOutput: index among the graph's inputs or outputs
  const void* data = nullptr;  // kConstant
  int first_step = -1, last_step = -1;
  int64_t place = 0;  // kArena: byte offset in the arena
};

struct Step {
  StepInfo info;
  BoundKernel kernel;
  std::vector<Slot> inputs, outputs;
};

struct Plan {
  Graph graph;  // after binding and passes; owns the constants that steps point into
  std::vector<Buffer> buffers;
  std::vector<Step> steps;
  std::vector<Tensor> owned_constants;  // constants that were laid out anew
  std::vector<Session::OutputInfo> outputs;
  PlanInfo info;
  int64_t arena_bytes = 0;
  int64_t scratch_offset = 0;

  // Resolved when the arena exists; entries of inputs and outputs are set again on every run.
  std::vector<std::vector<const void*>> input_pointers;
  std::vector<std::vector<void*>> output_pointers;
  struct External {
    int step, operand;
    bool output_operand;  // the step writes it
    Slot slot;
  };
  std::vector<External> externals;
};

struct CompileOptions {
  int threads = 1;
  Precision precision = Precision::kFloat32;
  // The last `watched` outputs of the graph are not outputs: `watch` sees them as they are made. It outlives the plan.
  size_t watched = 0;
  const std::function<void(size_t index, const TensorView& value)>* watch = nullptr;
  Tuning* tuning = nullptr;
};

// Lowers a graph with static shapes to steps. Errors name the node.
Result<std::unique_ptr<Plan>> CompilePlan(Graph graph, const CompileOptions& options, PackedWeights& weights);

// Gives every arena buffer a place so that buffers alive at the same step never overlap: largest first, each at the
// lowest offset that is free over its life. Returns the bytes of the arena.
int64_t PlaceBuffers(std::vector<Buffer>& buffers);

}  // namespace octavo
