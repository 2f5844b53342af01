#include <algorithm>
#include <bit>
#include <cmath>
#include <filesystem>
#include <map>
#include <optional>

#include "base/quote.h"
#include "octavo/image.h"
#include "octavo/segment.h"
#include "octavo/session.h"
#include "octavo/task.h"

namespace octavo {
namespace {

namespace fs = std::filesystem;

// A point's mask is asked about when it is neither a speck nor the whole picture, and not another's again; and when the
// model is in no doubt which of its masks is meant: else the least noise picks another, which says nothing of either.
constexpr double kLeastShare = 0.001, kMostShare = 0.95, kSameMask = 0.7;
constexpr float kLeastLead = 0.02f;

constexpr std::string_view kTruthName = "IoU with segments that people drew";

// One bit per pixel: masks of large pictures are kept for as long as candidates are judged.
struct PackedMask {
  std::vector<uint64_t> bits;
};

template <typename IsSet>
PackedMask Pack(size_t pixels, IsSet&& is_set) {
  PackedMask mask{std::vector<uint64_t>((pixels + 63) / 64)};
  for (size_t i = 0; i < pixels; ++i) mask.bits[i / 64] |= uint64_t{is_set(i)} << (i % 64);
  return mask;
}

PackedMask Pack(const Image& mask) {
  return Pack(mask.pixels.size(), [&](size_t i) { return mask.pixels[i] != 0; });
}

double Iou(const PackedMask& a, const PackedMask& b) {
  int64_t both = 0, either = 0;
  for (size_t i = 0; i < a.bits.size(); ++i) {
    both += std::popcount(a.bits[i] & b.bits[i]);
    either += std::popcount(a.bits[i] | b.bits[i]);
  }
  return either == 0 ? 1 : static_cast<double>(both) / static_cast<double>(either);
}

SegmentModel ModelOf(std::shared_ptr<Session> session) {
  std::vector<Value> inputs = session->inputs();
  std::vector<std::string> outputs = session->output_names();
  return {std::move(inputs), std::move(outputs),
          [session](const std::map<std::string, Tensor>& given) { return session->Run(given); }};
}

// An encoder that never runs: embeddings come from Segmenter::Use.
SegmentModel EncoderOf(const Value& input) {
  return {{input}, {"image_embeddings"}, [](const auto&) -> Result<std::vector<Tensor>> {
            return InternalError("embeddings are given");
          }};
}

Result<Segmenter> OpenDecoder(const Value& encoder_input, const Graph& decoder, int coordinate_frame, int threads) {
  SessionOptions session_options;
  session_options.threads = threads;
  OCTAVO_ASSIGN(Session session, Session::Create(decoder, session_options));
  SegmenterOptions options;
  options.coordinate_frame = coordinate_frame;
  return Segmenter::Create(EncoderOf(encoder_input), ModelOf(std::make_shared<Session>(std::move(session))), options);
}

// The box around what is set; pixels that are set at its edges lie inside.
Box BoxAround(const Image& mask) {
  Box box{static_cast<double>(mask.width), static_cast<double>(mask.height), 0, 0};
  for (int y = 0; y < mask.height; ++y) {
    for (int x = 0; x < mask.width; ++x) {
      if (*mask.At(x, y) == 0) continue;
      box.x0 = std::min<double>(box.x0, x);
      box.y0 = std::min<double>(box.y0, y);
      box.x1 = std::max<double>(box.x1, x + 1);
      box.y1 = std::max<double>(box.y1, y + 1);
    }
  }
  return box;
}

// Prompts of one picture whose embeddings `segmenter` holds: points of a grid, those whose masks the model believes in
// most.
Result<std::vector<PicturePrompt>> ChoosePoints(Segmenter& segmenter, int width, int height,
                                                const SegmentTaskOptions& options) {
  std::vector<Prompt> asked;
  for (int y = 0; y < options.grid; ++y) {
    for (int x = 0; x < options.grid; ++x) {
      asked.push_back({{}, {{(x + 0.5) * width / options.grid, (y + 0.5) * height / options.grid, 1}}});
    }
  }
  OCTAVO_ASSIGN(const Segmentation answer, segmenter.Predict(asked));
  std::vector<size_t> order(asked.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return answer.masks[a].iou_prediction > answer.masks[b].iou_prediction; });
  std::vector<PicturePrompt> chosen;
  std::vector<PackedMask> masks;
  const double area = static_cast<double>(width) * height;
  for (const size_t i : order) {
    const double share = static_cast<double>(answer.masks[i].area) / area;
    if (share < kLeastShare || share > kMostShare || answer.masks[i].lead < kLeastLead) continue;
    PackedMask mask = Pack(answer.masks[i].mask);
    if (std::any_of(masks.begin(), masks.end(), [&](const auto& other) { return Iou(mask, other) > kSameMask; }))
      continue;
    chosen.push_back({options.ask_boxes ? Prompt{BoxAround(answer.masks[i].mask), {}} : asked[i], {}});
    masks.push_back(std::move(mask));
    if (chosen.size() == options.most_points) break;
  }
  if (chosen.empty()) chosen.push_back({asked[order[0]], {}});
  return chosen;
}

Result<std::vector<PicturePrompt>> PromptsOf(const std::string& path, Segmenter& segmenter, int width, int height,
                                             const SegmentTaskOptions& options) {
  const auto found = options.prompts.find(fs::path(path).filename().string());
  if (found != options.prompts.end()) return found->second;
  return ChoosePoints(segmenter, width, height, options);
}

bool Contains(const Image& ids, int segment) {
  for (size_t i = 0; i < ids.pixels.size(); i += static_cast<size_t>(ids.channels)) {
    if (ids.pixels[i] == segment) return true;
  }
  return false;
}

// Human segments beside a picture, those that prompts ask for; empty where there are none.
Result<Image> LoadSegments(const std::string& picture, int width, int height,
                           const std::vector<PicturePrompt>& prompts) {
  const std::string path = fs::path(picture).replace_extension(".segments.png").string();
  std::error_code error;
  if (!fs::exists(path, error)) return Image();
  OCTAVO_ASSIGN(Image ids, LoadImage(path));
  if (ids.width != width || ids.height != height) {
    return InvalidArgument(Quote(path) + " is of another size than its picture");
  }
  for (const PicturePrompt& prompt : prompts) {
    if (prompt.segment && !Contains(ids, *prompt.segment)) {
      return InvalidArgument("segment " + std::to_string(*prompt.segment) + " is nowhere in " + Quote(path));
    }
  }
  return ids;
}

std::vector<Prompt> Plain(const std::vector<PicturePrompt>& prompts) {
  std::vector<Prompt> plain;
  for (const PicturePrompt& prompt : prompts) plain.push_back(prompt.prompt);
  return plain;
}

// What the FP32 model's masks of one picture are, and what somebody drew.
class LearnedMasks {
 public:
  LearnedMasks() = default;
  LearnedMasks(std::vector<PicturePrompt> prompts, const std::vector<SegmentedMask>& answers, const Image& ids)
      : prompts_(std::move(prompts)) {
    for (const SegmentedMask& answer : answers) masks_.push_back(Pack(answer.mask));
    for (size_t i = 0; i < prompts_.size(); ++i) {
      truths_.emplace_back();
      if (!prompts_[i].segment || ids.empty()) continue;
      const auto id = static_cast<uint8_t>(*prompts_[i].segment);
      truths_.back() = Pack(masks_[i].bits.empty() ? 0 : ids.pixels.size() / static_cast<size_t>(ids.channels),
                            [&](size_t k) { return ids.pixels[k * static_cast<size_t>(ids.channels)] == id; });
    }
  }

