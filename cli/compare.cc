#include "octavo/compare.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <memory>
#include <optional>

#include "command.h"
#include "console.h"
#include "data_flags.h"
#include "engine_flags.h"
#include "implicit_flag.h"
#include "model_files.h"
#include "octavo/calibrate.h"
#include "octavo/dataset.h"
#include "octavo/inspect.h"
#include "octavo/npy.h"
#include "octavo/onnx.h"
#include "octavo/session.h"
#include "progress.h"
#include "report_document.h"
#include "report_subject.h"
#include "stopwatch.h"

namespace octavo::cli {
namespace {

namespace fs = std::filesystem;

// What a chunk of observed values may hold at once, of both models together.
constexpr int64_t kObservedBytes = int64_t{256} << 20;

struct CompareFlags {
  std::string a, b;
  std::string data;
  std::string preprocess;
  std::string outputs_b;
  int64_t limit = 0;
  bool per_layer = false;
  std::optional<double> min_sqnr;
  std::string precision_b;
  EngineFlags engine;
  ImplicitFlag implicit;
  Report report;
  ReportFlags page;

  SessionOptions OptionsA() const { return engine.ToOptions(); }
  SessionOptions OptionsB() const {
    SessionOptions options = engine.ToOptions();
    if (!precision_b.empty()) options.precision = ParsePrecision(precision_b);
    return options;
  }
};

using Inputs = std::map<std::string, Tensor>;

// One output of A and what it is compared with.
struct Pair {
  std::string name;     // A's
  std::string other;    // B's
  size_t a = 0, b = 0;  // positions
  TensorComparison comparison;
  std::vector<double> by_sample;  // SQNR in dB

