// Which ops compute in float16 as they do in float32, with a rounding behind.
#pragma once

#include "octavo/graph.h"

namespace octavo {

// Ops whose float operands and results may all be float16: contractions, elementwise ops, those that move elements,
// Softmax and pooling. Octavo computes them in float32 and rounds the result once.
bool CanBeHalf(const Node& node);

}  // namespace octavo
