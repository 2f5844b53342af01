#include "model_files.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <numbers>
#include <optional>
#include <random>

#include "octavo/dataset.h"
#include "octavo/image.h"
#include "octavo/npy.h"

#ifndef OCTAVO_DATA_DIR_DEFAULT
#define OCTAVO_DATA_DIR_DEFAULT ""
#endif

namespace octavo::cli {
namespace {

namespace fs = std::filesystem;

std::string DescribeInputs(const std::vector<Value>& inputs) {
  std::string list;
  for (const Value& input : inputs) list += (list.empty() ? "" : ", ") + DescribeValue(input);
  return list;
}

struct NamedText {
  const Value* input = nullptr;  // null: no name was given
  std::string text;
};

// Splits "NAME=TEXT". Names may hold '=': the longest input name that fits is taken.
NamedText SplitName(const std::string& flag, const std::vector<Value>& inputs) {
  NamedText split{nullptr, flag};
  for (const Value& input : inputs) {
    if (flag.size() <= input.name.size() || flag.compare(0, input.name.size(), input.name) != 0) continue;
    if (flag[input.name.size()] != '=') continue;
    if (split.input != nullptr && split.input->name.size() > input.name.size()) continue;
    split = {&input, flag.substr(input.name.size() + 1)};
  }
  return split;
}

Status NoSuchInput(const std::string& flag, const std::vector<Value>& inputs) {
  return InvalidArgument(
      fmt::format("'{}' names no input of the model: write NAME=...; its inputs: {}", flag, DescribeInputs(inputs)));
}

Status GivenTwice(const std::string& flag, const Value& input) {
  return InvalidArgument(fmt::format("'{}' gives input '{}' a second time", flag, input.name));
}

std::optional<Dims> ParseDims(std::string_view text) {
  Dims dims;
  if (text == "scalar") return dims;
  while (true) {
    int64_t size = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), size);
    if (error != std::errc() || size < 0) return std::nullopt;
    dims.push_back(size);
    text.remove_prefix(static_cast<size_t>(end - text.data()));
    if (text.empty()) return dims;
    if (text.front() != 'x' && text.front() != ',') return std::nullopt;
    text.remove_prefix(1);
  }
}

bool HasExtension(const std::string& file, std::string_view extension) {
  std::string found = fs::path(file).extension().string();
  std::transform(found.begin(), found.end(), found.begin(), [](unsigned char c) { return std::tolower(c); });
  return found == extension;
}

Status CheckInput(const Value& input, const Tensor& tensor, const std::string& file) {
  if (tensor.dtype() != input.dtype) {
    return InvalidArgument(fmt::format("{}: input '{}' wants {}, the file holds {}: save it with .astype(numpy.{})",
                                       file, input.name, NameOf(input.dtype), NameOf(tensor.dtype()),
                                       NameOf(input.dtype)));
  }
  bool fits = !input.shape_known || tensor.dims().size() == input.dims.size();
  for (size_t i = 0; fits && input.shape_known && i < input.dims.size(); ++i) {
    fits = input.dims[i] < 0 || input.dims[i] == tensor.dims()[i];
  }
  if (fits) return {};
  return InvalidArgument(fmt::format("{}: input '{}' wants {}, the file holds {}", file, input.name,
                                     ToString(input.dims), ToString(tensor.dims())));
}

Result<Tensor> ReadPicture(const Value& input, const std::string& file, const std::string& preprocess) {
  if (preprocess.empty()) {
    return InvalidArgument(fmt::format("{}: a picture needs --preprocess sam, imagenet or a JSON file", file));
  }
  OCTAVO_ASSIGN(const PreprocessSpec spec, PreprocessSpec::Parse(preprocess));
  OCTAVO_ASSIGN(const Image image, LoadImage(file));
  return PreprocessFor(input, image, spec);
}

Result<Tensor> ReadInput(const Value& input, const std::string& file, const std::string& preprocess) {
  if (HasExtension(file, ".npy")) return LoadNpy(file);
  if (HasExtension(file, ".npz")) {
    OCTAVO_ASSIGN(auto arrays, LoadNpz(file));
    const auto found = arrays.find(input.name);
    if (found == arrays.end()) return NotFound(fmt::format("{}: holds no array '{}'", file, input.name));
    return found->second;
  }
  return ReadPicture(input, file, preprocess);
}

Status CheckNoneMissing(const std::map<std::string, Tensor>& given, const std::vector<Value>& inputs) {
  std::vector<Value> missing;
  for (const Value& input : inputs) {
    if (given.find(input.name) == given.end()) missing.push_back(input);
  }
  if (missing.empty()) return {};
  return InvalidArgument(fmt::format("missing inputs: {}; give each with --input NAME=FILE", DescribeInputs(missing)));
}

}  // namespace

