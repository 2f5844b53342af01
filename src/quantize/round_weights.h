// Which integers a layer's weights become: the choice that costs its results least, not the nearest one by one.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace octavo {

// One row of weights w per output, with the step s between its integers. Wanted are integers q, each at most
// kMaxRoundingOffset from w / s rounded and none larger than the largest of those, such that u = s q has little
//   J(u) = E[(w x - u x^)^2] + ridge (u - w) diag(H) (u - w)
//        = (u - w) (H + ridge diag(H)) (u - w) - 2 d (u - w) + constant
// where x is the operand in float and x^ as it arrives in the quantized model.
struct RoundingProblem {
  int64_t outputs = 0, inputs = 0;
  std::span<const float> weights;  // (outputs, inputs)
  std::span<const float> scales;   // s, by output
  std::span<const double> gram;    // H = E[x^ x^'], (inputs, inputs); symmetric
  std::span<const double> pull;    // d = E[w (x - x^) x^'], (outputs, inputs)
  double ridge = 0;                // at least 0; the smaller, the more J follows the samples
  int threads = 1;
};

struct Rounding {
  std::vector<int8_t> offsets;        // (outputs, inputs): q less w / s rounded to nearest
  double nearest_loss = 0, loss = 0;  // sum of J over outputs, less its constant
};

// Deterministic, whatever `threads` is.
Rounding RoundJointly(const RoundingProblem& problem);

}  // namespace octavo
