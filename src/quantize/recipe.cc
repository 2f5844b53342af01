// Recipes as JSON.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>

#include "base/file.h"
#include "base/json_object.h"
#include "base/quote.h"
#include "octavo/quantize.h"
#include "quantize/recipe_hash.h"

namespace octavo {
namespace {

constexpr int kVersionOfFormat = 1;
// One line per decision: a model of 100,000 channels has a few megabytes.
constexpr int64_t kMaxFileBytes = int64_t{256} << 20;

// The shortest text of a float32, as a double that a JSON writer spells the same way. Reading it as a double and
// rounding to float32 gives `value` back, which is checked: twice rounded need not be once rounded.
double Shortest(float value) {
  const double shortest = std::strtod(fmt::format("{}", value).c_str(), nullptr);
  return RoundToFloat(shortest) == value ? shortest : double{value};
}

Json ToJson(const ActivationRecipe& entry) {
  Json json;
  json["tensor"] = entry.tensor;
  json["consumers"] = entry.consumers.empty() ? Json("all") : Json(entry.consumers);
  json["dtype"] = std::string(NameOf(entry.dtype));
  json["scale"] = Shortest(entry.scale);
  json["zero_point"] = entry.zero_point;
  if (!entry.result_of.empty()) json["result_of"] = entry.result_of;
  json["reason"] = entry.reason;
  return json;
}

// Two offsets from -2 to 2 are one of 25 letters, so that a weight costs half a byte; see quantize.h.
constexpr int kOffsets = 2 * kMaxRoundingOffset + 1;

std::string FormatOffsets(const std::vector<int8_t>& offsets) {
  std::string text;
  text.reserve(offsets.size() / 2 + 1);
  const auto digit = [&](size_t i) {
    return std::clamp<int>(offsets[i], -kMaxRoundingOffset, kMaxRoundingOffset) + kMaxRoundingOffset;
  };
  size_t i = 0;
  for (; i + 1 < offsets.size(); i += 2) text += static_cast<char>('A' + kOffsets * digit(i) + digit(i + 1));
  if (i < offsets.size()) text += static_cast<char>('a' + digit(i));
  return text;
}

// False where it is no such text.
bool ParseOffsets(std::string_view text, std::vector<int8_t>& offsets) {
  offsets.reserve(2 * text.size());
  const auto add = [&](int digit) { offsets.push_back(static_cast<int8_t>(digit - kMaxRoundingOffset)); };
  for (size_t i = 0; i < text.size(); ++i) {
    const int pair = text[i] - 'A', single = text[i] - 'a';
    if (pair >= 0 && pair < kOffsets * kOffsets) {
      add(pair / kOffsets);
      add(pair % kOffsets);
    } else if (single >= 0 && single < kOffsets && i + 1 == text.size()) {
      add(single);
    } else {
      return false;
    }
  }
  return true;
}

Json ToJson(const WeightRecipe& entry) {
  Json json;
  json["node"] = entry.node;
  json["input"] = entry.input;
  json["dtype"] = "int8";
  json["axis"] = entry.axis < 0 ? Json() : Json(entry.axis);
  json["reason"] = entry.reason;
  Json& scales = json["scales"] = Json::array();
  for (const float scale : entry.scales) scales.push_back(Shortest(scale));
  if (!entry.offsets.empty()) json["offsets"] = FormatOffsets(entry.offsets);
  return json;
}

constexpr std::pair<DType, std::string_view> kFloatPrecisions[] = {
    {DType::kFloat32, "fp32"}, {DType::kBFloat16, "bf16"}, {DType::kFloat16, "fp16"}};

Json ToJson(const FloatRecipe& entry) {
  Json json;
  json["node"] = entry.node;
  json["precision"] = std::string(FloatPrecisionName(entry.precision));
  json["reason"] = entry.reason;
  return json;
}

Json Shortest(const std::vector<float>& values) {
  Json list = Json::array();
  for (const float value : values) list.push_back(Shortest(value));
  return list;
}

Json ToJson(const RemedyRecipe& entry) {
  return {{"remedy", entry.name},
          {"kept", entry.kept},
          {"sqnr_db", entry.sqnr_db},
          {"gain_db", entry.gain_db},
          {"reason", entry.reason}};
}

Json ToJson(const DeferralRecipe& entry) { return {{"node", entry.node}}; }

Json ToJson(const MigrationRecipe& entry) {
  return {{"tensor", entry.tensor},
          {"consumers", entry.consumers},
          {"dims", entry.dims},
          {"factors", Shortest(entry.factors)}};
}

Json ToJson(const RescaleRecipe& entry) {
  return {{"node", entry.node}, {"input", entry.input}, {"dims", entry.dims}, {"factors", Shortest(entry.factors)}};
}

Json ToJson(const ShiftRecipe& entry) {
  return {{"tensor", entry.tensor},
          {"consumers", entry.consumers.empty() ? Json("all") : Json(entry.consumers)},
          {"values", Shortest(entry.values)}};
}

Json ToJson(const BiasRecipe& entry) { return {{"node", entry.node}, {"values", Shortest(entry.values)}}; }

// Names from files may hold bytes that are no UTF-8: those are replaced.
std::string Dump(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace); }

template <typename Entry>
std::string FormatList(std::string_view key, const std::vector<Entry>& entries) {
  std::string text = fmt::format("  \"{}\": [", key);
  for (size_t i = 0; i < entries.size(); ++i) {
    text += (i > 0 ? ",\n    " : "\n    ") + Dump(ToJson(entries[i]));
  }
  return text + (entries.empty() ? "]" : "\n  ]");
}

// Reads one JSON object key by key; what was not asked for is an error, for a misspelt key must not pass in silence.
Result<std::vector<std::string>> ReadConsumers(const Json& object, const ObjectReader& reader) {
  std::vector<std::string> consumers;
  const auto found = object.find("consumers");
  if (found == object.end() || *found == "all") return consumers;
  constexpr char kWanted[] = "\"all\" or a list of nodes, at least one";
  if (!found->is_array() || found->empty()) return reader.Wrong("consumers", kWanted);
  for (const Json& name : *found) {
    if (!name.is_string()) return reader.Wrong("consumers", kWanted);
    consumers.push_back(name.get<std::string>());
  }
  return consumers;
}

Result<ActivationRecipe> ReadActivation(const Json& object, const std::string& where) {
  const ObjectReader reader(object, where);
  OCTAVO_RETURN_IF_ERROR(
      reader.CheckKeys({"tensor", "consumers", "dtype", "scale", "zero_point", "result_of", "reason"}));
  ActivationRecipe entry;
  OCTAVO_ASSIGN(entry.tensor, reader.Text("tensor"));
  OCTAVO_ASSIGN(entry.consumers, ReadConsumers(object, reader));
  OCTAVO_ASSIGN(const std::string dtype, reader.Text("dtype"));
  if (dtype != "int8" && dtype != "uint8") return reader.Wrong("dtype", "\"int8\" or \"uint8\"");
  entry.dtype = dtype == "int8" ? DType::kInt8 : DType::kUInt8;
  OCTAVO_ASSIGN(entry.scale, reader.Number("scale"));
  OCTAVO_ASSIGN(entry.zero_point, reader.Int("zero_point"));
  OCTAVO_ASSIGN(entry.result_of, reader.Text("result_of", ""));
  if (!entry.result_of.empty() && !entry.consumers.empty()) {
    return reader.Wrong("consumers", "\"all\" beside \"result_of\"");
  }
  OCTAVO_ASSIGN(entry.reason, reader.Text("reason", ""));
  return entry;
}

Result<WeightRecipe> ReadWeight(const Json& object, const std::string& where) {
  const ObjectReader reader(object, where);
  OCTAVO_RETURN_IF_ERROR(reader.CheckKeys({"node", "input", "dtype", "axis", "scales", "reason", "offsets"}));
  WeightRecipe entry;
  OCTAVO_ASSIGN(entry.node, reader.Text("node"));
  OCTAVO_ASSIGN(entry.input, reader.Int("input"));
  OCTAVO_ASSIGN(const std::string dtype, reader.Text("dtype", "int8"));
  if (dtype != "int8") return reader.Wrong("dtype", "\"int8\"");
  if (reader.Has("axis") && !object["axis"].is_null()) {
    OCTAVO_ASSIGN(entry.axis, reader.Int("axis"));
    if (entry.axis < 0) return reader.Wrong("axis", "null or counted from 0");
  }
  OCTAVO_ASSIGN(entry.scales, reader.Numbers("scales"));
  OCTAVO_ASSIGN(entry.reason, reader.Text("reason", ""));
  OCTAVO_ASSIGN(const std::string offsets, reader.Text("offsets", ""));
  if (!ParseOffsets(offsets, entry.offsets)) {
    return reader.Wrong("offsets", "letters A to Y, the last perhaps one of a to e");
  }
  return entry;
}

Result<FloatRecipe> ReadFloat(const Json& object, const std::string& where) {
  const ObjectReader reader(object, where);
  OCTAVO_RETURN_IF_ERROR(reader.CheckKeys({"node", "precision", "reason"}));
  FloatRecipe entry;
  OCTAVO_ASSIGN(entry.node, reader.Text("node"));
  OCTAVO_ASSIGN(const std::string precision, reader.Text("precision", "fp32"));
  const auto* named = std::find_if(std::begin(kFloatPrecisions), std::end(kFloatPrecisions),
                                   [&](const auto& known) { return known.second == precision; });
  if (named == std::end(kFloatPrecisions)) return reader.Wrong("precision", "\"fp32\", \"bf16\" or \"fp16\"");
  entry.precision = named->first;
  OCTAVO_ASSIGN(entry.reason, reader.Text("reason", ""));
  return entry;
}

Result<RemedyRecipe> ReadRemedy(const Json& object, const std::string& where) {
  const ObjectReader reader(object, where);
  OCTAVO_RETURN_IF_ERROR(reader.CheckKeys({"remedy", "kept", "sqnr_db", "gain_db", "reason"}));
  RemedyRecipe entry;
  OCTAVO_ASSIGN(entry.name, reader.Text("remedy"));
  OCTAVO_ASSIGN(entry.kept, reader.Bool("kept"));
  OCTAVO_ASSIGN(entry.sqnr_db, reader.Double("sqnr_db"));
  OCTAVO_ASSIGN(entry.gain_db, reader.Double("gain_db"));
  OCTAVO_ASSIGN(entry.reason, reader.Text("reason", ""));
  return entry;
}

Result<DeferralRecipe> ReadDeferral(const Json& object, const std::string& where) {
  const ObjectReader reader(object, where);
  OCTAVO_RETURN_IF_ERROR(reader.CheckKeys({"node"}));
  DeferralRecipe entry;
  OCTAVO_ASSIGN(entry.node, reader.Text("node"));
  return entry;
}

Result<MigrationRecipe> ReadMigration(const Json& object, const std::string& where) {
  const ObjectReader reader(object, where);
  OCTAVO_RETURN_IF_ERROR(reader.CheckKeys({"tensor", "consumers", "dims", "factors"}));
  MigrationRecipe entry;
  OCTAVO_ASSIGN(entry.tensor, reader.Text("tensor"));
  OCTAVO_ASSIGN(entry.consumers, ReadConsumers(object, reader));
  OCTAVO_ASSIGN(entry.dims, reader.Sizes("dims"));
  OCTAVO_ASSIGN(entry.factors, reader.Numbers("factors"));
  return entry;
}

Result<RescaleRecipe> ReadRescale(const Json& object, const std::string& where) {
  const ObjectReader reader(object, where);
  OCTAVO_RETURN_IF_ERROR(reader.CheckKeys({"node", "input", "dims", "factors"}));
  RescaleRecipe entry;
  OCTAVO_ASSIGN(entry.node, reader.Text("node"));
  OCTAVO_ASSIGN(entry.input, reader.Int("input"));
  OCTAVO_ASSIGN(entry.dims, reader.Sizes("dims"));
  OCTAVO_ASSIGN(entry.factors, reader.Numbers("factors"));
  return entry;
}

Result<ShiftRecipe> ReadShift(const Json& object, const std::string& where) {
  const ObjectReader reader(object, where);
  OCTAVO_RETURN_IF_ERROR(reader.CheckKeys({"tensor", "consumers", "values"}));
  ShiftRecipe entry;
  OCTAVO_ASSIGN(entry.tensor, reader.Text("tensor"));
  OCTAVO_ASSIGN(entry.consumers, ReadConsumers(object, reader));
  OCTAVO_ASSIGN(entry.values, reader.Numbers("values"));
  return entry;
}

Result<BiasRecipe> ReadBias(const Json& object, const std::string& where) {
  const ObjectReader reader(object, where);
  OCTAVO_RETURN_IF_ERROR(reader.CheckKeys({"node", "values"}));
  BiasRecipe entry;
  OCTAVO_ASSIGN(entry.node, reader.Text("node"));
  OCTAVO_ASSIGN(entry.values, reader.Numbers("values"));
  return entry;
}

template <typename Entry>
Status ReadList(const ObjectReader& reader, const char* key, const std::string& source,
                Result<Entry> (*read)(const Json&, const std::string&), std::vector<Entry>& entries) {
  if (!reader.Has(key)) return {};
  OCTAVO_ASSIGN(const Json* list, reader.List(key));
  for (size_t i = 0; i < list->size(); ++i) {
    OCTAVO_ASSIGN(Entry entry, read((*list)[i], fmt::format("{}: {}[{}]", source, key, i)));
    entries.push_back(std::move(entry));
  }
  return {};
}

Result<Recipe> ReadRecipe(const Json& document, const std::string& source) {
  const ObjectReader reader(document, source);
  OCTAVO_RETURN_IF_ERROR(
      reader.CheckKeys({"octavo_recipe", "fingerprint", "target", "preset", "estimator", "activations", "weights",
                        "float", "remedies", "deferrals", "migrations", "rescales", "shifts", "biases"}));
  OCTAVO_ASSIGN(const int version, reader.Int("octavo_recipe"));
  if (version != kVersionOfFormat) {
    return BadFile(
        fmt::format("{}: recipes of format {} are not known here, only {}", source, version, kVersionOfFormat));
  }
  Recipe recipe;
  OCTAVO_ASSIGN(recipe.fingerprint, reader.Text("fingerprint", ""));
  OCTAVO_ASSIGN(recipe.target, reader.Text("target", ""));
  OCTAVO_ASSIGN(recipe.preset, reader.Text("preset", ""));
  OCTAVO_ASSIGN(recipe.estimator, reader.Text("estimator", ""));
  OCTAVO_RETURN_IF_ERROR(ReadList(reader, "activations", source, ReadActivation, recipe.activations));
  OCTAVO_RETURN_IF_ERROR(ReadList(reader, "weights", source, ReadWeight, recipe.weights));
  OCTAVO_RETURN_IF_ERROR(ReadList(reader, "float", source, ReadFloat, recipe.float_nodes));
  OCTAVO_RETURN_IF_ERROR(ReadList(reader, "remedies", source, ReadRemedy, recipe.remedies));
  OCTAVO_RETURN_IF_ERROR(ReadList(reader, "deferrals", source, ReadDeferral, recipe.deferrals));
  OCTAVO_RETURN_IF_ERROR(ReadList(reader, "migrations", source, ReadMigration, recipe.migrations));
  OCTAVO_RETURN_IF_ERROR(ReadList(reader, "rescales", source, ReadRescale, recipe.rescales));
  OCTAVO_RETURN_IF_ERROR(ReadList(reader, "shifts", source, ReadShift, recipe.shifts));
  OCTAVO_RETURN_IF_ERROR(ReadList(reader, "biases", source, ReadBias, recipe.biases));
  return recipe;
}

}  // namespace

