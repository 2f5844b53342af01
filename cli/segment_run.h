// Encoder and decoder as `segment` and `view` run them, timed.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "console.h"
#include "octavo/segment.h"
#include "octavo/session.h"

namespace octavo::cli {

// A session whose compilation and runs are timed apart.
struct TimedSession {
  Session session;
  double prepare_ms = 0;
  double run_ms = 0;

  Result<std::vector<Tensor>> Run(const std::map<std::string, Tensor>& inputs);
};

struct SegmentAnswer {
  Segmentation segmentation;
  double encoder_ms = 0, decoder_ms = 0, prepare_ms = 0;
};

// Not thread safe.
class SegmentPair {
 public:
  // Errors name the file.
  static Result<SegmentPair> Open(const std::string& encoder, const std::string& decoder,
                                  const SessionOptions& options);

  Status Encode(const Image& picture);
  // Embeddings that Encode made before, and what that took.
  Status Use(const Tensor& embeddings, int width, int height, double encoder_ms);
  // About the last picture.
  Result<SegmentAnswer> Answer(const std::vector<Prompt>& prompts);

  const Tensor& embeddings() const { return segmenter_.embeddings(); }
  double encoder_ms() const { return encoder_ms_; }

 private:
  SegmentPair(std::string encoder_path, std::shared_ptr<TimedSession> encoder, std::shared_ptr<TimedSession> decoder,
              Segmenter segmenter)
      : encoder_path_(std::move(encoder_path)),
        encoder_(std::move(encoder)),
        decoder_(std::move(decoder)),
        segmenter_(std::move(segmenter)) {}

  std::string encoder_path_;
  std::shared_ptr<TimedSession> encoder_, decoder_;
  Segmenter segmenter_;
  double encoder_ms_ = 0;  // of the last picture
};

Json PromptJson(const Prompt& prompt);

}  // namespace octavo::cli