  const std::vector<PicturePrompt>& prompts() const { return prompts_; }

  Agreement Judge(const std::vector<SegmentedMask>& answers) const {
    Agreement agreement;
    for (size_t i = 0; i < masks_.size(); ++i) {
      const PackedMask mask = Pack(answers[i].mask);
      agreement.scores.push_back(Iou(masks_[i], mask));
      if (truths_[i].bits.empty()) continue;
      agreement.reference_truth.push_back(Iou(truths_[i], masks_[i]));
      agreement.candidate_truth.push_back(Iou(truths_[i], mask));
    }
    return agreement;
  }
  // Of a candidate whose outputs are not finite: logits of NaN are no mask at all, which would equal an empty one.
  Agreement JudgeNothing() const {
    Agreement agreement;
    for (size_t i = 0; i < masks_.size(); ++i) {
      agreement.scores.push_back(0);
      if (truths_[i].bits.empty()) continue;
      agreement.reference_truth.push_back(Iou(truths_[i], masks_[i]));
      agreement.candidate_truth.push_back(0);
    }
    return agreement;
  }

 private:
  std::vector<PicturePrompt> prompts_;
  std::vector<PackedMask> masks_, truths_;  // truths_: empty where nobody drew one
};

bool AllFinite(const Tensor& tensor) {
  if (tensor.dtype() != DType::kFloat32) return true;
  const auto values = tensor.values<float>();
  return std::all_of(values.begin(), values.end(), [](float v) { return std::isfinite(v); });
}

class SegmentTask : public Task {
 public:
  SegmentTask(const Dataset& pictures, const SegmentTaskOptions& options, Segmenter reference,
              std::optional<Segmenter> candidate)
      : pictures_(pictures),
        options_(options),
        reference_(std::move(reference)),
        candidate_(std::move(candidate)),
        learned_(pictures.size()) {}

