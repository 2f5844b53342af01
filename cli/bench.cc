#include "octavo/bench.h"

#include <algorithm>
#include <charconv>
#include <iostream>
#include <memory>

#include "bench_profile.h"
#include "bench_throughput.h"
#include "command.h"
#include "console.h"
#include "engine_flags.h"
#include "implicit_flag.h"
#include "model_files.h"
#include "octavo/batch.h"
#include "octavo/inspect.h"
#include "octavo/onnx.h"
#include "octavo/session.h"
#include "octavo/tuning.h"
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
  int64_t batch = 1;
  int streams = 1;
  std::vector<int> scaling;
  bool per_layer = false;
  bool profile = false;
  int top = 15;
  std::string trace;
  bool on_stdin = false;
  EngineFlags engine;
  ImplicitFlag implicit;
  Report report;

  // Streams share the cores out unless --threads says how many each has.
  int threads_per_stream() const {
    return engine.threads > 0 || streams == 1 ? engine.thread_count() : std::max(1, AvailableCores() / streams);
  }
  SessionOptions Options() const {
    SessionOptions options = engine.ToOptions();
    options.threads = threads_per_stream();
    return options;
  }
};

// A model that has run once, with what that took.
struct Loaded {
  Graph graph;  // what the session runs, where it is needed again
  std::unique_ptr<Session> session;
  std::vector<Tensor> inputs;   // in the order of the session's
  std::vector<Tensor> outputs;  // reused by every run
  double load_ms = 0;           // reading the file
  double compile_ms = 0;        // Session::Create and Prepare
  double first_ms = 0;          // from opening the file to the first outputs
  BatchCheck batch;             // where there is one
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

// The inputs of a batch, and their shapes.
Status StackInputs(const BenchFlags& flags, Loaded& loaded, std::vector<Dims>& dims) {
  for (size_t i = 0; i < loaded.inputs.size(); ++i) {
    auto stacked = StackSamples(loaded.inputs[i], flags.batch);
    if (!stacked.ok()) return InModel(stacked.status(), flags.model);
    loaded.inputs[i] = *std::move(stacked);
    dims[i] = loaded.inputs[i].dims();
  }
  return {};
}

// A batch against its samples one by one, before it is timed.
Status CompareWithSamples(const BenchFlags& flags, Graph single, const std::vector<Tensor>& samples, Loaded& loaded) {
  auto one = Session::Create(std::move(single), flags.Options());
  if (!one.ok()) return InModel(one.status(), flags.model);
  auto check =
      CheckBatch(*one, *loaded.session, samples, loaded.outputs, flags.batch, ParsePrecision(flags.engine.precision));
  if (!check.ok()) return InModel(check.status(), flags.model);
  loaded.batch = *check;
  return {};
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
  Stopwatch compile;
  OCTAVO_ASSIGN(graph, flags.implicit.Apply(std::move(graph), named, flags.model));
  Graph single;
  if (flags.batch > 1) {
    single = graph;
    OCTAVO_ASSIGN(graph, WithBatch(graph, named, flags.batch));
  }
  if (!flags.scaling.empty()) loaded.graph = graph;
  auto session = Session::Create(std::move(graph), flags.Options());
  if (!session.ok()) return InModel(session.status(), flags.model);
  loaded.session = std::make_unique<Session>(std::move(session).value());
  const std::vector<Tensor> samples = loaded.inputs;
  if (flags.batch > 1) OCTAVO_RETURN_IF_ERROR(StackInputs(flags, loaded, dims));
  if (Status status = loaded.session->Prepare(dims); !status.ok()) return InModel(status, flags.model);
  loaded.compile_ms = compile.Milliseconds();
  OCTAVO_ASSIGN(loaded.outputs, loaded.session->Run(loaded.inputs));
  loaded.first_ms = total.Milliseconds() - making_ms;
  if (flags.batch > 1) OCTAVO_RETURN_IF_ERROR(CompareWithSamples(flags, std::move(single), samples, loaded));
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
  double images_per_s = 0;
  int64_t macs = 0;
  double gmacs_per_s = 0;
  MachinePeak peak;
  MachineLimits limits;  // of a plan with INT8 steps, and of a profile
  double peak_share = 0;
  int64_t peak_rss = 0;
};

// As many sessions of the model as there are streams; all but the first share its weights.
Result<StreamTimes> RunStreams(const BenchFlags& flags, Loaded& loaded, int iterations) {
  std::vector<Session> sessions;
  for (int s = 1; s < flags.streams; ++s) sessions.push_back(loaded.session->Duplicate());
  sessions.push_back(std::move(*loaded.session));
  auto times = TimeStreams(sessions, loaded.inputs, iterations);
  *loaded.session = std::move(sessions.back());
  return times;
}

Result<Measured> Measure(const BenchFlags& flags, Loaded& loaded) {
  Measured measured;
  measured.iterations = flags.iterations;
  if (measured.iterations == 0) {
    OCTAVO_ASSIGN(measured.iterations, ChooseIterations(loaded));
  }
  StreamTimes times;
  if (flags.streams > 1) {
    OCTAVO_ASSIGN(times, RunStreams(flags, loaded, measured.iterations));
  } else {
    OCTAVO_ASSIGN(times.milliseconds, TimeRuns(loaded, measured.iterations));
    for (const double milliseconds : times.milliseconds) times.seconds += 1e-3 * milliseconds;
  }
  measured.images_per_s = times.runs_per_second() * static_cast<double>(flags.batch);
  measured.timing = SummarizeTimings(std::move(times.milliseconds));
  const PlanInfo& plan = loaded.session->plan();
  for (const StepInfo& step : plan.steps) measured.macs += step.macs;
  measured.gmacs_per_s = Rate(measured.macs, measured.timing.median) * flags.streams;
  measured.peak_rss = PeakResidentBytes();  // before the peak's own matrices
  const int threads = flags.threads_per_stream() * flags.streams;
  if (plan.int8_macs > 0 || flags.profile) {
    OCTAVO_ASSIGN(measured.limits, MeasureMachineLimits(threads));
    // What all multiply-accumulates would take, each at the peak of its precision.
    double seconds = 0;
    for (const StepInfo& step : plan.steps)
      seconds += static_cast<double>(step.macs) / measured.limits.MacsPerSecond(step.precision);
    measured.peak.gmacs_per_second = seconds > 0 ? 1e-9 * static_cast<double>(measured.macs) / seconds : 0;
  } else {
    OCTAVO_ASSIGN(measured.peak, MeasureMachinePeak(threads, ParsePrecision(flags.engine.precision)));
  }
  measured.peak_share = measured.gmacs_per_s / measured.peak.gmacs_per_second;
  return measured;
}

void PrintMeasured(const BenchFlags& flags, const Loaded& loaded, const Measured& m) {
  const Report& report = flags.report;
  const PlanInfo& plan = loaded.session->plan();
  report.Print("{}: {}, {} threads, {}\n", flags.model, flags.engine.precision, flags.threads_per_stream(), IsaInUse());
  if (flags.batch > 1) {
    report.Print("  batch of {}: {} single runs\n", flags.batch,
                 loaded.batch.same_bits
                     ? "the same bits as"
                     : fmt::format("within {:.2f} of what rounding allows of", loaded.batch.largest_share));
  }
  if (flags.streams > 1) {
    report.Print("  {} streams of {} threads; {:.0f} MB of packed weights shared, {:.0f} MB of activations each\n",
                 flags.streams, flags.threads_per_stream(), static_cast<double>(plan.weight_bytes) * 1e-6,
                 static_cast<double>(plan.arena_bytes) * 1e-6);
  }
  report.Print("  median {:.3f} ms, p10 {:.3f}, p90 {:.3f}, p99 {:.3f}, min {:.3f} ({} runs); {:.2f} images/s\n",
               m.timing.median, m.timing.p10, m.timing.p90, m.timing.p99, m.timing.min, m.iterations * flags.streams,
               m.images_per_s);
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
          {"p99_ms", m.timing.p99},
          {"min_ms", m.timing.min},
          {"iterations", m.iterations},
          {"batch", flags.batch},
          {"streams", flags.streams},
          {"images_per_s", Finite(m.images_per_s)},
          {"macs", m.macs},
          {"gmacs_per_s", Finite(m.gmacs_per_s)},
          {"peak_gmacs_per_s", Finite(m.peak.gmacs_per_second)},
          {"peak_share", Finite(m.peak_share)},
          {"load_ms", loaded.load_ms},
          {"compile_ms", loaded.compile_ms},
          {"first_ms", loaded.first_ms},
          {"peak_rss_mb", static_cast<double>(m.peak_rss) * 1e-6},
          {"weight_mb", static_cast<double>(loaded.session->plan().weight_bytes) * 1e-6},
          {"arena_mb", static_cast<double>(loaded.session->plan().arena_bytes) * 1e-6},
          {"threads", flags.threads_per_stream()},
          {"precision", flags.engine.precision},
          {"isa", IsaInUse()}};
}

