// What a report says of one model: its forms, how well each answers, its layers, and what became of the pictures.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "console.h"
#include "octavo/bench.h"
#include "octavo/dataset.h"
#include "octavo/judge.h"
#include "octavo/quantize.h"
#include "octavo/session.h"
#include "octavo/stats.h"

namespace octavo::cli {

inline constexpr char kFp32Form[] = "FP32", kNaiveForm[] = "naive INT8", kOctavoForm[] = "Octavo INT8";

// A mean score from which on a picture counts as kept where nobody stated a goal.
inline constexpr double kKeptScore = 0.98;

// One form of the model that was run.
struct ReportForm {
  // `model_file` "": it was never written.
  explicit ReportForm(std::string form_name, std::string model_file = "");

  std::string name, file;
  int64_t bytes = 0;  // 0: not known
  std::vector<double> milliseconds;
  std::map<std::string, std::string> layer_precisions;  // by node, as the plan runs it
  std::map<std::string, double> layer_milliseconds;
  std::optional<double> int8_macs_share, sqnr_db;
  std::optional<double> score, p5, mean_bound, p5_bound;
  std::vector<std::vector<double>> scores;  // by sample

  void Take(const Verdict& verdict);
};

Result<std::unique_ptr<Session>> OpenForm(Graph graph, int threads);

// A form and the session that runs it.
struct RunningForm {
  ReportForm* form;
  Session* session;
};
// Times whole runs and layers in turns, so that a busy moment meets all alike: up to nine of each, about three seconds.
Status TimeForms(const std::vector<RunningForm>& forms, const std::map<std::string, Tensor>& inputs);

// What the top sentence is made of.
struct ReportSummary {
  std::optional<bool> kept;
  std::string verdict;  // "" where `kept` says it
  std::string quality;  // "mask IoU 0.9968 over 40 questions about 8 pictures"
  const ReportForm* before = nullptr;
  const ReportForm* after = nullptr;
};
Json SummaryJson(const ReportSummary& summary);

Json FormJson(const ReportForm& form);

// How layers compare: `of` by node, 0 is harmless; `what` names it.
struct LayerSensitivities {
  std::string what;
  std::map<std::string, double> of;
  std::map<std::string, std::string> reasons;
  std::map<std::string, Json> figures;  // what else is known of a layer, by node: {"name": number}
};

// Statistics of what `recipe` makes of the prepared graph: `known` (of the graph as it is; may be null) where it
// rewrites nothing, else of the first samples of `data` (may be null: none). Errors: those of Calibrate.
Result<std::optional<Stats>> StatsForReport(const Graph& prepared, const Recipe& recipe, const Stats* known,
                                            const Dataset* data, int threads);

struct LayerSources {
  const Graph& prepared;
  const Recipe& recipe;
  const Stats* stats = nullptr;  // of RewriteWithoutBiases(prepared, recipe); null: none
  const ReportForm* before = nullptr;
  const ReportForm* after = nullptr;
  const LayerSensitivities* sensitivities = nullptr;  // null: the noise that rounding to 8 bits adds to operands
};
// Sets "layers", "tensors" and "sensitivity". Errors: those of RewriteWithoutBiases and Inspect.
Status PutLayers(const LayerSources& sources, Json& subject);

// Sets "recipe" (lists of numbers shortened to their range) and "remedies".
void PutRecipe(const Recipe& recipe, const std::string& file, Json& subject);

// One question that was asked of every form.
struct ShownQuestion {
  std::string name;     // of the picture
  std::string picture;  // path; "" for maps
  std::optional<Prompt> prompt;
  std::vector<std::pair<std::string, Image>> masks;  // by form, FP32's first
};
// The questions as pictures, in their order. `report` holds each photograph once. Errors: pictures that cannot be read.
Status PutPictures(const std::vector<ShownQuestion>& questions, Json& report, Json& subject);

// Runs the forms on the samples that `worst_of` (by sample, as Verdict::scores) answered worst, and puts them.
Status PutWorstPictures(const Judge& judge, const std::vector<std::vector<double>>& worst_of,
                        const std::vector<RunningForm>& candidates, Json& report, Json& subject);

std::string Base64(std::span<const std::byte> bytes);
// Error: kBadFile for what is not base64.
Result<std::vector<std::byte>> FromBase64(std::string_view text);

}  // namespace octavo::cli
