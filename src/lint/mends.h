// What can be mended without changing what a model computes: asked by the rules, done by FixLint.
#pragma once

#include <cstdint>
#include <optional>

#include "lint/quantized_graph.h"

namespace octavo {

// A DQ of weights whose scales run along another axis than the output channels of the contraction that reads it.
struct WrongAxis {
  NodeId reader = kNoNode;
  int64_t expected = 0;      // of the tensor that is dequantized
  bool unambiguous = false;  // as many scales as slices there, and not along the axis that is written
};
std::optional<WrongAxis> WrongAxisOf(const QuantizedGraph& quantized, NodeId dequantize);

// What is to be taken from all integers around a Q or DQ, so that they are int8 with zero point 0 and stand for the
// same numbers: 128 of uint8 activations with zero point 128; of constants their zero point, where all of them stay
// within int8. Nothing where there is no such number, or somebody reads the integers themselves.
std::optional<int32_t> ShiftOf(const QuantizedGraph& quantized, NodeId quantize_or_dequantize);

// A Q whose input is a DQ of equal parameters: it gives back the DQ's integers.
bool IsRedundantQuantize(const QuantizedGraph& quantized, NodeId quantize);

// A DQ of a constant int32 bias that can become a float constant.
bool IsFoldableBias(const QuantizedGraph& quantized, NodeId dequantize);

}  // namespace octavo
