// --data, --preprocess, --count: samples for a model.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "octavo/dataset.h"

namespace octavo::cli {

// Errors: those of Dataset::Open and PreprocessSpec::Parse; pictures without `preprocess`.
Result<Dataset> OpenDataset(const std::string& folder, const std::string& preprocess, const std::vector<Value>& inputs);

void AddPreprocessFlag(CLI::App& command, std::string& preprocess);

}  // namespace octavo::cli
