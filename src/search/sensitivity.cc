#include "octavo/sensitivity.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>

#include "base/file.h"
#include "base/json_object.h"
#include "octavo/compare.h"
#include "quantize/recipe_hash.h"
#include "search/boundary.h"
#include "search/layers.h"

namespace octavo {
namespace {

constexpr int64_t kMaxCheckpointBytes = int64_t{256} << 20;
constexpr double kCheckpointSeconds = 5;

// What two reasons to lose a layer's precision have to differ by before one is called the larger.
constexpr double kClearlyDb = 6;

// Results so far, by node, and the file that keeps them.
struct Found {
  bool alone = false, without = false;
  LayerSensitivity layer;
};

Json ToJson(const LayerSensitivity& layer) {
  Json entry;
  entry["node"] = layer.node;
  entry["op"] = layer.op;
  entry["macs"] = layer.macs;
  for (const PrecisionEffect& effect : layer.alone) {
    entry["alone"].push_back({{"precision", LayerPrecisionName(effect.precision)},
                              {"local_sqnr_db", effect.local_sqnr_db},
                              {"score", effect.score},
                              {"p5", effect.p5},
                              {"sqnr_db", effect.sqnr_db}});
  }
  entry["weight_sqnr_db"] = layer.weight_sqnr_db;
  entry["activation_sqnr_db"] = layer.activation_sqnr_db;
  entry["without_score"] = layer.without_score;
  entry["without_sqnr_db"] = layer.without_sqnr_db;
  entry["milliseconds_saved"] = layer.milliseconds_saved;
  entry["reason"] = layer.reason;
  return entry;
}

Result<PrecisionEffect> ReadEffect(const Json& object, const std::string& where) {
  const ObjectReader reader(object, where);
  PrecisionEffect effect;
  OCTAVO_ASSIGN(const std::string precision, reader.Text("precision"));
  OCTAVO_ASSIGN(effect.precision, ParseLayerPrecision(precision));
  OCTAVO_ASSIGN(effect.local_sqnr_db, reader.Double("local_sqnr_db"));
  OCTAVO_ASSIGN(effect.score, reader.Double("score"));
  OCTAVO_ASSIGN(effect.p5, reader.Double("p5"));
  OCTAVO_ASSIGN(effect.sqnr_db, reader.Double("sqnr_db"));
  return effect;
}

Result<Found> ReadFound(const Json& object, const std::string& where) {
  const ObjectReader reader(object, where);
  Found found;
  OCTAVO_ASSIGN(found.layer.node, reader.Text("node"));
  OCTAVO_ASSIGN(found.alone, reader.Bool("alone_done"));
  OCTAVO_ASSIGN(found.without, reader.Bool("without_done"));
  OCTAVO_ASSIGN(found.layer.weight_sqnr_db, reader.Double("weight_sqnr_db"));
  OCTAVO_ASSIGN(found.layer.activation_sqnr_db, reader.Double("activation_sqnr_db"));
  OCTAVO_ASSIGN(found.layer.without_score, reader.Double("without_score"));
  OCTAVO_ASSIGN(found.layer.without_sqnr_db, reader.Double("without_sqnr_db"));
  if (!reader.Has("alone")) return found;
  OCTAVO_ASSIGN(const Json* list, reader.List("alone"));
  for (const Json& entry : *list) {
    OCTAVO_ASSIGN(const PrecisionEffect effect, ReadEffect(entry, where));
    found.layer.alone.push_back(effect);
  }
  return found;
}

class Sensitivity {
 public:
  Sensitivity(const Graph& prepared, const Recipe& recipe, const Stats& stats, const Judge& judge,
              const SensitivityOptions& options)
      : prepared_(prepared), recipe_(recipe), stats_(stats), judge_(judge), options_(options) {}

