// Post-training quantization: what to quantize and how (a Recipe), and the Q/DQ graph that says so.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "octavo/calibration_cache.h"
#include "octavo/graph.h"
#include "octavo/stats.h"
#include "octavo/status.h"

namespace octavo {

// The graph that quantization works on, made from a model as loaded: shapes bound (ChooseInputDims), constants folded,
// BatchNorm and other per-channel affine maps folded into weights, but only standard ONNX ops, so that it can be
// saved. Value and node names of calibration statistics and recipes are this graph's.
// Errors: those of BindShapes and the passes; kInvalidArgument for a model that holds Q/DQ already.
Result<Graph> PrepareForQuantization(Graph model, const std::map<std::string, Dims>& input_dims = {});

// The float activations of a prepared graph that may be quantized: graph inputs and what nodes make, without the
// insides of patterns that stay whole (GELU, SiLU, LayerNorm, GroupNorm chains). In execution order.
Result<std::vector<std::string>> QuantizableTensors(const Graph& prepared);

// A hash (hex) of a prepared graph's structure, shapes and constants; statistics belong to one model.
std::string ModelFingerprint(const Graph& prepared);

// Scales are normal floats: a range that is all zero gets kZeroRangeScale, and no decided scale is below
// kSmallestScale, so that the product of two is still a normal float.
inline constexpr float kZeroRangeScale = 1.0f;
inline constexpr float kSmallestScale = 0x1p-60f;

// One tensor in 8 bits for some of its readers: q = round_half_even(x / scale) + zero_point, saturated to dtype.
struct ActivationRecipe {
  std::string tensor;
  std::vector<std::string> consumers;  // names of the nodes that read the quantized tensor; empty: every node
  DType dtype = DType::kUInt8;         // kUInt8 or kInt8
  float scale = kZeroRangeScale;
  int zero_point = 0;
  std::string reason;
  // Not empty: the tensor is what this contraction makes, itself or behind a Relu, and every reader has it quantized
  // because the target runs the contraction on integers only so (Target::quantized_results). `consumers` is empty.
  // Other entries of the tensor have the same parameters and share the pair.
  std::string result_of{};
};

// How far an integer may lie from its weight rounded to nearest.
inline constexpr int kMaxRoundingOffset = 2;

// One constant operand in int8: q = round_half_even(w / scale), saturated to [-127, 127].
struct WeightRecipe {
  std::string node;
  int input = 1;
  int axis = -1;  // scales run along this axis of the constant, from 0; -1: one scale for all
  std::vector<float> scales;
  std::string reason;
  // Added to q, which is saturated again: by element of the constant, each within kMaxRoundingOffset; empty: all 0.
  std::vector<int8_t> offsets{};
};

// A contraction that stays float: what its multiplicands, activations and constants, are rounded to. Its sums, its bias
// and its result are float32. Where the target is strongly typed (Target::half_islands), kFloat16 means that the node's
// float operands, constants and results are all float16, and it need not be a contraction.
struct FloatRecipe {
  std::string node;
  std::string reason;
  DType precision = DType::kFloat32;  // kFloat32: as they are; kBFloat16 or kFloat16
};

// "fp32", "bf16", "fp16"; "" for other types.
std::string_view FloatPrecisionName(DType precision);

// Rewrites of the float graph that remedies ask for (remedies.h), done before anything is quantized; in this order.
// A Softmax over the last axis whose one reader, a MatMul, takes its numerators exp(x - max) instead; a Div behind the
// MatMul has their sum.
struct DeferralRecipe {
  std::string node;
};
// `consumers` read `tensor` times `factors`, through a Mul that is named after the tensor.
struct MigrationRecipe {
  std::string tensor;
  std::vector<std::string> consumers;
  Dims dims;                   // of `factors`, broadcast to the tensor's
  std::vector<float> factors;  // normal and positive
};
// The float32 constant `input` of `node`, multiplied by `factors`, broadcast.
struct RescaleRecipe {
  std::string node;
  int input = 1;
  Dims dims;
  std::vector<float> factors;  // normal and positive, or -1
};
// `consumers`, contractions with constant weights, read `tensor` plus `values` and give back what that adds from their
// biases. Part of the constant that makes `tensor`, where there is one and only they read it; else an Add that is named
// after the tensor.
struct ShiftRecipe {
  std::string tensor;
  std::vector<std::string> consumers;  // empty: every node that reads it
  std::vector<float> values;           // per channel; finite
};
// Added to the bias of a Conv, ConvTranspose or Gemm, or to the constant that is added to a MatMul's result.
struct BiasRecipe {
  std::string node;
  std::vector<float> values;  // per output channel
};
// What was tried, and what it gained on the samples that decided.
struct RemedyRecipe {
  std::string name;
  bool kept = false;
  double sqnr_db = 0, gain_db = 0;  // of the worst output with it; against without it
  std::string reason;
};

// What a recipe does to the float graph before it is quantized: exact, up to rounding.
struct ExactRewrites {
  std::vector<DeferralRecipe> deferrals;
  std::vector<MigrationRecipe> migrations;
  std::vector<RescaleRecipe> rescales;
  std::vector<ShiftRecipe> shifts;

