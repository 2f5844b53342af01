// What a model is for, as a number: how far a candidate's outputs agree with those of the FP32 model, in [0, 1].
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "octavo/ctc.h"
#include "octavo/dataset.h"
#include "octavo/graph.h"
#include "octavo/labels.h"
#include "octavo/prompts.h"
#include "octavo/status.h"
#include "octavo/tensor.h"

namespace octavo {

struct TensorAgreement {
  double score = 1;    // energy / (energy + error energy): 1 for equal tensors, 1/2 at 0 dB, 0 for what is not finite
  double sqnr_db = 0;  // see TensorDifference::sqnr_db
};
// One sample's outputs in equal order; the energies of all outputs count together. Errors: kInvalidArgument when there
// is none, when their numbers or their dims differ.
Result<TensorAgreement> AgreeOnTensors(std::span<const Tensor> reference, std::span<const Tensor> candidate);

struct HeatmapAgreement {
  double score = 1;        // iou * max(correlation, 0)
  double iou = 1;          // of the two maps cut at one threshold; 1 when both are empty
  double correlation = 1;  // Pearson's; where a map is constant: 1 for equal maps, else 0
};
// Both maps are cut where the reference reaches the middle of its own range, (min + max) / 2, so that a candidate whose
// level shifts is not forgiven. A candidate that is not finite scores 0. Errors: kInvalidArgument when dims differ, for
// an empty map, or for a reference that is not finite.
Result<HeatmapAgreement> AgreeOnHeatmap(const Tensor& reference, const Tensor& candidate);

// One row of a classifier's output: values of the same classes.
struct ClassAgreement {
  bool same = false;                  // the first class
  double top5_overlap = 0;            // of the first five classes (of all, where there are fewer), the share in common
  double kl_divergence = 0;           // of the candidate's probabilities from the reference's, in nats
  double probability_difference = 0;  // half the sum of absolute differences: 0 for equal ones, at most 1
  bool finite = true;                 // else nothing above is more than its initial value
};
// Values are taken for probabilities where the reference's lie in [0, 1] and add up to 1 within 1e-3, else for logits,
// of which softmax makes probabilities. A candidate's are cut to [1e-7, 1] and scaled to add up to 1.
// Errors: kInvalidArgument for fewer than two classes, other numbers of them, or a reference that is not finite.
Result<ClassAgreement> AgreeOnClasses(std::span<const float> reference, std::span<const float> candidate);

// Mean and 5th percentile of scores; the percentile interpolates between neighbours in order, as numpy does.
struct ScoreSummary {
  double mean = 0, p5 = 0;
  size_t count = 0;
};
// Errors: kInvalidArgument for no score, or one that is not finite.
Result<ScoreSummary> Summarize(std::vector<double> scores);

// Indices below `samples`, each in exactly one part, ascending. Depends on the numbers alone, on every platform.
struct SampleSplit {
  std::vector<size_t> calibration, judging;
};
inline constexpr uint64_t kSplitSeed = 5;
// Judging gets samples * judging_share, rounded down, but both parts at least one. Errors: kInvalidArgument for fewer
// than two samples or a share outside (0, 1).
Result<SampleSplit> SplitSamples(size_t samples, double judging_share, uint64_t seed = kSplitSeed);

// How well a candidate answered one sample.
struct Agreement {
  std::vector<double> scores;  // in [0, 1], one per question asked of the sample: a mask per prompt, else one
  // Where somebody said what is right: the FP32 model's and the candidate's score against that. Else both are empty.
  std::vector<double> reference_truth, candidate_truth;
  // Of each of Task::figures(), in their order, a value per question that has one; or nothing at all.
  std::vector<std::vector<double>> figures = {};
};

// What is reported beside the score.
struct FigureName {
  std::string_view key;    // in JSON: "top5_overlap"
  std::string_view title;  // "top-5 overlap"
};

// What a task says that looks at all of a candidate's samples together; nothing where Judge has said it.
struct JointAgreement {
  std::vector<double> scores;   // in [0, 1], one per sample
  std::optional<double> whole;  // in [0, 1], one number for all of them, where there is none per sample
};

// What a model answers about one sample, to be looked at.
struct ShownAnswer {
  std::string picture;          // path of what was asked about; "": the masks are not in a picture's pixels
  std::vector<Prompt> prompts;  // of each mask; empty where none is asked with a prompt
  std::vector<Image> masks;     // of each question: one channel, 0 and 255 for masks, any grey for maps
};

// What a model is for. Not thread safe.
class Task {
 public:
  virtual ~Task() = default;
  virtual std::string_view name() const = 0;        // as --task takes it
  virtual std::string_view score_name() const = 0;  // "mask IoU"
  // Whether every score is 0 or 1. Bounds of such scores are exact ones (exact_bounds.h): Student's t of scores that
  // are all 1 would promise 1 of the next sample, however few they are. A task may find out by Finish.
  virtual bool right_or_wrong() const { return false; }
  virtual std::vector<FigureName> figures() const { return {}; }
  // What Agreement::reference_truth is scored by: "IoU with segments that people drew".
  virtual std::string_view truth_name() const { return ""; }
  // How the scores came about where that is not plain from the options; "" for nothing.
  virtual std::string note() const { return ""; }
  // What the FP32 model answers about judging sample `sample`; once per sample, before Judge.
  virtual Status Learn(size_t sample, std::span<const Tensor> outputs) = 0;
  // A candidate comes: Begin, Judge of every sample once, Finish.
  virtual Status Begin() { return {}; }
  // Errors: outputs that do not fit those that were learnt.
  virtual Result<Agreement> Judge(size_t sample, std::span<const Tensor> outputs) = 0;
  virtual Result<JointAgreement> Finish() { return JointAgreement(); }
  // The answer as pictures, about a sample that was learnt; none where the task has nothing to show.
  virtual Result<std::optional<ShownAnswer>> Show(size_t /*sample*/, std::span<const Tensor> /*outputs*/) {
    return std::optional<ShownAnswer>();
  }
  // Samples of one unit depend on each other, units do not: prompts about one picture. Counted from 0 without gaps.
  virtual size_t unit(size_t sample) const { return sample; }
};

// All outputs, by AgreeOnTensors.
std::unique_ptr<Task> MakeTensorTask();
// Output `output` of the model, by AgreeOnHeatmap.
std::unique_ptr<Task> MakeHeatmapTask(size_t output = 0);

struct ClassifyTaskOptions {
  size_t output = 0;  // of the model's outputs
  LabelBook labels;   // the right class of pictures, an index from 0, by file name; empty: nobody said
};

// The score is 1 where the candidate's first class is the FP32 model's, else 0, for every row of an output (N,
// classes); dimensions of 1 behind that are passed over, and without N it is one row. Figures: see ClassAgreement.
// Which class of equal ones comes first, the lower index says. `samples` are the judging ones. Errors: labels that name
// none of them, or a class that is no index.
Result<std::unique_ptr<Task>> MakeClassifyTask(const Dataset& samples, ClassifyTaskOptions options = {});

struct TextTaskOptions {
  size_t output = 0;
  CtcLayout layout = CtcLayout::kAuto;
  CtcBlank blank;
  CharacterList characters;  // empty: indices are compared, not text
  LabelBook labels;          // the right text of pictures, by file name; needs `characters`
};

// A text recognizer that ends in CTC: the score is 1 where the candidate reads the same text as the FP32 model (greedy
// decoding, ctc.h), else 0. Figure: mean character error rate, edits over the FP32 model's characters (at least one).
// `samples` are the judging ones. Errors: labels that name none of them, or without characters.
Result<std::unique_ptr<Task>> MakeTextTask(const Dataset& samples, TextTaskOptions options = {});

struct SegmentTaskOptions {
  // By picture; pictures that are not in it are asked with points of a grid, chosen by the FP32 model: those whose
  // masks it believes in most, each mask once.
  PromptBook prompts;
  size_t most_points = 5;    // that a grid gives per picture
  bool ask_boxes = false;    // ask with the boxes around those masks instead of the points
  int grid = 6;              // points along each side
  int coordinate_frame = 0;  // see SegmenterOptions
  int threads = 0;
};

// The candidate is an image encoder; `decoder` turns embeddings into masks. Each score is the IoU of the candidate's
// mask with the FP32 model's, in the picture's own pixels. Beside a picture NAME.jpg, NAME.segments.png holds human
// segments (see PicturePrompt::segment).
// `pictures` are the judging samples, `encoder_input` the encoder's. Candidates may have a decoder of their own.
// Errors: samples that are no pictures, a decoder that is none (see Segmenter).
Result<std::unique_ptr<Task>> MakeSegmentTask(const Dataset& pictures, const Value& encoder_input, const Graph& decoder,
                                              const SegmentTaskOptions& options,
                                              const Graph* candidate_decoder = nullptr);

// The candidate is a mask decoder: what `encoder` and the prompts give it, one sample per prompt, one prompt each.
struct DecoderSamples {
  Dataset data;
  struct Question {
    std::string picture;  // path
    int width = 0, height = 0;
    PicturePrompt prompt;
  };
  std::vector<Question> questions;  // of each sample
  int coordinate_frame = 0;
};
Result<DecoderSamples> MakeDecoderSamples(const Dataset& pictures, const Graph& encoder, const Graph& decoder,
                                          const SegmentTaskOptions& options);
// `samples` are the judging ones.
Result<std::unique_ptr<Task>> MakeDecoderTask(const DecoderSamples& samples, const Graph& decoder);

}  // namespace octavo