  Result<SensitivityReport> Run() {
    OCTAVO_ASSIGN(rewritten_, RewriteWithoutBiases(prepared_, recipe_));
    quantization_ = QuantizationOnly(recipe_);
    layers_ = QuantizedLayers(rewritten_, recipe_);
    if (layers_.empty()) return InvalidArgument("the recipe quantizes nothing");
    for (const QuantizedLayer& layer : layers_) found_[layer.node];
    key_ = Key();
    if (options_.resume) OCTAVO_RETURN_IF_ERROR(Resume());
    OCTAVO_ASSIGN(const Graph all, ApplyRecipe(rewritten_, quantization_));
    SensitivityReport report;
    OCTAVO_ASSIGN(report.all_quantized, judge_.Score(all));
    OCTAVO_RETURN_IF_ERROR(Sweep(rewritten_, &Found::alone, [this](const auto& node, auto& values, Found& found) {
      return MeasureAlone(node, values, found.layer);
    }));
    if (options_.without) {
      OCTAVO_RETURN_IF_ERROR(Sweep(all, &Found::without, [&](const auto& node, auto& values, Found& found) {
        return MeasureWithout(all, node, values, found.layer);
      }));
    }
    report.stopped = Stopped();
    if (report.stopped) OCTAVO_RETURN_IF_ERROR(SaveCheckpoint());
    report.layers = Collect();
    return report;
  }

 private:
  bool Stopped() const { return options_.stop != nullptr && options_.stop->load(); }

  template <typename Measure>
  Status Sweep(const Graph& base, bool Found::*done, Measure measure) {
    std::vector<LayerJob> jobs;
    size_t before = 0;
    for (const QuantizedLayer& layer : layers_) {
      Found& found = found_[layer.node];
      if (found.*done) {
        ++before;
        continue;
      }
      jobs.push_back({layer.node, [&, node = layer.node](BoundaryValues& values) -> Status {
                        if (Stopped()) return {};
                        Status status = measure(node, values, found);
                        if (!status.ok()) return status.WithPrefix("node '" + node + "': ");
                        found.*done = true;
                        Count(before);
                        return KeepCheckpoint();
                      }});
    }
    counted_ = 0;
    if (before > 0 && options_.progress) options_.progress(before, layers_.size());
    return Stopped() ? Status() : RunLayerJobs(base, judge_, judge_.size(), options_.memory_bytes, jobs);
  }

  void Count(size_t before) {
    ++counted_;
    if (options_.progress) options_.progress(before + counted_, layers_.size());
  }

  Recipe Only(const std::string& node, DType precision) const {
    return WithPrecisions(
        quantization_, rewritten_, [&](const std::string& name) { return name == node ? precision : DType::kFloat32; },
        "");
  }

  Result<Graph> Apply(const Recipe& recipe) const { return ApplyRecipe(rewritten_, recipe); }

  Result<double> Local(BoundaryValues& values, const Recipe& recipe, const std::string& node) const {
    OCTAVO_ASSIGN(const Graph changed, Apply(recipe));
    return LocalSqnr(judge_, values, rewritten_, changed, node);
  }

  Status MeasureAlone(const std::string& node, BoundaryValues& values, LayerSensitivity& layer) const {
    layer.alone.clear();
    for (const DType precision : options_.precisions) {
      PrecisionEffect effect;
      effect.precision = precision;
      OCTAVO_ASSIGN(const Graph changed, Apply(Only(node, precision)));
      OCTAVO_ASSIGN(effect.local_sqnr_db, LocalSqnr(judge_, values, rewritten_, changed, node));
      OCTAVO_ASSIGN(const Verdict verdict, ScoreChanged(judge_, values, rewritten_, changed, node));
      effect.score = verdict.score.mean;
      effect.p5 = verdict.score.p5;
      effect.sqnr_db = verdict.sqnr_db;
      layer.alone.push_back(effect);
    }
    Recipe weights = Only(node, DType::kInt8), activations = weights;
    weights.activations.clear();
    activations.weights.clear();
    activations.biases.clear();
    layer.weight_sqnr_db = layer.activation_sqnr_db = kIdenticalDb;
    if (!weights.weights.empty()) {
      OCTAVO_ASSIGN(layer.weight_sqnr_db, Local(values, weights, node));
    }
    if (!activations.activations.empty()) {
      OCTAVO_ASSIGN(layer.activation_sqnr_db, Local(values, activations, node));
    }
    return {};
  }

