#include "segment_run.h"

#include "octavo/onnx.h"
#include "stopwatch.h"

namespace octavo::cli {
namespace {

Result<std::shared_ptr<TimedSession>> OpenTimed(const std::string& path, const SessionOptions& options) {
  OCTAVO_ASSIGN(Graph graph, LoadOnnx(path));
  auto session = Session::Create(std::move(graph), options);
  if (!session.ok()) return session.status().WithPrefix(path + ": ");
  return std::make_shared<TimedSession>(TimedSession{std::move(session).value()});
}

SegmentModel ModelOf(const std::shared_ptr<TimedSession>& timed) {
  return {timed->session.inputs(), timed->session.output_names(),
          [timed](const std::map<std::string, Tensor>& inputs) { return timed->Run(inputs); }};
}

}  // namespace

Result<std::vector<Tensor>> TimedSession::Run(const std::map<std::string, Tensor>& inputs) {
  std::vector<Dims> dims;
  for (const Value& input : session.inputs()) {
    const auto given = inputs.find(input.name);
    if (given == inputs.end()) return InvalidArgument(fmt::format("input '{}' is missing", input.name));
    dims.push_back(given->second.dims());
  }
  Stopwatch stopwatch;
  OCTAVO_RETURN_IF_ERROR(session.Prepare(dims));
  prepare_ms += stopwatch.Milliseconds();
  stopwatch.Restart();
  auto outputs = session.Run(inputs);
  run_ms += stopwatch.Milliseconds();
  return outputs;
}

Result<SegmentPair> SegmentPair::Open(const std::string& encoder_path, const std::string& decoder_path,
                                      const SessionOptions& options) {
  OCTAVO_ASSIGN(auto encoder, OpenTimed(encoder_path, options));
  OCTAVO_ASSIGN(auto decoder, OpenTimed(decoder_path, options));
  OCTAVO_ASSIGN(Segmenter segmenter, Segmenter::Create(ModelOf(encoder), ModelOf(decoder)));
  return SegmentPair(encoder_path, std::move(encoder), std::move(decoder), std::move(segmenter));
}

Status SegmentPair::Encode(const Image& picture) {
  const double before = encoder_->run_ms;
  if (Status status = segmenter_.Encode(picture); !status.ok()) return status.WithPrefix(encoder_path_ + ": ");
  encoder_ms_ = encoder_->run_ms - before;
  return {};
}

Status SegmentPair::Use(const Tensor& embeddings, int width, int height, double encoder_ms) {
  encoder_ms_ = encoder_ms;
  return segmenter_.Use(embeddings, width, height);
}

Result<SegmentAnswer> SegmentPair::Answer(const std::vector<Prompt>& prompts) {
  const double before = decoder_->run_ms;
  SegmentAnswer answer;
  OCTAVO_ASSIGN(answer.segmentation, segmenter_.Predict(prompts));
  answer.encoder_ms = encoder_ms_;
  answer.decoder_ms = decoder_->run_ms - before;
  answer.prepare_ms = encoder_->prepare_ms + decoder_->prepare_ms;
  return answer;
}

Json PromptJson(const Prompt& prompt) {
  if (prompt.box) return {{"box", {prompt.box->x0, prompt.box->y0, prompt.box->x1, prompt.box->y1}}};
  Json points = Json::array();
  for (const Point& point : prompt.points) points.push_back({point.x, point.y, point.label});
  return {{"points", points}};
}

}  // namespace octavo::cli
