#include "octavo/calibrate.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <memory>
#include <mutex>
#include <new>
#include <thread>

#include "base/quote.h"
#include "calibration/byte_stream.h"
#include "calibration/channel_axis.h"
#include "calibration/checkpoint.h"
#include "calibration/collect.h"
#include "calibration/process_memory.h"
#include "calibration/sweep_plan.h"
#include "octavo/bench.h"
#include "octavo/quantize.h"
#include "octavo/session.h"

namespace octavo {
namespace {

using Clock = std::chrono::steady_clock;
using Sample = std::map<std::string, Tensor>;

double SecondsSince(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

// A finite sum says that every value is finite: doubles do not overflow on floats.
bool IsFinite(const Tensor& tensor) {
  double sum = 0;
  switch (tensor.dtype()) {
    case DType::kFloat32:
      for (const float value : tensor.values<float>()) sum += std::abs(static_cast<double>(value));
      return std::isfinite(sum);
    case DType::kFloat64:
      return std::all_of(tensor.values<double>().begin(), tensor.values<double>().end(),
                         [](double value) { return std::isfinite(value); });
    default:
      return true;
  }
}

// What a tensor's statistics take while they are collected, and when they are written at the sweep's end.
int64_t BytesOf(const Dims& dims, int axis) {
  constexpr int64_t kHistogram = 2 * Histogram::kHalfBins * sizeof(uint64_t) + 512;
  const int64_t channels = dims.empty() ? 1 : dims[static_cast<size_t>(axis)];
  return 2 * (kHistogram + channels * static_cast<int64_t>(sizeof(ValueSum) + sizeof(double) + 2 * sizeof(float)));
}

// A value that is observed.
struct Watched {
  std::string name;
  Dims dims;
  int channel_axis = 0;
  std::unique_ptr<SharedTensorStats> stats;  // null: not in this sweep
  bool finished = false;                     // in an earlier sweep
};

class Calibration {
 public:
  Calibration(const Graph& graph, const Dataset& data, const CalibrateOptions& options)
      : graph_(graph), data_(data), options_(options) {}

  Result<CalibrateReport> Run();

 private:
  // Runs samples one after another on a thread of its own.
  struct Worker {
    Collector collector;
    std::unique_ptr<Session> session;
    Status status;  // of observing the sample that runs
  };

  Status ListTensors();
  Status ListSamples();
  std::string Settings() const;
  Status Resume();
  Status Apply(Checkpoint checkpoint);
  Status Save();

  Status AddWorker();
  Status MeasureCosts();
  int64_t LoadingBytes() const;
  Status BeginSweep();
  Status EndSweep();
  std::vector<size_t> Unfinished() const;

  Status RunSweep();
  Status RunRound(double seconds);
  void Work(Worker& worker, Clock::time_point deadline);
  bool Take(size_t& sample, Clock::time_point deadline);
  Status RunSample(Worker& worker, size_t sample);
  Result<Sample> LoadSample(size_t sample) const;
  Status Skip(size_t sample, const Status& reason);
  void Observe(Worker& worker, size_t index, const TensorView& view);
  bool Stopped() const { return options_.stop != nullptr && options_.stop->load(); }
  void CountDone() { done_count_ = static_cast<size_t>(std::count(done_.begin(), done_.end(), uint8_t{1})); }

  Stats LendStats();
  void TakeBack(Stats stats);
  Status AssembleStats(Stats& into);

  const Graph& graph_;
  const Dataset& data_;
  const CalibrateOptions& options_;

  std::string fingerprint_;
  std::map<std::string, Dims> input_dims_;
  std::vector<Watched> tensors_;
  std::vector<size_t> samples_;  // of the dataset: this run's shard
  uint64_t data_digest_ = 0;
  std::vector<std::vector<std::byte>> kept_;  // statistics of earlier sweeps

  std::vector<std::unique_ptr<Worker>> workers_;
  SweepCosts costs_;  // measured where memory is limited

  // Guarded by mutex_ while workers run.
  std::mutex mutex_;
  size_t next_ = 0;
  std::vector<uint8_t> done_;  // of this sweep, by position in samples_
  size_t done_count_ = 0;
  std::map<size_t, std::string> skipped_;  // by position; in all sweeps
  Status failure_;                         // the first one ends the run
  CalibrateReport report_;
};

// ---- What there is to do.

Status Calibration::ListTensors() {
  std::vector<std::string> names = options_.tensors;
  if (names.empty()) {
    OCTAVO_ASSIGN(names, QuantizableTensors(graph_));
  }
  std::vector<ValueId> ids;
  for (const std::string& name : names) {
    const ValueId id = graph_.Find(name);
    if (id == kNoValue) return NotFound("no value of the model is named " + Quote(name));
    if (!graph_.value(id).has_static_shape()) {
      return InvalidArgument("value " + Quote(name) + " has no static shape: prepare the model for quantization first");
    }
    ids.push_back(id);
  }
  const std::vector<int> axes = ChannelAxes(graph_, ids);
  for (size_t i = 0; i < names.size(); ++i) {
    tensors_.push_back({names[i], graph_.value(ids[i]).dims, axes[i], nullptr, false});
  }
  for (const ValueId id : graph_.inputs) input_dims_[graph_.value(id).name] = graph_.value(id).dims;
  fingerprint_ = ModelFingerprint(graph_);
  if (tensors_.empty()) return InvalidArgument("the model has no float activation to observe");
  return {};
}

Status Calibration::ListSamples() {
  if (options_.shard_count == 0 || options_.shard_index >= options_.shard_count) {
    return InvalidArgument(fmt::format("there is no shard {} of {}", options_.shard_index, options_.shard_count));
  }
  ByteWriter digest;
  std::error_code ignored;
  for (size_t i = options_.shard_index; i < data_.size(); i += options_.shard_count) {
    samples_.push_back(i);
    const std::filesystem::path path = data_.path(i);
    digest.Text(data_.name(i));
    digest.Number(static_cast<uint64_t>(std::filesystem::file_size(path, ignored)));
    const auto time = std::filesystem::last_write_time(path, ignored).time_since_epoch().count();
    digest.Number(static_cast<int64_t>(time));
  }
  if (samples_.empty()) {
    return InvalidArgument(fmt::format("shard {} of {} holds none of the {} samples", options_.shard_index,
                                       options_.shard_count, data_.size()));
  }
  data_digest_ = Fnv1a(digest.bytes());
  done_.assign(samples_.size(), 0);
  return {};
}

// Two runs that differ here do not add up to one.
std::string Calibration::Settings() const {
  ByteWriter names;
  for (const Watched& tensor : tensors_) names.Text(tensor.name);
  std::string settings = fmt::format("isa {}; tensors {:016x}", IsaInUse(), Fnv1a(names.bytes()));
  for (const std::string& pass : options_.disabled_passes) settings += "; without " + pass;
  return settings + "; " + options_.settings;
}

// ---- Checkpoints.

// Lends this sweep's statistics out, so that writing them needs no copy.
Stats Calibration::LendStats() {
  Stats stats;
  stats.fingerprint = fingerprint_;
  stats.input_dims = input_dims_;
  for (Watched& tensor : tensors_) {
    if (tensor.stats != nullptr) stats.tensors[tensor.name] = std::move(tensor.stats->stats);
  }
  return stats;
}

void Calibration::TakeBack(Stats stats) {
  for (Watched& tensor : tensors_) {
    if (tensor.stats != nullptr) tensor.stats->stats = std::move(stats.tensors[tensor.name]);
  }
}

Status Calibration::Save() {
  if (options_.checkpoint.empty()) return {};
  Checkpoint checkpoint;
  checkpoint.fingerprint = fingerprint_;
  checkpoint.data = data_digest_;
  checkpoint.settings = Settings();
  checkpoint.samples = samples_.size();
  checkpoint.done = done_;
  checkpoint.skipped.assign(skipped_.begin(), skipped_.end());
  checkpoint.kept = std::move(kept_);
  checkpoint.current = LendStats();
  Status status = SaveCheckpoint(options_.checkpoint, checkpoint);
  TakeBack(std::move(checkpoint.current));
  kept_ = std::move(checkpoint.kept);
  return status;
}

Status Calibration::Resume() {
  if (!options_.resume || options_.checkpoint.empty()) return {};
  auto checkpoint = LoadCheckpoint(options_.checkpoint);
  if (!checkpoint.ok()) {
    return checkpoint.status().code() == ErrorCode::kNotFound ? Status() : checkpoint.status();
  }
  return Apply(*std::move(checkpoint)).WithPrefix(Quote(options_.checkpoint) + " ");
}

Status Calibration::Apply(Checkpoint checkpoint) {
  const std::string remedy = "; run without --resume to start anew";
  if (checkpoint.fingerprint != fingerprint_) return InvalidArgument("is the checkpoint of another model" + remedy);
  if (checkpoint.data != data_digest_ || checkpoint.samples != samples_.size()) {
    return InvalidArgument("is the checkpoint of other data: the samples, or their number, have changed" + remedy);
  }
  if (checkpoint.settings != Settings()) {
    return InvalidArgument("is the checkpoint of a run with other settings (" + checkpoint.settings + "; now " +
                           Settings() + ")" + remedy);
  }
  const auto find = [&](const std::string& name) {
    return std::find_if(tensors_.begin(), tensors_.end(), [&](const Watched& tensor) { return tensor.name == name; });
  };
  for (const auto& bytes : checkpoint.kept) {
    OCTAVO_ASSIGN(const Stats stats, ParseStats(bytes, options_.checkpoint));
    for (const auto& [name, tensor] : stats.tensors) {
      const auto found = find(name);
      if (found == tensors_.end()) return BadFile("has a tensor " + Quote(name) + " that is not observed");
      found->finished = true;
    }
  }
  for (auto& [name, stats] : checkpoint.current.tensors) {
    const auto found = find(name);
    if (found == tensors_.end() || found->dims != stats.dims || found->channel_axis != stats.channel_axis) {
      return BadFile("has a tensor " + Quote(name) + " that is not observed");
    }
    found->stats = std::make_unique<SharedTensorStats>();
    found->stats->stats = std::move(stats);
  }
  kept_ = std::move(checkpoint.kept);
  done_ = std::move(checkpoint.done);
  for (auto& [sample, reason] : checkpoint.skipped) skipped_[sample] = std::move(reason);
  CountDone();
  report_.resumed = done_count_;
  report_.sweeps = static_cast<int>(kept_.size());
  return {};
}

// ---- Threads and memory.

Status Calibration::AddWorker() {
  auto worker = std::make_unique<Worker>();
  SessionOptions options;
  options.threads = 1;
  options.disabled_passes = options_.disabled_passes;
  // All of them in every sweep: what is watched decides what is fused, and so the bits.
  for (const Watched& tensor : tensors_) options.watched.push_back(tensor.name);
  options.watch = [this, w = worker.get()](size_t index, const TensorView& view) { Observe(*w, index, view); };
  OCTAVO_ASSIGN(Session session, Session::Create(graph_, options));
  worker->session = std::make_unique<Session>(std::move(session));
  std::vector<Dims> dims;
  for (const ValueId id : graph_.inputs) dims.push_back(graph_.value(id).dims);
  OCTAVO_RETURN_IF_ERROR(worker->session->Prepare(dims));
  workers_.push_back(std::move(worker));
  return {};
}

std::vector<size_t> Calibration::Unfinished() const {
  std::vector<size_t> left;
  for (size_t i = 0; i < tensors_.size(); ++i) {
    if (!tensors_[i].finished) left.push_back(i);
  }
  return left;
}

// What loading a sample takes at its peak, found by loading the largest file.
int64_t Calibration::LoadingBytes() const {
  const auto size = [&](size_t i) {
    std::error_code ignored;
    return std::filesystem::file_size(data_.path(i), ignored);
  };
  const size_t largest =
      *std::max_element(samples_.begin(), samples_.end(), [&](size_t a, size_t b) { return size(a) < size(b); });
  const int64_t before = ResidentBytes(), peak_before = ResidentPeakBytes();
  (void)data_.Load(largest);  // a sample that cannot be loaded is met again, and reported, in its turn
  const int64_t peak = ResidentPeakBytes();
  ReleaseFreedMemory();
  return peak > peak_before ? peak - before : int64_t{1} << 20;
}

// Makes the first session and looks at what it takes.
Status Calibration::MeasureCosts() {
  const int64_t loading = LoadingBytes();
  const int64_t before = ResidentBytes();
  OCTAVO_RETURN_IF_ERROR(AddWorker());
  const int64_t peak = ResidentPeakBytes();
  ReleaseFreedMemory();
  // Activations are not resident before the first run; compiling takes more for a while than it leaves.
  const int64_t session = ResidentBytes() - before + workers_.front()->session->plan().arena_bytes;
  constexpr int64_t kMargin = int64_t{16} << 20, kThreadMargin = int64_t{2} << 20;
  costs_.limit = options_.memory_bytes;
  costs_.base = before + kMargin + std::max<int64_t>(0, peak - before - session);
  costs_.per_thread = session + loading + kThreadMargin;
  return {};
}

// Chooses the tensors of the next sweep and has a worker for each of its threads.
Status Calibration::BeginSweep() {
  const std::vector<size_t> left = Unfinished();
  const bool goes_on = std::any_of(left.begin(), left.end(), [&](size_t i) { return tensors_[i].stats != nullptr; });
  int threads = options_.threads > 0 ? options_.threads : AvailableCores();
  threads = static_cast<int>(std::min<size_t>(static_cast<size_t>(threads), samples_.size()));
  size_t tensors = left.size();
  if (options_.memory_bytes > 0) {
    if (workers_.empty()) OCTAVO_RETURN_IF_ERROR(MeasureCosts());
    SweepCosts costs = costs_;
    for (const auto& bytes : kept_) costs.base += static_cast<int64_t>(bytes.size());
    for (const size_t i : left) costs.tensors.push_back(BytesOf(tensors_[i].dims, tensors_[i].channel_axis));
    // A sweep that a checkpoint began has its tensors, which are in memory: only threads can be chosen.
    if (goes_on) costs.tensors = {0};
    OCTAVO_ASSIGN(const SweepPlan plan, PlanSweep(costs, threads));
    threads = plan.threads;
    tensors = plan.tensors;
  }
  while (workers_.size() < static_cast<size_t>(threads)) OCTAVO_RETURN_IF_ERROR(AddWorker());
  workers_.resize(static_cast<size_t>(threads));
  report_.threads = threads;
  if (goes_on) return {};
  for (size_t i = 0; i < tensors; ++i) {
    Watched& tensor = tensors_[left[i]];
    tensor.stats = std::make_unique<SharedTensorStats>();
    tensor.stats->stats = MakeTensorStats(tensor.dims, tensor.channel_axis);
  }
  // What an earlier sweep skipped stays out of this one.
  done_.assign(samples_.size(), 0);
  for (const auto& [sample, reason] : skipped_) done_[sample] = 1;
  CountDone();
  return {};
}

// Statistics of this sweep's tensors become a short file in memory.
Status Calibration::EndSweep() {
  const uint64_t samples = samples_.size() - skipped_.size();
  for (const Watched& tensor : tensors_) {
    if (tensor.stats == nullptr) continue;
    const uint64_t expected = samples * static_cast<uint64_t>(ElementCount(tensor.dims));
    if (tensor.stats->stats.count == expected) continue;
    return InternalError(fmt::format("tensor {} was seen {} times where {} were expected", Quote(tensor.name),
                                     tensor.stats->stats.count, expected));
  }
  OCTAVO_ASSIGN(auto bytes, SerializeStats(LendStats()));
  bytes.shrink_to_fit();
  kept_.push_back(std::move(bytes));
  for (Watched& tensor : tensors_) {
    if (tensor.stats == nullptr) continue;
    tensor.stats.reset();
    tensor.finished = true;
  }
  ++report_.sweeps;
  return {};
}

// ---- Samples.

void Calibration::Observe(Worker& worker, size_t index, const TensorView& view) {
  Watched& tensor = tensors_[index];
  if (tensor.stats == nullptr || !worker.status.ok()) return;
  const Status status = worker.collector.Observe(view, *tensor.stats);
  if (!status.ok()) worker.status = status.WithPrefix("tensor " + Quote(tensor.name) + " ");
}

Result<Sample> Calibration::LoadSample(size_t sample) const {
  const std::string file = Quote(data_.path(sample)) + ": ";
  OCTAVO_ASSIGN(Sample loaded, data_.Load(sample));
  for (const auto& [name, tensor] : loaded) {
    const auto wanted = input_dims_.find(name);
    if (wanted != input_dims_.end() && wanted->second != tensor.dims()) {
      return InvalidArgument(file + "input " + Quote(name) + " is " + ToString(tensor.dims()) +
                             ", the model was prepared for " + ToString(wanted->second));
    }
    if (!IsFinite(tensor)) return InvalidArgument(file + "input " + Quote(name) + " holds NaN or infinity");
  }
  return loaded;
}

// Error: in strict runs, and where an earlier sweep used the sample.
Status Calibration::Skip(size_t sample, const Status& reason) {
  if (options_.strict) return reason;
  if (!kept_.empty()) return reason.WithPrefix("a sample that an earlier sweep over the data could use: ");
  skipped_[sample] = reason.message();
  return {};
}

// `sample` is a position in samples_. The error ends the run.
Status Calibration::RunSample(Worker& worker, size_t sample) {
  const size_t index = samples_[sample];
  const auto inputs = LoadSample(index);
  if (!inputs.ok()) {
    const std::lock_guard lock(mutex_);
    return Skip(sample, inputs.status());
  }
  const std::string prefix = Quote(data_.path(index)) + ": ";
  worker.status = Status();
  const auto outputs = worker.session->Run(*inputs);
  if (!outputs.ok()) return outputs.status().WithPrefix(prefix);
  return worker.status.WithPrefix(prefix);
}

bool Calibration::Take(size_t& sample, Clock::time_point deadline) {
  const std::lock_guard lock(mutex_);
  if (!failure_.ok() || Stopped() || Clock::now() >= deadline) return false;
  while (next_ < done_.size() && done_[next_] != 0) ++next_;
  sample = next_++;
  return sample < done_.size();
}

void Calibration::Work(Worker& worker, Clock::time_point deadline) {
  size_t sample = 0;
  while (Take(sample, deadline)) {
    Status status;
    try {
      status = RunSample(worker, sample);
    } catch (const std::bad_alloc&) {
      status = IoError("there is not enough memory for " + Quote(data_.path(samples_[sample])));
    }
    const std::lock_guard lock(mutex_);
    if (!status.ok()) {
      if (failure_.ok()) failure_ = std::move(status);
      return;
    }
    done_[sample] = 1;
    ++done_count_;
    if (options_.progress) options_.progress(done_count_, done_.size());
  }
}

// Until the data is through, or the time is over: then nothing runs, and the state is one between samples.
Status Calibration::RunRound(double seconds) {
  const auto deadline =
      Clock::now() + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
  next_ = 0;
  std::vector<std::thread> threads;
  for (size_t i = 1; i < workers_.size(); ++i) threads.emplace_back([&, i] { Work(*workers_[i], deadline); });
  Work(*workers_[0], deadline);
  for (std::thread& thread : threads) thread.join();
  return failure_;
}

// Leaves report_.stopped set when it was stopped before the end.
Status Calibration::RunSweep() {
  while (done_count_ < done_.size()) {
    OCTAVO_RETURN_IF_ERROR(RunRound(options_.checkpoint.empty() ? 1e6 : options_.checkpoint_seconds));
    if (done_count_ == done_.size()) break;
    OCTAVO_RETURN_IF_ERROR(Save());
    if (!Stopped()) continue;
    report_.stopped = true;
    return {};
  }
  return {};
}

Status Calibration::AssembleStats(Stats& into) {
  into.fingerprint = fingerprint_;
  into.input_dims = input_dims_;
  into.samples = samples_.size() - skipped_.size();
  for (const auto& bytes : kept_) {
    OCTAVO_ASSIGN(Stats part, ParseStats(bytes, "statistics of an earlier sweep"));
    into.tensors.merge(part.tensors);
  }
  return {};
}

Result<CalibrateReport> Calibration::Run() {
  const auto start = Clock::now();
  OCTAVO_RETURN_IF_ERROR(ListTensors());
  OCTAVO_RETURN_IF_ERROR(ListSamples());
  OCTAVO_RETURN_IF_ERROR(Resume());
  while (!Unfinished().empty()) {
    OCTAVO_RETURN_IF_ERROR(BeginSweep());
    OCTAVO_RETURN_IF_ERROR(RunSweep());
    report_.done = done_count_;
    if (report_.stopped) break;
    if (skipped_.size() == samples_.size()) {
      return InvalidArgument(
          fmt::format("none of the {} samples can be used; the first: {}", samples_.size(), skipped_.begin()->second));
    }
    OCTAVO_RETURN_IF_ERROR(EndSweep());
    if (!Unfinished().empty()) OCTAVO_RETURN_IF_ERROR(Save());
  }
  workers_.clear();
  for (const auto& [sample, reason] : skipped_) {
    report_.skipped.push_back({data_.path(samples_[sample]), reason});
  }
  if (!report_.stopped) OCTAVO_RETURN_IF_ERROR(AssembleStats(report_.stats));
  report_.seconds = SecondsSince(start);
  return std::move(report_);
}

}  // namespace

Result<std::map<std::string, Dims>> FindInputDims(const Dataset& data) {
  Status first;
  for (size_t i = 0; i < data.size(); ++i) {
    const auto sample = data.Load(i);
    if (!sample.ok()) {
      if (first.ok()) first = sample.status();
      continue;
    }
    std::map<std::string, Dims> dims;
    for (const auto& [name, tensor] : *sample) dims[name] = tensor.dims();
    return dims;
  }
  return first.ok() ? InvalidArgument("there is no sample") : first;
}

Result<CalibrateReport> Calibrate(const Graph& prepared, const Dataset& data, const CalibrateOptions& options) {
  try {
    return Calibration(prepared, data, options).Run();
  } catch (const std::exception& error) {
    return IoError(std::string("calibration: ") + error.what());
  }
}

}  // namespace octavo
