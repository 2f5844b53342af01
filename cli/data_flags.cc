#include "data_flags.h"

#include <fmt/format.h>

#include "console.h"

namespace octavo::cli {

Result<Dataset> OpenDataset(const std::string& folder, const std::string& preprocess,
                            const std::vector<Value>& inputs) {
  PreprocessSpec spec;
  if (!preprocess.empty()) {
    OCTAVO_ASSIGN(spec, PreprocessSpec::Parse(preprocess));
  }
  OCTAVO_ASSIGN(Dataset data, Dataset::Open(folder, inputs, spec));
  if (data.has_pictures() && preprocess.empty()) {
    return InvalidArgument(fmt::format(
        "'{}' holds pictures: say how they are prepared with --preprocess sam, imagenet or a JSON file", folder));
  }
  return data;
}

void TruncateTo(Dataset& data, int64_t count, const std::string& folder) {
  if (count <= 0) return;
  if (data.size() < static_cast<size_t>(count)) {
    PrintWarning(
        fmt::format("--count asks for {} samples, '{}' holds {}: all of them are used", count, folder, data.size()));
  }
  data.Truncate(static_cast<size_t>(count));
}

void AddDataFlag(CLI::App& command, std::string& folder) {
  command
      .add_option("--data", folder,
                  "Folder of pictures, or of .npz files, one sample each with arrays named as the inputs")
      ->type_name("DIR")
      ->required();
}

void AddPreprocessFlag(CLI::App& command, std::string& preprocess) {
  command.add_option("--preprocess", preprocess, "How pictures become inputs: sam, imagenet or a JSON file")
      ->type_name("sam|imagenet|FILE.json");
}

}  // namespace octavo::cli
