// Labels of the samples that judge.
#pragma once

#include <algorithm>
#include <filesystem>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/quote.h"
#include "octavo/dataset.h"
#include "octavo/labels.h"
#include "octavo/status.h"

namespace octavo {

// By sample: the label of its file, where there is one. Errors: labels, but for no sample.
inline Result<std::vector<std::optional<std::string>>> LabelsOf(const Dataset& samples, const LabelBook& labels) {
  std::vector<std::optional<std::string>> found(samples.size());
  bool any = labels.empty();
  for (size_t i = 0; i < samples.size(); ++i) {
    const auto label = labels.find(std::filesystem::path(samples.name(i)).filename().string());
    if (label == labels.end()) continue;
    found[i] = label->second;
    any = true;
  }
  if (!any) {
    return InvalidArgument("the labels name none of the samples that judge: they are of " +
                           Quote(labels.begin()->first) + " and others, samples are " + Quote(samples.name(0)) +
                           " and others");
  }
  return found;
}

}  // namespace octavo
