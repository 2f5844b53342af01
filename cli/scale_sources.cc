#include "scale_sources.h"

#include "octavo/targets.h"

namespace octavo::cli {

void ScaleSources::AddTo(CLI::App& command) {
  command.add_option("--stats", stats, "Statistics that 'octavo calibrate' wrote")->type_name("FILE");
  command.add_option("--recipe", recipe, "Decisions of an earlier run, perhaps edited")->type_name("FILE");
  command.add_option("--from-calibration-cache", cache, "TensorRT's calibration cache: int8 scales by tensor")
      ->type_name("FILE");
}

Result<Scales> ScaleSources::Load() const {
  Scales scales;
  if (!stats.empty()) {
    OCTAVO_ASSIGN(scales.stats, LoadStats(stats));
  }
  if (!cache.empty()) {
    OCTAVO_ASSIGN(scales.cache, LoadCalibrationCache(cache));
  }
  if (!recipe.empty()) {
    OCTAVO_ASSIGN(scales.recipe, LoadRecipe(recipe));
  }
  return scales;
}

Result<Recipe> ScaleSources::Decide(const Graph& prepared, const Scales& scales, const Policy& policy) const {
  if (scales.recipe) return *scales.recipe;
  const bool from_cache = scales.cache.has_value();
  auto decided =
      from_cache ? DecideFromCache(prepared, *scales.cache, policy) : octavo::Decide(prepared, *scales.stats, policy);
  const std::string& path = from_cache ? cache : stats;
  return decided.ok() || path.empty() ? std::move(decided) : decided.status().WithPrefix(path + ": ");
}

std::string JoinNames(const std::vector<std::string_view>& names, std::string_view separator) {
  std::string joined;
  for (const std::string_view name : names) {
    joined += (joined.empty() ? "" : std::string(separator)) + std::string(name);
  }
  return joined;
}

std::string TargetNames() {
  std::vector<std::string_view> names;
  for (const Target* target : AllTargets()) names.push_back(target->name);
  return JoinNames(names, "|");
}

}  // namespace octavo::cli
