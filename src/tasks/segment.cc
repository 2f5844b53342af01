#include "octavo/segment.h"

#include <algorithm>
#include <limits>
#include <new>
#include <utility>

#include "base/quote.h"
#include "octavo/dataset.h"
#include "tasks/plane_resize.h"

namespace octavo {
namespace {

// What the published decoders were exported for: 64 x 64 x 256 embeddings, coordinates up to 1024, whatever the
// side of the encoder's input.
constexpr int64_t kPublishedChannels = 256, kPublishedSide = 64;
constexpr int kPublishedFrame = 1024;
constexpr float kForeground = 1, kBoxCorner = 2, kPadding = -1;
constexpr int kMaxSide = 8192;

const Value* FindInput(const SegmentModel& model, const std::string& name) {
  for (const Value& input : model.inputs) {
    if (input.name == name) return &input;
  }
  return nullptr;
}

// A size of an input's dimension; 0 where it is dynamic or absent.
int64_t FixedDim(const Value& input, size_t dim) {
  return input.shape_known && dim < input.dims.size() ? std::max<int64_t>(input.dims[dim], 0) : 0;
}

Result<int> EncoderSide(const SegmentModel& encoder, int side_option) {
  if (encoder.inputs.size() != 1 || encoder.output_names.empty()) {
    return InvalidArgument("the encoder must have one input, a picture, and an output; it has " +
                           std::to_string(encoder.inputs.size()) + " inputs");
  }
  const Value& input = encoder.inputs[0];
  const std::string who = "the encoder's input " + Quote(input.name) + " ";
  if (input.dtype != DType::kFloat32 || !input.shape_known || input.dims.size() != 4 ||
      (input.dims[1] != 3 && input.dims[1] != -1)) {
    return InvalidArgument(who + "must be float32, (1, 3, side, side); it is " + std::string(NameOf(input.dtype)) +
                           " " + ToString(input.dims));
  }
  const int64_t height = FixedDim(input, 2), width = FixedDim(input, 3);
  if (height != 0 && width != 0 && height != width) {
    return InvalidArgument(who + "must be square; it is " + ToString(input.dims));
  }
  const int64_t side = std::max(height, width) != 0 ? std::max(height, width) : side_option;
  if (side < 1 || side > kMaxSide) {
    return InvalidArgument(who + "leaves the picture's side open; give it (256, 512 or 1024)");
  }
  return static_cast<int>(side);
}

Status CheckDecoder(const SegmentModel& decoder) {
  for (const char* name : {"image_embeddings", "point_coords", "point_labels"}) {
    const Value* input = FindInput(decoder, name);
    if (input == nullptr) return InvalidArgument("the decoder has no input " + Quote(name));
    if (input->dtype != DType::kFloat32) {
      return InvalidArgument("the decoder's input " + Quote(name) + " must be float32; it is " +
                             std::string(NameOf(input->dtype)));
    }
  }
  for (const Value& input : decoder.inputs) {
    bool known = false;
    for (const char* name :
         {"image_embeddings", "point_coords", "point_labels", "mask_input", "has_mask_input", "orig_im_size"}) {
      known = known || input.name == name;
    }
    if (!known)
      return InvalidArgument("the decoder's input " + Quote(input.name) + " is none that SAM's decoders have");
  }
  return {};
}

Result<size_t> FindOutput(const SegmentModel& decoder, std::initializer_list<std::string_view> names) {
  for (const std::string_view name : names) {
    const auto found = std::find(decoder.output_names.begin(), decoder.output_names.end(), name);
    if (found != decoder.output_names.end()) return static_cast<size_t>(found - decoder.output_names.begin());
  }
  return InvalidArgument("the decoder has no output " + Quote(*(names.end() - 1)));
}

int64_t PointCount(const Prompt& prompt) { return prompt.box ? 2 : static_cast<int64_t>(prompt.points.size()); }

// The prompt's points in the frame's pixels, with SAM's labels, padded to `points`.
void PutPrompt(const Prompt& prompt, const SamFrame& frame, int64_t points, float* coords, float* labels) {
  const auto put = [&](double x, double y, float label) {
    *coords++ = static_cast<float>(x * frame.scale_x);
    *coords++ = static_cast<float>(y * frame.scale_y);
    *labels++ = label;
  };
  if (prompt.box) {
    put(prompt.box->x0, prompt.box->y0, kBoxCorner);
    put(prompt.box->x1, prompt.box->y1, kBoxCorner + 1);
  }
  for (const Point& point : prompt.points) put(point.x, point.y, point.label == 1 ? kForeground : 0);
  for (int64_t i = PointCount(prompt); i < points; ++i) put(0, 0, kPadding);
}

// A decoder of one mask has chosen already. Otherwise mask 0 is for prompts without doubt, boxes; the others are the
// readings of a point (part, whole, ...), and the model says which it believes.
int ChooseMask(const Prompt& prompt, std::span<const float> predictions) {
  if (prompt.box || predictions.size() == 1) return 0;
  return static_cast<int>(std::max_element(predictions.begin() + 1, predictions.end()) - predictions.begin());
}

// How far the chosen mask's prediction lies above that of the next one that could have been chosen.
float LeadOf(const Prompt& prompt, std::span<const float> predictions, int chosen) {
  if (prompt.box || predictions.size() < 3) return 1;
  float next = -std::numeric_limits<float>::infinity();
  for (size_t i = 1; i < predictions.size(); ++i) {
    if (static_cast<int>(i) != chosen) next = std::max(next, predictions[i]);
  }
  return predictions[static_cast<size_t>(chosen)] - next;
}

}  // namespace

SamFrame FitSamFrame(int width, int height, int side) {
  const double scale = static_cast<double>(side) / std::max(width, height);
  SamFrame frame{side, std::max(static_cast<int>(width * scale + 0.5), 1),
                 std::max(static_cast<int>(height * scale + 0.5), 1)};
  frame.scale_x = static_cast<double>(frame.width) / width;
  frame.scale_y = static_cast<double>(frame.height) / height;
  return frame;
}

Result<Tensor> SamPreprocess(const Image& image, int side) {
  return Preprocess(image, PreprocessSpec::Sam(), 3, side, side);
}

Result<Image> SamPostprocess(std::span<const float> logits, int low_height, int low_width, const SamFrame& frame,
                             int width, int height) {
  if (low_height < 1 || low_width < 1 || width < 1 || height < 1 || frame.side < 1 || frame.width > frame.side ||
      frame.height > frame.side || frame.width < 1 || frame.height < 1 ||
      logits.size() != static_cast<size_t>(low_height) * static_cast<size_t>(low_width)) {
    return InvalidArgument("mask logits of " + std::to_string(low_height) + "x" + std::to_string(low_width) +
                           " do not fit the picture");
  }
  try {
    std::vector<float> framed(static_cast<size_t>(frame.side) * static_cast<size_t>(frame.side));
    ResizePlane(logits, low_height, low_width, framed, frame.side, frame.side);
    Image mask = MakeImage(width, height, 1);
    const PlaneView picture{framed.data(), frame.height, frame.width, frame.side};
    ForEachResizedRow(picture, height, width, [&](int y, std::span<const float> row) {
      std::transform(row.begin(), row.end(), mask.At(0, y),
                     [](float logit) { return logit > 0 ? uint8_t{255} : uint8_t{0}; });
    });
    return mask;
  } catch (const std::bad_alloc&) {
    return IoError("there is not enough memory for a mask of " + std::to_string(width) + "x" + std::to_string(height));
  }
}

Result<Segmenter> Segmenter::Create(SegmentModel encoder, SegmentModel decoder, const SegmenterOptions& options) {
  Segmenter segmenter;
  OCTAVO_ASSIGN(segmenter.input_side_, EncoderSide(encoder, options.input_side));
  OCTAVO_RETURN_IF_ERROR(CheckDecoder(decoder));
  OCTAVO_ASSIGN(segmenter.masks_output_, FindOutput(decoder, {"low_res_masks", "masks"}));
  OCTAVO_ASSIGN(segmenter.iou_output_, FindOutput(decoder, {"iou_predictions"}));
  if (options.coordinate_frame < 0 || options.coordinate_frame > kMaxSide) {
    return InvalidArgument("a coordinate frame of " + std::to_string(options.coordinate_frame) + " pixels");
  }
  const Value& coords = *FindInput(decoder, "point_coords");
  segmenter.fixed_batch_ = FixedDim(coords, 0);
  segmenter.fixed_points_ = FixedDim(coords, 1);
  segmenter.frame_option_ = options.coordinate_frame;
  segmenter.encoder_ = std::move(encoder);
  segmenter.decoder_ = std::move(decoder);
  return segmenter;
}

Status Segmenter::Encode(const Image& image) {
  embeddings_ = Tensor();
  OCTAVO_ASSIGN(Tensor input, SamPreprocess(image, input_side_));
  OCTAVO_ASSIGN(std::vector<Tensor> outputs, encoder_.run({{encoder_.inputs[0].name, std::move(input)}}));
  return Use(outputs.empty() ? Tensor() : std::move(outputs[0]), image.width, image.height);
}

Status Segmenter::Use(Tensor embeddings, int width, int height) {
  if (embeddings.dtype() != DType::kFloat32 || embeddings.rank() != 4 || embeddings.dims()[0] != 1) {
    return InvalidArgument("the encoder must give float32 embeddings (1, channels, height, width)");
  }
  const Dims& dims = embeddings.dims();
  const bool published = dims[1] == kPublishedChannels && dims[2] == kPublishedSide && dims[3] == kPublishedSide;
  coordinate_frame_ = frame_option_ != 0 ? frame_option_ : published ? kPublishedFrame : input_side_;
  embeddings_ = std::move(embeddings);
  width_ = width;
  height_ = height;
  return {};
}

Result<Segmentation> Segmenter::Predict(const std::vector<Prompt>& prompts) {
  if (!embeddings_.defined()) return InvalidArgument("no picture was encoded");
  if (prompts.empty()) return InvalidArgument("no prompt was given: at least one box or point is wanted");
  Segmentation result;
  std::vector<Prompt> checked;
  std::map<int64_t, std::vector<size_t>> by_points;
  for (size_t i = 0; i < prompts.size(); ++i) {
    auto prompt = CheckPrompt(prompts[i], width_, height_, &result.warnings);
    if (!prompt.ok()) {
      return prompts.size() == 1 ? prompt.status()
                                 : prompt.status().WithPrefix("prompt " + std::to_string(i + 1) + ": ");
    }
    if (fixed_points_ != 0 && PointCount(*prompt) > fixed_points_) {
      return InvalidArgument("the decoder takes at most " + std::to_string(fixed_points_) + " points");
    }
    by_points[fixed_points_ != 0 ? fixed_points_ : PointCount(*prompt)].push_back(i);
    checked.push_back(*std::move(prompt));
  }
  result.masks.resize(prompts.size());
  for (const auto& [points, which] : by_points) {
    const size_t batch = fixed_batch_ != 0 ? static_cast<size_t>(fixed_batch_) : which.size();
    for (size_t first = 0; first < which.size(); first += batch) {
      const std::span<const size_t> part = std::span(which).subspan(first, std::min(batch, which.size() - first));
      OCTAVO_RETURN_IF_ERROR(Decode(checked, part, points, result.masks));
    }
  }
  return result;
}

Status Segmenter::Decode(const std::vector<Prompt>& prompts, std::span<const size_t> which, int64_t points,
                         std::vector<SegmentedMask>& masks) {
  OCTAVO_ASSIGN(const auto inputs, DecoderInputs(prompts, which, points));
  OCTAVO_ASSIGN(const std::vector<Tensor> outputs, decoder_.run(inputs));
  return TakeAnswers(outputs, prompts, which, masks);
}

// A decoder with a fixed batch is given its last prompt again to fill up; TakeAnswers passes over the surplus.
Result<std::map<std::string, Tensor>> Segmenter::DecoderInputs(const std::vector<Prompt>& prompts,
                                                               std::span<const size_t> which, int64_t points) const {
  const int64_t batch = fixed_batch_ != 0 ? fixed_batch_ : static_cast<int64_t>(which.size());
  OCTAVO_ASSIGN(Tensor coords, Tensor::Create(DType::kFloat32, {batch, points, 2}));
  OCTAVO_ASSIGN(Tensor labels, Tensor::Create(DType::kFloat32, {batch, points}));
  const SamFrame frame = FitSamFrame(width_, height_, coordinate_frame_);
  for (int64_t i = 0; i < batch; ++i) {
    const Prompt& prompt = prompts[which[std::min(static_cast<size_t>(i), which.size() - 1)]];
    PutPrompt(prompt, frame, points, coords.mutable_values<float>().data() + i * points * 2,
              labels.mutable_values<float>().data() + i * points);
  }
  std::map<std::string, Tensor> inputs = {
      {"image_embeddings", embeddings_}, {"point_coords", coords}, {"point_labels", labels}};
  if (FindInput(decoder_, "mask_input") != nullptr) {
    // SAM's mask prompts have four times the embeddings' side.
    const Dims dims = {1, 1, 4 * embeddings_.dims()[2], 4 * embeddings_.dims()[3]};
    OCTAVO_ASSIGN(inputs["mask_input"], Tensor::Zeros(DType::kFloat32, dims));
  }
  if (FindInput(decoder_, "has_mask_input") != nullptr) {
    OCTAVO_ASSIGN(inputs["has_mask_input"], Tensor::Zeros(DType::kFloat32, {1}));
  }
  if (FindInput(decoder_, "orig_im_size") != nullptr) {
    inputs["orig_im_size"] = Tensor::FromVector<float>({2}, {static_cast<float>(height_), static_cast<float>(width_)});
  }
  return inputs;
}

Status Segmenter::TakeAnswers(const std::vector<Tensor>& outputs, const std::vector<Prompt>& prompts,
                              std::span<const size_t> which, std::vector<SegmentedMask>& masks) const {
  if (outputs.size() <= std::max(masks_output_, iou_output_)) return InternalError("the decoder gave too few outputs");
  const Tensor& logits = outputs[masks_output_];
  const Tensor& predictions = outputs[iou_output_];
  const auto batch = static_cast<int64_t>(which.size());
  if (logits.dtype() != DType::kFloat32 || predictions.dtype() != DType::kFloat32 || logits.rank() != 4 ||
      predictions.rank() != 2 || logits.dims()[0] < batch || predictions.dims()[0] < batch || logits.dims()[1] < 1 ||
      logits.dims()[1] != predictions.dims()[1] || logits.dims()[2] > kMaxImageSide ||
      logits.dims()[3] > kMaxImageSide) {
    return InvalidArgument(
        "the decoder must give masks (prompts, masks, height, width) and predictions (prompts, masks); it gave " +
        ToString(logits.dims()) + " and " + ToString(predictions.dims()));
  }
  const auto count = static_cast<size_t>(logits.dims()[1]);
  const auto low_height = static_cast<int>(logits.dims()[2]), low_width = static_cast<int>(logits.dims()[3]);
  const size_t plane = static_cast<size_t>(low_height) * static_cast<size_t>(low_width);
  const SamFrame frame = FitSamFrame(width_, height_, coordinate_frame_);
  for (size_t i = 0; i < which.size(); ++i) {
    const auto scores = predictions.values<float>().subspan(i * count, count);
    SegmentedMask& answer = masks[which[i]];
    answer.mask_index = ChooseMask(prompts[which[i]], scores);
    const auto chosen = static_cast<size_t>(answer.mask_index);
    answer.iou_prediction = scores[chosen];
    answer.lead = LeadOf(prompts[which[i]], scores, answer.mask_index);
    const auto chosen_logits = logits.values<float>().subspan((i * count + chosen) * plane, plane);
    OCTAVO_ASSIGN(answer.mask, SamPostprocess(chosen_logits, low_height, low_width, frame, width_, height_));
    answer.area = std::count_if(answer.mask.pixels.begin(), answer.mask.pixels.end(), [](uint8_t p) { return p != 0; });
  }
  return {};
}

Result<double> MaskIou(const Image& a, const Image& b) {
  if (a.channels != 1 || b.channels != 1 || a.width != b.width || a.height != b.height ||
      a.pixels.size() != b.pixels.size()) {
    return InvalidArgument("masks of one channel and one size are wanted");
  }
  int64_t both = 0, either = 0;
  for (size_t i = 0; i < a.pixels.size(); ++i) {
    both += a.pixels[i] != 0 && b.pixels[i] != 0;
    either += a.pixels[i] != 0 || b.pixels[i] != 0;
  }
  return either == 0 ? 1.0 : static_cast<double>(both) / static_cast<double>(either);
}

}  // namespace octavo
