// The bridge between TensorRT's implicit INT8 (a calibration cache and trtexec's flags, up to TensorRT 10) and a graph
// that says everything itself (Q/DQ and Casts). docs/targets/tensorrt.md has the rules and where they come from.
#pragma once

#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "octavo/calibration_cache.h"
#include "octavo/graph.h"
#include "octavo/quantize.h"
#include "octavo/status.h"

namespace octavo {

// What a command line of trtexec says about precision.
struct TrtexecLine {
  bool int8 = false, fp16 = false, bf16 = false;  // --best is all that there are
  std::string onnx, calib;                        // paths; empty: not given
  std::string precision_constraints = "none";     // "none", "prefer" or "obey"
  std::string layer_precisions, layer_output_types;
  std::vector<std::string> ignored;  // flags that say nothing about precision, as they stand

  // trtexec heeds the two lists only then.
  bool heeds_layers() const { return precision_constraints != "none"; }
};

// "8.6.1" of a cache that begins with TRT-8601-...; 8.6.1 where its number means nothing.
std::string VersionOf(const CalibrationCache& cache);

// A shell's command line, with or without "trtexec" before its flags: quotes, backslashes, line breaks behind them and
// comments as in sh; nothing is expanded, but paths of a script that FormatTrtexecScript made count from here. Every
// byte is hostile. Errors (kInvalidArgument): an open quote, a flag of the struct above without its value or with one
// that trtexec refuses, flags twice.
Result<TrtexecLine> ParseTrtexec(std::string_view line);
// The flags that ParseTrtexec reads back, one argument each, without shell quotes.
std::vector<std::string> TrtexecArguments(const TrtexecLine& line);
// One word of sh that stands for exactly these bytes.
std::string ShellWord(std::string_view argument);
// A script for sh that calls trtexec with the line and with its own arguments. Paths of `line` that are not absolute
// count from the script's folder. `comments`: lines on top.
std::string FormatTrtexecScript(const TrtexecLine& line, const std::vector<std::string>& comments);

// What is asked of layers by name, in trtexec's syntax (--layerPrecisions, --layerOutputTypes).
struct LayerConstraints {
  std::string precisions, output_types;
  std::string version = "8.6.1";  // of TensorRT: what '*' stands for differs
  bool half_rest = false;         // contractions that stay float without being asked to multiply in float16 (--fp16)
};

// What became of them.
struct LayerPlan {
  std::vector<std::string> notes;     // what the user should know: names that match nothing, types that do not apply
  std::set<std::string> may_be_half;  // contractions that half_rest concerns
};

// Adds what the constraints say to policy.layers, by names of the prepared graph. LayerNorm, GroupNorm and linear
// attention stay float32: float16 overflows in their sums. `model` is the graph before preparing: of names that only it
// has it is said that their nodes were folded away. Errors: those of the lists' syntax, an unknown version.
Result<LayerPlan> PlanLayers(const Graph& model, const Graph& prepared, const LayerConstraints& constraints,
                             Policy& policy);
// Makes what stays float without being asked to float16, where the plan has it.
void NarrowTheRest(const LayerPlan& plan, Recipe& recipe);

// A Q/DQ graph as implicit INT8.
struct ImplicitModel {
  Graph model;                                                // float32, nodes and tensors under their names
  CalibrationCache cache;                                     // the scale of every tensor that was quantized
  TrtexecLine line;                                           // without paths
  std::vector<std::string> lost;                              // what the three cannot say
  size_t int8_layers = 0, half_layers = 0, float_layers = 0;  // contractions
};

// Errors: kInvalidArgument for a graph without Q/DQ or an unknown version; kUnsupported for integers that are computed
// with, and for scales that are not constant.
Result<ImplicitModel> MakeImplicit(Graph quantized, const std::string& version);

// What TensorRT is expected to compute a node in, from the rules alone.
struct TensorRtLayer {
  std::string node, op;
  std::string precision;  // "INT8", "FP16", "FP32", "BF16", "INT64", ...; "-" for what becomes no kernel
  std::string rule;
};

// Of a graph as a strongly typed network, in execution order. `input_dims`: see ChooseInputDims. Errors: those of
// binding shapes.
Result<std::vector<TensorRtLayer>> ExpectTensorRt(Graph graph, const std::map<std::string, Dims>& input_dims = {});

}  // namespace octavo
