#include "task_flags.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <optional>

#include "calibration_run.h"
#include "data_flags.h"
#include "model_files.h"
#include "octavo/command_task.h"
#include "octavo/ctc.h"
#include "octavo/labels.h"
#include "octavo/onnx.h"
#include "octavo/prompts.h"

namespace octavo::cli {
namespace {

constexpr char kEmbeddedDecoder[] = "models/efficientvit-sam-nano-decoder.onnx";

bool IsMaskDecoder(const Graph& model) {
  const ValueId id = model.Find("image_embeddings");
  return id != kNoValue && model.IsInput(id) && model.Find("point_coords") != kNoValue;
}

Result<CtcBlank> ParseBlank(const std::string& text) {
  if (text.empty() || text == "first") return CtcBlank();
  if (text == "last") return CtcBlank{CtcBlank::Place::kLast, 0};
  CtcBlank blank{CtcBlank::Place::kIndex, 0};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), blank.index);
  if (error == std::errc() && end == text.data() + text.size() && blank.index >= 0) return blank;
  return InvalidArgument(fmt::format("--blank {}: write first, last or the index of a class", text));
}

// The first output, or the one of that name.
Result<size_t> FindOutput(const Graph& model, const std::string& name) {
  std::vector<std::string> names;
  for (size_t i = 0; i < model.outputs.size(); ++i) {
    names.push_back(model.value(model.outputs[i]).name);
    if (name.empty() || names.back() == name) return i;
  }
  return InvalidArgument(fmt::format("--judged-output {}: the model's outputs are {}", name, fmt::join(names, ", ")));
}

}  // namespace

void TaskFlags::AddTo(CLI::App& command, bool with_candidate) {
  command
      .add_option("--task", task,
                  "What the model is for, and so what is scored against FP32: segment (mask IoU through a decoder), "
                  "heatmap (IoU of the cut map times correlation), classify (same first class), text (same text, "
                  "from CTC), tensor (signal share: 1 / (1 + noise / signal); 30 dB are 0.999), command (what "
                  "--score-command says)")
      ->type_name("segment|heatmap|classify|text|tensor|command")
      ->check(CLI::IsMember({"segment", "heatmap", "classify", "text", "tensor", "command"}));
  AddSegmentFlags(command, with_candidate);
  AddReadingFlags(command);
  AddCommandFlags(command);
  AddPreprocessFlag(command, preprocess);
}

void TaskFlags::AddSegmentFlags(CLI::App& command, bool with_candidate) {
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
}

void TaskFlags::AddReadingFlags(CLI::App& command) {
  command
      .add_option("--judged-output", judged_output,
                  "heatmap, classify, text: which of the model's outputs is judged (default: the first)")
      ->type_name("NAME");
  command
      .add_option("--labels", labels,
                  "classify, text: what is right, one picture per line: file name, TAB or comma, and the class's index "
                  "or the text; accuracy is reported beside agreement with FP32")
      ->type_name("FILE");
  command
      .add_option("--characters", characters,
                  "text: what the classes stand for, one character per line (default: the model's metadata "
                  "'character', 'characters', 'vocab' or 'dict')")
      ->type_name("FILE");
  command.add_option("--blank", blank, "text: which class is CTC's blank (default: first)")->type_name("first|last|N");
  command
      .add_option("--text-layout", layout,
                  "text: the order of batch (n), time (t) and classes (c), where a batch is not 1")
      ->type_name("ntc|tnc")
      ->check(CLI::IsMember({"ntc", "tnc"}));
}

void TaskFlags::AddCommandFlags(CLI::App& command) {
  command
      .add_option("--score-command", score_command,
                  "command: a program and its arguments, run by /bin/sh once per candidate as COMMAND REFERENCE "
                  "CANDIDATE: two folders with the outputs of each sample, NAME.npz; it prints one score from 0 to 1, "
                  "or a line NAME<TAB>score for each sample, which confidence bounds need")
      ->type_name("COMMAND");
  command.add_option("--score-timeout", score_timeout, "command: seconds that one run may take (default: 600)")
      ->type_name("SECONDS")
      ->check(CLI::Range(0.001, 1e6));
}

Status TaskFlags::Check() const {
  const std::string name = Name();
  const auto refuse = [&](bool given, std::initializer_list<std::string_view> tasks, std::string_view flags) -> Status {
    if (!given || std::find(tasks.begin(), tasks.end(), name) != tasks.end()) return {};
    return InvalidArgument(fmt::format("{} --task {}", flags, fmt::join(tasks, " or ")));
  };
  OCTAVO_RETURN_IF_ERROR(refuse(!decoder.empty() || !candidate_decoder.empty() || !encoder.empty() || !prompts.empty(),
                                {"segment"}, "--decoder, --candidate-decoder, --encoder and --prompts go with"));
  OCTAVO_RETURN_IF_ERROR(refuse(!judged_output.empty(), {"heatmap", "classify", "text"}, "--judged-output goes with"));
  OCTAVO_RETURN_IF_ERROR(refuse(!labels.empty(), {"classify", "text"}, "--labels goes with"));
  OCTAVO_RETURN_IF_ERROR(refuse(!characters.empty() || !blank.empty() || !layout.empty(), {"text"},
                                "--characters, --blank and --text-layout go with"));
  OCTAVO_RETURN_IF_ERROR(
      refuse(!score_command.empty() || score_timeout, {"command"}, "--score-command and --score-timeout go with"));
  if (name == "command" && score_command.empty()) return InvalidArgument("--task command needs a --score-command");
  if (!encoder.empty() && (!decoder.empty() || !candidate_decoder.empty())) {
    return InvalidArgument(
        "with --encoder the model is the decoder: --decoder and --candidate-decoder do not go with it");
  }
  return ParseBlank(blank).status();
}

