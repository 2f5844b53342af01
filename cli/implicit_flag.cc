#include "implicit_flag.h"

#include <algorithm>

#include "octavo/calibration_cache.h"
#include "octavo/quantize.h"
#include "scale_sources.h"

namespace octavo::cli {

void ImplicitFlag::AddTo(CLI::App& command, const std::string& description) {
  command.add_option("--calibration-cache", cache, description)->type_name("FILE");
  command
      .add_option("--cache-rules", rules,
                  "By whose rules the cache's scales quantize: a target, or tensorrt8-implicit for everything that "
                  "TensorRT 8 keeps in INT8 (default: octavo)")
      ->type_name(TargetNames() + "|" + JoinNames(PresetNames(), "|"));
}

Result<Graph> ImplicitFlag::Apply(Graph model, const std::map<std::string, Dims>& input_dims,
                                  const std::string& path) const {
  if (cache.empty() && !rules.empty()) return InvalidArgument("--cache-rules needs --calibration-cache");
  if (cache.empty()) return model;
  Policy policy;
  const std::vector<std::string_view> presets = PresetNames();
  const bool is_preset = std::find(presets.begin(), presets.end(), rules) != presets.end();
  if (!rules.empty()) (is_preset ? policy.preset : policy.target) = rules;
  OCTAVO_ASSIGN(const CalibrationCache scales, LoadCalibrationCache(cache));
  const auto prepared = PrepareForQuantization(std::move(model), input_dims);
  if (!prepared.ok()) return prepared.status().WithPrefix(path + ": ");
  auto quantized = QuantizeImplicit(*prepared, scales, policy);
  if (!quantized.ok()) return quantized.status().WithPrefix(cache + ": ");
  return quantized;
}

}  // namespace octavo::cli
