// Scales of channels that make INT8 noise small: equalization of residual streams and linear pairs, SmoothQuant across
// normalization, migration behind activations. docs/remedies.md has the formulas.
#pragma once

#include "octavo/dataset.h"
#include "octavo/quantize.h"
#include "quantize/scale_flow.h"

namespace octavo {

enum class EqualizeKind : uint8_t {
  kStreams,     // what contractions write
  kNorms,       // what a factor per channel writes (LayerNorm's gamma)
  kDepthwise,   // Muls in front of depthwise convolutions
  kActivation,  // Muls in front of other contractions
};

struct EqualizeOptions {
  EqualizeKind kind = EqualizeKind::kStreams;
  bool whole_octaves = true;  // powers of two, which leave every weight's mantissa as it is
  size_t samples = 8;
  int threads = 0;
};

struct Equalization {
  ScaleRewrites rewrites;
  int channels = 0;  // free scales that were moved
};

// For the float graph `graph` (RewriteByRecipe's). Nothing where no scale is free or none would move.
Result<Equalization> Equalize(const Graph& graph, const Dataset& data, const Policy& policy,
                              const EqualizeOptions& options);

}  // namespace octavo
