// Post-training quantization: what to quantize and how (a Recipe), and the Q/DQ graph that says so.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "octavo/graph.h"
#include "octavo/stats.h"
#include "octavo/status.h"

namespace octavo {

// The graph that quantization works on, made from a model as loaded: shapes bound (ChooseInputDims), constants folded,
// BatchNorm and other per-channel affine maps folded into weights, but only standard ONNX ops, so that it can be
// saved. Value and node names of calibration statistics and recipes are this graph's.
// Errors: those of BindShapes and the passes.
Result<Graph> PrepareForQuantization(Graph model, const std::map<std::string, Dims>& input_dims = {});

// The float activations of a prepared graph that may be quantized: graph inputs and what nodes make, without the
// insides of patterns that stay whole (GELU, SiLU, LayerNorm, GroupNorm chains). In execution order.
Result<std::vector<std::string>> QuantizableTensors(const Graph& prepared);

// A hash (hex) of a prepared graph's structure, shapes and constants; statistics belong to one model.
std::string ModelFingerprint(const Graph& prepared);

}  // namespace octavo
