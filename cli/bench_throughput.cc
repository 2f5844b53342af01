#include "bench_throughput.h"

#include <algorithm>
#include <barrier>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <thread>

#include "octavo/profile.h"
#include "stopwatch.h"

namespace octavo::cli {
namespace {

// Every float moves by `share` of itself, up or down as its place says.
Result<Tensor> Perturbed(const Tensor& tensor, float share) {
  OCTAVO_ASSIGN(Tensor moved, tensor.Clone());
  if (moved.dtype() != DType::kFloat32) return moved;
  uint32_t state = 1;
  for (float& value : moved.mutable_values<float>()) {
    state = state * 1664525u + 1013904223u;
    value += (state >> 31 != 0 ? share : -share) * value;
  }
  return moved;
}

// Root of the mean squared difference; infinity where one is finite and the other is not.
double RmsDifference(std::span<const float> a, std::span<const float> b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    if (std::isnan(a[i]) && std::isnan(b[i])) continue;
    if (a[i] == b[i]) continue;
    const double difference = static_cast<double>(a[i]) - static_cast<double>(b[i]);
    sum += std::isfinite(difference) ? difference * difference : std::numeric_limits<double>::infinity();
  }
  return a.empty() ? 0 : std::sqrt(sum / static_cast<double>(a.size()));
}

bool HasFloatSteps(const PlanInfo& plan) {
  return std::any_of(plan.steps.begin(), plan.steps.end(), [](const StepInfo& step) {
    const StepKind kind = KindOf(step);
    return kind == StepKind::kFloat || kind == StepKind::kFloatProduct || step.op.find("ttention") != std::string::npos;
  });
}

Result<std::vector<Tensor>> RunSample(Session& session, const std::vector<Tensor>& single, int64_t sample,
                                      float noise) {
  std::vector<Tensor> inputs;
  for (const Tensor& tensor : single) {
    OCTAVO_ASSIGN(Tensor input, MakeSample(tensor, sample));
    if (noise > 0) {
      OCTAVO_ASSIGN(input, Perturbed(input, noise));
    }
    inputs.push_back(std::move(input));
  }
  return session.Run(inputs);
}

}  // namespace

Result<Tensor> MakeSample(const Tensor& single, int64_t i) {
  OCTAVO_ASSIGN(Tensor sample, single.Clone());
  if (i == 0 || sample.dtype() != DType::kFloat32) return sample;
  // Turned by some elements and dimmed: other numbers, of the same kind.
  const std::span<float> values = sample.mutable_values<float>();
  const auto turn = static_cast<size_t>(i * 7) % std::max<size_t>(1, values.size());
  std::rotate(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(turn), values.end());
  for (float& value : values) value *= 1 - 0.05f * static_cast<float>(i % 8);
  return sample;
}

Result<Tensor> StackSamples(const Tensor& single, int64_t batch) {
  Dims dims = single.dims();
  if (dims.empty() || dims[0] != 1) return InvalidArgument("a batch needs inputs with a first dimension of 1");
  dims[0] = batch;
  OCTAVO_ASSIGN(Tensor stacked, Tensor::Create(single.dtype(), dims));
  auto* to = static_cast<char*>(stacked.mutable_data());
  for (int64_t i = 0; i < batch; ++i, to += single.bytes()) {
    OCTAVO_ASSIGN(const Tensor sample, MakeSample(single, i));
    if (sample.bytes() > 0) std::memcpy(to, sample.data(), sample.bytes());
  }
  return stacked;
}

Result<BatchCheck> CheckBatch(Session& one, const Session& batched, const std::vector<Tensor>& single,
                              const std::vector<Tensor>& together, int64_t batch, Precision precision) {
  constexpr double kTimesTheResponse = 16;
  std::vector<std::vector<Tensor>> alone;
  for (int64_t i = 0; i < batch; ++i) {
    OCTAVO_ASSIGN(std::vector<Tensor> outputs, RunSample(one, single, i, 0));
    alone.push_back(std::move(outputs));
  }
  const bool float32 = precision == Precision::kFloat32;
  OCTAVO_ASSIGN(const std::vector<Tensor> moved, RunSample(one, single, 0, std::ldexp(1.0f, float32 ? -20 : -9)));

  BatchCheck check;
  check.same_bits = true;
  for (size_t o = 0; o < together.size(); ++o) {
    OCTAVO_ASSIGN(const std::vector<float> all, ToFloats(together[o]));
    OCTAVO_ASSIGN(const std::vector<float> first, ToFloats(alone[0][o]));
    OCTAVO_ASSIGN(const std::vector<float> response, ToFloats(moved[o]));
    const std::string& name = one.output_names()[o];
    if (all.size() != first.size() * static_cast<size_t>(batch)) {
      return InvalidArgument(fmt::format("output '{}' is {} for one sample and {} for a batch of {}", name,
                                         ToString(alone[0][o].dims()), ToString(together[o].dims()), batch));
    }
    const double tolerance = kTimesTheResponse * RmsDifference(first, response);
    for (int64_t i = 0; i < batch; ++i) {
      const Tensor& want = alone[static_cast<size_t>(i)][o];
      const char* got = static_cast<const char*>(together[o].data()) + static_cast<size_t>(i) * want.bytes();
      if (want.bytes() == 0 || std::memcmp(got, want.data(), want.bytes()) == 0) continue;
      check.same_bits = false;
      OCTAVO_ASSIGN(const std::vector<float> expected, ToFloats(want));
      const double difference =
          RmsDifference(std::span(all).subspan(static_cast<size_t>(i) * first.size(), first.size()), expected);
      const double allowed = HasFloatSteps(batched.plan()) ? tolerance : 0;
      if (!(difference <= allowed)) {
        return InternalError(
            fmt::format("output '{}' of sample {} in a batch of {} is {:.3g} off what the sample alone "
                        "gives (root mean square), and at most {:.3g} comes from rounding",
                        name, i, batch, difference, allowed));
      }
      check.largest_share = std::max(check.largest_share, difference / allowed);
    }
  }
  return check;
}