  std::string_view name() const override { return "segment"; }
  std::string_view score_name() const override { return "mask IoU"; }
  std::string_view truth_name() const override { return kTruthName; }

  Status Learn(size_t sample, std::span<const Tensor> outputs) override {
    if (sample >= learned_.size() || outputs.empty()) return InvalidArgument("no embeddings");
    const std::string path = pictures_.path(sample);
    OCTAVO_ASSIGN(const Image image, LoadImage(path));
    const auto learn = [&]() -> Status {
      OCTAVO_RETURN_IF_ERROR(reference_.Use(outputs[0], image.width, image.height));
      OCTAVO_ASSIGN(auto prompts, PromptsOf(path, reference_, image.width, image.height, options_));
      OCTAVO_ASSIGN(const Segmentation answer, reference_.Predict(Plain(prompts)));
      OCTAVO_ASSIGN(const Image ids, LoadSegments(path, image.width, image.height, prompts));
      learned_[sample] = {LearnedMasks(std::move(prompts), answer.masks, ids), image.width, image.height};
      return {};
    };
    return learn().WithPrefix(Quote(path) + ": ");
  }

  Result<Agreement> Judge(size_t sample, std::span<const Tensor> outputs) override {
    if (sample >= learned_.size() || outputs.empty()) return InvalidArgument("no embeddings");
    const Learned& learned = learned_[sample];
    if (!AllFinite(outputs[0])) return learned.masks.JudgeNothing();
    const std::vector<Prompt> prompts = Plain(learned.masks.prompts());
    Segmenter& segmenter = candidate_ ? *candidate_ : reference_;
    OCTAVO_RETURN_IF_ERROR(segmenter.Use(outputs[0], learned.width, learned.height));
    OCTAVO_ASSIGN(const Segmentation answer, segmenter.Predict(prompts));
    return learned.masks.Judge(answer.masks);
  }

  Result<std::optional<ShownAnswer>> Show(size_t sample, std::span<const Tensor> outputs) override {
    if (sample >= learned_.size() || outputs.empty()) return InvalidArgument("no embeddings");
    const Learned& learned = learned_[sample];
    ShownAnswer shown{pictures_.path(sample), Plain(learned.masks.prompts()), {}};
    if (!AllFinite(outputs[0])) {
      shown.masks.assign(shown.prompts.size(), MakeImage(learned.width, learned.height, 1));
      return std::optional(std::move(shown));
    }
    Segmenter& segmenter = candidate_ ? *candidate_ : reference_;
    OCTAVO_RETURN_IF_ERROR(segmenter.Use(outputs[0], learned.width, learned.height));
    OCTAVO_ASSIGN(Segmentation answer, segmenter.Predict(shown.prompts));
    for (SegmentedMask& mask : answer.masks) shown.masks.push_back(std::move(mask.mask));
    return std::optional(std::move(shown));
  }

 private:
  struct Learned {
    LearnedMasks masks;
    int width = 0, height = 0;
  };
  const Dataset pictures_;
  const SegmentTaskOptions options_;
  Segmenter reference_;
  std::optional<Segmenter> candidate_;
  std::vector<Learned> learned_;
};

// Masks from a decoder's outputs that are there already: a Segmenter whose models only hand on.
class GivenOutputs {
 public:
  static Result<GivenOutputs> Create(const Graph& decoder, int coordinate_frame) {
    GivenOutputs given;
    given.outputs_ = std::make_shared<std::vector<Tensor>>();
    SegmentModel model;
    for (const ValueId id : decoder.inputs) model.inputs.push_back(decoder.value(id));
    for (const ValueId id : decoder.outputs) model.output_names.push_back(decoder.value(id).name);
    model.run = [outputs = given.outputs_](const auto&) -> Result<std::vector<Tensor>> { return *outputs; };
    SegmenterOptions options;
    options.coordinate_frame = coordinate_frame;
    options.input_side = coordinate_frame;
    Value any_picture;
    any_picture.name = "picture";
    any_picture.dtype = DType::kFloat32;
    any_picture.shape_known = true;
    any_picture.dims = {1, 3, coordinate_frame, coordinate_frame};
    OCTAVO_ASSIGN(Segmenter segmenter, Segmenter::Create(EncoderOf(any_picture), std::move(model), options));
    given.segmenter_ = std::make_shared<Segmenter>(std::move(segmenter));
    return given;
  }

