#include "octavo/costs.h"

#include <algorithm>
#include <cmath>

#include "base/file.h"
#include "base/json_object.h"
#include "octavo/session.h"
#include "search/layers.h"

namespace octavo {
namespace {

constexpr int kVersionOfFormat = 1;
constexpr int64_t kMaxFileBytes = int64_t{64} << 20;
// No layer takes a day; sums of such times stay finite.
constexpr double kLongestMilliseconds = 1e8;
constexpr DType kPrecisions[] = {DType::kInt8, DType::kBFloat16, DType::kFloat16, DType::kFloat32};

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values.empty() ? 0 : values[values.size() / 2];
}

// Times of one precision's plan, by step, over rounds.
struct Profiled {
  Session session;
  std::vector<Tensor> inputs;
  std::vector<std::vector<double>> times;

  Status Round() {
    OCTAVO_RETURN_IF_ERROR(session.Profile(inputs));
    const auto& steps = session.plan().steps;
    times.resize(steps.size());
    for (size_t i = 0; i < steps.size(); ++i) times[i].push_back(steps[i].milliseconds);
    return {};
  }
};

Result<Profiled> OpenProfiled(const Graph& graph, const std::map<std::string, Tensor>& inputs, int threads) {
  SessionOptions options;
  options.threads = threads;
  OCTAVO_ASSIGN(Session session, Session::Create(graph, options));
  std::vector<Tensor> ordered;
  for (const Value& input : session.inputs()) {
    const auto found = inputs.find(input.name);
    if (found == inputs.end()) return InvalidArgument("input '" + input.name + "' was not given");
    ordered.push_back(found->second);
  }
  return Profiled{std::move(session), std::move(ordered), {}};
}

Result<std::map<DType, double>> ReadTimes(const Json& object, const std::string& where, bool named) {
  const ObjectReader reader(object, where);
  OCTAVO_RETURN_IF_ERROR(named ? reader.CheckKeys({"node", "int8", "bf16", "fp16", "fp32"})
                               : reader.CheckKeys({"int8", "bf16", "fp16", "fp32"}));
  std::map<DType, double> times;
  for (const DType precision : kPrecisions) {
    const std::string key(LayerPrecisionName(precision));
    if (!reader.Has(key.c_str())) continue;
    OCTAVO_ASSIGN(const double time, reader.Double(key.c_str()));
    if (!(time >= 0 && time <= kLongestMilliseconds)) {
      return reader.Wrong(key.c_str(), "milliseconds, from 0 to 1e8");
    }
    times[precision] = time;
  }
  return times;
}

Result<LayerCosts> ReadCosts(const Json& document, const std::string& source) {
  const ObjectReader reader(document, source);
  OCTAVO_RETURN_IF_ERROR(reader.CheckKeys({"octavo_costs", "fingerprint", "isa", "threads", "rest", "layers"}));
  OCTAVO_ASSIGN(const int version, reader.Int("octavo_costs"));
  if (version != kVersionOfFormat) {
    return BadFile(
        fmt::format("{}: costs of format {} are not known here, only {}", source, version, kVersionOfFormat));
  }
  LayerCosts costs;
  OCTAVO_ASSIGN(costs.fingerprint, reader.Text("fingerprint", ""));
  OCTAVO_ASSIGN(costs.isa, reader.Text("isa", ""));
  if (reader.Has("threads")) {
    OCTAVO_ASSIGN(costs.threads, reader.Int("threads"));
  }
  if (reader.Has("rest")) {
    OCTAVO_ASSIGN(costs.rest, ReadTimes(document["rest"], source + ": rest", false));
  }
  OCTAVO_ASSIGN(const Json* layers, reader.List("layers"));
  for (size_t i = 0; i < layers->size(); ++i) {
    const std::string where = fmt::format("{}: layers[{}]", source, i);
    OCTAVO_ASSIGN(auto times, ReadTimes((*layers)[i], where, true));
    OCTAVO_ASSIGN(const std::string node, ObjectReader((*layers)[i], where).Text("node"));
    if (!costs.layers.emplace(node, std::move(times)).second) {
      return BadFile(fmt::format("{}: node {} is listed twice", where, Quote(node)));
    }
  }
  return costs;
}

}  // namespace

