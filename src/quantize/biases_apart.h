// Biases where ONNX Runtime's optimizer leaves a quantized product on integers:
//   Gemm(a, b, c) -> y             becomes   Gemm(a, b) -> Add(c) -> y
//   MatMul(a, b) -> Add(c[n])      becomes   MatMul(a, b) -> Add(c[1, n])   of three axes and more,
//                                            Gemm(a, b) -> Add(c[n])        of matrices
// As it is, a Gemm with a float bias and no Q behind it runs in float, and so does a MatMul that is fused with the
// vector added to it into such a Gemm (1.32, measured: docs/targets/onnxruntime.md). What is computed stays the same.
#pragma once

#include "octavo/graph.h"
#include "octavo/status.h"

namespace octavo {

// Of products both of whose operands are dequantized. New nodes stand last: the caller sorts.
Status MoveBiasesApart(Graph& graph);

}  // namespace octavo