  bool rewrites_nothing() const {
    return deferrals.empty() && migrations.empty() && rescales.empty() && shifts.empty();
  }
};

// Every decision of a quantization. Plain data; see LoadRecipe for its file.
struct Recipe : ExactRewrites {
  std::string fingerprint;  // of the prepared graph; empty: fits whatever has the names
  std::string target, preset, estimator;
  std::vector<RemedyRecipe> remedies;
  std::vector<BiasRecipe> biases;
  std::vector<ActivationRecipe> activations;  // in execution order; a tensor may come several times for other consumers
  std::vector<WeightRecipe> weights;
  std::vector<FloatRecipe> float_nodes;
  std::vector<std::string> notes;  // what the user should know; not part of the file
};

// What one node is to compute in.
struct LayerPolicy {
  DType precision = DType::kFloat32;  // kFloat32 or kFloat16: not quantized; kInt8: products of two activations, too
  std::string reason;
};

// How to decide.
struct Policy {
  std::string target = "octavo";  // see targets.h
  // "": the target's rules. "tensorrt8-implicit": everything that TensorRT 8 keeps scales for is int8, attention and
  // its divisor included (docs/targets.md); `target` then says only who is to read the model.
  std::string preset;
  EstimatorOptions estimator;       // `symmetric` is set as the target asks
  bool quantize_attention = false;  // products of two activations, too
  // What stays float: names of nodes, globs over names (*, ?), op types, or patterns (KeepFloatPatterns).
  std::vector<std::string> keep_float;
  // The same, with multiplicands rounded to 16 bits (FloatRecipe::precision). A node may be in one of the two.
  std::vector<std::string> bfloat16, float16;
  // By exact name of a node, before all these lists; what no list of names can say.
  std::map<std::string, LayerPolicy> layers;
  // Nodes whose results are asked to be int8: whoever reads one has it quantized, where there is a scale; what gets no
  // pair is among Recipe::notes.
  std::vector<std::string> int8_results;
  // Of a calibration cache: what reads a tensor that has no scale stays float, as TensorRT has it, instead of an error.
  bool float_without_scale = false;
};

// Names that keep_float takes for groups of nodes: "attention", "linear-attention", "depthwise".
std::vector<std::string_view> KeepFloatPatterns();
std::vector<std::string_view> PresetNames();

// What Decide would refuse of a policy whatever the statistics: an unknown target or preset, an entry of keep_float,
// bfloat16 or float16 that matches no node. To be asked before a long calibration.
Status CheckPolicy(const Graph& prepared, const Policy& policy);

// Errors: kInvalidArgument for statistics of another model, an unknown target or preset, an entry of keep_float that
// matches no node; kNotFound for a tensor without statistics; weights that are not finite.
Result<Recipe> Decide(const Graph& prepared, const Stats& stats, const Policy& policy);
// The same with the scales of a cache: int8, zero point 0, whatever the target. Errors: a tensor that is missing there.
Result<Recipe> DecideFromCache(const Graph& prepared, const CalibrationCache& cache, const Policy& policy);

// The prepared graph after the recipe's deferrals, migrations, rescales, shifts and biases, still float: what its
// scales are for. Errors as ApplyRecipe's.
Result<Graph> RewriteByRecipe(const Graph& prepared, const Recipe& recipe);
// The same without the biases, which make up for rounding: the model whose statistics explain the recipe's scales, and
// that computes what `prepared` does.
Result<Graph> RewriteWithoutBiases(const Graph& prepared, const Recipe& recipe);

// Rewrites the graph, then inserts QuantizeLinear and DequantizeLinear, and for float nodes of 16 bits a Cast to that
// type and one back. Weights become int8, bfloat16 or float16 constants; biases stay float32. Raises the graph's opset
// to 13, where per-channel Q/DQ and bfloat16 begin, if its ops mean the same there. Metadata of the result names
// target, estimator, recipe and version. Errors: kInvalidArgument for a recipe of another model, names that are not
// there, scales that are not normal and positive or of a wrong count, an edge that is quantized twice, weights that
// float16 cannot hold; kUnsupported for an opset that cannot be raised.
Result<Graph> ApplyRecipe(const Graph& prepared, const Recipe& recipe);

// DecideFromCache and ApplyRecipe: a graph for Session, quantized with no Q/DQ in the file.
Result<Graph> QuantizeImplicit(const Graph& prepared, const CalibrationCache& cache, const Policy& policy = {});

// The int8 scale of every quantizable tensor, as `--calibration-cache` writes them. Errors as Decide's.
Result<CalibrationCache> MakeCalibrationCache(const Graph& prepared, const Stats& stats,
                                              const EstimatorOptions& estimator);

// A recipe as JSON: one decision per line.
//   {"octavo_recipe": 1, "fingerprint": "...", "target": "...", "preset": "...", "estimator": "...",
//    "activations": [{"tensor", "consumers": "all" or [..], "dtype": "uint8" or "int8", "scale", "zero_point",
//    "result_of", "reason"}], "weights": [{"node", "input", "dtype": "int8", "axis": number or null, "scales": [..],
//    "reason"}], "float": [{"node", "precision": "fp32", "bf16" or "fp16", "reason"}], "remedies": [{"remedy", "kept",
//    "sqnr_db", "gain_db", "reason"}], "deferrals": [{"node"}], "migrations": [{"tensor", "consumers": [..], "dims":
//    [..], "factors": [..]}], "rescales": [{"node", "input", "dims": [..], "factors": [..]}], "shifts": [{"tensor",
//    "consumers": "all" or [..], "values": [..]}], "biases": [{"node", "values": [..]}]}
// A weight may have "offsets", two elements a letter: 'A' + 5 (first + 2) + (second + 2); the last of an odd number is
// 'a' + (offset + 2).
// Without "fingerprint" it is taken for any model that has the names; without "precision" a node is fp32. Reading gives
// back equal scales.
std::string FormatRecipe(const Recipe& recipe);
// Errors: kBadFile naming `source`, the entry and the key; unknown keys too.
Result<Recipe> ParseRecipe(std::string_view text, const std::string& source);
Result<Recipe> LoadRecipe(const std::string& path);
Status SaveRecipe(const Recipe& recipe, const std::string& path);

}  // namespace octavo