Result<std::map<std::string, Dims>> ParseInputShapes(const std::vector<std::string>& flags,
                                                     const std::vector<Value>& inputs) {
  std::map<std::string, Dims> shapes;
  for (const std::string& flag : flags) {
    NamedText split = SplitName(flag, inputs);
    auto dims = ParseDims(split.text);
    if (split.input == nullptr && inputs.size() == 1 && dims) split.input = &inputs.front();
    if (split.input == nullptr) return NoSuchInput(flag, inputs);
    if (!dims) return InvalidArgument(fmt::format("'{}' is no shape: write sizes as 1x3x512x512", split.text));
    if (!shapes.emplace(split.input->name, *std::move(dims)).second) return GivenTwice(flag, *split.input);
  }
  return shapes;
}

Result<std::map<std::string, Tensor>> ReadInputs(const std::vector<std::string>& flags,
                                                 const std::vector<Value>& inputs, const std::string& preprocess,
                                                 bool all_required) {
  std::map<std::string, Tensor> tensors;
  for (const std::string& flag : flags) {
    const NamedText split = SplitName(flag, inputs);
    std::vector<const Value*> wanted;
    if (split.input != nullptr) {
      wanted.push_back(split.input);
    } else if (inputs.size() == 1 && flag.find('=') != std::string::npos && !fs::exists(flag)) {
      return NoSuchInput(flag, inputs);
    } else if (inputs.size() == 1 || HasExtension(flag, ".npz")) {
      for (const Value& input : inputs) wanted.push_back(&input);
    } else {
      return NoSuchInput(flag, inputs);
    }
    for (const Value* input : wanted) {
      OCTAVO_ASSIGN(Tensor tensor, ReadInput(*input, split.text, preprocess));
      OCTAVO_RETURN_IF_ERROR(CheckInput(*input, tensor, split.text));
      if (!tensors.emplace(input->name, std::move(tensor)).second) return GivenTwice(flag, *input);
    }
  }
  if (all_required) OCTAVO_RETURN_IF_ERROR(CheckNoneMissing(tensors, inputs));
  return tensors;
}

Result<Tensor> MakeRandomInput(DType dtype, const Dims& dims, uint64_t seed) {
  OCTAVO_ASSIGN(Tensor tensor, Tensor::Zeros(dtype, dims));
  if (dtype != DType::kFloat32) return tensor;
  std::mt19937_64 random(seed);
  const auto uniform = [&] { return (static_cast<double>(random() >> 11) + 0.5) * 0x1p-53; };
  // Box and Muller's, because std::normal_distribution differs between standard libraries.
  for (float& value : tensor.mutable_values<float>()) {
    const double radius = std::sqrt(-2 * std::log(uniform()));
    value = static_cast<float>(radius * std::cos(2 * std::numbers::pi * uniform()));
  }
  return tensor;
}

Status InModel(const Status& status, const std::string& model) {
  const std::string prefix = model + ": ";
  return status.ok() || status.message().starts_with(prefix) ? status : status.WithPrefix(prefix);
}

std::vector<Value> InputValues(const Graph& graph) {
  std::vector<Value> inputs;
  for (const ValueId id : graph.inputs) inputs.push_back(graph.value(id));
  return inputs;
}

std::string DescribeValue(const Value& value) {
  return fmt::format("{} {} {}", value.name, NameOf(value.dtype),
                     value.shape_known ? ToString(value.dims) : "of unknown rank");
}

std::string NpyName(const std::string& output) {
  constexpr size_t kLongest = 200;  // most file systems end at 255 bytes
  std::string name = output.substr(0, kLongest);
  for (char& c : name) {
    const bool plain = std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '.' || c == '-' || c == '_';
    if (!plain) c = '_';
  }
  if (name.front() == '.') name.front() = '_';
  return name + ".npy";
}

std::string Stem(const std::string& path) { return fs::path(path).stem().string(); }

Result<std::string> FindDataFile(const std::string& name) {
  std::vector<fs::path> folders;
  if (const char* folder = std::getenv("OCTAVO_DATA_DIR"); folder != nullptr && *folder != '\0') {
    folders.emplace_back(folder);
  }
  std::error_code error;
  const fs::path program = fs::read_symlink("/proc/self/exe", error);
  if (!error) folders.push_back(program.parent_path().parent_path() / "share" / "octavo");
  if (*OCTAVO_DATA_DIR_DEFAULT != '\0') folders.emplace_back(OCTAVO_DATA_DIR_DEFAULT);
  std::string looked;
  for (const fs::path& folder : folders) {
    if (fs::is_regular_file(folder / name, error)) return (folder / name).string();
    looked += (looked.empty() ? "" : ", ") + folder.string();
  }
  return NotFound(fmt::format("{} was not found in {}: set OCTAVO_DATA_DIR to the folder that holds it", name, looked));
}

Status MakeFolder(const std::string& folder) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) return IoError(fmt::format("cannot make the output folder '{}': {}", folder, error.message()));
  return {};
}

int64_t FileBytes(const std::string& path) {
  std::error_code error;
  const auto bytes = std::filesystem::file_size(path, error);
  return error ? 0 : static_cast<int64_t>(bytes);
}

}  // namespace octavo::cli