  Status MeasureWithout(const Graph& all, const std::string& node, BoundaryValues& values,
                        LayerSensitivity& layer) const {
    const Recipe without = WithPrecisions(
        quantization_, rewritten_,
        [&](const std::string& name) { return name == node ? DType::kFloat32 : DType::kInt8; }, "");
    OCTAVO_ASSIGN(const Graph changed, Apply(without));
    OCTAVO_ASSIGN(const Verdict verdict, ScoreChanged(judge_, values, all, changed, node));
    layer.without_score = verdict.score.mean;
    layer.without_sqnr_db = verdict.sqnr_db;
    return {};
  }

  std::string Reason(const LayerSensitivity& layer) const {
    std::string reason;
    if (layer.weight_sqnr_db + kClearlyDb < layer.activation_sqnr_db) reason = "weights";
    if (layer.activation_sqnr_db + kClearlyDb < layer.weight_sqnr_db) reason = "activations";
    const std::string why = WhyHard(rewritten_, stats_, recipe_, layer.node);
    if (why.empty()) return reason;
    return reason.empty() ? why : reason + ": " + why;
  }

  std::vector<LayerSensitivity> Collect() {
    std::vector<LayerSensitivity> collected;
    for (const QuantizedLayer& layer : layers_) {
      Found& found = found_[layer.node];
      if (!found.alone) continue;
      LayerSensitivity entry = std::move(found.layer);
      entry.node = layer.node;
      entry.op = layer.op;
      entry.macs = layer.macs;
      if (options_.costs != nullptr) {
        entry.milliseconds_saved =
            options_.costs->Of(layer.node, DType::kFloat32) - options_.costs->Of(layer.node, DType::kInt8);
      }
      entry.reason = Reason(entry);
      collected.push_back(std::move(entry));
    }
    if (options_.precisions.empty()) return collected;
    std::stable_sort(collected.begin(), collected.end(), [](const auto& a, const auto& b) {
      const PrecisionEffect &x = a.alone.front(), &y = b.alone.front();
      return x.score != y.score ? x.score < y.score : x.sqnr_db < y.sqnr_db;
    });
    return collected;
  }

  // ---- the checkpoint ----

  std::string Key() const {
    std::string precisions;
    for (const DType precision : options_.precisions) precisions += std::string(LayerPrecisionName(precision)) + ",";
    return fmt::format("{} {} {} {} {}", ModelFingerprint(prepared_), RecipeHash(recipe_), judge_.size(), precisions,
                       options_.settings);
  }

  Status SaveCheckpoint() const {
    if (options_.checkpoint.empty()) return {};
    Json document = {{"octavo_sensitivity_checkpoint", 1}, {"of", key_}, {"layers", Json::array()}};
    for (const auto& [node, found] : found_) {
      if (!found.alone && !found.without) continue;
      Json entry = ToJson(found.layer);
      entry["node"] = node;
      entry["alone_done"] = found.alone;
      entry["without_done"] = found.without;
      document["layers"].push_back(std::move(entry));
    }
    return WriteFile(options_.checkpoint, document.dump(1, ' ', false, Json::error_handler_t::replace));
  }

  Status KeepCheckpoint() {
    const auto now = std::chrono::steady_clock::now();
    if (std::chrono::duration<double>(now - saved_).count() < kCheckpointSeconds) return {};
    saved_ = now;
    return SaveCheckpoint();
  }

  Status Resume() {
    const auto bytes = ReadFile(options_.checkpoint, kMaxCheckpointBytes);
    if (!bytes.ok() && bytes.status().code() == ErrorCode::kNotFound) return {};
    OCTAVO_RETURN_IF_ERROR(bytes.status());
    const std::string_view text(reinterpret_cast<const char*>(bytes->data()), bytes->size());
    OCTAVO_ASSIGN(const Json document, ParseJson(text, options_.checkpoint));
    try {
      return ReadCheckpoint(document);
    } catch (const std::exception& error) {
      return BadFile(options_.checkpoint + ": " + error.what());
    }
  }

