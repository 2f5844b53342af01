// --data, --preprocess, --count: samples for a model.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <string>
#include <vector>

#include "octavo/dataset.h"

namespace octavo::cli {

// Errors: those of Dataset::Open and PreprocessSpec::Parse; pictures without `preprocess`.
Result<Dataset> OpenDataset(const std::string& folder, const std::string& preprocess, const std::vector<Value>& inputs);

// Keeps the first `count` samples (0: all); fewer than that in the folder is a warning.
void TruncateTo(Dataset& data, int64_t count, const std::string& folder);

// --data, which must be given: samples to run a model on.
void AddDataFlag(CLI::App& command, std::string& folder);
void AddPreprocessFlag(CLI::App& command, std::string& preprocess);

}  // namespace octavo::cli
