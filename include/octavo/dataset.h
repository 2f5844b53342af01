// Samples for a model: a folder of pictures that are prepared for it, or of .npz files that hold its inputs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "octavo/graph.h"
#include "octavo/image.h"
#include "octavo/status.h"
#include "octavo/tensor.h"

namespace octavo {

// How a picture becomes a model's input: resize, then (pixel * scale - mean) / std per channel, then pad.
struct PreprocessSpec {
  enum class Fit : uint8_t {
    kLongerSide,   // the whole picture fits; what is left at the right and at the bottom is padded after normalization
    kShorterCrop,  // the shorter side becomes crop_resize times the input's side; the middle is cut out
    kStretch,      // both sides to the input's, whatever the shape
  };
  enum class Layout : uint8_t { kNchw, kNhwc };

  Fit fit = Fit::kLongerSide;
  Interpolation interpolation = Interpolation::kBilinear;
  double crop_resize = 256.0 / 224.0;  // kShorterCrop only
  double scale = 1.0;                  // applied to pixels 0..255
  std::vector<float> mean = {0};       // in units of scaled pixels, in the order of the model's channels; one value
  std::vector<float> std = {1};        // stands for all channels
  float pad_value = 0;                 // in units of the model's input
  Layout layout = Layout::kNchw;
  bool bgr = false;  // the model's channels are blue, green, red
  int height = 0;    // the size to prepare for where the model's is dynamic; 0: the model's
  int width = 0;

  // SAM's: longer side to the input's, bilinear (antialiased), minus (123.675, 116.28, 103.53), over
  // (58.395, 57.12, 57.375), zeros right and bottom.
  static PreprocessSpec Sam();
  // torchvision's ImageNet evaluation: shorter side to size * 256 / 224, bilinear, centre crop, pixels / 255,
  // minus (0.485, 0.456, 0.406), over (0.229, 0.224, 0.225).
  static PreprocessSpec Imagenet();
  // "sam", "imagenet" or the path of a JSON file, an object with any of these keys (left out: as the defaults above):
  //   "resize": "longer" | "shorter_crop" | "stretch"      "crop_resize": number >= 1
  //   "interpolation": "bilinear" | "bilinear_plain" | "bicubic" | "nearest"
  //   "scale": number     "mean": number or [..]     "std": number or [..], not 0     "pad_value": number
  //   "layout": "nchw" | "nhwc"     "channel_order": "rgb" | "bgr"     "size": side or [height, width]
  // Errors: kNotFound for a file that is not there, kBadFile naming the file and the key (unknown keys too).
  static Result<PreprocessSpec> Parse(const std::string& name_or_file);
};

// The input of a model of `height` x `width` and `channels` (3; or 1: Pillow's luminance) made of one picture:
// float32, (1, channels, height, width) or (1, height, width, channels).
Result<Tensor> Preprocess(const Image& image, const PreprocessSpec& spec, int channels, int height, int width);

// Finds the size in a rank-4 `input` (or in `spec` where the input's is dynamic) and prepares the picture for it.
// Errors: kInvalidArgument naming the input when it takes no picture (not rank 4, not float32, not 1 or 3 channels, a
// fixed batch other than 1) or its size is known nowhere.
Result<Tensor> PreprocessFor(const Value& input, const Image& image, const PreprocessSpec& spec);

// A folder of samples, loaded one by one as they are asked for. Load() may be called from several threads.
class Dataset {
 public:
  // Looks at names only, in alphabetical order: .jpg, .jpeg, .png (not *.segments.png) or .npz, case ignored; other
  // files are passed over, subfolders are not entered. Pictures need a model with exactly one input, which takes a
  // picture (PreprocessFor). Errors, naming the folder: not there, no sample in it, pictures and .npz mixed, pictures
  // for a model that takes none.
  static Result<Dataset> Open(const std::string& folder, const std::vector<Value>& inputs, const PreprocessSpec& spec);

  size_t size() const { return files_.size(); }
  // File name without folder.
  const std::string& name(size_t i) const { return files_[i]; }
  std::string path(size_t i) const;
  bool has_pictures() const { return pictures_; }

  // Sample `i`, by input name. From .npz: exactly the model's inputs, of its types and of dimensions that fit; errors
  // name the file and the array.
  Result<std::map<std::string, Tensor>> Load(size_t i) const;

  // Samples that are in memory already, by input name; `names` stand for the files in messages.
  // Error: kInvalidArgument when there is none, or their numbers differ.
  static Result<Dataset> FromSamples(std::vector<std::string> names,
                                     std::vector<std::map<std::string, Tensor>> samples);

  // Keeps only the first `count` samples.
  void Truncate(size_t count);
  // The samples of these indices (below size()), in this order.
  Dataset Select(std::span<const size_t> indices) const;

 private:
  Status CheckTakesPictures() const;
  Result<std::map<std::string, Tensor>> LoadArrays(const std::string& file) const;

  std::string folder_;
  std::vector<std::string> files_;
  std::vector<std::map<std::string, Tensor>> samples_;  // of FromSamples, as many as files_; else empty
  std::vector<Value> inputs_;                           // names, types, dims; no constants
  PreprocessSpec spec_;
  bool pictures_ = false;
};

}  // namespace octavo