std::string TaskFlags::Describe() const {
  return fmt::format("{} {} {} {} {} {} {} {} {} {} {} {} {}", DescribePreprocess(preprocess), Name(), decoder, encoder,
                     prompts, points, boxes, judged_output, labels, characters, blank, layout, score_command);
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

Json TaskFlags::Live(const std::string& reference, const std::string& candidate) const {
  if (Name() != "segment") return Json();
  const auto absolute = [](const std::string& path) {
    std::error_code error;
    const std::filesystem::path whole = std::filesystem::absolute(path, error);
    return error ? path : whole.lexically_normal().string();
  };
  if (ForDecoder()) {
    const std::string both = absolute(encoder);
    return {{"fp32", {{"encoder", both}, {"decoder", absolute(reference)}}},
            {"int8", {{"encoder", both}, {"decoder", absolute(candidate)}}}};
  }
  std::string first = decoder;
  if (first.empty()) {
    const auto found = FindDataFile(kEmbeddedDecoder);
    if (!found.ok()) return Json();
    first = *found;
  }
  const std::string second = candidate_decoder.empty() ? first : candidate_decoder;
  return {{"fp32", {{"encoder", absolute(reference)}, {"decoder", absolute(first)}}},
          {"int8", {{"encoder", absolute(candidate)}, {"decoder", absolute(second)}}}};
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
  } else if (Name() == "command") {
    OCTAVO_ASSIGN(judged.task, MakeCommand(pictures, model));
  } else if (Name() != "segment") {
    OCTAVO_ASSIGN(judged.task, MakeReading(pictures, model));
  } else if (ForDecoder()) {
    OCTAVO_ASSIGN(const SegmentTaskOptions options, SegmentOptions(threads));
    OCTAVO_ASSIGN(const Graph graph, LoadOnnx(encoder));
    OCTAVO_ASSIGN(const DecoderSamples samples, MakeDecoderSamples(pictures, graph, model, options));
    judged.data = samples.data;
    OCTAVO_ASSIGN(judged.task, MakeDecoderTask(samples, model));
  } else {
    OCTAVO_ASSIGN(judged.task, MakeSegment(pictures, model, threads));
  }
  return judged;
}

Result<std::unique_ptr<Task>> TaskFlags::MakeSegment(const Dataset& pictures, const Graph& model, int threads) const {
  if (model.inputs.size() != 1) {
    return InvalidArgument(IsMaskDecoder(model)
                               ? "--task segment of a mask decoder needs the --encoder that makes its embeddings"
                               : "--task segment needs an image encoder, with a picture as its only input");
  }
  OCTAVO_ASSIGN(const SegmentTaskOptions options, SegmentOptions(threads));
  OCTAVO_ASSIGN(const Graph reference, LoadDecoder(decoder));
  std::optional<Graph> candidate;
  if (!candidate_decoder.empty()) {
    OCTAVO_ASSIGN(candidate, LoadOnnx(candidate_decoder));
  }
  return MakeSegmentTask(pictures, model.value(model.inputs[0]), reference, options, candidate ? &*candidate : nullptr);
}

// Tasks that read something off one output: a map, a class, a text.
Result<std::unique_ptr<Task>> TaskFlags::MakeReading(const Dataset& samples, const Graph& model) const {
  OCTAVO_ASSIGN(const size_t output, FindOutput(model, judged_output));
  if (Name() == "heatmap") return MakeHeatmapTask(output);
  LabelBook book;
  if (!labels.empty()) {
    OCTAVO_ASSIGN(book, LoadLabels(labels));
  }
  if (Name() == "classify") return MakeClassifyTask(samples, {output, std::move(book)});
  TextTaskOptions options;
  options.output = output;
  options.labels = std::move(book);
  if (!layout.empty()) options.layout = layout == "ntc" ? CtcLayout::kBatchTime : CtcLayout::kTimeBatch;
  OCTAVO_ASSIGN(options.blank, ParseBlank(blank));
  OCTAVO_ASSIGN(options.characters, characters.empty() ? FindCharacters(model.metadata) : LoadCharacters(characters));
  return MakeTextTask(samples, std::move(options));
}

Result<std::unique_ptr<Task>> TaskFlags::MakeCommand(const Dataset& samples, const Graph& model) const {
  ScoreCommand command;
  command.command = score_command;
  if (score_timeout) {
    command.timeout = std::chrono::milliseconds(static_cast<int64_t>(std::ceil(*score_timeout * 1000)));
  }
  std::vector<std::string> outputs;
  for (const ValueId id : model.outputs) outputs.push_back(model.value(id).name);
  OCTAVO_ASSIGN(auto made, CommandTask::Create(samples, std::move(outputs), std::move(command)));
  return std::unique_ptr<Task>(std::move(made));
}

Result<Judge> OpenJudge(const Graph& reference, JudgedSamples judged, int threads, const std::string& what) {
  JudgeOptions options;
  options.threads = threads;
  SweepProgress progress(what, "samples");
  options.progress = [&](size_t done, size_t total) { progress(done, total); };
  return Judge::Create(reference, judged.data, std::move(judged.task), options);
}

}  // namespace octavo::cli
