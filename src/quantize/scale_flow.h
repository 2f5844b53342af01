// Which channels of which tensors may be rescaled together without changing what a graph computes.
//
// Every element of every activation gets a scale 2^s, s being a sum of unknowns. A contraction undoes the scales of
// its operand in its weights' input channels and gives its output channels scales of their own; an Add wants equal
// scales on both sides, a Relu hands them on, a product of activations adds them up, and what is not homogeneous
// (GELU, Softmax, an epsilon) wants 1. What is left free after all equations are met is exact to choose.
#pragma once

#include <vector>

#include "octavo/graph.h"
#include "octavo/quantize.h"
#include "octavo/status.h"
#include "quantize/scale_algebra.h"

namespace octavo {

// Sums of a ScaleAlgebra over a tensor; a dimension along which they do not vary is 1.
struct ScaleLabels {
  Dims dims;
  std::vector<int> ids;  // row-major over dims
};

// The constant `input` of `node` times 2^(sum of times * labels), broadcast from the right.
struct ConstantRescale {
  struct Term {
    ScaleLabels labels;
    int times = 1;
  };
  NodeId node = kNoNode;
  int input = 1;
  std::vector<Term> terms;
};

// Where a Mul per channel may stand: `consumers` read tensor * 2^labels.
struct MigrationPoint {
  ValueId tensor = kNoValue;
  std::vector<NodeId> consumers;
  int channel_axis = 1;
  ScaleLabels labels;  // filled in
};

struct ScaleFlowOptions {
  bool contractions = true;  // output channels of contractions are free
  bool multipliers = true;   // so is what a Mul by a constant per channel makes (LayerNorm's gamma)
  bool signs = false;        // factors may be -1: what treats signs apart (Relu, MaxPool, Abs) wants 1
  std::vector<MigrationPoint> migrations;
};

struct ScaleFlow {
  ScaleAlgebra algebra;
  std::vector<ScaleLabels> labels;  // by value; empty for constants and what is no float32
  std::vector<ConstantRescale> rescales;
  std::vector<MigrationPoint> migrations;

  // What `consumer` reads of `tensor`: the migrated scale where there is one.
  ScaleLabels LabelsFor(ValueId tensor, NodeId consumer);
};

// `graph` has static shapes and is in topological order.
Result<ScaleFlow> SolveScaleFlow(const Graph& graph, const ScaleFlowOptions& options);

// The edits that give every variable v of `flow` the scale 2^octaves[v]; those that would change nothing are left out.
struct ScaleRewrites {
  std::vector<MigrationRecipe> migrations;
  std::vector<RescaleRecipe> rescales;
  bool empty() const { return migrations.empty() && rescales.empty(); }
};
ScaleRewrites MakeScaleRewrites(const Graph& graph, ScaleFlow& flow, const std::vector<double>& octaves);

// The same where variable v has the sign (-1)^odd[v], odd being 0 or 1, instead of a scale.
std::vector<RescaleRecipe> MakeSignRewrites(const Graph& graph, ScaleFlow& flow, const std::vector<double>& odd);

// log2 of a scale, given those of the variables.
double OctavesOf(const ScaleSum& sum, const std::vector<double>& octaves);

// The ids per channel of labels that vary along `axis` alone.
std::vector<int> ChannelIds(const ScaleLabels& labels, int axis, int64_t channels);

}  // namespace octavo
