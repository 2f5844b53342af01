// What a model is made of: its interface, operations, cost, and the patterns that passes find in it. Plain data.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "octavo/graph.h"
#include "octavo/passes.h"

namespace octavo {

// Sizes for every input of `graph`: those of `given` (by input name) where there are any, else the declared ones with 1
// for each dynamic dimension; each such choice is told in `notes` ("input 'x': dynamic dimensions set to 1: 1x3x8x8").
// Errors (kInvalidArgument): a name that is no input (the message lists the inputs), sizes that contradict the declared
// ones, an input of unknown rank without sizes.
Result<std::map<std::string, Dims>> ChooseInputDims(const Graph& graph, const std::map<std::string, Dims>& given,
                                                    std::vector<std::string>* notes);

struct InspectOptions {
  std::map<std::string, Dims> input_dims;  // see ChooseInputDims
  std::vector<std::string> disabled_passes;
};

struct OpCount {
  std::string op;  // "Conv"; fused ones with their domain: "octavo.Silu"
  int before = 0;  // nodes in the file
  int after = 0;   // nodes after all passes
};

// One node of the model with its shapes known and shape arithmetic folded, before passes.
struct LayerCost {
  std::string node, op;
  Dims output_dims;
  int64_t macs = 0;  // multiply-accumulates
  int64_t parameters =
      0;  // elements of its floating-point (or 8-bit) constants; a shared one counts for its first user
};

struct ActivationSize {
  std::string name;
  Dims dims;
  int64_t bytes = 0;
};

struct ModelSummary {
  std::string producer;  // name and version
  int64_t ir_version = 0, opset = 0;
  std::vector<Value> inputs, outputs;                   // as declared in the file
  std::map<std::string, Dims> input_dims, output_dims;  // those that costs were counted for
  std::vector<std::string> notes;                       // what was assumed
  std::vector<OpCount> ops;                             // most frequent first
  std::vector<PassReport> passes;                       // in the order they ran
  std::vector<LayerCost> layers;                        // in execution order
  int64_t macs = 0, parameters = 0;                     // sums over layers
  ActivationSize largest_activation;                    // among values that nodes make, before passes
};

// Errors: those of ChooseInputDims, BindShapes and RunPasses.
Result<ModelSummary> Inspect(Graph graph, const InspectOptions& options = {});

// The floating-point values that nodes make and that are still there after all passes, in execution order, without
// graph outputs: what SessionOptions::observed can ask for without undoing a pass. Errors as Inspect's.
Result<std::vector<ActivationSize>> ListActivations(Graph graph, const InspectOptions& options = {});

}  // namespace octavo
