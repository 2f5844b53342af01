// Segment Anything, end to end: a picture and prompts in its own pixels in, masks of its size out.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "octavo/graph.h"
#include "octavo/image.h"
#include "octavo/session.h"
#include "octavo/status.h"
#include "octavo/tensor.h"

namespace octavo {

// Pixels of the original picture; x to the right, y down; (0, 0) is the corner of the top left pixel.
struct Box {
  double x0 = 0, y0 = 0, x1 = 0, y1 = 0;
};
struct Point {
  double x = 0, y = 0;
  int label = 1;  // 1: part of the thing, 0: not part of it
};
// Asks for one mask: a box, or points that belong together. Exactly one of the two.
struct Prompt {
  std::optional<Box> box;
  std::vector<Point> points;
};

// Checks a prompt against a picture's size and clamps a box that overlaps the edge; a text that says so is appended to
// `warnings`. Errors (kInvalidArgument, with the numbers and the picture's size): a box inside out, empty or wholly
// outside; a point outside; a label other than 0 and 1; values that are not finite; both or neither of box and points.
Result<Prompt> CheckPrompt(const Prompt& prompt, int width, int height, std::vector<std::string>* warnings);

// SAM's resize of a picture of width x height for a frame of `side`: the longer side becomes `side`.
struct SamFrame {
  int side = 0;
  int width = 0, height = 0;  // of the picture within the frame: int(x * side / longer + 0.5); the rest is padding
  double scale_x = 0, scale_y = 0;  // frame pixels per original pixel: width / original width
};
SamFrame FitSamFrame(int width, int height, int side);

// The encoder's input, (1, 3, side, side): PreprocessSpec::Sam().
Result<Tensor> SamPreprocess(const Image& image, int side);

// SAM's postprocess of one mask of logits (low_height x low_width, from the decoder): bilinear to side x side, cut to
// the picture's part of the frame, bilinear to the original size, > 0. One channel, 0 or 255.
Result<Image> SamPostprocess(std::span<const float> logits, int low_height, int low_width, const SamFrame& frame,
                             int width, int height);

// What Segmenter needs of a model; made of a Session, or of anything else that computes the same (tests, another
// engine).
struct SegmentModel {
  std::vector<Value> inputs;  // names, types, declared dims
  std::vector<std::string> output_names;
  // By input name; returns tensors in the order of output_names.
  std::function<Result<std::vector<Tensor>>(const std::map<std::string, Tensor>&)> run;
};

struct SegmenterOptions {
  // Side of the frame in which the decoder takes coordinates and its masks lie. 0: 1024 for embeddings of
  // 256 x 64 x 64 (the published models, whatever their encoder's input), else the encoder's input side.
  int coordinate_frame = 0;
  // The encoder's input side where the model's is dynamic; 0: the model's.
  int input_side = 0;
};

struct SegmentedMask {
  Image mask;                // one channel, 0 or 255, of the picture's size
  float iou_prediction = 0;  // the model's own estimate, for the chosen mask
  int mask_index = 0;        // which of the decoder's masks answered
  float lead = 0;            // iou_prediction less that of the mask that would have answered otherwise; 1: none would
  int64_t area = 0;          // pixels set
};

struct Segmentation {
  std::vector<SegmentedMask> masks;  // one for each prompt, in their order
  std::vector<std::string> warnings;
};

// An encoder and a decoder with the interface of the published ONNX pairs.
// Encoder: one float32 input (1, 3, side, side), one output of embeddings (1, C, h, w).
// Decoder, inputs by name: image_embeddings, point_coords (B, P, 2), point_labels (B, P); if it has them also
// mask_input and has_mask_input (given as "no mask": zeros) and orig_im_size. Outputs: masks (B, M, h, w), logits at
// low resolution
// ("low_res_masks" where there is one); iou_predictions (B, M).
// Not thread safe.
class Segmenter {
 public:
  // Errors: kInvalidArgument naming the model's part that does not fit the above.
  static Result<Segmenter> Create(Session encoder, Session decoder, const SegmenterOptions& options = {});
  static Result<Segmenter> Create(SegmentModel encoder, SegmentModel decoder, const SegmenterOptions& options = {});

  // Prepares and encodes a picture; Predict answers about the last one.
  Status Encode(const Image& image);
  // Takes embeddings that were made elsewhere of a picture of this size, in Encode's stead.
  Status Use(Tensor embeddings, int width, int height);

  // One mask per prompt. Of M > 1 masks, mask 0 answers a box, and of the rest the one with the highest prediction
  // answers points. Prompts with equally many points share one decoder run, so a prompt's mask does not depend on its
  // companions; padding points (label -1) are added only for a decoder whose number of points is fixed. Errors: those
  // of CheckPrompt, with the prompt's number; the decoder's; no picture encoded; no prompt.
  Result<Segmentation> Predict(const std::vector<Prompt>& prompts);

  int input_side() const { return input_side_; }
  int coordinate_frame() const { return coordinate_frame_; }
  // Of the last picture; undefined before.
  const Tensor& embeddings() const { return embeddings_; }

 private:
  Segmenter() = default;
  Status Decode(const std::vector<Prompt>& prompts, std::span<const size_t> which, int64_t points,
                std::vector<SegmentedMask>& masks);
  Result<std::map<std::string, Tensor>> DecoderInputs(const std::vector<Prompt>& prompts, std::span<const size_t> which,
                                                      int64_t points) const;
  Status TakeAnswers(const std::vector<Tensor>& outputs, const std::vector<Prompt>& prompts,
                     std::span<const size_t> which, std::vector<SegmentedMask>& masks) const;

  SegmentModel encoder_, decoder_;
  int input_side_ = 0;
  int coordinate_frame_ = 0;  // 0 until the embeddings' shape is known
  int frame_option_ = 0;
  int64_t fixed_batch_ = 0, fixed_points_ = 0;  // 0: dynamic
  size_t masks_output_ = 0, iou_output_ = 0;
  int width_ = 0, height_ = 0;
  Tensor embeddings_;
};

// Intersection over union of two masks of one size, non-zero pixels counted; 1 when both are empty.
// Errors: kInvalidArgument for masks of different sizes or more than one channel.
Result<double> MaskIou(const Image& a, const Image& b);

// The picture with each mask tinted in its own colour and outlined, and with the prompts drawn: boxes as
// frames, points as discs (green: label 1, red: label 0). Errors (kInvalidArgument): masks
// that do not have the picture's size, and those of CheckPrompt.
Result<Image> DrawOverlay(const Image& image, const std::vector<SegmentedMask>& masks,
                          const std::vector<Prompt>& prompts);

}  // namespace octavo
