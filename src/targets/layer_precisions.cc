#include "targets/layer_precisions.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "base/quote.h"

namespace octavo {
namespace {

struct TypeWord {
  std::string_view word;
  DType type;
};
constexpr TypeWord kTypeWords[] = {{"fp32", DType::kFloat32}, {"fp16", DType::kFloat16}, {"bf16", DType::kBFloat16},
                                   {"int8", DType::kInt8},    {"int32", DType::kInt32},  {"int64", DType::kInt64},
                                   {"bool", DType::kBool},    {"uint8", DType::kUInt8}};

Result<DType> ParseType(std::string_view word) {
  for (const auto& [known, type] : kTypeWords) {
    if (known == word) return type;
  }
  return InvalidArgument(Quote(word) + " is no type: fp32, fp16, bf16, int8 or another that trtexec knows");
}

Result<std::vector<DType>> ParseTypes(std::string_view words, bool several) {
  std::vector<DType> types;
  while (true) {
    const size_t plus = several ? words.find('+') : std::string_view::npos;
    OCTAVO_ASSIGN(const DType type, ParseType(words.substr(0, plus)));
    types.push_back(type);
    if (plus == std::string_view::npos) return types;
    words.remove_prefix(plus + 1);
  }
}

// A name and the words behind its colon.
Result<std::pair<std::string, std::string_view>> SplitEntry(std::string_view entry) {
  const auto quotes = std::count(entry.begin(), entry.end(), '\'');
  if (quotes != 0 && quotes != 2) {
    return InvalidArgument(fmt::format("{} single quotes instead of two around the name", quotes));
  }
  if (quotes == 0) {
    const size_t colon = entry.rfind(':');
    if (colon == std::string_view::npos) return InvalidArgument("there is no ':' between a layer and its type");
    return std::pair(std::string(entry.substr(0, colon)), entry.substr(colon + 1));
  }
  const size_t open = entry.find('\''), close = entry.rfind('\'');
  if (close + 1 >= entry.size() || entry[close + 1] != ':') {
    return InvalidArgument("there is no ':' behind the quoted name");
  }
  // trtexec puts what stands before the quotes and what they hold together.
  std::string name(entry.substr(0, open));
  name += entry.substr(open + 1, close - open - 1);
  return std::pair(std::move(name), entry.substr(close + 2));
}

Result<LayerTypes> ParseEntry(std::string_view entry, bool several) {
  OCTAVO_ASSIGN(const auto parts, SplitEntry(entry));
  if (parts.first.empty()) return InvalidArgument("the layer has no name");
  LayerTypes layer{parts.first, {}};
  OCTAVO_ASSIGN(layer.types, ParseTypes(parts.second, several));
  return layer;
}

Result<std::vector<LayerTypes>> ParseList(std::string_view spec, bool several) {
  std::vector<LayerTypes> entries;
  while (!spec.empty()) {
    const size_t comma = spec.find(',');
    const std::string_view entry = spec.substr(0, comma);
    auto parsed = ParseEntry(entry, several);
    if (!parsed.ok()) {
      const bool is_cut = std::count(entry.begin(), entry.end(), '\'') % 2 != 0;
      return InvalidArgument(fmt::format("entry {} ({}): {}{}", entries.size() + 1, Quote(entry),
                                         parsed.status().message(),
                                         is_cut ? "; trtexec cuts at every comma, inside of quotes, too" : ""));
    }
    entries.push_back(*std::move(parsed));
    if (comma == std::string_view::npos) break;
    spec.remove_prefix(comma + 1);
    if (spec.empty()) return InvalidArgument("the list ends with a comma");
  }
  return entries;
}

bool IsPattern(std::string_view layer, const TensorRtVersion& version) {
  return version.TakesWildcards() ? layer.find('*') != std::string_view::npos : layer == "*";
}

// The one pattern, of those that match, that decides; the longest, and of equally long ones the last.
int DecidingPattern(const std::vector<LayerTypes>& entries, const std::vector<size_t>& matching) {
  int best = -1;
  for (const size_t e : matching) {
    if (best < 0 || entries[e].layer.size() >= entries[static_cast<size_t>(best)].layer.size())
      best = static_cast<int>(e);
  }
  return best;
}

}  // namespace

std::string_view LayerTypeName(DType type) {
  for (const auto& [word, known] : kTypeWords) {
    if (known == type) return word;
  }
  return {};
}

Result<std::vector<LayerTypes>> ParseLayerPrecisions(std::string_view spec) { return ParseList(spec, false); }
Result<std::vector<LayerTypes>> ParseLayerOutputTypes(std::string_view spec) { return ParseList(spec, true); }

std::string WhyNotInLayerList(std::string_view layer, const TensorRtVersion& version) {
  if (layer.empty()) return "it has no name";
  if (layer.find(',') != std::string_view::npos) return "trtexec cuts its name at the comma";
  if (layer.find('\'') != std::string_view::npos) return "trtexec takes quotes out of its name";
  if (layer.find('\0') != std::string_view::npos) return "its name holds a zero byte";
  if (IsPattern(layer, version)) return "'*' in its name would stand for other layers, too";
  return {};
}

Result<std::string> FormatLayerTypes(const std::vector<LayerTypes>& entries) {
  std::string text;
  for (const LayerTypes& entry : entries) {
    // A pattern is what its writer meant; only names that the syntax cannot hold are refused.
    if (entry.layer.empty() || entry.layer.find_first_of(std::string_view(",'\0", 3)) != std::string::npos) {
      return InvalidArgument("no list of trtexec can hold the layer " + Quote(entry.layer));
    }
    if (entry.types.empty()) return InvalidArgument("layer " + Quote(entry.layer) + " has no type");
    if (!text.empty()) text += ',';
    text += entry.layer.find(':') == std::string::npos ? entry.layer : "'" + entry.layer + "'";
    for (size_t i = 0; i < entry.types.size(); ++i) {
      const std::string_view word = LayerTypeName(entry.types[i]);
      if (word.empty())
        return InvalidArgument("layer " + Quote(entry.layer) + " has a type that trtexec has no word for");
      text += i == 0 ? ':' : '+';
      text += word;
    }
  }
  return text;
}

LayerMatches MatchLayers(const std::vector<LayerTypes>& entries, const std::vector<std::string>& layers,
                         const TensorRtVersion& version) {
  LayerMatches matches;
  std::map<std::string_view, size_t> by_name;  // the last entry of each name
  for (size_t e = 0; e < entries.size(); ++e) {
    const auto [found, added] = by_name.emplace(entries[e].layer, e);
    if (added) continue;
    matches.overridden.push_back(found->second);
    found->second = e;
  }
  std::vector<size_t> patterns;
  for (const auto& [name, e] : by_name) {
    if (IsPattern(name, version)) patterns.push_back(e);
  }
  std::sort(patterns.begin(), patterns.end());
  std::vector<size_t> named(entries.size()), used(entries.size());
  for (size_t n = 0; n < layers.size(); ++n) {
    if (const auto exact = by_name.find(layers[n]); exact != by_name.end()) {
      matches.entry_of.push_back(static_cast<int>(exact->second));
      ++named[exact->second];
      ++used[exact->second];
      continue;
    }
    std::vector<size_t> matching;
    for (const size_t e : patterns) {
      if (MatchesOneWildcard(entries[e].layer, layers[n])) matching.push_back(e);
    }
    const int chosen = DecidingPattern(entries, matching);
    matches.entry_of.push_back(chosen);
    for (const size_t e : matching) ++used[e];
    const auto differs = [&](size_t e) { return entries[e].types != entries[static_cast<size_t>(chosen)].types; };
    if (std::any_of(matching.begin(), matching.end(), differs)) matches.ambiguous.push_back({n, matching});
  }
  for (const auto& [name, e] : by_name) {
    if (used[e] == 0) matches.unmatched.push_back(e);
    if (named[e] > 1) matches.repeated.push_back(e);
  }
  std::sort(matches.unmatched.begin(), matches.unmatched.end());
  std::sort(matches.repeated.begin(), matches.repeated.end());
  return matches;
}

bool MatchesOneWildcard(std::string_view pattern, std::string_view text) {
  const size_t star = pattern.find('*');
  if (star == std::string_view::npos) return pattern == text;
  const std::string_view before = pattern.substr(0, star), behind = pattern.substr(star + 1);
  return text.size() >= before.size() + behind.size() && text.starts_with(before) && text.ends_with(behind);
}

}  // namespace octavo
