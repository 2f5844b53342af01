// What runtimes ask of a Q/DQ graph, as data. docs/targets.md says where each rule comes from.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "octavo/status.h"

namespace octavo {

struct Target {
  std::string_view name;
  std::string_view about;  // one line for help texts
  // uint8 with a zero point; false: int8 with zero point 0.
  bool unsigned_activations = true;
  // Weights are int8 in [-weight_limit, weight_limit]. 127 leaves out -128, so that ranges are symmetric.
  int weight_limit = 127;
  // Quantize the operand of a residual Add that the contraction before it does not make.
  bool quantize_residuals = false;
  // The inputs of a Concat whose output is quantized are quantized too, with the output's scale.
  bool share_concat_scale = false;
  // Contractions that run on integers only with a Q alone behind them, itself or behind a Relu: their results are
  // quantized for every reader.
  std::span<const std::string_view> quantized_results = {};
  // A bias beside a quantized Gemm or MatMul keeps it float, unless it is an Add of its own that does not fuse.
  bool biases_apart = false;
  // A Mul or Add per channel before a Q is part of the step that makes its operand; else it may be a step of its own.
  bool takes_channel_factors = false;
  // A node computes in float16 where its tensors are float16, not where they were rounded to it.
  bool half_islands = false;
  // Attention whose products run in INT8 has at most this many tokens and heads of one of these sizes; 0: any.
  int64_t most_int8_attention_tokens = 0;
  std::span<const int64_t> int8_attention_heads = {};
  // Contractions that the target computes in float whatever stands around them.
  std::span<const std::string_view> float_contractions;
  // Ops that Q and DQ move through: they give the same bytes on either side of them.
  std::span<const std::string_view> commuting;

  bool Commutes(std::string_view op) const;
  bool KeepsFloat(std::string_view op) const;
  bool QuantizesResult(std::string_view op) const;
};

// All targets; the first is the default.
std::span<const Target* const> AllTargets();
// Error: kInvalidArgument, listing the names.
Result<const Target*> FindTarget(std::string_view name);

}  // namespace octavo
