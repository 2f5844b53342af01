#include <memory>
#include <utility>

#include "octavo/segment.h"

namespace octavo {
namespace {

SegmentModel ModelOf(Session session) {
  const auto shared = std::make_shared<Session>(std::move(session));
  return {shared->inputs(), shared->output_names(),
          [shared](const std::map<std::string, Tensor>& inputs) { return shared->Run(inputs); }};
}

}  // namespace

Result<Segmenter> Segmenter::Create(Session encoder, Session decoder, const SegmenterOptions& options) {
  return Create(ModelOf(std::move(encoder)), ModelOf(std::move(decoder)), options);
}

}  // namespace octavo
