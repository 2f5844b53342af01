// --calibration-cache of commands that run a model: INT8 by TensorRT's scales, with no Q/DQ in the file.
#pragma once

#include <CLI/CLI.hpp>
#include <map>
#include <string>

#include "octavo/graph.h"

namespace octavo::cli {

struct ImplicitFlag {
  std::string cache;  // path; empty: the model runs as it is
  std::string rules;  // a target or a preset: what the scales apply to; empty: the default target

  void AddTo(CLI::App& command, const std::string& description);
  // `model` prepared for these input sizes and quantized by the cache's scales; unchanged without the flag.
  // Errors name the cache or the model's `path`, or say that
  // there are rules without a cache.
  Result<Graph> Apply(Graph model, const std::map<std::string, Dims>& input_dims, const std::string& path) const;
};

}  // namespace octavo::cli
