// Raising a graph's opset where its ops mean the same before and after.
#pragma once

#include "octavo/graph.h"

namespace octavo {

// Per-channel QuantizeLinear and DequantizeLinear begin here.
inline constexpr int64_t kQuantizingOpset = 13;

// Raises the opset of `graph` (static shapes) to kQuantizingOpset when it is lower, and its IR version to 7, from which
// initializers are constants that need not be inputs. Attributes that became inputs (axes of Squeeze, Unsqueeze,
// ReduceSum; sizes of Split) are moved; Softmax's axis is written out. Error: kUnsupported, naming a node that means
// something else there and the remedy.
Status RaiseOpset(Graph& graph);

}  // namespace octavo