Result<StreamTimes> TimeStreams(std::vector<Session>& sessions, const std::vector<Tensor>& inputs, int iterations) {
  struct Stream {
    std::vector<double> milliseconds;
    Status status;
  };
  std::vector<Stream> streams(sessions.size());
  Stopwatch since_start;
  std::barrier start(static_cast<std::ptrdiff_t>(sessions.size()),
                     [&since_start]() noexcept { since_start.Restart(); });
  const auto run = [&](size_t s) {
    Session& session = sessions[s];
    Stream& stream = streams[s];
    auto outputs = session.Run(inputs);
    stream.status = outputs.status();
    stream.milliseconds.reserve(static_cast<size_t>(iterations));
    start.arrive_and_wait();
    for (int i = 0; i < iterations && stream.status.ok(); ++i) {
      const Stopwatch stopwatch;
      stream.status = session.RunInto(inputs, *outputs);
      stream.milliseconds.push_back(stopwatch.Milliseconds());
    }
  };
  std::vector<std::thread> threads;
  for (size_t s = 0; s < sessions.size(); ++s) threads.emplace_back(run, s);
  for (std::thread& thread : threads) thread.join();
  StreamTimes times;
  times.seconds = 1e-3 * since_start.Milliseconds();
  for (Stream& stream : streams) {
    OCTAVO_RETURN_IF_ERROR(stream.status);
    times.milliseconds.insert(times.milliseconds.end(), stream.milliseconds.begin(), stream.milliseconds.end());
  }
  return times;
}

Result<std::vector<ThreadTimes>> TimeThreadCounts(const Graph& graph, const SessionOptions& options,
                                                  const std::vector<Tensor>& inputs, const std::vector<int>& counts,
                                                  int iterations) {
  struct Trial {
    std::unique_ptr<Session> session;
    std::vector<Tensor> outputs;
    std::vector<double> milliseconds;
  };
  std::vector<Trial> trials;
  for (const int threads : counts) {
    SessionOptions counted = options;
    counted.threads = threads;
    OCTAVO_ASSIGN(Session session, Session::Create(graph, counted));
    OCTAVO_ASSIGN(std::vector<Tensor> outputs, session.Run(inputs));
    trials.push_back({std::make_unique<Session>(std::move(session)), std::move(outputs), {}});
  }
  // In turns: whatever else the machine does hits all alike. A team of threads is woken by a run that is not timed.
  for (int i = 0; i < iterations; ++i) {
    for (Trial& trial : trials) {
      OCTAVO_RETURN_IF_ERROR(trial.session->RunInto(inputs, trial.outputs));
      const Stopwatch stopwatch;
      OCTAVO_RETURN_IF_ERROR(trial.session->RunInto(inputs, trial.outputs));
      trial.milliseconds.push_back(stopwatch.Milliseconds());
    }
  }
  std::vector<ThreadTimes> times;
  for (size_t i = 0; i < counts.size(); ++i)
    times.push_back({counts[i], SummarizeTimings(std::move(trials[i].milliseconds))});
  return times;
}

void PrintThreadTimes(const Report& report, const std::vector<ThreadTimes>& times) {
  for (const ThreadTimes& row : times) {
    report.Print("  {} threads: median {:.3f} ms, {:.3f} of {} threads' time\n", row.threads, row.timing.median,
                 row.timing.median / times[0].timing.median, times[0].threads);
  }
}

Json ThreadTimesJson(const std::vector<ThreadTimes>& times) {
  Json rows = Json::array();
  for (const ThreadTimes& row : times) {
    rows.push_back({{"threads", row.threads},
                    {"median_ms", row.timing.median},
                    {"p10_ms", row.timing.p10},
                    {"p90_ms", row.timing.p90},
                    {"ratio", Finite(row.timing.median / times[0].timing.median)}});
  }
  return rows;
}

}  // namespace octavo::cli
