// Which contractions of a Q/DQ graph can run on integers, and on what.
#pragma once

#include <optional>
#include <vector>

#include "engine/integer_contraction.h"
#include "graph/quantization.h"
#include "octavo/graph.h"

namespace octavo {

// Of a Conv, ConvTranspose, Gemm or MatMul whose multiplicands come from DequantizeLinear nodes.
struct IntegerOperands {
  ValueId src = kNoValue;  // the uint8 value behind input 0, and its scale and zero point
  QuantizeParams src_params;
  // Constant 8-bit weights as a convolution has them: (O, I/g, spatial), (I, O, spatial) of a ConvTranspose; a matrix
  // of products as (N, K).
  IntegerWeights weights;
  std::vector<float> weight_scales;  // one per output channel
  // A product of two activations instead: the uint8 value behind input 1.
  ValueId other = kNoValue;
  QuantizeParams other_params;
};

// Error kUnsupported: the reason why the node computes in float.
Result<IntegerOperands> ReadIntegerOperands(const Graph& graph, const Node& anchor);

// The 8-bit value behind an input that is dequantized with one constant scale.
struct DequantizedBytes {
  ValueId value = kNoValue;
  QuantizeParams params;
};

// Error kUnsupported: why there is none.
Result<DequantizedBytes> ReadDequantizedBytes(const Graph& graph, const Node& reader, size_t input);

}  // namespace octavo