  Result<std::vector<SegmentedMask>> Masks(std::span<const Tensor> outputs, const DecoderSamples::Question& question,
                                           const Tensor& embeddings) {
    outputs_->assign(outputs.begin(), outputs.end());
    OCTAVO_RETURN_IF_ERROR(segmenter_->Use(embeddings, question.width, question.height));
    OCTAVO_ASSIGN(Segmentation answer, segmenter_->Predict({question.prompt.prompt}));
    return std::move(answer.masks);
  }

 private:
  GivenOutputs() = default;
  std::shared_ptr<std::vector<Tensor>> outputs_;
  std::shared_ptr<Segmenter> segmenter_;
};

class DecoderTask : public Task {
 public:
  DecoderTask(const DecoderSamples& samples, GivenOutputs given)
      : samples_(samples), given_(std::move(given)), learned_(samples.questions.size()) {
    std::map<std::string, size_t> pictures;
    for (const DecoderSamples::Question& question : samples_.questions) {
      units_.push_back(pictures.emplace(question.picture, pictures.size()).first->second);
    }
  }

  std::string_view name() const override { return "segment"; }
  std::string_view score_name() const override { return "mask IoU"; }
  std::string_view truth_name() const override { return kTruthName; }

  Status Learn(size_t sample, std::span<const Tensor> outputs) override {
    OCTAVO_ASSIGN(const std::vector<SegmentedMask> masks, Masks(sample, outputs));
    const DecoderSamples::Question& question = samples_.questions[sample];
    OCTAVO_ASSIGN(const Image ids, LoadSegments(question.picture, question.width, question.height, {question.prompt}));
    learned_[sample] = LearnedMasks({question.prompt}, masks, ids);
    return {};
  }

  Result<Agreement> Judge(size_t sample, std::span<const Tensor> outputs) override {
    if (!std::all_of(outputs.begin(), outputs.end(), AllFinite)) return learned_[sample].JudgeNothing();
    OCTAVO_ASSIGN(const std::vector<SegmentedMask> masks, Masks(sample, outputs));
    return learned_[sample].Judge(masks);
  }

  size_t unit(size_t sample) const override { return units_[sample]; }

  Result<std::optional<ShownAnswer>> Show(size_t sample, std::span<const Tensor> outputs) override {
    const DecoderSamples::Question& question = samples_.questions[sample];
    ShownAnswer shown{question.picture, {question.prompt.prompt}, {}};
    if (!std::all_of(outputs.begin(), outputs.end(), AllFinite)) {
      shown.masks.push_back(MakeImage(question.width, question.height, 1));
      return std::optional(std::move(shown));
    }
    OCTAVO_ASSIGN(std::vector<SegmentedMask> masks, Masks(sample, outputs));
    for (SegmentedMask& mask : masks) shown.masks.push_back(std::move(mask.mask));
    return std::optional(std::move(shown));
  }

 private:
  Result<std::vector<SegmentedMask>> Masks(size_t sample, std::span<const Tensor> outputs) {
    OCTAVO_ASSIGN(const auto inputs, samples_.data.Load(sample));
    return given_.Masks(outputs, samples_.questions[sample], inputs.at("image_embeddings"));
  }