Status Profile(const BenchFlags& flags, Loaded& loaded, const Measured& measured, Json& document) {
  std::vector<RunProfile> runs(static_cast<size_t>(std::clamp(measured.iterations, 1, 20)));
  for (RunProfile& run : runs) OCTAVO_RETURN_IF_ERROR(loaded.session->RunInto(loaded.inputs, loaded.outputs, &run));
  const PlanInfo& plan = loaded.session->plan();
  const ModelProfile profile = SummarizeProfile(plan, runs, measured.limits);
  PrintProfile(flags.report, plan, profile, measured.limits, flags.top);
  document["profile"] = ProfileJson(plan, profile, measured.limits);
  if (flags.trace.empty()) return {};
  return WriteTrace(flags.trace, flags.model, flags.threads_per_stream(), plan, runs);
}

Result<ExitCode> Bench(const BenchFlags& flags) {
  if (flags.streams > 1 && (flags.profile || flags.on_stdin || !flags.scaling.empty())) {
    return InvalidArgument("--streams times whole runs: without --profile, --scaling and --on-stdin");
  }
  if (flags.streams > 1 && flags.engine.threads * flags.streams > AvailableCores()) {
    PrintWarning(
        fmt::format("{} streams of {} threads share {} cores", flags.streams, flags.engine.threads, AvailableCores()));
  }
  OCTAVO_ASSIGN(Loaded loaded, Load(flags));
  OCTAVO_RETURN_IF_ERROR(WarmUp(loaded, flags.warmup));
  if (flags.on_stdin) return ServeStdin(loaded);
  OCTAVO_ASSIGN(const Measured measured, Measure(flags, loaded));
  PrintMeasured(flags, loaded, measured);
  Json document = MeasuredJson(flags, loaded, measured);
  if (flags.batch > 1) document["batch_same_bits"] = loaded.batch.same_bits;
  if (flags.engine.tuning) {
    flags.report.Print("  {} kernels were timed for this plan, {} choices are known\n", flags.engine.tuning->measured(),
                       flags.engine.tuning->size());
    document["tuned_kernels"] = flags.engine.tuning->measured();
  }
  if (!flags.scaling.empty()) {
    OCTAVO_ASSIGN(const auto times, TimeThreadCounts(loaded.graph, flags.Options(), loaded.inputs, flags.scaling,
                                                     std::clamp(measured.iterations, 1, 50)));
    PrintThreadTimes(flags.report, times);
    document["scaling"] = ThreadTimesJson(times);
  }
  if (flags.profile) OCTAVO_RETURN_IF_ERROR(Profile(flags, loaded, measured, document));
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
                     "octavo bench int8.onnx --profile --top 20 --trace trace.json   # for ui.perfetto.dev",
                     "octavo bench model.onnx --batch 4 --streams 2",
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
  command
      ->add_option("--batch", flags->batch,
                   "Samples per run, along the first dimension; compared with single runs before timing")
      ->type_name("N")
      ->check(CLI::Range(1, 4096));
  command
      ->add_option("--streams", flags->streams,
                   "Sessions that run at the same time and share their weights, for throughput; --threads is that of "
                   "each (default: the cores shared out)")
      ->type_name("N")
      ->check(CLI::Range(1, 256));
  command
      ->add_option("--scaling", flags->scaling,
                   "Also time these numbers of threads in turns, as shares of the first's time")
      ->type_name("1,2,...")
      ->delimiter(',')
      ->check(CLI::Range(1, 1024));
  CLI::Option* profile = command->add_flag(
      "--profile", flags->profile,
      "Time each step of the plan against this machine's limits, and say where the time goes (up to 20 runs)");
  command->add_option("--top", flags->top, "Steps that --profile shows; 0: all (default: 15)")
      ->type_name("N")
      ->check(CLI::Range(0, 1'000'000))
      ->needs(profile);
  command->add_option("--trace", flags->trace, "Where --profile writes its runs as a trace that Perfetto opens")
      ->type_name("FILE")
      ->needs(profile);
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