double LayerCosts::Of(const std::string& node, DType precision) const {
  const auto layer = layers.find(node);
  if (layer == layers.end()) return 0;
  const auto time = layer->second.find(precision);
  return time == layer->second.end() ? 0 : time->second;
}

double LayerCosts::Total(const std::function<DType(const std::string& node)>& precision_of) const {
  double total = 0;
  std::map<DType, int> used;
  for (const auto& layer : layers) {
    const DType precision = precision_of(layer.first);
    ++used[precision];
    total += Of(layer.first, precision);
  }
  double largest = 0;
  for (const auto& [precision, count] : used) {
    const auto found = rest.find(precision);
    if (found != rest.end()) largest = std::max(largest, found->second);
  }
  return total + largest;
}

Result<LayerCosts> MeasureCosts(const Graph& prepared, const Recipe& recipe,
                                const std::map<std::string, Tensor>& inputs, const MeasureCostsOptions& options) {
  LayerCosts costs;
  costs.fingerprint = ModelFingerprint(prepared);
  costs.isa = IsaInUse();
  costs.threads = options.threads;
  OCTAVO_ASSIGN(const Graph rewritten, RewriteWithoutBiases(prepared, recipe));
  const std::vector<QuantizedLayer> layers = QuantizedLayers(rewritten, recipe);
  for (const QuantizedLayer& layer : layers) costs.layers[layer.node];
  std::vector<Profiled> profiled;
  for (const DType precision : options.precisions) {
    const Recipe alike = WithPrecisions(
        recipe, rewritten, [=](const std::string&) { return precision; }, "");
    OCTAVO_ASSIGN(const Graph graph, ApplyRecipe(prepared, alike));
    OCTAVO_ASSIGN(Profiled entry, OpenProfiled(graph, inputs, options.threads));
    profiled.push_back(std::move(entry));
  }
  for (int round = 0; round <= std::max(1, options.rounds); ++round) {
    for (Profiled& entry : profiled) {
      OCTAVO_RETURN_IF_ERROR(entry.Round());
      if (round == 0) entry.times.clear();  // the first meets cold caches
    }
  }
  for (size_t p = 0; p < profiled.size(); ++p) {
    const DType precision = options.precisions[p];
    for (auto& layer : costs.layers) layer.second[precision] = 0;
    double& rest = costs.rest[precision];
    const auto& steps = profiled[p].session.plan().steps;
    for (size_t i = 0; i < steps.size(); ++i) {
      const auto layer = costs.layers.find(steps[i].node);
      (layer == costs.layers.end() ? rest : layer->second[precision]) += Median(profiled[p].times[i]);
    }
  }
  return costs;
}

std::string FormatCosts(const LayerCosts& costs) {
  Json document;
  document["octavo_costs"] = kVersionOfFormat;
  document["fingerprint"] = costs.fingerprint;
  document["isa"] = costs.isa;
  document["threads"] = costs.threads;
  const auto put = [](Json& into, const std::map<DType, double>& times) {
    for (const auto& [precision, time] : times) into[std::string(LayerPrecisionName(precision))] = time;
  };
  document["rest"] = Json::object();
  put(document["rest"], costs.rest);
  document["layers"] = Json::array();
  for (const auto& [node, times] : costs.layers) {
    Json entry = {{"node", node}};
    put(entry, times);
    document["layers"].push_back(std::move(entry));
  }
  return document.dump(1, ' ', false, Json::error_handler_t::replace) + "\n";
}

Result<LayerCosts> ParseCosts(std::string_view text, const std::string& source) {
  OCTAVO_ASSIGN(const Json document, ParseJson(text, source));
  try {
    return ReadCosts(document, source);
  } catch (const std::exception& error) {
    return BadFile(source + ": " + error.what());
  }
}

Result<LayerCosts> LoadCosts(const std::string& path) {
  OCTAVO_ASSIGN(const std::vector<std::byte> bytes, ReadFile(path, kMaxFileBytes));
  return ParseCosts({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, path);
}

Status SaveCosts(const LayerCosts& costs, const std::string& path) { return WriteFile(path, FormatCosts(costs)); }

}  // namespace octavo
