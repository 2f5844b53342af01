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
#include <immintrin.h>
#include <omp.h>
#include <sched.h>
#include <sys/resource.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstring>
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

// Of a loop over registers in every thread; chains(rounds, sink) returns the multiply-adds that it made.
template <typename Chains>
double ChainRate(int threads, int64_t rounds, Chains&& chains) {
  return BestRate(0.2, [&] {
    std::atomic<int64_t> macs{0};
    std::atomic<bool> failed{false};
    // One part per thread.
    ParallelFor(threads, threads, 1, [&](int64_t, int64_t) {
      float sink = 0;
      macs += chains(rounds, &sink);
      if (std::isnan(sink)) failed = true;  // the result is looked at, so that nothing is optimized away
    });
    return failed ? 0.0 : static_cast<double>(macs.load());
  });
}

double FmaRate(int threads) {
  constexpr int64_t kRounds = 1'000'000;  // about 5 ms
  return ChainRate(threads, kRounds,
                   [](int64_t rounds, float* sink) { return HWY_DYNAMIC_DISPATCH(FmaChains)(rounds, sink); });
}

// Ten chains, as FmaChains. An instruction makes 64 products of bytes, or 32 of bfloat16.
__attribute__((target("avx512f,avx512vnni"))) int64_t VnniChains(int64_t rounds, float* sink) {
  const __m512i a = _mm512_set1_epi8(3), b = _mm512_set1_epi8(1);
  __m512i sums[10];  // of different numbers, or they would be one chain to the compiler
  for (int i = 0; i < 10; ++i) sums[i] = _mm512_set1_epi32(i);
  for (int64_t i = 0; i < rounds; ++i) {
#pragma GCC unroll 10
    for (__m512i& sum : sums) sum = _mm512_dpbusd_epi32(sum, a, b);
  }
  __m512i sum = sums[0];
  for (int i = 1; i < 10; ++i) sum = _mm512_add_epi32(sum, sums[i]);
  *sink = static_cast<float>(_mm512_cvtsi512_si32(sum));
  return rounds * 10 * 64;
}

__attribute__((target("avx512f,avx512bf16"))) int64_t BFloat16Chains(int64_t rounds, float* sink) {
  const auto a = reinterpret_cast<__m512bh>(_mm512_set1_epi32(0x3f003f00));
  __m512 sums[10];
  for (int i = 0; i < 10; ++i) sums[i] = _mm512_set1_ps(static_cast<float>(i));
  for (int64_t i = 0; i < rounds; ++i) {
#pragma GCC unroll 10
    for (__m512& sum : sums) sum = _mm512_dpbf16_ps(sum, a, a);
  }
  __m512 sum = sums[0];
  for (int i = 1; i < 10; ++i) sum = _mm512_add_ps(sum, sums[i]);
  *sink = _mm512_cvtss_f32(sum);
  return rounds * 10 * 32;
}

