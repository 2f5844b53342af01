// Which edges are quantized and why, before any number is known.
#pragma once

#include <string>
#include <vector>

#include "octavo/graph.h"
#include "octavo/quantize.h"
#include "octavo/targets.h"
#include "passes/linear_attention.h"

namespace octavo {

struct Placement {
  struct Edge {
    ValueId tensor = kNoValue;
    std::vector<NodeId> consumers;  // in execution order
    ValueId scale_of = kNoValue;    // the tensor whose scale is used: `tensor` itself unless scales are shared
    std::string reason;
    // A result that is quantized for all of its readers, so that this node runs on integers; `consumers` is empty then.
    NodeId result_of = kNoNode;
  };
  struct Weight {
    NodeId node = kNoNode;
    int input = 1;
    int axis = -1;  // from 0; -1: one scale
    std::string reason;
  };
  std::vector<Edge> edges;
  std::vector<Weight> weights;
  std::vector<FloatRecipe> float_nodes;
  std::vector<std::string> notes;
};

// What placing works on: a prepared graph, its quantizable tensors, the nodes that stay float.
struct PlacementInput {
  const Graph& graph;
  const Target& target;
  std::vector<bool> quantizable;          // by value
  std::vector<std::string> keep_reasons;  // by node; "": not kept
  bool quantize_attention = false;
  std::vector<LinearAttentionMatch> linear_attention;
  std::vector<std::string> notes;  // what the user should know
  std::vector<DType> precisions;   // by node, of those that stay float
  std::vector<bool> wants_int8;    // by node: quantized where both operands are activations, too
};

// Errors: those of QuantizableTensors and of keep_float (see Policy).
Result<PlacementInput> MakePlacementInput(const Graph& prepared, const Target& target, const Policy& policy);

// The operands of contractions, then what the target's table adds.
Placement PlaceByTarget(const PlacementInput& input);
// Everything TensorRT 8 keeps scales for when it runs implicitly quantized networks in INT8; docs/targets.md.
Placement PlaceTensorRt8Implicit(const PlacementInput& input);
// By the policy's preset, else by its target.
Result<Placement> Place(const Graph& prepared, const Policy& policy);

// Brings edges and their consumers into execution order.
void SortEdges(const Graph& graph, Placement& placement);
// True for a node whose multiplicands can be 8 bits wide and which the target runs so.
bool IsQuantizableContraction(const Graph& graph, const Node& node, const Target& target);
// The axis of a constant operand along which output channels run; -1 where there is none.
int WeightAxis(const Graph& graph, const Node& node, int input);
// The weights of `node`, and whether it has any.
bool AddWeights(const Graph& graph, NodeId node, Placement& placement);

}  // namespace octavo
