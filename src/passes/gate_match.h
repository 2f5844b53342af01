// Activations of the form  y = polynomial(x, gate(polynomial(x))):  GELU, SiLU and HardSwish as exporters spell them
// out.
//
// The arithmetic around the gate is expanded into polynomials, so that the order of operands and factors, x*x against
// Pow(x, 2), and division against multiplication by the inverse make no difference.
#pragma once

#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "passes/rewriter.h"

namespace octavo {

// (power of x, power of the gate's output) -> coefficient.
using GatePolynomial = std::map<std::pair<int, int>, double>;

struct GateMatch {
  ValueId x = kNoValue;
  NodeId tail = kNoNode;  // makes the activation's output
};

// Looks for x and the tail around `gate`, so that the gate's input 0 is `argument`(x) and the tail is `result`(x,
// gate). Everything in between is read by nothing else.
std::optional<GateMatch> MatchGate(const Rewriter& rewriter, NodeId gate, const GatePolynomial& argument,
                                   const GatePolynomial& result);

}  // namespace octavo
