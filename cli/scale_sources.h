// Where scales come from when nothing is calibrated: statistics, TensorRT's cache, an earlier recipe.
#pragma once

#include <CLI/CLI.hpp>
#include <optional>
#include <string>

#include "octavo/calibration_cache.h"
#include "octavo/quantize.h"
#include "octavo/stats.h"

namespace octavo::cli {

// What was read of them; one at most.
struct Scales {
  std::optional<Stats> stats;
  std::optional<CalibrationCache> cache;
  std::optional<Recipe> recipe;
};

struct ScaleSources {
  std::string stats, recipe, cache;  // paths

  void AddTo(CLI::App& command);
  int count() const { return static_cast<int>(!stats.empty()) + !recipe.empty() + !cache.empty(); }
  Result<Scales> Load() const;
  // Errors name the file.
  Result<Recipe> Decide(const Graph& prepared, const Scales& scales, const Policy& policy) const;
};

// "octavo|onnxruntime|...", for help texts.
std::string TargetNames();
std::string JoinNames(const std::vector<std::string_view>& names, std::string_view separator);

}  // namespace octavo::cli
