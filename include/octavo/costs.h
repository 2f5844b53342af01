// What layers cost on this machine, in each precision.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "octavo/graph.h"
#include "octavo/quantize.h"
#include "octavo/status.h"
#include "octavo/tensor.h"

namespace octavo {

// "int8", "bf16", "fp16", "fp32".
std::string_view LayerPrecisionName(DType precision);
// Errors: kInvalidArgument listing the names.
Result<DType> ParseLayerPrecision(const std::string& name);

struct LayerCosts {
  std::string fingerprint;  // of the prepared graph; see ModelFingerprint
  std::string isa;          // IsaInUse() where it was measured
  int threads = 0;
  // Milliseconds of each layer, by node and precision (kInt8, kBFloat16, kFloat16, kFloat32), and of all the rest.
  std::map<std::string, std::map<DType, double>> layers;
  std::map<DType, double> rest;

  // Of a layer; 0 where nothing was measured.
  double Of(const std::string& node, DType precision) const;
  // Of the model with these precisions: its layers and the larger part of the rest.
  double Total(const std::function<DType(const std::string& node)>& precision_of) const;
};

struct MeasureCostsOptions {
  std::vector<DType> precisions = {DType::kInt8, DType::kFloat32};
  int rounds = 7;  // medians over this many runs of each, in turns; at least one
  int threads = 0;
};
// Runs the model once in each precision (all layers of the recipe alike), profiled, on `inputs`.
// Errors: those of ApplyRecipe and Session.
Result<LayerCosts> MeasureCosts(const Graph& prepared, const Recipe& recipe,
                                const std::map<std::string, Tensor>& inputs, const MeasureCostsOptions& options = {});

// {"octavo_costs": 1, "fingerprint", "isa", "threads", "rest": {"int8": ms, ..}, "layers": [{"node", "int8": ms, ..}]}.
std::string FormatCosts(const LayerCosts& costs);
// Errors: kBadFile naming `source` and the key; times outside of [0, 1e8]; a node that is listed twice.
Result<LayerCosts> ParseCosts(std::string_view text, const std::string& source);
Result<LayerCosts> LoadCosts(const std::string& path);
Status SaveCosts(const LayerCosts& costs, const std::string& path);

}  // namespace octavo
