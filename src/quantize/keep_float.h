// What the user wants left alone.
#pragma once

#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "octavo/graph.h"
#include "octavo/quantize.h"
#include "octavo/status.h"

namespace octavo {

struct KeepFloat {
  std::vector<std::string> reasons;  // by node: why it is kept ("kept float by 'Conv'"), or ""
  std::vector<DType> precisions;     // by node: FloatRecipe's
  std::vector<NodeId> int8;          // that are to be quantized where both operands are activations, too
  std::vector<std::string> idle;     // entries that match no contraction: most targets would not quantize those anyway
};

// Entries are names of nodes, globs over names, op types, or patterns of KeepFloatPatterns(). Error: an entry that
// matches no node, with names near it.
Result<KeepFloat> ResolveKeepFloat(const Graph& prepared, const std::vector<std::string>& entries);
// All three lists of the policy, and its layers. Errors, besides: a node in two precisions of 16 bits; a layer that is
// not there.
Result<KeepFloat> ResolveFloatNodes(const Graph& prepared, const Policy& policy);

// Names of the nodes that `pass` fuses in a prepared graph ("layer-norm", "linear-attention", ...).
Result<std::set<std::string>> NodesFusedBy(const Graph& prepared, std::string_view pass);

// '*' stands for any characters, '?' for one; everything else for itself.
bool MatchesGlob(std::string_view pattern, std::string_view text);

}  // namespace octavo
