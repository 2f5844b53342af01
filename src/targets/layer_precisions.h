// What --layerPrecisions and --layerOutputTypes of trtexec say, by its own rules: "conv:fp16,'a:b':fp32,*:int8".
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "octavo/status.h"
#include "octavo/tensor.h"
#include "targets/tensorrt_version.h"

namespace octavo {

struct LayerTypes {
  std::string layer;         // without quotes; may be or, by version, hold '*'
  std::vector<DType> types;  // one for a precision; of output types one per output
};

// "fp32", "fp16", "bf16", "int8", ...; "" for types that trtexec has no word for.
std::string_view LayerTypeName(DType type);

// trtexec cuts the list at commas, whatever is quoted; a name ends at the last colon, or at the second of two single
// quotes, which are taken off. So no name can hold a comma or a quote. Every byte is hostile. Errors
// (kInvalidArgument) name the entry: no colon, an unknown type, one quote or more than two, no name.
Result<std::vector<LayerTypes>> ParseLayerPrecisions(std::string_view spec);
// The same with one or more types, "layer:fp32+fp16".
Result<std::vector<LayerTypes>> ParseLayerOutputTypes(std::string_view spec);

// Why trtexec of this version cannot be told about the layer of exactly this name; "" where it can.
std::string WhyNotInLayerList(std::string_view layer, const TensorRtVersion& version);
// The list that the parsers above read back. Error: kInvalidArgument for a name that no list can hold.
Result<std::string> FormatLayerTypes(const std::vector<LayerTypes>& entries);

// Which entry decides about which layer, and what the user should know about the others.
struct LayerMatches {
  std::vector<int> entry_of;       // by layer: index into the entries, or -1
  std::vector<size_t> unmatched;   // entries that name no layer
  std::vector<size_t> overridden;  // entries that a later one of the same name replaces
  struct Ambiguity {
    size_t layer;
    std::vector<size_t> entries;  // patterns that match it and ask for different types
  };
  std::vector<Ambiguity> ambiguous;  // trtexec takes whichever its hash table gives first; here the longest pattern
  std::vector<size_t> repeated;      // entries that name several layers without a wildcard: the model repeats the name
};

// An exact name comes before patterns; of entries with the same name the last counts. Before 9.1 only '*' alone is a
// pattern, and it comes after everything else.
LayerMatches MatchLayers(const std::vector<LayerTypes>& entries, const std::vector<std::string>& layers,
                         const TensorRtVersion& version);

// '*' stands for any characters, once; later ones for themselves.
bool MatchesOneWildcard(std::string_view pattern, std::string_view text);

}  // namespace octavo
