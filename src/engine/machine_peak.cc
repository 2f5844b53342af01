#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "engine/machine_peak.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace octavo::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

// Ten chains of multiply-adds: two units with four to five cycles of latency are kept busy, and sixteen registers hold
// them. Returns multiply-adds made; `sink` keeps the compiler from dropping them.
int64_t FmaChains(int64_t rounds, float* sink) {
  const hn::ScalableTag<float> d;
  const auto factor = hn::Set(d, 0.999f);
  const auto addend = hn::Set(d, 0.001f);
  auto a0 = hn::Set(d, 0.1f), a1 = hn::Set(d, 0.2f), a2 = hn::Set(d, 0.3f), a3 = hn::Set(d, 0.4f);
  auto a4 = hn::Set(d, 0.5f), a5 = hn::Set(d, 0.6f), a6 = hn::Set(d, 0.7f), a7 = hn::Set(d, 0.8f);
  auto a8 = hn::Set(d, 0.9f), a9 = hn::Set(d, 1.0f);
  for (int64_t i = 0; i < rounds; ++i) {
    a0 = hn::MulAdd(a0, factor, addend);
    a1 = hn::MulAdd(a1, factor, addend);
    a2 = hn::MulAdd(a2, factor, addend);
    a3 = hn::MulAdd(a3, factor, addend);
    a4 = hn::MulAdd(a4, factor, addend);
    a5 = hn::MulAdd(a5, factor, addend);
    a6 = hn::MulAdd(a6, factor, addend);
    a7 = hn::MulAdd(a7, factor, addend);
    a8 = hn::MulAdd(a8, factor, addend);
    a9 = hn::MulAdd(a9, factor, addend);
  }
  const auto sum = hn::Add(hn::Add(hn::Add(a0, a1), hn::Add(a2, a3)),
                           hn::Add(hn::Add(hn::Add(a4, a5), hn::Add(a6, a7)), hn::Add(a8, a9)));
  *sink = hn::GetLane(hn::SumOfLanes(d, sum));
  return rounds * 10 * static_cast<int64_t>(hn::Lanes(d));
}

}  // namespace octavo::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include <omp.h>
#include <sched.h>
#include <sys/resource.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <exception>
#include <oneapi/dnnl/dnnl.hpp>
#include <string>

#include "base/parallel.h"
#include "octavo/bench.h"

namespace octavo {
HWY_EXPORT(FmaChains);
namespace {

using Clock = std::chrono::steady_clock;

double SecondsSince(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

// Restores the caller's number of OpenMP threads.
class ThreadCountScope {
 public:
  explicit ThreadCountScope(int threads) : before_(omp_get_max_threads()) { omp_set_num_threads(threads); }
  ~ThreadCountScope() { omp_set_num_threads(before_); }
  ThreadCountScope(const ThreadCountScope&) = delete;
  ThreadCountScope& operator=(const ThreadCountScope&) = delete;

 private:
  int before_;
};

// Best of several runs of fn(), which returns multiply-adds made; in 10^9 per second.
template <typename Fn>
double BestRate(double seconds, Fn&& fn) {
  fn();
  double best = 0;
  const auto start = Clock::now();
  do {
    const auto begin = Clock::now();
    const double macs = fn();
    best = std::max(best, macs / SecondsSince(begin) * 1e-9);
  } while (SecondsSince(start) < seconds);
  return best;
}

double FmaRate(int threads) {
  constexpr int64_t kRounds = 1'000'000;  // about 5 ms
  return BestRate(0.2, [&] {
    std::atomic<int64_t> macs{0};
    std::atomic<bool> failed{false};
    // One part per thread.
    ParallelFor(threads, threads, 1, [&](int64_t, int64_t) {
      float sink = 0;
      macs += HWY_DYNAMIC_DISPATCH(FmaChains)(kRounds, &sink);
      if (std::isnan(sink)) failed = true;  // the result is looked at, so that nothing is optimized away
    });
    return failed ? 0.0 : static_cast<double>(macs.load());
  });
}

// side x side times side x side, with the weights in the layout that oneDNN likes best.
double MatMulRate(dnnl::engine& engine, int64_t side, dnnl::memory::data_type type) {
  using Memory = dnnl::memory;
  const Memory::dims dims{side, side};
  const Memory::desc plain(dims, type, Memory::format_tag::ab);
  const Memory::desc any(dims, type, Memory::format_tag::any);
  const Memory::desc out(dims, Memory::data_type::f32, Memory::format_tag::ab);
  const dnnl::matmul::primitive_desc description(dnnl::matmul::desc(plain, any, out), engine);
  Memory a(plain, engine), b(description.weights_desc(), engine), c(out, engine);
  std::fill_n(static_cast<char*>(a.get_data_handle()), plain.get_size(), 0);
  std::fill_n(static_cast<char*>(b.get_data_handle()), description.weights_desc().get_size(), 0);
  const dnnl::matmul matmul(description);
  dnnl::stream stream(engine);
  return BestRate(0.2, [&] {
    matmul.execute(stream, {{DNNL_ARG_SRC, a}, {DNNL_ARG_WEIGHTS, b}, {DNNL_ARG_DST, c}});
    stream.wait();
    return std::pow(static_cast<double>(side), 3);
  });
}

}  // namespace

Result<MachinePeak> MeasureMachinePeak(int threads, Precision precision) {
  if (threads <= 0) threads = AvailableCores();
  const ThreadCountScope scope(threads);
  MachinePeak peak;
  const auto type = precision == Precision::kBFloat16 ? dnnl::memory::data_type::bf16 : dnnl::memory::data_type::f32;
  try {
    dnnl::engine engine(dnnl::engine::kind::cpu, 0);
    for (const int64_t side : {512, 1024, 2048}) peak.matmul = std::max(peak.matmul, MatMulRate(engine, side, type));
  } catch (const std::exception& error) {
    return InternalError(std::string("measuring this machine's peak: oneDNN: ") + error.what());
  }
  if (precision != Precision::kBFloat16) peak.fma = FmaRate(threads);
  peak.gmacs_per_second = std::max(peak.matmul, peak.fma);
  return peak;
}

TimingSummary SummarizeTimings(std::vector<double> times) {
  if (times.empty()) return {};
  std::sort(times.begin(), times.end());
  const auto at = [&](double quantile) {
    const double rank = quantile * static_cast<double>(times.size() - 1);
    const auto low = static_cast<size_t>(rank);
    const size_t high = std::min(low + 1, times.size() - 1);
    return times[low] + (rank - static_cast<double>(low)) * (times[high] - times[low]);
  };
  return {at(0.5), at(0.1), at(0.9), times.front()};
}

int64_t PeakResidentBytes() {
  rusage usage{};
  if (getrusage(RUSAGE_SELF, &usage) != 0) return 0;
  return int64_t{usage.ru_maxrss} * 1024;
}

int AvailableCores() {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof(set), &set) != 0) return 1;
  return std::max(1, CPU_COUNT(&set));
}

}  // namespace octavo
#endif  // HWY_ONCE
