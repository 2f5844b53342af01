#include "report_subject.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <filesystem>
#include <set>

#include "model_files.h"
#include "octavo/calibrate.h"
#include "octavo/compare.h"
#include "octavo/image.h"
#include "octavo/inspect.h"
#include "segment_run.h"
#include "stopwatch.h"
#include "verdict_text.h"

namespace octavo::cli {
namespace {

namespace fs = std::filesystem;

constexpr int kTimedRuns = 9;
constexpr double kTimedMilliseconds = 3000;
constexpr size_t kBins = 48;
constexpr size_t kHistogramSamples = 8;
constexpr size_t kMostPictures = 6, kMostQuestions = 12;
// Longer side of pictures in a report: what a phone and a page in print can show.
constexpr int kShownSide = 512;

double Rounded(double number, int digits = 5) {
  if (!std::isfinite(number) || number == 0) return number;
  const double scale = std::pow(10.0, digits - 1 - static_cast<int>(std::floor(std::log10(std::abs(number)))));
  return std::isfinite(scale) && scale > 0 ? std::round(number * scale) / scale : number;
}

Json Number(double number) { return Finite(Rounded(number)); }

Result<std::vector<Tensor>> Ordered(const Session& session, const std::map<std::string, Tensor>& inputs) {
  std::vector<Tensor> ordered;
  for (const Value& input : session.inputs()) {
    const auto found = inputs.find(input.name);
    if (found == inputs.end()) return InvalidArgument(fmt::format("input '{}' is missing", input.name));
    ordered.push_back(found->second);
  }
  return ordered;
}

// ---- Layers

struct Interval {
  double low = 0, high = 0;
};

Interval ClipOf(const ActivationRecipe& activation) {
  const bool is_signed = activation.dtype == DType::kInt8;
  const double scale = activation.scale;
  return {((is_signed ? -128 : 0) - activation.zero_point) * scale,
          ((is_signed ? 127 : 255) - activation.zero_point) * scale};
}

struct Rounding {
  double clipped_share = 0;
  double sqnr_db = kIdenticalDb;
};

// What rounding to the recipe's 8 bits does to values that lie as the histogram says, each in the middle of its bin.
Rounding RoundingOf(const TensorStats& stats, const ActivationRecipe& activation) {
  const Interval clip = ClipOf(activation);
  const double width = std::ldexp(1.0, stats.histogram.exponent);
  const double step = static_cast<double>(activation.scale) * activation.scale / 12;
  double clipped = 0, noise = 0, total = 0;
  for (size_t i = 0; i < stats.histogram.counts.size(); ++i) {
    const auto count = static_cast<double>(stats.histogram.counts[i]);
    if (count == 0) continue;
    const double value = (static_cast<double>(i) - Histogram::kHalfBins + 0.5) * width;
    const double beyond = std::max({clip.low - value, value - clip.high, 0.0});
    total += count;
    noise += count * (beyond > step ? beyond * beyond : step);
    if (beyond > activation.scale) clipped += count;
  }
  Rounding rounding;
  if (total == 0 || noise <= 0 || !(stats.mean_square > 0)) return rounding;
  rounding.clipped_share = clipped / total;
  rounding.sqnr_db = 10 * std::log10(stats.mean_square / (noise / total));
  return rounding;
}

// Equal bins from the least to the largest value.
Json HistogramJson(const TensorStats& stats) {
  const double low = stats.min, high = stats.max;
  if (stats.histogram.counts.empty() || !(high > low)) return Json();
  std::vector<double> bins(kBins, 0);
  const double width = std::ldexp(1.0, stats.histogram.exponent), bin = (high - low) / kBins;
  for (size_t i = 0; i < stats.histogram.counts.size(); ++i) {
    const auto count = static_cast<double>(stats.histogram.counts[i]);
    if (count == 0) continue;
    // A bin of the statistics may be wider than one of these: its count is spread evenly over what it covers.
    const double from = std::max(low, (static_cast<double>(i) - Histogram::kHalfBins) * width);
    const double to = std::min(high, (static_cast<double>(i) - Histogram::kHalfBins + 1) * width);
    const double span = std::max(to - from, 0.0);
    const auto first = static_cast<size_t>(std::clamp((from - low) / bin, 0.0, kBins - 1.0));
    const auto last = static_cast<size_t>(std::clamp((to - low) / bin, 0.0, kBins - 1.0));
    for (size_t k = first; k <= last; ++k) {
      const double covered =
          std::min(to, low + bin * static_cast<double>(k + 1)) - std::max(from, low + bin * static_cast<double>(k));
      bins[k] += span > 0 ? count * std::max(covered, 0.0) / span : (k == first ? count : 0);
    }
  }
  Json counts = Json::array();
  for (const double value : bins) counts.push_back(std::llround(value));
  return {{"low", Number(low)}, {"high", Number(high)}, {"counts", std::move(counts)}};
}

bool Lists(const std::vector<std::string>& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

class LayerWriter {
 public:
  LayerWriter(const LayerSources& sources, Graph rewritten) : sources_(sources), graph_(std::move(rewritten)) {}

  Status Write(Json& subject) {
    OCTAVO_ASSIGN(const ModelSummary summary, Inspect(graph_));
    for (const LayerCost& cost : summary.layers) costs_.emplace(cost.node, &cost);
    IndexRecipe();
    Json layers = Json::array();
    for (const Node& node : graph_.nodes) {
      if (!node.removed && IsShown(node)) layers.push_back(LayerJson(node));
    }
    subject["layers"] = std::move(layers);
    subject["tensors"] = std::move(tensors_);
    const bool given = sources_.sensitivities != nullptr;
    subject["sensitivity"] = {
        {"what", given ? sources_.sensitivities->what : "noise of operands rounded to 8 bits, over their energy"}};
    return {};
  }

 private:
  void IndexRecipe() {
    const Recipe& recipe = sources_.recipe;
    for (const ActivationRecipe& activation : recipe.activations) by_tensor_[activation.tensor].push_back(&activation);
    for (const WeightRecipe& weight : recipe.weights) weights_[weight.node].push_back(&weight);
    for (const FloatRecipe& entry : recipe.float_nodes) floats_[entry.node] = &entry;
    const auto touch = [&](const std::vector<std::string>& nodes, const std::string& what) {
      for (const std::string& node : nodes) {
        if (!Lists(remedies_[node], what)) remedies_[node].push_back(what);
      }
    };
    for (const DeferralRecipe& entry : recipe.deferrals) touch({entry.node}, "division deferred");
    for (const MigrationRecipe& entry : recipe.migrations) touch(entry.consumers, "factors per channel moved here");
    for (const RescaleRecipe& entry : recipe.rescales) touch({entry.node}, "constant rescaled per channel");
    for (const ShiftRecipe& entry : recipe.shifts) touch(entry.consumers, "channels shifted");
    for (const BiasRecipe& entry : recipe.biases) touch({entry.node}, "bias corrected");
    for (const WeightRecipe& entry : recipe.weights) {
      if (!entry.offsets.empty()) touch({entry.node}, "weights rounded together");
    }
  }

  std::vector<const ActivationRecipe*> ActivationsOf(const Node& node) const {
    std::vector<const ActivationRecipe*> found;
    for (const ValueId input : node.inputs) {
      if (input == kNoValue) continue;
      const auto entries = by_tensor_.find(graph_.value(input).name);
      if (entries == by_tensor_.end()) continue;
      for (const ActivationRecipe* entry : entries->second) {
        const bool reads = entry->consumers.empty() || Lists(entry->consumers, node.name);
        if (reads && std::find(found.begin(), found.end(), entry) == found.end()) found.push_back(entry);
      }
    }
    return found;
  }

  int64_t MacsOf(const Node& node) const {
    const auto found = costs_.find(node.name);
    return found == costs_.end() ? 0 : found->second->macs;
  }

  bool IsShown(const Node& node) const {
    return MacsOf(node) > 0 || weights_.contains(node.name) || floats_.contains(node.name) ||
           !ActivationsOf(node).empty();
  }

  std::string PrecisionOf(const Node& node, bool quantized) const {
    if (sources_.after != nullptr) {
      const auto run = sources_.after->layer_precisions.find(node.name);
      if (run != sources_.after->layer_precisions.end()) return run->second;
    }
    const auto entry = floats_.find(node.name);
    if (entry != floats_.end()) return std::string(FloatPrecisionName(entry->second->precision));
    return quantized ? "int8" : "fp32";
  }

  Json OperandJson(const ActivationRecipe& activation, double& noise) {
    const Interval clip = ClipOf(activation);
    Json operand = {{"kind", "activation"},
                    {"tensor", activation.tensor},
                    {"dtype", activation.dtype == DType::kInt8 ? "int8" : "uint8"},
                    {"scale", Number(activation.scale)},
                    {"zero_point", activation.zero_point},
                    {"clip", {Number(clip.low), Number(clip.high)}},
                    {"reason", activation.reason}};
    if (sources_.stats == nullptr) return operand;
    const auto found = sources_.stats->tensors.find(activation.tensor);
    if (found == sources_.stats->tensors.end()) return operand;
    const Rounding rounding = RoundingOf(found->second, activation);
    noise += std::pow(10.0, -rounding.sqnr_db / 10);
    operand["clipped_share"] = Number(rounding.clipped_share);
    operand["sqnr_db"] = Number(rounding.sqnr_db);
    if (!tensors_.contains(activation.tensor)) {
      tensors_[activation.tensor] = {{"range", {Number(found->second.min), Number(found->second.max)}},
                                     {"histogram", HistogramJson(found->second)}};
    }
    return operand;
  }

  Json OperandJson(const WeightRecipe& weight, const Node& node, double& noise) const {
    Json operand = {{"kind", "weight"}, {"dtype", "int8"}, {"reason", weight.reason}};
    if (weight.scales.empty()) return operand;
    const auto [low, high] = std::minmax_element(weight.scales.begin(), weight.scales.end());
    operand["scales"] = {{"count", weight.scales.size()}, {"min", Number(*low)}, {"max", Number(*high)}};
    const ValueId id = node.input(static_cast<size_t>(weight.input));
    if (id == kNoValue || !graph_.value(id).is_constant()) return operand;
    operand["tensor"] = graph_.value(id).name;
    const Tensor& constant = graph_.value(id).constant;
    if (constant.dtype() != DType::kFloat32 || constant.size() == 0) return operand;
    const auto values = constant.values<float>();
    double energy = 0, step = 0;
    float least = values[0], most = values[0];
    for (const float value : values) {
      least = std::min(least, value);
      most = std::max(most, value);
      energy += static_cast<double>(value) * value;
    }
    for (const float scale : weight.scales) step += static_cast<double>(scale) * scale / 12;
    operand["range"] = {Number(least), Number(most)};
    if (energy > 0) {
      const double share =
          step / static_cast<double>(weight.scales.size()) / (energy / static_cast<double>(values.size()));
      operand["sqnr_db"] = Number(-10 * std::log10(share));
      noise += share;
    }
    return operand;
  }

  Json LayerJson(const Node& node) {
    Json operands = Json::array();
    double noise = 0;
    for (const ActivationRecipe* entry : ActivationsOf(node)) operands.push_back(OperandJson(*entry, noise));
    const auto weights = weights_.find(node.name);
    if (weights != weights_.end()) {
      for (const WeightRecipe* entry : weights->second) operands.push_back(OperandJson(*entry, node, noise));
    }
    const std::string domain = node.domain.empty() ? "" : node.domain + ".";
    Json layer = {{"node", node.name}, {"op", domain + node.op}, {"precision", PrecisionOf(node, !operands.empty())}};
    if (const auto cost = costs_.find(node.name); cost != costs_.end()) {
      layer["macs"] = cost->second->macs;
      layer["parameters"] = cost->second->parameters;
      layer["dims"] = cost->second->output_dims;
    }
    layer["ms"] = Times(node.name);
    if (const auto entry = floats_.find(node.name); entry != floats_.end()) layer["why_float"] = entry->second->reason;
    if (const auto touched = remedies_.find(node.name); touched != remedies_.end()) layer["remedies"] = touched->second;
    layer["operands"] = std::move(operands);
    PutSensitivity(node.name, noise, layer);
    return layer;
  }

  Json Times(const std::string& node) const {
    Json times = Json::object();
    for (const ReportForm* form : {sources_.before, sources_.after}) {
      if (form == nullptr) continue;
      const auto found = form->layer_milliseconds.find(node);
      if (found != form->layer_milliseconds.end()) times[form->name] = Number(found->second);
    }
    return times;
  }

  void PutSensitivity(const std::string& node, double noise, Json& layer) const {
    if (sources_.sensitivities == nullptr) {
      if (noise > 0) layer["sensitivity"] = Number(noise);
      return;
    }
    const LayerSensitivities& known = *sources_.sensitivities;
    if (const auto found = known.of.find(node); found != known.of.end()) layer["sensitivity"] = Number(found->second);
    if (const auto found = known.reasons.find(node); found != known.reasons.end() && !found->second.empty()) {
      layer["reason"] = found->second;
    }
    if (const auto found = known.figures.find(node); found != known.figures.end()) layer["figures"] = found->second;
  }

  const LayerSources& sources_;
  const Graph graph_;
  std::map<std::string, const LayerCost*> costs_;
  std::map<std::string, std::vector<const ActivationRecipe*>> by_tensor_;
  std::map<std::string, std::vector<const WeightRecipe*>> weights_;
  std::map<std::string, const FloatRecipe*> floats_;
  std::map<std::string, std::vector<std::string>> remedies_;
  Json tensors_ = Json::object();
};

// ---- Recipe

// Long lists of numbers become their length and range.
void Shorten(Json& value) {
  constexpr size_t kLongest = 8;
  if (value.is_object()) {
    for (auto& [key, child] : value.items()) {
      if (key == "offsets") {
        child = fmt::format("{} letters", child.is_string() ? child.get_ref<const std::string&>().size() : 0);
      } else {
        Shorten(child);
      }
    }
    return;
  }
  if (!value.is_array()) return;
  const bool numbers = std::all_of(value.begin(), value.end(), [](const Json& v) { return v.is_number(); });
  if (!numbers || value.size() <= kLongest) {
    for (Json& child : value) Shorten(child);
    return;
  }
  double low = value[0].get<double>(), high = low;
  for (const Json& v : value) {
    low = std::min(low, v.get<double>());
    high = std::max(high, v.get<double>());
  }
  value = {{"count", value.size()}, {"min", Number(low)}, {"max", Number(high)}};
}

// ---- Pictures

struct Size {
  int width = 0, height = 0;
};

Size ShownSize(int width, int height) {
  const int longer = std::max(width, height);
  if (longer <= kShownSide) return {width, height};
  return {std::max(1, width * kShownSide / longer), std::max(1, height * kShownSide / longer)};
}

Result<std::string> DataUri(const Image& image) {
  OCTAVO_ASSIGN(const std::vector<std::byte> png, EncodePng(image));
  return "data:image/png;base64," + Base64(png);
}

Result<std::string> ShownUri(const Image& image, Interpolation interpolation) {
  const Size size = ShownSize(image.width, image.height);
  if (size.width == image.width && size.height == image.height) return DataUri(image);
  OCTAVO_ASSIGN(const Image smaller, Resize(image, size.width, size.height, interpolation));
  return DataUri(smaller);
}

bool IsMask(const Image& image) {
  return std::all_of(image.pixels.begin(), image.pixels.end(), [](uint8_t v) { return v == 0 || v == 255; });
}

// Of all pixels, the share that is not the reference's.
double DifferentShare(const Image& reference, const Image& image) {
  size_t different = 0;
  for (size_t i = 0; i < image.pixels.size(); ++i) different += image.pixels[i] != reference.pixels[i] ? 1 : 0;
  return image.pixels.empty() ? 0 : static_cast<double>(different) / static_cast<double>(image.pixels.size());
}

struct Question {
  size_t sample = 0, index = 0;  // of the sample's masks
  double score = 0;
};

// Worst answers first, of few pictures.
std::vector<Question> WorstQuestions(const Judge& judge, const std::vector<std::vector<double>>& scores) {
  std::vector<size_t> next(scores.size(), 0);
  std::vector<Question> all;
  const bool one_unit_each = judge.units() == judge.size();
  for (size_t sample = 0; sample < judge.size(); ++sample) {
    const size_t unit = judge.task().unit(sample);
    if (unit >= scores.size()) continue;
    if (!one_unit_each) {
      if (next[unit] < scores[unit].size()) all.push_back({sample, 0, scores[unit][next[unit]]});
      ++next[unit];
      continue;
    }
    for (size_t k = 0; k < scores[unit].size(); ++k) all.push_back({sample, k, scores[unit][k]});
  }
  std::stable_sort(all.begin(), all.end(), [](const Question& a, const Question& b) { return a.score < b.score; });
  std::vector<Question> worst;
  std::set<size_t> pictures;
  for (const Question& question : all) {
    if (worst.size() == kMostQuestions) break;
    const size_t unit = judge.task().unit(question.sample);
    if (!pictures.contains(unit) && pictures.size() == kMostPictures) continue;
    pictures.insert(unit);
    worst.push_back(question);
  }
  return worst;
}

}  // namespace

ReportForm::ReportForm(std::string form_name, std::string model_file)
    : name(std::move(form_name)), file(std::move(model_file)), bytes(file.empty() ? 0 : FileBytes(file)) {}

void ReportForm::Take(const Verdict& verdict) {
  score = verdict.score.mean;
  p5 = P5Of(verdict.score, verdict.p5_bound);
  mean_bound = verdict.mean_bound;
  p5_bound = verdict.p5_bound;
  sqnr_db = verdict.sqnr_db;
  scores = verdict.scores;
}

Result<std::unique_ptr<Session>> OpenForm(Graph graph, int threads) {
  SessionOptions options;
  options.threads = threads;
  OCTAVO_ASSIGN(Session session, Session::Create(std::move(graph), options));
  return std::make_unique<Session>(std::move(session));
}

Status TimeForms(const std::vector<RunningForm>& forms, const std::map<std::string, Tensor>& inputs) {
  std::vector<std::vector<Tensor>> ordered;
  for (const RunningForm& running : forms) {
    OCTAVO_ASSIGN(std::vector<Tensor> tensors, Ordered(*running.session, inputs));
    OCTAVO_ASSIGN(const auto warm, running.session->Run(tensors));
    ordered.push_back(std::move(tensors));
  }
  std::vector<std::map<std::string, std::vector<double>>> layers(forms.size());
  const Stopwatch whole;
  for (int run = 0; run < kTimedRuns && (run == 0 || whole.Milliseconds() < kTimedMilliseconds); ++run) {
    for (size_t i = 0; i < forms.size(); ++i) {
      Session& session = *forms[i].session;
      const Stopwatch stopwatch;
      OCTAVO_ASSIGN(const auto outputs, session.Run(ordered[i]));
      forms[i].form->milliseconds.push_back(stopwatch.Milliseconds());
      OCTAVO_RETURN_IF_ERROR(session.Profile(ordered[i]));
      std::map<std::string, double> sums;
      for (const StepInfo& step : session.plan().steps) sums[step.node] += step.milliseconds;
      for (const auto& [node, milliseconds] : sums) layers[i][node].push_back(milliseconds);
    }
  }
  for (size_t i = 0; i < forms.size(); ++i) {
    for (auto& [node, times] : layers[i]) {
      forms[i].form->layer_milliseconds[node] = SummarizeTimings(std::move(times)).median;
    }
    for (const StepInfo& step : forms[i].session->plan().steps) {
      if (step.macs > 0) forms[i].form->layer_precisions[step.node] = step.precision;
    }
    forms[i].form->int8_macs_share = forms[i].session->plan().int8_macs_share();
  }
  return {};
}

Json SummaryJson(const ReportSummary& summary) {
  std::string sentence = !summary.verdict.empty()       ? summary.verdict
                         : summary.kept.value_or(false) ? "Kept"
                                                        : "Not kept";
  sentence += ": " + summary.quality;
  Json json = {{"sentence", ""}, {"kept", summary.kept ? Json(*summary.kept) : Json()}};
  if (summary.before != nullptr && summary.after != nullptr) {
    const double before = SummarizeTimings(summary.before->milliseconds).median;
    const double after = SummarizeTimings(summary.after->milliseconds).median;
    if (before > 0 && after > 0) {
      sentence +=
          fmt::format("; {:.2g} times as fast as FP32 ({:.3g} instead of {:.3g} ms)", before / after, after, before);
      json["times_as_fast"] = Number(before / after);
    }
    const auto bytes_before = static_cast<double>(summary.before->bytes);
    const auto bytes_after = static_cast<double>(summary.after->bytes);
    if (bytes_before > 0 && bytes_after > 0) {
      sentence += fmt::format("; {:.0f} % of its size ({:.3g} of {:.3g} MB)", 100 * bytes_after / bytes_before,
                              bytes_after / 1e6, bytes_before / 1e6);
      json["share_of_size"] = Number(bytes_after / bytes_before);
    }
  }
  json["sentence"] = sentence + ".";
  return json;
}

Json FormJson(const ReportForm& form) {
  Json json = {{"name", form.name}};
  if (!form.file.empty()) json["file"] = form.file;
  if (form.bytes > 0) json["bytes"] = form.bytes;
  if (!form.milliseconds.empty()) {
    const TimingSummary times = SummarizeTimings(form.milliseconds);
    json["milliseconds"] = {{"median", Number(times.median)}, {"p10", Number(times.p10)}, {"p90", Number(times.p90)}};
  }
  const auto put = [&](const char* key, const std::optional<double>& number) {
    if (number && std::isfinite(*number)) json[key] = Number(*number);
  };
  put("score", form.score);
  put("p5", form.p5);
  put("mean_bound", form.mean_bound);
  put("p5_bound", form.p5_bound);
  put("sqnr_db", form.sqnr_db);
  put("int8_macs_share", form.int8_macs_share);
  if (!form.scores.empty()) {
    json["scores"] = Json::array();
    for (const auto& sample : form.scores) {
      Json values = Json::array();
      for (const double score : sample) values.push_back(Number(score));
      json["scores"].push_back(std::move(values));
    }
  }
  return json;
}

Result<std::optional<Stats>> StatsForReport(const Graph& prepared, const Recipe& recipe, const Stats* known,
                                            const Dataset* data, int threads) {
  if (recipe.rewrites_nothing() && known != nullptr) return std::optional(*known);
  if (data == nullptr) return std::optional<Stats>();
  Dataset some = *data;
  some.Truncate(kHistogramSamples);
  OCTAVO_ASSIGN(const Graph rewritten, RewriteWithoutBiases(prepared, recipe));
  CalibrateOptions options;
  options.threads = threads;
  OCTAVO_ASSIGN(CalibrateReport report, Calibrate(rewritten, some, options));
  return std::optional(std::move(report.stats));
}

Status PutLayers(const LayerSources& sources, Json& subject) {
  OCTAVO_ASSIGN(Graph rewritten, RewriteWithoutBiases(sources.prepared, sources.recipe));
  return LayerWriter(sources, std::move(rewritten)).Write(subject);
}

void PutRecipe(const Recipe& recipe, const std::string& file, Json& subject) {
  Json decisions = Json::parse(FormatRecipe(recipe));
  Shorten(decisions);
  subject["recipe"] = {{"file", file}, {"decisions", std::move(decisions)}};
  subject["remedies"] = Json::array();
  for (const RemedyRecipe& remedy : recipe.remedies) {
    subject["remedies"].push_back({{"name", remedy.name},
                                   {"kept", remedy.kept},
                                   {"sqnr_db", Number(remedy.sqnr_db)},
                                   {"gain_db", Number(remedy.gain_db)},
                                   {"reason", remedy.reason}});
  }
}

Status PutPictures(const std::vector<ShownQuestion>& questions, Json& report, Json& subject) {
  Json pictures = Json::array();
  for (const ShownQuestion& question : questions) {
    if (question.masks.empty()) continue;
    const Image& reference = question.masks[0].second;
    Json entry = {{"name", question.name}, {"width", reference.width}, {"height", reference.height}};
    const bool masks =
        std::all_of(question.masks.begin(), question.masks.end(), [](const auto& mask) { return IsMask(mask.second); });
    entry["kind"] = masks ? "mask" : "map";
    if (!question.picture.empty()) {
      // Pictures of one name may come from different folders.
      std::string id;
      for (const auto& [key, image] : report["images"].items()) {
        if (image["path"] == question.picture) id = key;
      }
      if (id.empty()) {
        id = fmt::format("picture {}", report["images"].size() + 1);
        OCTAVO_ASSIGN(const Image photo, LoadImage(question.picture));
        OCTAVO_ASSIGN(const std::string uri, ShownUri(photo, Interpolation::kBilinear));
        report["images"][id] = {{"path", question.picture}, {"data", uri}};
      }
      entry["image"] = id;
    }
    if (question.prompt) entry["prompt"] = PromptJson(*question.prompt);
    entry["masks"] = Json::array();
    for (const auto& [form, image] : question.masks) {
      OCTAVO_ASSIGN(const std::string uri, ShownUri(image, masks ? Interpolation::kNearest : Interpolation::kBilinear));
      Json mask = {{"form", form}, {"image", uri}, {"different", Number(DifferentShare(reference, image))}};
      if (masks) {
        OCTAVO_ASSIGN(const double iou, MaskIou(reference, image));
        mask["iou"] = Number(iou);
      }
      entry["masks"].push_back(std::move(mask));
    }
    pictures.push_back(std::move(entry));
  }
  subject["pictures"] = std::move(pictures);
  return {};
}

Status PutWorstPictures(const Judge& judge, const std::vector<std::vector<double>>& worst_of,
                        const std::vector<RunningForm>& candidates, Json& report, Json& subject) {
  std::map<size_t, std::vector<std::pair<std::string, ShownAnswer>>> answers;  // by sample
  std::vector<ShownQuestion> shown;
  for (const Question& question : WorstQuestions(judge, worst_of)) {
    auto& known = answers[question.sample];
    if (known.empty()) {
      OCTAVO_ASSIGN(auto reference, judge.Show(question.sample, judge.reference(question.sample)));
      if (!reference) return {};
      known.emplace_back(kFp32Form, *std::move(reference));
      OCTAVO_ASSIGN(const auto inputs, judge.Inputs(question.sample));
      for (const RunningForm& running : candidates) {
        OCTAVO_ASSIGN(const std::vector<Tensor> outputs, running.session->Run(inputs));
        OCTAVO_ASSIGN(auto answer, judge.Show(question.sample, outputs));
        if (answer) known.emplace_back(running.form->name, *std::move(answer));
      }
    }
    const ShownAnswer& reference = known[0].second;
    ShownQuestion entry;
    entry.picture = reference.picture;
    entry.name = reference.picture.empty() ? judge.samples().name(question.sample)
                                           : fs::path(reference.picture).filename().string();
    if (question.index < reference.prompts.size()) entry.prompt = reference.prompts[question.index];
    for (const auto& [form, answer] : known) {
      if (question.index >= answer.masks.size()) return InternalError("an answer has too few masks to show");
      entry.masks.emplace_back(form, answer.masks[question.index]);
    }
    shown.push_back(std::move(entry));
  }
  return PutPictures(shown, report, subject);
}

std::string Base64(std::span<const std::byte> bytes) {
  static constexpr char kLetters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string text;
  text.reserve((bytes.size() + 2) / 3 * 4);
  for (size_t i = 0; i < bytes.size(); i += 3) {
    const size_t left = std::min<size_t>(3, bytes.size() - i);
    uint32_t group = 0;
    for (size_t k = 0; k < 3; ++k) group = group << 8 | (k < left ? static_cast<uint32_t>(bytes[i + k]) : 0U);
    for (size_t k = 0; k < 4; ++k) text += k <= left ? kLetters[group >> (18 - 6 * k) & 63] : '=';
  }
  return text;
}

Result<std::vector<std::byte>> FromBase64(std::string_view text) {
  const auto value = [](char c) {
    if (c >= 'A' && c <= 'Z') return c - 'A';
    if (c >= 'a' && c <= 'z') return c - 'a' + 26;
    if (c >= '0' && c <= '9') return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
  };
  while (!text.empty() && text.back() == '=') text.remove_suffix(1);
  std::vector<std::byte> bytes;
  bytes.reserve(text.size() * 3 / 4);
  uint32_t group = 0;
  int bits = 0;
  for (const char c : text) {
    if (value(c) < 0) return BadFile("this is not base64");
    group = group << 6 | static_cast<uint32_t>(value(c));
    bits += 6;
    if (bits < 8) continue;
    bits -= 8;
    bytes.push_back(static_cast<std::byte>(group >> bits));
  }
  return bytes;
}

}  // namespace octavo::cli
