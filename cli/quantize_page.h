// report.json and report.html of `quantize`.
#pragma once

#include <string>

#include "octavo/dataset.h"
#include "octavo/judge.h"
#include "octavo/quantize.h"
#include "octavo/stats.h"
#include "quantize_report.h"

namespace octavo::cli {

// What was computed along the way; pointers are null where it was not.
struct QuantizePage {
  const Graph& prepared;
  const Graph& quantized;
  const Recipe& recipe;
  const QuantizeNames& names;
  const QuantizeOutcome& outcome;
  const Policy& policy;
  const Stats* stats;            // of `prepared`
  const Stats* rewritten_stats;  // of RewriteWithoutBiases(prepared, recipe)
  const Dataset* data;           // what calibrated
  const Dataset* judging;        // what was measured on
  const Judge* judge;
  Json live;
  int threads;
  double seconds;
};

// Runs both models and, with a judge and statistics, what TensorRT 8 would make of the model by itself, to time and to
// show them. Errors: those of the engine, and of writing.
Status WriteQuantizePage(const QuantizePage& page, const std::string& folder);

}  // namespace octavo::cli
