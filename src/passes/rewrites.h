// The rewrites, each in the file of its name. Each returns how many patterns it rewrote; values it adds have a type and
// a static shape. Afterwards the graph's nodes may be out of order and values unused: RunPasses sorts and compacts.
#pragma once

#include "octavo/graph.h"

namespace octavo {

int FoldConstants(Graph& graph);
int CleanIdentities(Graph& graph);
int WidenHalfNodes(Graph& graph);
int JoinCastPairs(Graph& graph);
int CleanTransposesAndReshapes(Graph& graph);
int MergeCommonSubexpressions(Graph& graph);
int RemoveDeadCode(Graph& graph);
int FoldBatchNorm(Graph& graph);
int FoldPadIntoConv(Graph& graph);
int RewriteGelu(Graph& graph);
int RewriteSilu(Graph& graph);
int RewriteHardSwish(Graph& graph);
int RewriteLayerNorm(Graph& graph);
int RewriteGroupNorm(Graph& graph);
int FoldModulation(Graph& graph);
int RewriteEinsum(Graph& graph);
int RewriteLinearAttention(Graph& graph);
int RewriteAttention(Graph& graph);
int FoldChannelAffine(Graph& graph);
int MergeSiblingMatMuls(Graph& graph);
int MoveViewsBeforeDequantize(Graph& graph);
int MakeActivationsUnsigned(Graph& graph);
int QuantizeEarly(Graph& graph);

}  // namespace octavo
