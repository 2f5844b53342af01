// Any bytes that are a graph: linting it for every target gives findings or an error that lays no blame on Octavo, and
// what is mended is found no more.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>

#include "octavo/lint.h"
#include "octavo/onnx.h"

namespace {

bool IsBlamed(const octavo::Status& status) { return !status.ok() && status.code() == octavo::ErrorCode::kInternal; }

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto bytes = std::as_bytes(std::span(data, size));
  auto graph = octavo::ParseOnnx(bytes, "", {.any_op = true});
  if (!graph.ok()) return 0;
  const bool is_known = octavo::ParseOnnx(bytes, "").ok();
  for (const std::string_view target : octavo::LintTargets()) {
    octavo::LintOptions options;
    options.target = target;
    if (target == "tensorrt") options.layer_precisions = "*:fp16,a*b:fp32";
    const auto findings = octavo::Lint(*graph, options);
    if (IsBlamed(findings.status())) std::abort();
    if (!is_known) continue;
    octavo::Graph fixed = *graph;
    const auto mended = octavo::FixLint(fixed, options);
    if (IsBlamed(mended.status()) || !octavo::Verify(fixed).ok()) std::abort();
  }
  return 0;
}