  Status ReadCheckpoint(const Json& document) {
    const ObjectReader reader(document, options_.checkpoint);
    OCTAVO_RETURN_IF_ERROR(reader.CheckKeys({"octavo_sensitivity_checkpoint", "of", "layers"}));
    OCTAVO_ASSIGN(const std::string of, reader.Text("of"));
    if (of != key_) {
      return InvalidArgument(options_.checkpoint +
                             ": this checkpoint is of another model, recipe, number of samples or other settings; "
                             "remove it to start anew");
    }
    OCTAVO_ASSIGN(const Json* list, reader.List("layers"));
    for (const Json& entry : *list) {
      OCTAVO_ASSIGN(Found found, ReadFound(entry, options_.checkpoint));
      if (found.alone && !HasPrecisions(found.layer)) {
        return BadFile(fmt::format("{}: node {} holds other precisions than are wanted; remove the file to start anew",
                                   options_.checkpoint, Quote(found.layer.node)));
      }
      const auto known = found_.find(found.layer.node);
      if (known != found_.end()) known->second = std::move(found);
    }
    return {};
  }

  bool HasPrecisions(const LayerSensitivity& layer) const {
    return std::equal(layer.alone.begin(), layer.alone.end(), options_.precisions.begin(), options_.precisions.end(),
                      [](const PrecisionEffect& effect, DType precision) { return effect.precision == precision; });
  }

  const Graph& prepared_;
  const Recipe& recipe_;
  const Stats& stats_;
  const Judge& judge_;
  const SensitivityOptions& options_;
  Graph rewritten_;
  Recipe quantization_;
  std::vector<QuantizedLayer> layers_;
  std::map<std::string, Found> found_;
  std::string key_;  // what a checkpoint belongs to
  size_t counted_ = 0;
  std::chrono::steady_clock::time_point saved_ = std::chrono::steady_clock::now();
};

std::string CsvText(const std::string& text) {
  std::string quoted = "\"";
  for (const char c : text) quoted += c == '"' ? std::string("\"\"") : std::string(1, c);
  return quoted + "\"";
}

}  // namespace

Result<SensitivityReport> MeasureSensitivity(const Graph& prepared, const Recipe& recipe, const Stats& stats,
                                             const Judge& judge, const SensitivityOptions& options) {
  for (const DType precision : options.precisions) {
    if (precision != DType::kInt8 && precision != DType::kBFloat16 && precision != DType::kFloat16) {
      return InvalidArgument("a layer's precision must be int8, bf16 or fp16");
    }
  }
  return Sensitivity(prepared, recipe, stats, judge, options).Run();
}

std::string FormatSensitivity(const SensitivityReport& report) {
  Json document = {{"all_int8",
                    {{"score", report.all_quantized.score.mean},
                     {"p5", report.all_quantized.score.p5},
                     {"sqnr_db", report.all_quantized.sqnr_db}}},
                   {"layers", Json::array()}};
  for (const LayerSensitivity& layer : report.layers) document["layers"].push_back(ToJson(layer));
  return document.dump(1, ' ', false, Json::error_handler_t::replace) + "\n";
}

std::string FormatSensitivityCsv(const SensitivityReport& report) {
  std::string text =
      "node,op,macs,precision,local_sqnr_db,score,p5,sqnr_db,weight_sqnr_db,activation_sqnr_db,"
      "without_score,without_sqnr_db,milliseconds_saved,reason\n";
  for (const LayerSensitivity& layer : report.layers) {
    for (const PrecisionEffect& effect : layer.alone) {
      text += fmt::format("{},{},{},{},{},{},{},{},{},{},{},{},{},{}\n", CsvText(layer.node), layer.op, layer.macs,
                          LayerPrecisionName(effect.precision), effect.local_sqnr_db, effect.score, effect.p5,
                          effect.sqnr_db, layer.weight_sqnr_db, layer.activation_sqnr_db, layer.without_score,
                          layer.without_sqnr_db, layer.milliseconds_saved, CsvText(layer.reason));
    }
  }
  return text;
}

}  // namespace octavo
