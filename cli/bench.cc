#include "octavo/bench.h"

#include <algorithm>
#include <charconv>
#include <iostream>
#include <memory>

#include "command.h"
#include "console.h"
#include "engine_flags.h"
#include "implicit_flag.h"
#include "model_files.h"
#include "octavo/inspect.h"
#include "octavo/onnx.h"
#include "octavo/session.h"
#include "progress.h"
#include "stopwatch.h"

namespace octavo::cli {
namespace {

struct BenchFlags {
  std::string model;
  std::vector<std::string> input_shapes, inputs;
  std::string preprocess;
  int iterations = 0;
  int warmup = 3;
  bool per_layer = false;
  bool on_stdin = false;
  EngineFlags engine;
  ImplicitFlag implicit;
  Report report;
};

// A model that has run once, with what that took.
struct Loaded {
  std::unique_ptr<Session> session;
  std::vector<Tensor> inputs;   // in the order of the session's
  std::vector<Tensor> outputs;  // reused by every run
  double load_ms = 0;           // reading the file
  double compile_ms = 0;        // Session::Create and Prepare
  double first_ms = 0;          // from opening the file to the first outputs
};

// Files where --input names them, random numbers elsewhere, in the order of graph.inputs.
Result<std::vector<Tensor>> MakeInputs(const BenchFlags& flags, const Graph& graph) {
  const std::vector<Value> values = InputValues(graph);
  OCTAVO_ASSIGN(auto given, ReadInputs(flags.inputs, values, flags.preprocess, false));
  OCTAVO_ASSIGN(auto shapes, ParseInputShapes(flags.input_shapes, values));
  for (const auto& [name, tensor] : given) shapes[name] = tensor.dims();
  std::vector<std::string> notes;
  OCTAVO_ASSIGN(const auto dims, ChooseInputDims(graph, shapes, &notes));
  for (const std::string& note : notes) fmt::print(stderr, "note: {}\n", note);
  std::vector<Tensor> inputs;
  for (size_t i = 0; i < values.size(); ++i) {
    const auto found = given.find(values[i].name);
    if (found != given.end()) {
      inputs.push_back(found->second);
      continue;
    }
    auto tensor = MakeRandomInput(values[i].dtype, dims.at(values[i].name), i + 1);
    if (!tensor.ok()) return tensor.status().WithPrefix(fmt::format("input '{}': ", values[i].name));
    inputs.push_back(*std::move(tensor));
  }
  return inputs;
}

Result<Loaded> Load(const BenchFlags& flags) {
  Loaded loaded;
  const Stopwatch total;
  OCTAVO_ASSIGN(Graph graph, LoadOnnx(flags.model));
  loaded.load_ms = total.Milliseconds();
  const Stopwatch making;
  OCTAVO_ASSIGN(loaded.inputs, MakeInputs(flags, graph));
  const double making_ms = making.Milliseconds();
  std::vector<Dims> dims;
  std::map<std::string, Dims> named;
  for (const Tensor& input : loaded.inputs) {
    named[graph.value(graph.inputs[dims.size()]).name] = input.dims();
    dims.push_back(input.dims());
  }
  const Stopwatch compile;
  OCTAVO_ASSIGN(graph, flags.implicit.Apply(std::move(graph), named, flags.model));
  auto session = Session::Create(std::move(graph), flags.engine.ToOptions());
  if (!session.ok()) return InModel(session.status(), flags.model);
  loaded.session = std::make_unique<Session>(std::move(session).value());
  if (Status status = loaded.session->Prepare(dims); !status.ok()) return InModel(status, flags.model);
  loaded.compile_ms = compile.Milliseconds();
  OCTAVO_ASSIGN(loaded.outputs, loaded.session->Run(loaded.inputs));
  loaded.first_ms = total.Milliseconds() - making_ms;
  return loaded;
}

Result<double> TimeOneRun(Loaded& loaded) {
  const Stopwatch stopwatch;
  OCTAVO_RETURN_IF_ERROR(loaded.session->RunInto(loaded.inputs, loaded.outputs));
  return stopwatch.Milliseconds();
}

Status WarmUp(Loaded& loaded, int runs) {
  for (int i = 0; i < runs; ++i) OCTAVO_RETURN_IF_ERROR(TimeOneRun(loaded).status());
  return {};
}

// How many runs fit into about three seconds, 10 at least and 500 at most.
Result<int> ChooseIterations(Loaded& loaded) {
  OCTAVO_ASSIGN(const double milliseconds, TimeOneRun(loaded));
  return static_cast<int>(std::clamp(3000 / std::max(milliseconds, 1e-3), 10.0, 500.0));
}

Result<std::vector<double>> TimeRuns(Loaded& loaded, int iterations) {
  std::vector<double> times;
  Progress progress("timing", iterations);
  for (int i = 0; i < iterations; ++i) {
    OCTAVO_ASSIGN(const double milliseconds, TimeOneRun(loaded));
    times.push_back(milliseconds);
    progress.Step();
  }
  return times;
}

// Median milliseconds of each step over several profiled runs.
Result<std::vector<double>> ProfileSteps(Loaded& loaded, int runs) {
  std::vector<std::vector<double>> times(loaded.session->plan().steps.size());
  for (int run = 0; run < runs; ++run) {
    OCTAVO_RETURN_IF_ERROR(loaded.session->Profile(loaded.inputs));
    const auto& steps = loaded.session->plan().steps;
    for (size_t i = 0; i < steps.size(); ++i) times[i].push_back(steps[i].milliseconds);
  }
  std::vector<double> medians;
  medians.reserve(times.size());
  for (auto& step : times) medians.push_back(SummarizeTimings(std::move(step)).median);
  return medians;
}

double Rate(int64_t macs, double milliseconds) {
  return milliseconds > 0 ? static_cast<double>(macs) / milliseconds * 1e-6 : 0;
}

void PrintSteps(const Report& report, const PlanInfo& plan, const std::vector<double>& milliseconds) {
  double total = 0;
  for (const double ms : milliseconds) total += ms;
  Table table("rrrrlllll", {"#", "ms", "share", "GMAC/s", "precision", "op", "kernel", "output", "node"});
  for (size_t i = 0; i < plan.steps.size(); ++i) {
    const StepInfo& step = plan.steps[i];
    table.AddRow({std::to_string(i + 1), fmt::format("{:.3f}", milliseconds[i]),
                  fmt::format("{:.1f} %", total > 0 ? 100 * milliseconds[i] / total : 0),
                  step.macs > 0 ? fmt::format("{:.1f}", Rate(step.macs, milliseconds[i])) : "-", step.precision,
                  step.op, step.kernel, ToString(step.output_dims), step.node});
  }
  report.Print("\n");
  table.Print(report.stream());
}

Json StepsJson(const PlanInfo& plan, const std::vector<double>& milliseconds) {
  Json steps = Json::array();
  for (size_t i = 0; i < plan.steps.size(); ++i) {
    const StepInfo& step = plan.steps[i];
    steps.push_back({{"node", step.node},
                     {"op", step.op},
                     {"kernel", step.kernel},
                     {"precision", step.precision},
                     {"output_dims", step.output_dims},
                     {"macs", step.macs},
                     {"ms", milliseconds[i]}});
  }
  return steps;
}

// Lines of standard input are numbers of runs; each is answered by one line of JSON with their times.
Result<ExitCode> ServeStdin(Loaded& loaded) {
  const auto answer = [](const Json& line) {
    fmt::print("{}\n", line.dump());
    std::fflush(stdout);
  };
  answer({{"ready", true}, {"load_ms", loaded.load_ms}, {"first_ms", loaded.first_ms}});
  std::string line;
  while (std::getline(std::cin, line)) {
    int runs = 0;
    const auto [end, error] = std::from_chars(line.data(), line.data() + line.size(), runs);
    const bool whole = end == line.data() + line.size() || *end == '\r';
    if (error != std::errc() || !whole || runs < 0 || runs > 1'000'000) {
      return InvalidArgument(fmt::format("--on-stdin: '{}' is no number of runs", line));
    }
    Json times = Json::array();
    for (int i = 0; i < runs; ++i) {
      OCTAVO_ASSIGN(const double milliseconds, TimeOneRun(loaded));
      times.push_back(milliseconds);
    }
    answer({{"ms", times}});
  }
  return kDone;
}

struct Measured {
  TimingSummary timing;
  int iterations = 0;
  int64_t macs = 0;
  double gmacs_per_s = 0;
  MachinePeak peak;
  double peak_share = 0;
  int64_t peak_rss = 0;
};

Result<Measured> Measure(const BenchFlags& flags, Loaded& loaded) {
  Measured measured;
  measured.iterations = flags.iterations;
  if (measured.iterations == 0) {
    OCTAVO_ASSIGN(measured.iterations, ChooseIterations(loaded));
  }
  OCTAVO_ASSIGN(std::vector<double> times, TimeRuns(loaded, measured.iterations));
  measured.timing = SummarizeTimings(std::move(times));
  for (const StepInfo& step : loaded.session->plan().steps) measured.macs += step.macs;
  measured.gmacs_per_s = Rate(measured.macs, measured.timing.median);
  measured.peak_rss = PeakResidentBytes();  // before the peak's own matrices
  OCTAVO_ASSIGN(measured.peak, MeasureMachinePeak(flags.engine.threads, ParsePrecision(flags.engine.precision)));
  measured.peak_share = measured.gmacs_per_s / measured.peak.gmacs_per_second;
  return measured;
}

void PrintMeasured(const BenchFlags& flags, const Loaded& loaded, const Measured& m) {
  const Report& report = flags.report;
  report.Print("{}: {}, {} threads, {}\n", flags.model, flags.engine.precision, flags.engine.thread_count(),
               IsaInUse());
  report.Print("  median {:.3f} ms, p10 {:.3f}, p90 {:.3f}, min {:.3f} ({} runs)\n", m.timing.median, m.timing.p10,
               m.timing.p90, m.timing.min, m.iterations);
  report.Print("  {:.1f} GMAC/s, {:.1f} % of this machine's peak of {:.1f} GMAC/s\n", m.gmacs_per_s, 100 * m.peak_share,
               m.peak.gmacs_per_second);
  report.Print("  load {:.0f} ms, compile {:.0f} ms, first result after {:.0f} ms, peak memory {:.0f} MB\n",
               loaded.load_ms, loaded.compile_ms, loaded.first_ms, static_cast<double>(m.peak_rss) * 1e-6);
}

Json MeasuredJson(const BenchFlags& flags, const Loaded& loaded, const Measured& m) {
  return {{"model", flags.model},
          {"median_ms", m.timing.median},
          {"p10_ms", m.timing.p10},
          {"p90_ms", m.timing.p90},
          {"min_ms", m.timing.min},
          {"iterations", m.iterations},
          {"macs", m.macs},
          {"gmacs_per_s", Finite(m.gmacs_per_s)},
          {"peak_gmacs_per_s", Finite(m.peak.gmacs_per_second)},
          {"peak_share", Finite(m.peak_share)},
          {"load_ms", loaded.load_ms},
          {"compile_ms", loaded.compile_ms},
          {"first_ms", loaded.first_ms},
          {"peak_rss_mb", static_cast<double>(m.peak_rss) * 1e-6},
          {"threads", flags.engine.thread_count()},
          {"precision", flags.engine.precision},
          {"isa", IsaInUse()}};
}

Result<ExitCode> Bench(const BenchFlags& flags) {
  OCTAVO_ASSIGN(Loaded loaded, Load(flags));
  OCTAVO_RETURN_IF_ERROR(WarmUp(loaded, flags.warmup));
  if (flags.on_stdin) return ServeStdin(loaded);
  OCTAVO_ASSIGN(const Measured measured, Measure(flags, loaded));
  PrintMeasured(flags, loaded, measured);
  Json document = MeasuredJson(flags, loaded, measured);
  if (flags.per_layer) {
    OCTAVO_ASSIGN(const std::vector<double> milliseconds, ProfileSteps(loaded, std::clamp(measured.iterations, 1, 20)));
    PrintSteps(flags.report, loaded.session->plan(), milliseconds);
    document["layers"] = StepsJson(loaded.session->plan(), milliseconds);
  }
  OCTAVO_RETURN_IF_ERROR(flags.report.WriteJson(document));
  return kDone;
}

}  // namespace

void AddBenchCommand(CLI::App& app, Action& action) {
  CLI::App* command =
      AddSubcommand(app, "bench", "Time a model, against the peak that this machine shows on the spot",
                    {"octavo bench model.onnx --threads 2", "octavo bench model.onnx --precision bf16 --per-layer",
                     "octavo bench model.onnx --input-shape input_image=1x3x512x512 --json bench.json",
                     "printf '10\\n10\\n' | octavo bench model.onnx --on-stdin   # interleave with another program"});
  auto flags = std::make_shared<BenchFlags>();
  command->add_option("MODEL", flags->model, "ONNX file")->required();
  AddRepeatable(*command, "--input-shape", flags->input_shapes,
                "Sizes of an input; dynamic ones are 1 otherwise; repeatable")
      ->type_name("NAME=1x3x512x512");
  AddRepeatable(*command, "--input", flags->inputs,
                "An input: .npy, .npz or a picture; repeatable. Inputs that are not given are filled with normally "
                "distributed numbers from a fixed seed (zeros where they are not float32)")
      ->type_name("NAME=FILE");
  command->add_option("--preprocess", flags->preprocess, "How pictures become inputs: sam, imagenet or a JSON file")
      ->type_name("sam|imagenet|FILE.json");
  command->add_option("--iterations", flags->iterations, "Timed runs; 0: as many as fit into three seconds, 10 to 500")
      ->type_name("N")
      ->check(CLI::Range(0, 1'000'000));
  command->add_option("--warmup", flags->warmup, "Runs before timing starts, after the first (default: 3)")
      ->type_name("N")
      ->check(CLI::Range(0, 1'000'000));
  command->add_flag("--per-layer", flags->per_layer, "Time each step of the plan too (median of up to 20 runs)");
  command->add_flag("--on-stdin", flags->on_stdin,
                    "Stay loaded: print {\"ready\":true} after the warm-up, then for each line N of standard input "
                    "run N times and print {\"ms\":[...]}");
  flags->implicit.AddTo(*command, "Run in INT8 by the scales of TensorRT's calibration cache; the file holds no Q/DQ");
  flags->engine.AddTo(*command);
  flags->report.AddFlag(*command);
  command->callback([=, &action] { action = [=] { return Bench(*flags); }; });
}

}  // namespace octavo::cli
