#include "task_flags.h"

#include <fmt/format.h>

#include <optional>

#include "calibration_run.h"
#include "data_flags.h"
#include "model_files.h"
#include "octavo/onnx.h"
#include "octavo/prompts.h"

namespace octavo::cli {
namespace {

constexpr char kEmbeddedDecoder[] = "models/efficientvit-sam-nano-decoder.onnx";

bool IsMaskDecoder(const Graph& model) {
  const ValueId id = model.Find("image_embeddings");
  return id != kNoValue && model.IsInput(id) && model.Find("point_coords") != kNoValue;
}

}  // namespace

void TaskFlags::AddTo(CLI::App& command, bool with_candidate) {
  command
      .add_option("--task", task,
                  "What the model is for, and so what is scored against FP32: segment (mask IoU through a decoder), "
                  "heatmap (IoU of the cut map times correlation), tensor (signal share: 1 / (1 + noise / signal); "
                  "30 dB are 0.999)")
      ->type_name("segment|heatmap|tensor")
      ->check(CLI::IsMember({"segment", "heatmap", "tensor"}));
  command
      .add_option("--decoder", decoder,
                  "segment: the mask decoder that turns embeddings into masks (default: the embedded nano model)")
      ->type_name("D.onnx");
  if (with_candidate) {
    command
        .add_option("--candidate-decoder", candidate_decoder,
                    "segment: the decoder of the judged models; the FP32 model keeps --decoder")
        ->type_name("D.onnx");
  }
  command
      .add_option("--encoder", encoder,
                  "segment: MODEL is a mask decoder; this encoder and the prompts make its samples of pictures")
      ->type_name("E.onnx");
  command
      .add_option("--prompts", prompts,
                  "segment: boxes and points of each picture as JSON: {\"a.jpg\": [{\"box\": [x0,y0,x1,y1]}, "
                  "{\"points\": [[x,y]]}]} (default: points of a grid whose masks FP32 believes in)")
      ->type_name("FILE.json");
  command.add_option("--points", points, "segment: points of the grid that are asked about, per picture (default: 5)")
      ->type_name("N")
      ->check(CLI::Range(1, 36));
  command.add_flag("--boxes", boxes, "segment: ask with the boxes around the masks that those points give");
  AddPreprocessFlag(command, preprocess);
}

Status TaskFlags::Check() const {
  if (Name() == "segment") {
    if (encoder.empty() || (decoder.empty() && candidate_decoder.empty())) return {};
    return InvalidArgument(
        "with --encoder the model is the decoder: --decoder and --candidate-decoder do not go with it");
  }
  if (!decoder.empty() || !candidate_decoder.empty() || !encoder.empty() || !prompts.empty()) {
    return InvalidArgument("--decoder, --candidate-decoder, --encoder and --prompts go with --task segment");
  }
  return {};
}

Result<Dataset> TaskFlags::OpenPictures(const std::string& folder, const Graph& model) const {
  if (!ForDecoder()) return OpenDataset(folder, preprocess, InputValues(model));
  if (!IsMaskDecoder(model)) {
    return InvalidArgument("--encoder makes samples for a mask decoder; this model takes no image_embeddings");
  }
  OCTAVO_ASSIGN(const Graph graph, LoadOnnx(encoder));
  return OpenDataset(folder, preprocess.empty() ? "sam" : preprocess, InputValues(graph));
}

Result<Graph> TaskFlags::LoadDecoder(const std::string& path) const {
  if (!path.empty()) return LoadOnnx(path);
  OCTAVO_ASSIGN(const std::string embedded, FindDataFile(kEmbeddedDecoder));
  return LoadOnnx(embedded);
}

Result<SegmentTaskOptions> TaskFlags::SegmentOptions(int threads) const {
  SegmentTaskOptions options;
  options.most_points = points;
  options.ask_boxes = boxes;
  options.threads = threads;
  if (!prompts.empty()) {
    OCTAVO_ASSIGN(options.prompts, LoadPrompts(prompts));
  }
  return options;
}

Result<Dataset> TaskFlags::ToSamples(const Dataset& pictures, const Graph& model, int threads) const {
  if (!ForDecoder()) return pictures;
  OCTAVO_ASSIGN(const Graph graph, LoadOnnx(encoder));
  OCTAVO_ASSIGN(const SegmentTaskOptions options, SegmentOptions(threads));
  OCTAVO_ASSIGN(DecoderSamples samples, MakeDecoderSamples(pictures, graph, model, options));
  return std::move(samples.data);
}

Result<JudgedSamples> TaskFlags::ToJudged(const Dataset& pictures, const Graph& model, int threads) const {
  JudgedSamples judged;
  judged.data = pictures;
  if (Name() == "tensor") {
    judged.task = MakeTensorTask();
    return judged;
  }
  if (Name() == "heatmap") {
    judged.task = MakeHeatmapTask();
    return judged;
  }
  OCTAVO_ASSIGN(const SegmentTaskOptions options, SegmentOptions(threads));
  if (ForDecoder()) {
    OCTAVO_ASSIGN(const Graph graph, LoadOnnx(encoder));
    OCTAVO_ASSIGN(const DecoderSamples samples, MakeDecoderSamples(pictures, graph, model, options));
    judged.data = samples.data;
    OCTAVO_ASSIGN(judged.task, MakeDecoderTask(samples, model));
    return judged;
  }
  if (model.inputs.size() != 1) {
    return InvalidArgument(IsMaskDecoder(model)
                               ? "--task segment of a mask decoder needs the --encoder that makes its embeddings"
                               : "--task segment needs an image encoder, with a picture as its only input");
  }
  OCTAVO_ASSIGN(const Graph reference, LoadDecoder(decoder));
  std::optional<Graph> candidate;
  if (!candidate_decoder.empty()) {
    OCTAVO_ASSIGN(candidate, LoadOnnx(candidate_decoder));
  }
  OCTAVO_ASSIGN(judged.task, MakeSegmentTask(pictures, model.value(model.inputs[0]), reference, options,
                                             candidate ? &*candidate : nullptr));
  return judged;
}

Result<Judge> OpenJudge(const Graph& reference, JudgedSamples judged, int threads, const std::string& what) {
  JudgeOptions options;
  options.threads = threads;
  SweepProgress progress(what, "samples");
  options.progress = [&](size_t done, size_t total) { progress(done, total); };
  return Judge::Create(reference, judged.data, std::move(judged.task), options);
}

}  // namespace octavo::cli