// Four accumulators, two tiles of rows and two of columns, as a blocked product has them. A tile is 16 rows of 64
// bytes; an instruction makes 16 x 16 sums of 64 products of bytes, or 32 of bfloat16.
struct alignas(64) TileConfig {
  uint8_t palette = 1, start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

__attribute__((target("amx-tile"))) void LoadTiles() {
  // In memory before the loop: GCC 12 takes the instruction to read the first eight bytes alone, and drops other
  // stores.
  static const TileConfig config;
  _tile_loadconfig(&config);
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  _tile_zero(4);
  _tile_zero(5);
  _tile_zero(6);
  _tile_zero(7);
}

__attribute__((target("amx-tile,amx-int8"))) int64_t AmxInt8Chains(int64_t rounds, float*) {
  LoadTiles();
  for (int64_t i = 0; i < rounds; ++i) {
    _tile_dpbusd(0, 4, 6);
    _tile_dpbusd(1, 4, 7);
    _tile_dpbusd(2, 5, 6);
    _tile_dpbusd(3, 5, 7);
  }
  _tile_release();
  return rounds * 4 * 16 * 16 * 64;
}

__attribute__((target("amx-tile,amx-bf16"))) int64_t AmxBFloat16Chains(int64_t rounds, float*) {
  LoadTiles();
  for (int64_t i = 0; i < rounds; ++i) {
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  }
  _tile_release();
  return rounds * 4 * 16 * 16 * 32;
}

// Copies within two buffers of `bytes` together, each thread a part of its own; until it has moved enough to time.
double CopyRate(int threads, int64_t bytes) {
  const auto half = static_cast<size_t>(bytes / 2);
  const std::vector<char> from(half, 1);
  std::vector<char> to(half);
  const int64_t repeats = std::max<int64_t>(1, (int64_t{32} << 20) / bytes);
  const double rate = BestRate(0.1, [&] {
    ParallelFor(threads, threads, 1, [&](int64_t begin, int64_t end) {
      const size_t first = half * static_cast<size_t>(begin) / static_cast<size_t>(threads);
      const size_t last = half * static_cast<size_t>(end) / static_cast<size_t>(threads);
      for (int64_t r = 0; r < repeats; ++r) {
        std::memcpy(to.data() + first, from.data() + first, last - first);
        asm volatile("" : : "r"(to.data()) : "memory");  // each copy is made
      }
    });
    return static_cast<double>(2 * half) * static_cast<double>(repeats);
  });
  return rate;
}

struct ProductTypes {
  dnnl::memory::data_type a, b, c;
};
constexpr ProductTypes kFloat32Product{dnnl::memory::data_type::f32, dnnl::memory::data_type::f32,
                                       dnnl::memory::data_type::f32};
constexpr ProductTypes kBFloat16Product{dnnl::memory::data_type::bf16, dnnl::memory::data_type::bf16,
                                        dnnl::memory::data_type::f32};
constexpr ProductTypes kInt8Product{dnnl::memory::data_type::u8, dnnl::memory::data_type::s8,
                                    dnnl::memory::data_type::s32};

// side x side times side x side, with the weights in the layout that oneDNN likes best.
double MatMulRate(dnnl::engine& engine, int64_t side, const ProductTypes& types) {
  using Memory = dnnl::memory;
  const Memory::dims dims{side, side};
  const Memory::desc plain(dims, types.a, Memory::format_tag::ab);
  const Memory::desc any(dims, types.b, Memory::format_tag::any);
  const Memory::desc out(dims, types.c, Memory::format_tag::ab);
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

Result<double> BestMatMul(const ProductTypes& types) {
  double best = 0;
  try {
    dnnl::engine engine(dnnl::engine::kind::cpu, 0);
    for (const int64_t side : {512, 1024, 2048}) best = std::max(best, MatMulRate(engine, side, types));
  } catch (const std::exception& error) {
    return InternalError(std::string("measuring this machine's peak: oneDNN: ") + error.what());
  }
  return best;
}

}  // namespace

double MachineLimits::MacsPerSecond(std::string_view precision) const {
  return 1e9 * (precision == "int8" ? int8 : precision == "bf16" ? bfloat16 : float32);
}

double MachineLimits::BytesPerSecond(int64_t bytes) const {
  double rate = 0;
  for (const Copy& copy : copies) {
    if (rate == 0 || copy.bytes <= bytes) rate = copy.rate;
  }
  return 1e9 * rate;
}

Result<MachineLimits> MeasureMachineLimits(int threads) {
  if (threads <= 0) threads = AvailableCores();
  const ThreadCountScope scope(threads);
  MachineLimits limits;
  OCTAVO_ASSIGN(limits.float32, BestMatMul(kFloat32Product));
  OCTAVO_ASSIGN(limits.int8, BestMatMul(kInt8Product));
  limits.float32 = std::max(limits.float32, FmaRate(threads));
  const std::string isa = IsaInUse();
  const bool amx = isa == "avx512_core_amx";
  constexpr int64_t kRounds = 1'000'000, kTileRounds = 50'000;  // about 5 ms
  if (amx || isa == "avx512_core_bf16" || isa == "avx512_core_vnni")
    limits.int8 = std::max(limits.int8, ChainRate(threads, kRounds, VnniChains));
  if (amx) limits.int8 = std::max(limits.int8, ChainRate(threads, kTileRounds, AmxInt8Chains));
  if (amx || isa == "avx512_core_bf16") {
    OCTAVO_ASSIGN(limits.bfloat16, BestMatMul(kBFloat16Product));
    limits.bfloat16 = std::max(limits.bfloat16, ChainRate(threads, kRounds, BFloat16Chains));
  }
  if (amx) limits.bfloat16 = std::max(limits.bfloat16, ChainRate(threads, kTileRounds, AmxBFloat16Chains));
  if (limits.bfloat16 == 0) limits.bfloat16 = limits.float32;
  for (int64_t bytes = int64_t{64} << 10; bytes <= int64_t{64} << 20; bytes *= 4)
    limits.copies.push_back({bytes, CopyRate(threads, bytes)});
  return limits;
}

Result<MachinePeak> MeasureMachinePeak(int threads, Precision precision) {
  if (threads <= 0) threads = AvailableCores();
  const ThreadCountScope scope(threads);
  MachinePeak peak;
  OCTAVO_ASSIGN(peak.matmul, BestMatMul(precision == Precision::kBFloat16 ? kBFloat16Product : kFloat32Product));
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
  return {at(0.5), at(0.1), at(0.9), at(0.99), times.front()};
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