std::string_view FloatPrecisionName(DType precision) {
  const auto* named = std::find_if(std::begin(kFloatPrecisions), std::end(kFloatPrecisions),
                                   [precision](const auto& known) { return known.first == precision; });
  return named == std::end(kFloatPrecisions) ? std::string_view() : named->second;
}

std::string FormatRecipe(const Recipe& recipe) {
  std::string text = fmt::format("{{\n  \"octavo_recipe\": {},\n", kVersionOfFormat);
  const auto add = [&](std::string_view key, const std::string& value) {
    if (!value.empty()) text += fmt::format("  \"{}\": {},\n", key, Dump(Json(value)));
  };
  add("fingerprint", recipe.fingerprint);
  add("target", recipe.target);
  add("preset", recipe.preset);
  add("estimator", recipe.estimator);
  const auto add_list = [&](std::string_view key, const auto& entries) {
    if (!entries.empty()) text += FormatList(key, entries) + ",\n";
  };
  add_list("remedies", recipe.remedies);
  add_list("deferrals", recipe.deferrals);
  add_list("migrations", recipe.migrations);
  add_list("rescales", recipe.rescales);
  add_list("shifts", recipe.shifts);
  add_list("biases", recipe.biases);
  text += FormatList("float", recipe.float_nodes) + ",\n" + FormatList("activations", recipe.activations) + ",\n";
  return text + FormatList("weights", recipe.weights) + "\n}\n";
}

std::string RecipeHash(const Recipe& recipe) {
  uint64_t hash = 0xCBF29CE484222325ULL;
  for (const unsigned char c : FormatRecipe(recipe)) hash = (hash ^ c) * 0x100000001B3ULL;
  return fmt::format("{:016x}", hash);
}

Result<Recipe> ParseRecipe(std::string_view text, const std::string& source) {
  OCTAVO_ASSIGN(const Json document, ParseJson(text, source));
  try {
    return ReadRecipe(document, source);
  } catch (const std::exception& error) {
    return BadFile(fmt::format("{}: {}", source, error.what()));
  }
}

Result<Recipe> LoadRecipe(const std::string& path) {
  OCTAVO_ASSIGN(const std::vector<std::byte> bytes, ReadFile(path, kMaxFileBytes));
  return ParseRecipe({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, path);
}

Status SaveRecipe(const Recipe& recipe, const std::string& path) { return WriteFile(path, FormatRecipe(recipe)); }

}  // namespace octavo
