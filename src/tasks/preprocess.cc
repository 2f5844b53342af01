#include <algorithm>
#include <cmath>
#include <cstring>
#include <new>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "base/quote.h"
#include "octavo/dataset.h"

namespace octavo {
namespace {

constexpr int64_t kMaxSpecBytes = 1 << 20;

using Json = nlohmann::json;

// Where a resized picture lands: it is scaled to width x height, of which the part from (left, top) is used.
struct Placement {
  int width, height;
  int left = 0, top = 0;
};

int RoundHalfUp(double value) { return static_cast<int>(value + 0.5); }

// Pillow's crop arithmetic in torchvision: Python's round(), half to even.
int HalfToEven(int doubled) {
  const int half = doubled / 2;
  return doubled % 2 == 0 ? half : half + half % 2;
}

Placement FitLonger(const Image& image, int width, int height) {
  const double scale = std::min(static_cast<double>(width) / image.width, static_cast<double>(height) / image.height);
  return {std::clamp(RoundHalfUp(image.width * scale), 1, width),
          std::clamp(RoundHalfUp(image.height * scale), 1, height)};
}

// The side that needs the larger scale becomes exactly crop_resize times its target; the other follows, cut to a whole
// number as torchvision's Resize does.
Placement FitShorter(const Image& image, double crop_resize, int width, int height) {
  const int64_t wide = std::max(RoundHalfUp(width * crop_resize), width);
  const int64_t high = std::max(RoundHalfUp(height * crop_resize), height);
  Placement placement{static_cast<int>(wide), static_cast<int>(high)};
  if (high * image.width >= wide * image.height) {
    placement.width = static_cast<int>(std::min<int64_t>(high * image.width / image.height, kMaxImageSide));
  } else {
    placement.height = static_cast<int>(std::min<int64_t>(wide * image.height / image.width, kMaxImageSide));
  }
  placement.left = HalfToEven(placement.width - width);
  placement.top = HalfToEven(placement.height - height);
  return placement;
}

Placement Place(const Image& image, const PreprocessSpec& spec, int width, int height) {
  switch (spec.fit) {
    case PreprocessSpec::Fit::kLongerSide:
      return FitLonger(image, width, height);
    case PreprocessSpec::Fit::kShorterCrop:
      return FitShorter(image, spec.crop_resize, width, height);
    case PreprocessSpec::Fit::kStretch:
      break;
  }
  return {width, height};
}

// Pillow's convert("L").
Image ToGrey(const Image& rgb) {
  Image grey = MakeImage(rgb.width, rgb.height, 1);
  for (size_t i = 0; i < grey.pixels.size(); ++i) {
    const uint8_t* pixel = rgb.pixels.data() + 3 * i;
    grey.pixels[i] = static_cast<uint8_t>((pixel[0] * 19595 + pixel[1] * 38470 + pixel[2] * 7471 + 0x8000) >> 16);
  }
  return grey;
}

Image ToRgb(const Image& image) {
  if (image.channels == 3) return image;
  Image rgb = MakeImage(image.width, image.height);
  const size_t channels = static_cast<size_t>(image.channels), count = image.pixels.size() / channels;
  for (size_t i = 0; i < count; ++i) {
    for (size_t c = 0; c < 3; ++c) rgb.pixels[3 * i + c] = image.pixels[i * channels + (channels == 4 ? c : 0)];
  }
  return rgb;
}

// The values of one channel for each of the 256 pixel values.
std::vector<float> ChannelTable(const PreprocessSpec& spec, size_t channel) {
  const float mean = spec.mean[spec.mean.size() == 1 ? 0 : channel];
  const float std = spec.std[spec.std.size() == 1 ? 0 : channel];
  std::vector<float> table(256);
  for (int pixel = 0; pixel < 256; ++pixel) {
    table[static_cast<size_t>(pixel)] = (static_cast<float>(pixel * spec.scale) - mean) / std;
  }
  return table;
}

void FillTensor(const Image& image, const Placement& placement, const PreprocessSpec& spec, int width, int height,
                std::span<float> out) {
  const auto channels = static_cast<size_t>(image.channels);
  const bool planar = spec.layout == PreprocessSpec::Layout::kNchw;
  const size_t plane = static_cast<size_t>(width) * static_cast<size_t>(height);
  const int used_width = std::min(width, image.width - placement.left);
  const int used_height = std::min(height, image.height - placement.top);
  std::fill(out.begin(), out.end(), spec.pad_value);
  for (size_t c = 0; c < channels; ++c) {
    const std::vector<float> table = ChannelTable(spec, c);
    const size_t source = spec.bgr ? channels - 1 - c : c;
    for (int y = 0; y < used_height; ++y) {
      const uint8_t* from = image.At(placement.left, placement.top + y) + source;
      float* to = out.data() + static_cast<size_t>(y) * static_cast<size_t>(width) * (planar ? 1 : channels) +
                  c * (planar ? plane : 1);
      for (int x = 0; x < used_width; ++x, from += channels, to += planar ? 1 : channels) *to = table[*from];
    }
  }
}

Status CheckSpec(const PreprocessSpec& spec, int channels) {
  const auto fits = [&](const std::vector<float>& values) {
    return values.size() == 1 || values.size() == static_cast<size_t>(channels);
  };
  if (!fits(spec.mean) || !fits(spec.std)) {
    return InvalidArgument("preprocessing gives " + std::to_string(spec.mean.size()) + " means and " +
                           std::to_string(spec.std.size()) + " standard deviations for a picture of " +
                           std::to_string(channels) + " channels");
  }
  return {};
}

}  // namespace

Result<Tensor> Preprocess(const Image& image, const PreprocessSpec& spec, int channels, int height, int width) {
  if (channels != 1 && channels != 3) {
    return InvalidArgument("a picture can be made into 1 or 3 channels, not " + std::to_string(channels));
  }
  OCTAVO_RETURN_IF_ERROR(CheckSpec(spec, channels));
  if (image.empty() || height < 1 || width < 1 || height > kMaxImageSide || width > kMaxImageSide) {
    return InvalidArgument("no picture can be made into " + std::to_string(height) + "x" + std::to_string(width));
  }
  try {
    const Placement placement = Place(image, spec, width, height);
    OCTAVO_ASSIGN(Image resized, Resize(ToRgb(image), placement.width, placement.height, spec.interpolation));
    if (channels == 1) resized = ToGrey(resized);
    Dims dims = {1, channels, height, width};
    if (spec.layout == PreprocessSpec::Layout::kNhwc) dims = {1, height, width, channels};
    OCTAVO_ASSIGN(Tensor tensor, Tensor::Create(DType::kFloat32, dims));
    FillTensor(resized, placement, spec, width, height, tensor.mutable_values<float>());
    return tensor;
  } catch (const std::bad_alloc&) {
    return IoError("there is not enough memory to prepare a picture");
  }
}

Result<Tensor> PreprocessFor(const Value& input, const Image& image, const PreprocessSpec& spec) {
  const std::string who = "input " + Quote(input.name) + " ";
  const bool nchw = spec.layout == PreprocessSpec::Layout::kNchw;
  if (input.dtype != DType::kFloat32 || !input.shape_known || input.dims.size() != 4) {
    return InvalidArgument(who + "takes no picture: it is not a float32 tensor of rank 4");
  }
  const int64_t channels = input.dims[nchw ? 1 : 3];
  if (channels != 1 && channels != 3 && channels != -1) {
    return InvalidArgument(who + "takes no picture: " + ToString(input.dims) + " does not have 1 or 3 channels in " +
                           (nchw ? "nchw" : "nhwc"));
  }
  if (input.dims[0] != 1 && input.dims[0] != -1) {
    return InvalidArgument(who + "takes batches of " + std::to_string(input.dims[0]) +
                           "; give .npz files with such batches instead of pictures");
  }
  const int64_t model_height = input.dims[nchw ? 2 : 1], model_width = input.dims[nchw ? 3 : 2];
  const int64_t height = model_height > 0 ? model_height : spec.height;
  const int64_t width = model_width > 0 ? model_width : spec.width;
  if (height <= 0 || width <= 0) {
    return InvalidArgument(who + "leaves the picture's size open (" + ToString(input.dims) +
                           "): name it with \"size\" in a JSON file for --preprocess");
  }
  if (height > kMaxImageSide || width > kMaxImageSide) {
    return InvalidArgument(who + "is too large for a picture: " + ToString(input.dims));
  }
  return Preprocess(image, spec, channels == 1 ? 1 : 3, static_cast<int>(height), static_cast<int>(width));
}

PreprocessSpec PreprocessSpec::Sam() {
  PreprocessSpec spec;
  spec.mean = {123.675f, 116.28f, 103.53f};
  spec.std = {58.395f, 57.12f, 57.375f};
  return spec;
}

PreprocessSpec PreprocessSpec::Imagenet() {
  PreprocessSpec spec;
  spec.fit = Fit::kShorterCrop;
  spec.scale = 1.0 / 255.0;
  spec.mean = {0.485f, 0.456f, 0.406f};
  spec.std = {0.229f, 0.224f, 0.225f};
  return spec;
}

namespace {

// One reader per key; each throws nothing and says what it wants when the value is something else.
template <typename T>
struct Choice {
  std::string_view word;
  T value;
};

template <typename T, size_t kCount>
Status ReadChoice(const Json& value, const Choice<T> (&choices)[kCount], T& out) {
  std::string wanted;
  for (const auto& choice : choices) {
    if (value.is_string() && value.get_ref<const std::string&>() == choice.word) {
      out = choice.value;
      return {};
    }
    wanted += (wanted.empty() ? "\"" : ", \"") + std::string(choice.word) + "\"";
  }
  return BadFile("must be one of " + wanted);
}

template <typename T>
Status ReadNumber(const Json& value, T& out) {
  if (!value.is_number() || !std::isfinite(static_cast<T>(value.get<double>()))) return BadFile("must be a number");
  out = static_cast<T>(value.get<double>());
  return {};
}

Status ReadChannels(const Json& value, std::vector<float>& out) {
  const Json list = value.is_array() ? value : Json::array({value});
  if (list.size() != 1 && list.size() != 3) return BadFile("must be a number or a list of 1 or 3 numbers");
  out.assign(list.size(), 0.0f);
  for (size_t i = 0; i < list.size(); ++i) OCTAVO_RETURN_IF_ERROR(ReadNumber(list[i], out[i]));
  return {};
}

Status ReadSize(const Json& value, PreprocessSpec& spec) {
  const Json list = value.is_array() ? value : Json::array({value, value});
  bool valid = list.size() == 2;
  for (const Json& side : list) {
    valid = valid && side.is_number_integer() && side.get<int64_t>() >= 1 && side.get<int64_t>() <= kMaxImageSide;
  }
  if (!valid) return BadFile("must be a side or [height, width], each 1 to " + std::to_string(kMaxImageSide));
  spec.height = list[0].get<int>();
  spec.width = list[1].get<int>();
  return {};
}

Status ReadKey(const std::string& key, const Json& value, PreprocessSpec& spec) {
  using Fit = PreprocessSpec::Fit;
  using Layout = PreprocessSpec::Layout;
  static constexpr Choice<Fit> kFits[] = {
      {"longer", Fit::kLongerSide}, {"shorter_crop", Fit::kShorterCrop}, {"stretch", Fit::kStretch}};
  static constexpr Choice<Interpolation> kInterpolations[] = {{"bilinear", Interpolation::kBilinear},
                                                              {"bilinear_plain", Interpolation::kBilinearPlain},
                                                              {"bicubic", Interpolation::kBicubic},
                                                              {"nearest", Interpolation::kNearest}};
  static constexpr Choice<Layout> kLayouts[] = {{"nchw", Layout::kNchw}, {"nhwc", Layout::kNhwc}};
  static constexpr Choice<bool> kOrders[] = {{"rgb", false}, {"bgr", true}};
  if (key == "resize") return ReadChoice(value, kFits, spec.fit);
  if (key == "interpolation") return ReadChoice(value, kInterpolations, spec.interpolation);
  if (key == "layout") return ReadChoice(value, kLayouts, spec.layout);
  if (key == "channel_order") return ReadChoice(value, kOrders, spec.bgr);
  if (key == "scale") return ReadNumber(value, spec.scale);
  if (key == "pad_value") return ReadNumber(value, spec.pad_value);
  if (key == "mean") return ReadChannels(value, spec.mean);
  if (key == "size") return ReadSize(value, spec);
  if (key == "std") {
    OCTAVO_RETURN_IF_ERROR(ReadChannels(value, spec.std));
    if (std::find(spec.std.begin(), spec.std.end(), 0.0f) != spec.std.end()) return BadFile("must not be 0");
    return {};
  }
  if (key == "crop_resize") {
    OCTAVO_RETURN_IF_ERROR(ReadNumber(value, spec.crop_resize));
    if (spec.crop_resize < 1 || spec.crop_resize > 16) return BadFile("must be 1 to 16");
    return {};
  }
  return BadFile(
      "is not a key of a preprocessing file; there are resize, crop_resize, interpolation, scale, mean, std, "
      "pad_value, layout, channel_order, size");
}

}  // namespace

Result<PreprocessSpec> PreprocessSpec::Parse(const std::string& name_or_file) {
  if (name_or_file == "sam") return Sam();
  if (name_or_file == "imagenet") return Imagenet();
  auto bytes = ReadFile(name_or_file, kMaxSpecBytes);
  if (!bytes.ok()) return bytes.status().WithPrefix("preprocessing is \"sam\", \"imagenet\" or a JSON file: ");
  const auto* text = reinterpret_cast<const char*>(bytes->data());
  const Json json = Json::parse(text, text + bytes->size(), nullptr, false);
  const std::string prefix = Quote(name_or_file) + ": ";
  if (!json.is_object()) return BadFile(prefix + "not a JSON object");
  PreprocessSpec spec;
  for (const auto& [key, value] : json.items()) {
    OCTAVO_RETURN_IF_ERROR(ReadKey(key, value, spec).WithPrefix(prefix + Quote(key) + " "));
  }
  return spec;
}

}  // namespace octavo
