#include "octavo/dataset.h"

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <string_view>
#include <system_error>
#include <utility>

#include "base/quote.h"
#include "octavo/npy.h"

namespace octavo {
namespace {

namespace fs = std::filesystem;

enum class Kind { kOther, kPicture, kArrays };

Kind KindOf(std::string name) {
  std::transform(name.begin(), name.end(), name.begin(),
                 [](char c) { return static_cast<char>(std::tolower(static_cast<unsigned char>(c))); });
  if (name.ends_with(".npz")) return Kind::kArrays;
  if (name.ends_with(".segments.png")) return Kind::kOther;
  for (const std::string_view suffix : {".jpg", ".jpeg", ".png"}) {
    if (name.ends_with(suffix)) return Kind::kPicture;
  }
  return Kind::kOther;
}

struct Listing {
  std::vector<std::string> pictures, arrays;
};

Result<Listing> List(const std::string& folder) {
  Listing listing;
  std::error_code error;
  fs::directory_iterator entries(folder, error);
  for (; !error && entries != fs::directory_iterator(); entries.increment(error)) {
    std::error_code ignored;
    if (!entries->is_regular_file(ignored)) continue;
    std::string name = entries->path().filename().string();
    const Kind kind = KindOf(name);
    if (kind == Kind::kPicture)
      listing.pictures.push_back(std::move(name));
    else if (kind == Kind::kArrays)
      listing.arrays.push_back(std::move(name));
  }
  if (error == std::errc::no_such_file_or_directory) return NotFound(Quote(folder) + ": no such folder");
  if (error) return IoError(Quote(folder) + ": cannot be listed: " + error.message());
  std::sort(listing.pictures.begin(), listing.pictures.end());
  std::sort(listing.arrays.begin(), listing.arrays.end());
  return listing;
}

std::string NamesOf(const std::vector<Value>& inputs) {
  std::string names;
  for (const Value& input : inputs) names += (names.empty() ? "" : ", ") + Quote(input.name);
  return names;
}

Status CheckArray(const Value& input, const Tensor& array) {
  if (input.dtype != DType::kUndefined && array.dtype() != input.dtype) {
    return InvalidArgument("is " + std::string(NameOf(array.dtype())) + ", the model takes " +
                           std::string(NameOf(input.dtype)) + "; convert it with .astype(\"" +
                           std::string(NameOf(input.dtype)) + "\")");
  }
  if (!input.shape_known) return {};
  bool fits = array.dims().size() == input.dims.size();
  for (size_t d = 0; fits && d < input.dims.size(); ++d) fits = input.dims[d] < 0 || input.dims[d] == array.dims()[d];
  if (fits) return {};
  return InvalidArgument("is " + ToString(array.dims()) + ", the model takes " + ToString(input.dims));
}

}  // namespace

Result<Dataset> Dataset::Open(const std::string& folder, const std::vector<Value>& inputs, const PreprocessSpec& spec) {
  try {
    OCTAVO_ASSIGN(Listing listing, List(folder));
    const std::string prefix = Quote(folder) + ": ";
    if (listing.pictures.empty() && listing.arrays.empty()) {
      return NotFound(prefix + "no .jpg, .jpeg, .png or .npz file is in it");
    }
    if (!listing.pictures.empty() && !listing.arrays.empty()) {
      return InvalidArgument(prefix + "pictures (" + Quote(listing.pictures[0]) + ") and .npz files (" +
                             Quote(listing.arrays[0]) + ") are mixed; keep one kind");
    }
    Dataset dataset;
    dataset.folder_ = folder;
    dataset.spec_ = spec;
    dataset.pictures_ = !listing.pictures.empty();
    dataset.files_ = std::move(dataset.pictures_ ? listing.pictures : listing.arrays);
    for (const Value& input : inputs) {
      Value declared = input;
      declared.constant = Tensor();
      dataset.inputs_.push_back(std::move(declared));
    }
    if (dataset.pictures_) OCTAVO_RETURN_IF_ERROR(dataset.CheckTakesPictures().WithPrefix(prefix));
    return dataset;
  } catch (const std::exception& error) {
    return IoError(Quote(folder) + ": cannot be listed: " + error.what());
  }
}

Status Dataset::CheckTakesPictures() const {
  if (inputs_.size() != 1) {
    return InvalidArgument("pictures are in it, but the model has " + std::to_string(inputs_.size()) + " inputs (" +
                           NamesOf(inputs_) + "); give .npz files with an array for each");
  }
  // A picture of one pixel shows whether the input takes any.
  return PreprocessFor(inputs_[0], MakeImage(1, 1), spec_).status();
}

std::string Dataset::path(size_t i) const { return (fs::path(folder_) / files_[i]).string(); }

Result<std::map<std::string, Tensor>> Dataset::Load(size_t i) const {
  if (i >= files_.size()) return InvalidArgument("there is no sample " + std::to_string(i));
  if (!samples_.empty()) return samples_[i];
  const std::string file = path(i);
  if (!pictures_) return LoadArrays(file);
  OCTAVO_ASSIGN(const Image image, LoadImage(file));
  auto tensor = PreprocessFor(inputs_[0], image, spec_);
  if (!tensor.ok()) return tensor.status().WithPrefix(Quote(file) + ": ");
  return std::map<std::string, Tensor>{{inputs_[0].name, *std::move(tensor)}};
}

Result<std::map<std::string, Tensor>> Dataset::LoadArrays(const std::string& file) const {
  OCTAVO_ASSIGN(auto arrays, LoadNpz(file));
  for (const Value& input : inputs_) {
    const auto array = arrays.find(input.name);
    if (array == arrays.end()) {
      return InvalidArgument(Quote(file) + ": array " + Quote(input.name) + " is missing; the model takes " +
                             NamesOf(inputs_));
    }
    OCTAVO_RETURN_IF_ERROR(
        CheckArray(input, array->second).WithPrefix(Quote(file) + ": array " + Quote(input.name) + " "));
  }
  for (const auto& entry : arrays) {
    const bool wanted =
        std::any_of(inputs_.begin(), inputs_.end(), [&](const Value& input) { return input.name == entry.first; });
    if (!wanted) {
      return InvalidArgument(Quote(file) + ": array " + Quote(entry.first) + " is no input of the model, which takes " +
                             NamesOf(inputs_));
    }
  }
  return arrays;
}

Result<Dataset> Dataset::FromSamples(std::vector<std::string> names,
                                     std::vector<std::map<std::string, Tensor>> samples) {
  if (samples.empty() || names.size() != samples.size()) {
    return InvalidArgument(std::to_string(samples.size()) + " samples with " + std::to_string(names.size()) + " names");
  }
  Dataset dataset;
  dataset.files_ = std::move(names);
  dataset.samples_ = std::move(samples);
  return dataset;
}

Dataset Dataset::Select(std::span<const size_t> indices) const {
  Dataset selected = *this;
  selected.files_.clear();
  selected.samples_.clear();
  for (const size_t i : indices) {
    selected.files_.push_back(files_[i]);
    if (!samples_.empty()) selected.samples_.push_back(samples_[i]);
  }
  return selected;
}

void Dataset::Truncate(size_t count) {
  if (count >= files_.size()) return;
  files_.resize(count);
  if (!samples_.empty()) samples_.resize(count);
}

}  // namespace octavo
