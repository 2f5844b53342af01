#include "implicit_flag.h"

#include "octavo/calibration_cache.h"
#include "octavo/quantize.h"

namespace octavo::cli {

void ImplicitFlag::AddTo(CLI::App& command, const std::string& description) {
  command.add_option("--calibration-cache", cache, description)->type_name("FILE");
}

Result<Graph> ImplicitFlag::Apply(Graph model, const std::map<std::string, Dims>& input_dims,
                                  const std::string& path) const {
  if (cache.empty()) return model;
  OCTAVO_ASSIGN(const CalibrationCache scales, LoadCalibrationCache(cache));
  const auto prepared = PrepareForQuantization(std::move(model), input_dims);
  if (!prepared.ok()) return prepared.status().WithPrefix(path + ": ");
  auto quantized = QuantizeImplicit(*prepared, scales);
  if (!quantized.ok()) return quantized.status().WithPrefix(cache + ": ");
  return quantized;
}

}  // namespace octavo::cli
