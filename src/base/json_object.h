// Reading JSON documents that come from outside: every access says what it wanted and where.
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "base/quote.h"
#include "octavo/status.h"
#include "octavo/tensor.h"

namespace octavo {

using Json = nlohmann::ordered_json;

// Nearest float32; beyond its range infinity.
float RoundToFloat(double number);

// Errors: kBadFile naming `source`, for text that is no JSON or is nested deeper than any file of Octavo's.
Result<Json> ParseJson(std::string_view text, const std::string& source);

// Reads keys of one object. Errors: kBadFile with `where` and the key.
class ObjectReader {
 public:
  ObjectReader(const Json& object, std::string where) : object_(object), where_(std::move(where)) {}

  Status CheckKeys(std::initializer_list<std::string_view> known) const {
    if (!object_.is_object()) return BadFile(where_ + ": is no object");
    for (const auto& [key, value] : object_.items()) {
      if (std::find(known.begin(), known.end(), key) == known.end())
        return BadFile(where_ + ": unknown key " + Quote(key));
    }
    return {};
  }

  bool Has(const char* key) const { return object_.contains(key); }

  Result<std::string> Text(const char* key) const {
    OCTAVO_ASSIGN(const Json* value, Find(key));
    if (!value->is_string()) return Wrong(key, "a text");
    return value->get<std::string>();
  }
  Result<std::string> Text(const char* key, std::string fallback) const {
    if (!Has(key)) return fallback;
    return Text(key);
  }
  Result<int> Int(const char* key) const {
    OCTAVO_ASSIGN(const Json* value, Find(key));
    if (!value->is_number_integer()) return Wrong(key, "an integer");
    // Unsigned numbers past int64 wrap to negative ones in get<int64_t>.
    const auto number = value->get<double>();
    if (std::abs(number) > std::numeric_limits<int>::max()) return Wrong(key, "a small integer");
    return static_cast<int>(number);
  }
  Result<float> Number(const char* key) const {
    OCTAVO_ASSIGN(const Json* value, Find(key));
    if (!value->is_number()) return Wrong(key, "a number");
    return RoundToFloat(value->get<double>());
  }
  Result<double> Double(const char* key) const {
    OCTAVO_ASSIGN(const Json* value, Find(key));
    if (!value->is_number()) return Wrong(key, "a number");
    return value->get<double>();
  }
  Result<bool> Bool(const char* key) const {
    OCTAVO_ASSIGN(const Json* value, Find(key));
    if (!value->is_boolean()) return Wrong(key, "true or false");
    return value->get<bool>();
  }
  Result<Dims> Sizes(const char* key) const {
    OCTAVO_ASSIGN(const Json* list, List(key));
    Dims dims;
    for (const Json& value : *list) {
      if (!value.is_number_unsigned()) return Wrong(key, "a list of sizes");
      dims.push_back(value.get<int64_t>());
    }
    if (!CheckedElementCount(dims).ok()) return Wrong(key, "a list of sizes");
    return dims;
  }
  Result<const Json*> List(const char* key) const {
    OCTAVO_ASSIGN(const Json* value, Find(key));
    if (!value->is_array()) return Wrong(key, "a list");
    return value;
  }
  Result<std::vector<float>> Numbers(const char* key) const {
    OCTAVO_ASSIGN(const Json* list, List(key));
    std::vector<float> numbers;
    numbers.reserve(list->size());
    for (const Json& value : *list) {
      if (!value.is_number()) return Wrong(key, "a list of numbers");
      numbers.push_back(RoundToFloat(value.get<double>()));
    }
    return numbers;
  }
  Status Wrong(const char* key, const std::string& wanted) const {
    return BadFile(fmt::format("{}: \"{}\" must be {}", where_, key, wanted));
  }

 private:
  Result<const Json*> Find(const char* key) const {
    const auto found = object_.find(key);
    if (found == object_.end()) return BadFile(fmt::format("{}: \"{}\" is missing", where_, key));
    return &*found;
  }

  const Json& object_;
  const std::string where_;
};

}  // namespace octavo
