// FP16 safety: which values of a float model leave the range of IEEE half, and what can be done about each.
// docs/fp16.md has the rules.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "octavo/graph.h"
#include "octavo/quantize.h"
#include "octavo/stats.h"
#include "octavo/status.h"

namespace octavo {

inline constexpr float kLargestFloat16 = 65504.0f;

struct HalfSafetyOptions {
  // A largest magnitude beyond this share of 65504, the largest half, is a risk: pictures that were not calibrated on
  // exceed calibrated ranges.
  double overflow_share = 0.25;
  // A divisor whose smallest magnitude lies below this many times 2^-24, the smallest half, is one.
  double divisor_factor = 4;
  // So is a tensor whose root mean square is below this: of 2^-17 a denormal half keeps 7 bits.
  double least_rms = 0x1p-17;
};

enum class HalfRisk : uint8_t {
  kOverflow,        // an activation near 65504
  kSmallDivisor,    // a divisor that may round to zero
  kUnderflow,       // an activation that lies, as a whole, among the denormal halves
  kWeightOverflow,  // a constant beyond 65504
};

enum class HalfRemedy : uint8_t {
  kKeepFloat32,  // the nodes that make and read it compute in float32
  kRescale,      // it becomes 2^octaves times itself; the model computes the same
};

struct HalfFinding {
  HalfRisk risk = HalfRisk::kOverflow;
  std::string tensor;
  std::string node;      // that makes it; of a weight or a graph input, that reads it
  std::string pattern;   // what it is part of: "linear attention: K^T V"; "" for nothing that is known
  double magnitude = 0;  // calibrated: the largest; of a divisor the smallest; of an underflow the root mean square
  double headroom = 0;   // how many times larger (of divisors and underflow: smaller) it could be; below 1: it fails
  HalfRemedy remedy = HalfRemedy::kKeepFloat32;
  int octaves = 0;                         // kRescale
  std::vector<std::string> float32_nodes;  // kKeepFloat32
};

struct HalfSafety {
  std::vector<HalfFinding> findings;  // in execution order; weights first
  // The remedies: `migrations` and `rescales` (RewriteByRecipe), `float_nodes` (SessionOptions::float32_nodes).
  Recipe recipe;
};

std::string_view NameOf(HalfRisk risk);

// What CalibrateOptions::tensors wants for AnalyzeHalfSafety: every value of a prepared graph that an FP16 deployment
// rounds, the insides of attention among them. In execution order.
Result<std::vector<std::string>> HalfTensors(const Graph& prepared);

// Deterministic. Errors: kInvalidArgument for statistics of another model; kNotFound for a tensor of HalfTensors that
// has none.
Result<HalfSafety> AnalyzeHalfSafety(const Graph& prepared, const Stats& stats, const HalfSafetyOptions& options = {});

}  // namespace octavo
