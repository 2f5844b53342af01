#include "data_flags.h"

#include <fmt/format.h>

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

void AddPreprocessFlag(CLI::App& command, std::string& preprocess) {
  command.add_option("--preprocess", preprocess, "How pictures become inputs: sam, imagenet or a JSON file")
      ->type_name("sam|imagenet|FILE.json");
}

}  // namespace octavo::cli
