// The inference rule of every op (see InferFn). Rows that share a rule share a function.
#pragma once

#include "graph/op_table.h"

namespace octavo {

using InferArgs = std::span<const InferInput>;
using Inferred = Result<std::vector<InferOutput>>;

#define OCTAVO_DECLARE_INFER(name) Inferred name(const Node& node, int64_t opset, InferArgs inputs)

// infer_elementwise.cc
OCTAVO_DECLARE_INFER(InferUnary);
OCTAVO_DECLARE_INFER(InferBroadcast);  // any number of inputs of one type
OCTAVO_DECLARE_INFER(InferPow);
OCTAVO_DECLARE_INFER(InferLogic);  // bool in, bool out
OCTAVO_DECLARE_INFER(InferCompare);
OCTAVO_DECLARE_INFER(InferClip);
OCTAVO_DECLARE_INFER(InferWhere);
OCTAVO_DECLARE_INFER(InferCast);
OCTAVO_DECLARE_INFER(InferRoundTo);
OCTAVO_DECLARE_INFER(InferDropout);
OCTAVO_DECLARE_INFER(InferFloatTest);
OCTAVO_DECLARE_INFER(InferPRelu);
OCTAVO_DECLARE_INFER(InferCastLike);

// infer_movement.cc
OCTAVO_DECLARE_INFER(InferShape);
OCTAVO_DECLARE_INFER(InferSize);
OCTAVO_DECLARE_INFER(InferReshape);
OCTAVO_DECLARE_INFER(InferFlatten);
OCTAVO_DECLARE_INFER(InferTranspose);
OCTAVO_DECLARE_INFER(InferSqueeze);
OCTAVO_DECLARE_INFER(InferUnsqueeze);
OCTAVO_DECLARE_INFER(InferConcat);
OCTAVO_DECLARE_INFER(InferSplit);
OCTAVO_DECLARE_INFER(InferSlice);
OCTAVO_DECLARE_INFER(InferGather);
OCTAVO_DECLARE_INFER(InferGatherElements);
OCTAVO_DECLARE_INFER(InferGatherNd);
OCTAVO_DECLARE_INFER(InferExpand);
OCTAVO_DECLARE_INFER(InferTile);
OCTAVO_DECLARE_INFER(InferPad);
OCTAVO_DECLARE_INFER(InferConstantOfShape);
OCTAVO_DECLARE_INFER(InferRange);
OCTAVO_DECLARE_INFER(InferDepthToSpace);
OCTAVO_DECLARE_INFER(InferSpaceToDepth);

OCTAVO_DECLARE_INFER(InferCenterCropPad);

// infer_selection.cc
OCTAVO_DECLARE_INFER(InferTrilu);
OCTAVO_DECLARE_INFER(InferEyeLike);
OCTAVO_DECLARE_INFER(InferOneHot);
OCTAVO_DECLARE_INFER(InferNonZero);
OCTAVO_DECLARE_INFER(InferCompress);
OCTAVO_DECLARE_INFER(InferUnique);
OCTAVO_DECLARE_INFER(InferTopK);
OCTAVO_DECLARE_INFER(InferCumSum);
OCTAVO_DECLARE_INFER(InferReverseSequence);
OCTAVO_DECLARE_INFER(InferScatterElements);
OCTAVO_DECLARE_INFER(InferScatterNd);

// infer_resize.cc
OCTAVO_DECLARE_INFER(InferResize);

// infer_contraction.cc
OCTAVO_DECLARE_INFER(InferMatMul);
OCTAVO_DECLARE_INFER(InferGemm);
OCTAVO_DECLARE_INFER(InferEinsum);

// infer_window.cc
OCTAVO_DECLARE_INFER(InferConv);
OCTAVO_DECLARE_INFER(InferConvTranspose);
OCTAVO_DECLARE_INFER(InferAveragePool);
OCTAVO_DECLARE_INFER(InferMaxPool);
OCTAVO_DECLARE_INFER(InferGlobalPool);
OCTAVO_DECLARE_INFER(InferLpPool);
OCTAVO_DECLARE_INFER(InferMaxUnpool);

// infer_reduction.cc
OCTAVO_DECLARE_INFER(InferReduce);
OCTAVO_DECLARE_INFER(InferArgMax);
OCTAVO_DECLARE_INFER(InferSoftmax);
OCTAVO_DECLARE_INFER(InferLayerNormalization);
OCTAVO_DECLARE_INFER(InferInstanceNormalization);
OCTAVO_DECLARE_INFER(InferGroupNormalization);
OCTAVO_DECLARE_INFER(InferBatchNormalization);
OCTAVO_DECLARE_INFER(InferLpNormalization);
OCTAVO_DECLARE_INFER(InferMeanVariance);
OCTAVO_DECLARE_INFER(InferLrn);
OCTAVO_DECLARE_INFER(InferDet);
OCTAVO_DECLARE_INFER(InferLogLikelihoodLoss);
OCTAVO_DECLARE_INFER(InferCrossEntropyLoss);

// infer_quantize.cc
OCTAVO_DECLARE_INFER(InferQuantizeLinear);
OCTAVO_DECLARE_INFER(InferDequantizeLinear);
OCTAVO_DECLARE_INFER(InferDynamicQuantizeLinear);

// infer_integer.cc
OCTAVO_DECLARE_INFER(InferMatMulInteger);
OCTAVO_DECLARE_INFER(InferConvInteger);
OCTAVO_DECLARE_INFER(InferQLinearMatMul);
OCTAVO_DECLARE_INFER(InferQLinearConv);

// infer_signal.cc
OCTAVO_DECLARE_INFER(InferSignalWindow);
OCTAVO_DECLARE_INFER(InferDft);
OCTAVO_DECLARE_INFER(InferStft);
OCTAVO_DECLARE_INFER(InferMelWeightMatrix);

// infer_sampling.cc
OCTAVO_DECLARE_INFER(InferGridSample);
OCTAVO_DECLARE_INFER(InferAffineGrid);
OCTAVO_DECLARE_INFER(InferRoiAlign);
OCTAVO_DECLARE_INFER(InferCol2Im);
OCTAVO_DECLARE_INFER(InferDeformConv);
OCTAVO_DECLARE_INFER(InferNonMaxSuppression);

// infer_fused.cc
OCTAVO_DECLARE_INFER(InferFusedLayerNorm);
OCTAVO_DECLARE_INFER(InferFusedGroupNorm);
OCTAVO_DECLARE_INFER(InferFusedAttention);
OCTAVO_DECLARE_INFER(InferFusedLinearAttention);

#undef OCTAVO_DECLARE_INFER

}  // namespace octavo