  Status Add(const Tensor& reference, const Tensor& output) {
    OCTAVO_RETURN_IF_ERROR(comparison.Add(reference, output));
    OCTAVO_ASSIGN(const TensorDifference alone, Compare(reference, output));
    by_sample.push_back(alone.sqnr_db);
    return {};
  }
};

Result<Session> OpenSession(const std::string& path, const SessionOptions& options) {
  OCTAVO_ASSIGN(Graph graph, LoadOnnx(path));
  auto session = Session::Create(std::move(graph), options);
  if (!session.ok()) return session.status().WithPrefix(path + ": ");
  return session;
}

// B, quantized by --calibration-cache where that is given.
Result<Graph> LoadB(const CompareFlags& flags, const Dataset& data) {
  OCTAVO_ASSIGN(Graph graph, LoadOnnx(flags.b));
  if (flags.implicit.cache.empty()) return graph;
  OCTAVO_ASSIGN(auto dims, FindInputDims(data));
  std::erase_if(dims, [&](const auto& entry) {
    const ValueId id = graph.Find(entry.first);
    return id == kNoValue || !graph.IsInput(id);
  });
  return flags.implicit.Apply(std::move(graph), dims, flags.b);
}

Result<Session> OpenB(const CompareFlags& flags, const Dataset& data, const SessionOptions& options) {
  OCTAVO_ASSIGN(Graph graph, LoadB(flags, data));
  auto session = Session::Create(std::move(graph), options);
  if (!session.ok()) return session.status().WithPrefix(flags.b + ": ");
  return session;
}

// Outputs of equal names; by position, with a note, when no name is shared and there are equally many.
Result<std::vector<Pair>> MatchOutputs(const std::vector<std::string>& a, const std::vector<std::string>& b,
                                       std::vector<std::string>& notes) {
  std::vector<Pair> pairs;
  for (size_t i = 0; i < a.size(); ++i) {
    const auto found = std::find(b.begin(), b.end(), a[i]);
    if (found != b.end()) pairs.push_back({a[i], a[i], i, static_cast<size_t>(found - b.begin()), {}, {}});
  }
  if (pairs.empty() && a.size() == b.size()) {
    for (size_t i = 0; i < a.size(); ++i) {
      pairs.push_back({a[i], b[i], i, i, {}, {}});
      notes.push_back(
          fmt::format("output '{}' is compared with B's '{}': names differ, matched by position", a[i], b[i]));
    }
    return pairs;
  }
  if (pairs.empty()) {
    return InvalidArgument(
        fmt::format("no output has the same name in both models, and A has {} where B has {}", a.size(), b.size()));
  }
  for (const std::string& name : a) {
    if (std::find(b.begin(), b.end(), name) == b.end()) {
      notes.push_back(fmt::format("output '{}' is left out: B has none of that name", name));
    }
  }
  return pairs;
}

// B's input for each of A's: by name, else by position.
Result<std::map<std::string, std::string>> MatchInputs(const std::vector<Value>& a, const std::vector<Value>& b,
                                                       std::vector<std::string>& notes) {
  const auto has = [](const std::vector<Value>& values, const std::string& name) {
    return std::any_of(values.begin(), values.end(), [&](const Value& value) { return value.name == name; });
  };
  if (a.size() != b.size()) {
    return InvalidArgument(
        fmt::format("A has {} inputs, B has {}: they cannot take the same samples", a.size(), b.size()));
  }
  const bool by_name = std::all_of(a.begin(), a.end(), [&](const Value& value) { return has(b, value.name); });
  std::map<std::string, std::string> names;
  for (size_t i = 0; i < a.size(); ++i) {
    names[a[i].name] = by_name ? a[i].name : b[i].name;
    if (by_name) continue;
    notes.push_back(fmt::format("input '{}' feeds B's '{}': names differ, matched by position", a[i].name, b[i].name));
  }
  return names;
}

Inputs Renamed(const Inputs& inputs, const std::map<std::string, std::string>& names) {
  Inputs renamed;
  for (const auto& [name, tensor] : inputs) renamed[names.at(name)] = tensor;
  return renamed;
}

Result<Dataset> OpenData(const CompareFlags& flags, const std::vector<Value>& inputs) {
  OCTAVO_ASSIGN(Dataset data, OpenDataset(flags.data, flags.preprocess, inputs));
  if (flags.limit > 0) data.Truncate(static_cast<size_t>(flags.limit));
  return data;
}

Result<std::vector<Tensor>> RunNamed(Session& session, const Inputs& inputs, const std::string& model,
                                     const std::string& sample) {
  auto outputs = session.Run(inputs);
  if (!outputs.ok()) return outputs.status().WithPrefix(fmt::format("{}: {}: ", model, sample));
  return outputs;
}

// Both models over all samples; what the sessions return is compared pair by pair.
Status CompareModels(const CompareFlags& flags, const Dataset& data, Session& a, Session& b,
                     const std::map<std::string, std::string>& input_names, std::vector<Pair>& pairs,
                     Progress& progress) {
  for (size_t i = 0; i < data.size(); ++i) {
    OCTAVO_ASSIGN(const Inputs inputs, data.Load(i));
    OCTAVO_ASSIGN(const auto from_a, RunNamed(a, inputs, flags.a, data.name(i)));
    OCTAVO_ASSIGN(const auto from_b, RunNamed(b, Renamed(inputs, input_names), flags.b, data.name(i)));
    for (Pair& pair : pairs) {
      const Status status = pair.Add(from_a[pair.a], from_b[pair.b]);
      if (!status.ok()) return status.WithPrefix(fmt::format("'{}': {}: ", pair.name, data.name(i)));
    }
    progress.Step();
  }
  return {};
}

// Folder of one sample's .npy files.
Result<fs::path> SampleFolder(const CompareFlags& flags, const Dataset& data, size_t sample) {
  std::error_code error;
  const fs::path folder = fs::path(flags.outputs_b);
  const fs::path own = folder / Stem(data.name(sample));
  if (fs::is_directory(own, error)) return own;
  if (data.size() == 1 && fs::is_directory(folder, error)) return folder;
  return NotFound(
      fmt::format("'{}' is not there: --outputs-b needs one folder per sample, named as it without its "
                  "extension{}",
                  own.string(), data.size() == 1 ? ", or OUTPUT.npy files for a single one" : ""));
}

// Outputs of A for which the first sample's folder has a file; the others are left out with a note.
Result<std::vector<Pair>> MatchFiles(const CompareFlags& flags, const Dataset& data,
                                     const std::vector<std::string>& outputs, std::vector<std::string>& notes) {
  OCTAVO_ASSIGN(const fs::path folder, SampleFolder(flags, data, 0));
  std::vector<Pair> pairs;
  std::error_code error;
  for (size_t i = 0; i < outputs.size(); ++i) {
    const std::string file = NpyName(outputs[i]);
    if (fs::exists(folder / file, error)) {
      pairs.push_back({outputs[i], file, i, 0, {}, {}});
    } else {
      notes.push_back(fmt::format("output '{}' is left out: '{}' is not there", outputs[i], (folder / file).string()));
    }
  }
  if (pairs.empty()) {
    return NotFound(fmt::format("'{}' holds none of the model's outputs; the first would be '{}'", folder.string(),
                                NpyName(outputs.front())));
  }
  return pairs;
}

Status CompareWithFiles(const CompareFlags& flags, const Dataset& data, Session& a, std::vector<Pair>& pairs,
                        Progress& progress) {
  for (size_t i = 0; i < data.size(); ++i) {
    OCTAVO_ASSIGN(const fs::path folder, SampleFolder(flags, data, i));
    OCTAVO_ASSIGN(const Inputs inputs, data.Load(i));
    OCTAVO_ASSIGN(const auto from_a, RunNamed(a, inputs, flags.a, data.name(i)));
    for (Pair& pair : pairs) {
      const std::string file = (folder / pair.other).string();
      OCTAVO_ASSIGN(const Tensor from_b, LoadNpy(file));
      const Status status = pair.Add(from_a[pair.a], from_b);
      if (!status.ok()) return status.WithPrefix(file + ": ");
    }
    progress.Step();
  }
  return {};
}

// Values that both models still have after passes, in A's order, cut into chunks that fit into kObservedBytes.
Result<std::vector<std::vector<std::string>>> ObservedChunks(const CompareFlags& flags, const Dataset& data,
                                                             const std::map<std::string, std::string>& input_names) {
  OCTAVO_ASSIGN(const Inputs sample, data.Load(0));
  InspectOptions options_a, options_b;
  options_a.disabled_passes = options_b.disabled_passes = flags.engine.disabled_passes;
  for (const auto& [name, tensor] : sample) {
    options_a.input_dims[name] = tensor.dims();
    options_b.input_dims[input_names.at(name)] = tensor.dims();
  }
  OCTAVO_ASSIGN(Graph graph_a, LoadOnnx(flags.a));
  OCTAVO_ASSIGN(Graph graph_b, LoadB(flags, data));
  OCTAVO_ASSIGN(const auto in_a, ListActivations(std::move(graph_a), options_a));
  OCTAVO_ASSIGN(const auto in_b, ListActivations(std::move(graph_b), options_b));
  std::map<std::string, Dims> dims_b;
  for (const ActivationSize& value : in_b) dims_b[value.name] = value.dims;
  std::vector<std::vector<std::string>> chunks;
  int64_t bytes = kObservedBytes;
  for (const ActivationSize& value : in_a) {
    const auto found = dims_b.find(value.name);
    if (found == dims_b.end() || found->second != value.dims) continue;
    if (bytes + 2 * value.bytes > kObservedBytes) {
      chunks.emplace_back();
      bytes = 0;
    }
    bytes += 2 * value.bytes;
    chunks.back().push_back(value.name);
  }
  return chunks;
}

Result<std::vector<Pair>> CompareChunk(const CompareFlags& flags, const Dataset& data,
                                       const std::map<std::string, std::string>& input_names,
                                       const std::vector<std::string>& observed, Progress& progress) {
  SessionOptions options_a = flags.OptionsA(), options_b = flags.OptionsB();
  options_a.observed = options_b.observed = observed;
  OCTAVO_ASSIGN(Session a, OpenSession(flags.a, options_a));
  OCTAVO_ASSIGN(Session b, OpenB(flags, data, options_b));
  // Observed values come after the graph's own outputs, in the order they were asked for.
  const size_t first_a = a.output_names().size() - observed.size();
  const size_t first_b = b.output_names().size() - observed.size();
  std::vector<Pair> pairs;
  for (size_t i = 0; i < observed.size(); ++i)
    pairs.push_back({observed[i], observed[i], first_a + i, first_b + i, {}, {}});
  OCTAVO_RETURN_IF_ERROR(CompareModels(flags, data, a, b, input_names, pairs, progress));
  return pairs;
}

Result<std::vector<Pair>> CompareLayers(const CompareFlags& flags, const Dataset& data,
                                        const std::map<std::string, std::string>& input_names) {
  OCTAVO_ASSIGN(const auto chunks, ObservedChunks(flags, data, input_names));
  std::vector<Pair> layers;
  Progress progress("comparing layers", static_cast<int64_t>(chunks.size() * data.size()));
  for (const auto& chunk : chunks) {
    OCTAVO_ASSIGN(auto pairs, CompareChunk(flags, data, input_names, chunk, progress));
    layers.insert(layers.end(), std::make_move_iterator(pairs.begin()), std::make_move_iterator(pairs.end()));
  }
  return layers;
}

std::string Decibels(double decibels) {
  return decibels >= kIdenticalDb ? "identical" : decibels <= kWorstDb ? "no match" : fmt::format("{:.2f}", decibels);
}

void PrintPairs(const Report& report, const std::string& title, const std::vector<Pair>& pairs) {
  Table table("lrrrr", {title, "SQNR dB", "worst sample", "cosine", "max error"});
  for (const Pair& pair : pairs) {
    const TensorDifference difference = pair.comparison.difference();
    table.AddRow({pair.name, Decibels(difference.sqnr_db), Decibels(difference.min_sqnr_db),
                  fmt::format("{:.7f}", difference.cosine), fmt::format("{:.3g}", difference.max_abs_error)});
  }
  table.Print(report.stream());
}

Json PairsJson(const std::vector<Pair>& pairs) {
  Json list = Json::array();
  for (const Pair& pair : pairs) {
    const TensorDifference difference = pair.comparison.difference();
    list.push_back({{"name", pair.name},
                    {"sqnr_db", Finite(difference.sqnr_db)},
                    {"min_sqnr_db", Finite(difference.min_sqnr_db)},
                    {"cosine", Finite(difference.cosine)},
                    {"max_abs_error", Finite(difference.max_abs_error)},
                    {"mean_abs_error", Finite(difference.mean_abs_error)},
                    {"nonfinite", difference.nonfinite_output}});
  }
  return list;
}

// Whether every output keeps --min-sqnr; says which do not.
bool MeetsGoal(const CompareFlags& flags, const std::vector<Pair>& pairs) {
  if (!flags.min_sqnr) return true;
  bool met = true;
  for (const Pair& pair : pairs) {
    const double decibels = pair.comparison.difference().sqnr_db;
    if (decibels >= *flags.min_sqnr) continue;
    flags.report.Print("'{}': {} dB is below --min-sqnr {:g}\n", pair.name, Decibels(decibels), *flags.min_sqnr);
    met = false;
  }
  return met;
}

Status CheckFlags(const CompareFlags& flags) {
  if (flags.b.empty() && flags.outputs_b.empty()) {
    return InvalidArgument("nothing to compare with: name B.onnx, or a folder of its outputs with --outputs-b");
  }
  if (!flags.b.empty() && !flags.outputs_b.empty()) {
    return InvalidArgument("B.onnx and --outputs-b exclude each other: B's outputs come from one of them");
  }
  if (!flags.implicit.cache.empty() && flags.b.empty()) {
    return InvalidArgument("--calibration-cache needs B.onnx: it says how B is quantized");
  }
  if (flags.per_layer && flags.b.empty()) return InvalidArgument("--per-layer needs B.onnx: files hold outputs only");
  return {};
}

struct Comparison {
  std::vector<Pair> outputs, layers;
  std::vector<std::string> notes;
  size_t samples = 0;
};

Result<Comparison> CompareAll(const CompareFlags& flags) {
  Comparison result;
  OCTAVO_ASSIGN(Session a, OpenSession(flags.a, flags.OptionsA()));
  OCTAVO_ASSIGN(const Dataset data, OpenData(flags, a.inputs()));
  result.samples = data.size();
  Progress progress("comparing", static_cast<int64_t>(data.size()));
  if (flags.b.empty()) {
    OCTAVO_ASSIGN(result.outputs, MatchFiles(flags, data, a.output_names(), result.notes));
    OCTAVO_RETURN_IF_ERROR(CompareWithFiles(flags, data, a, result.outputs, progress));
    return result;
  }
  OCTAVO_ASSIGN(Session b, OpenB(flags, data, flags.OptionsB()));
  OCTAVO_ASSIGN(const auto input_names, MatchInputs(a.inputs(), b.inputs(), result.notes));
  OCTAVO_ASSIGN(result.outputs, MatchOutputs(a.output_names(), b.output_names(), result.notes));
  OCTAVO_RETURN_IF_ERROR(CompareModels(flags, data, a, b, input_names, result.outputs, progress));
  if (flags.per_layer) {
    OCTAVO_ASSIGN(result.layers, CompareLayers(flags, data, input_names));
  }
  return result;
}

// Of both models where both can be run. Layers that were compared are B's, in A's order.
Status WritePage(const CompareFlags& flags, const Comparison& result, bool met, double seconds) {
  Json report = StartReport("compare", flags.engine.threads, seconds);
  for (const std::string& note : result.notes) report["notes"].push_back(note);
  OCTAVO_ASSIGN(Session a, OpenSession(flags.a, flags.OptionsA()));
  OCTAVO_ASSIGN(const Dataset data, OpenData(flags, a.inputs()));
  OCTAVO_ASSIGN(const Inputs inputs, data.Load(0));
  ReportForm before("A: " + Stem(flags.a), flags.a);
  ReportForm after("B: " + Stem(flags.b.empty() ? flags.outputs_b : flags.b), flags.b);
  OCTAVO_RETURN_IF_ERROR(TimeForms({{&before, &a}}, inputs));
  if (!flags.b.empty()) {
    OCTAVO_ASSIGN(Session b, OpenB(flags, data, flags.OptionsB()));
    std::vector<std::string> ignored;
    OCTAVO_ASSIGN(const auto names, MatchInputs(a.inputs(), b.inputs(), ignored));
    OCTAVO_RETURN_IF_ERROR(TimeForms({{&after, &b}}, Renamed(inputs, names)));
  }
  double worst = kIdenticalDb;
  Json outputs = PairsJson(result.outputs);
  after.scores.resize(result.samples);
  for (const Pair& pair : result.outputs) {
    worst = std::min(worst, pair.comparison.difference().sqnr_db);
    for (size_t i = 0; i < pair.by_sample.size() && i < after.scores.size(); ++i) {
      after.scores[i].push_back(pair.by_sample[i]);
    }
  }
  after.sqnr_db = worst;
  ReportSummary summary;
  summary.before = &before;
  summary.after = &after;
  summary.quality = fmt::format("the worst output is {} against A over {} samples",
                                worst >= kIdenticalDb ? "identical" : Decibels(worst) + " dB", result.samples);
  if (flags.min_sqnr) {
    summary.kept = met;
    summary.quality += fmt::format("; the goal was {:g} dB", *flags.min_sqnr);
  } else {
    summary.verdict = "Compared";
  }
  Json subject = {{"name", Stem(flags.b.empty() ? flags.outputs_b : flags.b)}, {"summary", SummaryJson(summary)}};
  subject["score"] = {{"name", "SQNR"}, {"unit", "dB"}, {"goal", flags.min_sqnr ? Json(*flags.min_sqnr) : Json()}};
  subject["samples"] = Json::array();
  for (size_t i = 0; i < result.samples; ++i) subject["samples"].push_back(data.name(i));
  subject["forms"] = {FormJson(before), FormJson(after)};
  subject["outputs"] = std::move(outputs);
  subject["sensitivity"] = {{"what", "noise of the layer's output, over its energy"}};
  subject["layers"] = Json::array();
  for (const Pair& pair : result.layers) {
    const TensorDifference difference = pair.comparison.difference();
    subject["layers"].push_back({{"node", pair.name},
                                 {"sensitivity", Finite(std::pow(10.0, -difference.sqnr_db / 10))},
                                 {"figures",
                                  {{"SQNR in dB", Finite(difference.sqnr_db)},
                                   {"worst sample in dB", Finite(difference.min_sqnr_db)},
                                   {"cosine", Finite(difference.cosine)},
                                   {"largest error", Finite(difference.max_abs_error)}}}});
  }
  report["subjects"].push_back(std::move(subject));
  return WriteReport(report, flags.page.folder);
}

Result<ExitCode> CompareCommand(const CompareFlags& flags) {
  const Stopwatch stopwatch;
  OCTAVO_RETURN_IF_ERROR(CheckFlags(flags));
  OCTAVO_RETURN_IF_ERROR(flags.page.Check());
  OCTAVO_ASSIGN(const Comparison result, CompareAll(flags));
  for (const std::string& note : result.notes) flags.report.Print("note: {}\n", note);
  if (flags.per_layer) {
    PrintPairs(flags.report, "layer", result.layers);
    flags.report.Print("\n");
  }
  PrintPairs(flags.report, "output", result.outputs);
  flags.report.Print("{} samples\n", result.samples);
  const bool met = MeetsGoal(flags, result.outputs);
  Json document = {{"a", flags.a},
                   {"b", flags.b.empty() ? flags.outputs_b : flags.b},
                   {"samples", result.samples},
                   {"precision", flags.engine.precision},
                   {"precision_b", flags.precision_b.empty() ? flags.engine.precision : flags.precision_b},
                   {"notes", result.notes},
                   {"outputs", PairsJson(result.outputs)}};
  if (flags.min_sqnr) {
    document["min_sqnr_db"] = *flags.min_sqnr;
    document["met"] = met;
  }
  if (flags.per_layer) document["layers"] = PairsJson(result.layers);
  OCTAVO_RETURN_IF_ERROR(flags.report.WriteJson(document));
  if (!flags.page.folder.empty()) {
    OCTAVO_RETURN_IF_ERROR(WritePage(flags, result, met, stopwatch.Milliseconds() / 1000));
    flags.report.Print("report: {}/report.html\n", flags.page.folder);
  }
  return met ? kDone : kFindings;
}

}  // namespace

void AddCompareCommand(CLI::App& app, Action& action) {
  CLI::App* command = AddSubcommand(
      app, "compare", "Say how far a model's outputs are from another's, over many samples",
      {"octavo compare fp32.onnx int8.onnx --data photos --preprocess sam",
       "octavo compare model.onnx model.onnx --precision-b bf16 --data photos --preprocess imagenet --min-sqnr 35",
       "octavo compare unet.onnx unet_int8.onnx --data npz_samples --per-layer --json report.json",
       "octavo compare model.onnx --outputs-b tensorrt_outputs --data photos --preprocess sam"});
  auto flags = std::make_shared<CompareFlags>();
  command->add_option("A.onnx", flags->a, "The reference")->required();
  command->add_option("B.onnx", flags->b, "What is judged; may be the same file with another --precision-b");
  AddDataFlag(*command, flags->data);
  AddPreprocessFlag(*command, flags->preprocess);
  command->add_option("--limit", flags->limit, "Use only the first N samples, by name; 0: all")
      ->type_name("N")
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 40));
  command->add_flag("--per-layer", flags->per_layer,
                    "Compare intermediate values of equal names too: those that rewrites leave in both models");
  command
      ->add_option("--outputs-b", flags->outputs_b,
                   "Take B's outputs from files: DIR/SAMPLE/OUTPUT.npy, where SAMPLE is the sample's file name "
                   "without extension and OUTPUT the output's name as 'octavo run' writes it; for a single sample "
                   "DIR/OUTPUT.npy will do")
      ->type_name("DIR");
  command->add_option("--min-sqnr", flags->min_sqnr, "Exit code 1 when an output's SQNR is below this")
      ->type_name("DB");
  AddPrecisionFlag(*command, "--precision-b", flags->precision_b, "B's arithmetic (default: as --precision)");
  flags->implicit.AddTo(*command,
                        "Run B in INT8 by the scales of TensorRT's calibration cache; B's file holds no Q/DQ");
  flags->engine.AddTo(*command);
  flags->page.AddTo(*command, "");
  flags->report.AddFlag(*command);
  command->callback([=, &action] { action = [=] { return CompareCommand(*flags); }; });
}

}  // namespace octavo::cli