  const DecoderSamples samples_;
  GivenOutputs given_;
  std::vector<LearnedMasks> learned_;
  std::vector<size_t> units_;  // by sample: its picture
};

Status CheckPictures(const Dataset& data) {
  if (data.has_pictures()) return {};
  return InvalidArgument("--task segment asks about pictures; these samples are arrays: use --task tensor");
}

// A decoder that takes note of what it is given.
SegmentModel Recorder(const Graph& decoder, std::shared_ptr<std::map<std::string, Tensor>> seen) {
  SegmentModel model;
  for (const ValueId id : decoder.inputs) {
    Value input = decoder.value(id);
    // A box is two points; every sample has the same shape, so that a point is given a companion that counts nothing.
    if (input.name == "point_coords" && input.dims.size() == 3) input.dims = {1, 2, 2};
    model.inputs.push_back(std::move(input));
  }
  for (const ValueId id : decoder.outputs) model.output_names.push_back(decoder.value(id).name);
  model.run = [seen](const std::map<std::string, Tensor>& inputs) -> Result<std::vector<Tensor>> {
    *seen = inputs;
    return NotFound("noted");
  };
  return model;
}

}  // namespace

Result<std::unique_ptr<Task>> MakeSegmentTask(const Dataset& pictures, const Value& encoder_input, const Graph& decoder,
                                              const SegmentTaskOptions& options, const Graph* candidate_decoder) {
  OCTAVO_RETURN_IF_ERROR(CheckPictures(pictures));
  OCTAVO_ASSIGN(Segmenter reference, OpenDecoder(encoder_input, decoder, options.coordinate_frame, options.threads));
  std::optional<Segmenter> candidate;
  if (candidate_decoder != nullptr) {
    OCTAVO_ASSIGN(candidate, OpenDecoder(encoder_input, *candidate_decoder, options.coordinate_frame, options.threads));
  }
  return std::unique_ptr<Task>(
      std::make_unique<SegmentTask>(pictures, options, std::move(reference), std::move(candidate)));
}

Result<DecoderSamples> MakeDecoderSamples(const Dataset& pictures, const Graph& encoder, const Graph& decoder,
                                          const SegmentTaskOptions& options) {
  OCTAVO_RETURN_IF_ERROR(CheckPictures(pictures));
  if (encoder.inputs.size() != 1) return InvalidArgument("the encoder must have one input, a picture");
  const Value& input = encoder.value(encoder.inputs[0]);
  OCTAVO_ASSIGN(Segmenter segmenter, OpenDecoder(input, decoder, options.coordinate_frame, options.threads));
  const auto seen = std::make_shared<std::map<std::string, Tensor>>();
  SegmenterOptions frame;
  frame.coordinate_frame = options.coordinate_frame;
  OCTAVO_ASSIGN(Segmenter recorder, Segmenter::Create(EncoderOf(input), Recorder(decoder, seen), frame));
  SessionOptions session_options;
  session_options.threads = options.threads;
  OCTAVO_ASSIGN(Session session, Session::Create(encoder, session_options));
  DecoderSamples samples;
  std::vector<std::string> names;
  std::vector<std::map<std::string, Tensor>> inputs;
  for (size_t i = 0; i < pictures.size(); ++i) {
    OCTAVO_ASSIGN(const Image image, LoadImage(pictures.path(i)));
    OCTAVO_ASSIGN(const auto picture, pictures.Load(i));
    OCTAVO_ASSIGN(const std::vector<Tensor> embeddings, session.Run(picture));
    OCTAVO_RETURN_IF_ERROR(segmenter.Use(embeddings.at(0), image.width, image.height));
    OCTAVO_ASSIGN(const auto prompts, PromptsOf(pictures.path(i), segmenter, image.width, image.height, options));
    for (const PicturePrompt& prompt : prompts) {
      OCTAVO_RETURN_IF_ERROR(recorder.Use(embeddings[0], image.width, image.height));
      seen->clear();
      const auto noted = recorder.Predict({prompt.prompt});
      if (seen->empty()) return noted.status().WithPrefix(Quote(pictures.path(i)) + ": ");
      names.push_back(pictures.name(i) + "#" + std::to_string(names.size()));
      inputs.push_back(*seen);
      samples.questions.push_back({pictures.path(i), image.width, image.height, prompt});
    }
    samples.coordinate_frame = recorder.coordinate_frame();
  }
  OCTAVO_ASSIGN(samples.data, Dataset::FromSamples(std::move(names), std::move(inputs)));
  return samples;
}

Result<std::unique_ptr<Task>> MakeDecoderTask(const DecoderSamples& samples, const Graph& decoder) {
  OCTAVO_ASSIGN(GivenOutputs given, GivenOutputs::Create(decoder, samples.coordinate_frame));
  return std::unique_ptr<Task>(std::make_unique<DecoderTask>(samples, std::move(given)));
}

}  // namespace octavo
