#include "bench_profile.h"

#include <algorithm>
#include <numeric>

#include "octavo/text_file.h"

namespace octavo::cli {
namespace {

double Rate(int64_t amount, double milliseconds) {
  return milliseconds > 0 ? static_cast<double>(amount) / milliseconds * 1e-6 : 0;
}

int64_t BytesOf(const StepInfo& step) { return step.bytes_read + step.bytes_written; }

// "memory" or whose multiply-accumulates: what the step's least time comes from.
std::string LimitName(const StepInfo& info, const StepProfile& step) {
  if (step.limit_milliseconds <= 0) return "-";
  return step.memory_bound ? "memory" : info.precision;
}

std::string Percent(double share) { return fmt::format("{:.0f} %", 100 * share); }

void PrintTotals(const Report& report, const ModelProfile& profile, const MachineLimits& limits) {
  Table table("lrr", {"where the time goes", "ms", "share"});
  const auto add = [&](const std::string& what, double milliseconds) {
    const double share = profile.milliseconds > 0 ? milliseconds / profile.milliseconds : 0;
    table.AddRow({what, fmt::format("{:.3f}", milliseconds), fmt::format("{:.1f} %", 100 * share)});
  };
  for (size_t kind = 0; kind < kStepKinds; ++kind) {
    if (profile.by_kind[kind] > 0) add(std::string(NameOf(static_cast<StepKind>(kind))), profile.by_kind[kind]);
  }
  add("between the steps", profile.scheduling_milliseconds);
  add("a run", profile.milliseconds);
  report.Print("\n");
  table.Print(report.stream());
  if (profile.int8_macs > 0) {
    report.Print("\n{} float steps in this INT8 plan take {:.3f} ms.\n", profile.float_islands,
                 profile.float_island_milliseconds);
    report.Print(
        "{} INT8 multiply-accumulates at {:.0f} GMAC/s: {:.1f} % of the INT8 limit in their steps, {:.1f} % over "
        "the run.\n",
        Short(static_cast<double>(profile.int8_macs)), profile.int8_gmacs_per_second, 100 * profile.int8_share,
        100 * profile.int8_share_of_run);
  }
  report.Print("Limits here and now: INT8 {:.0f}, BF16 {:.0f}, FP32 {:.0f} GMAC/s; copies", limits.int8,
               limits.bfloat16, limits.float32);
  for (const auto& copy : limits.copies) {
    report.Print(" {:.0f} GB/s ({} {})", copy.rate, copy.bytes >> 20 > 0 ? copy.bytes >> 20 : copy.bytes >> 10,
                 copy.bytes >> 20 > 0 ? "MiB" : "KiB");
  }
  report.Print(".\n");
}

}  // namespace

void PrintProfile(const Report& report, const PlanInfo& plan, const ModelProfile& profile, const MachineLimits& limits,
                  int top) {
  std::vector<size_t> order(plan.steps.size());
  std::iota(order.begin(), order.end(), size_t{0});
  const bool all = top == 0 || static_cast<size_t>(top) >= order.size();
  if (!all) {
    std::stable_sort(order.begin(), order.end(),
                     [&](size_t a, size_t b) { return profile.steps[a].milliseconds > profile.steps[b].milliseconds; });
    order.resize(static_cast<size_t>(top));
  }
  Table table("rrrrrrlllll",
              {"#", "ms", "share", "GMAC/s", "GB/s", "of limit", "limit", "precision", "op", "kernel", "node"});
  for (const size_t i : order) {
    const StepInfo& info = plan.steps[i];
    const StepProfile& step = profile.steps[i];
    const double share = profile.milliseconds > 0 ? step.milliseconds / profile.milliseconds : 0;
    table.AddRow({std::to_string(i + 1), fmt::format("{:.3f}", step.milliseconds), fmt::format("{:.1f} %", 100 * share),
                  info.macs > 0 ? fmt::format("{:.0f}", Rate(info.macs, step.milliseconds)) : "-",
                  fmt::format("{:.1f}", Rate(BytesOf(info), step.milliseconds)), Percent(step.share()),
                  LimitName(info, step), info.precision, info.op, info.kernel, info.node});
  }
  report.Print("\n");
  if (!all) report.Print("The {} longest of {} steps (--top 0 shows all, in their order):\n", top, plan.steps.size());
  table.Print(report.stream());
  PrintTotals(report, profile, limits);
}

Json ProfileJson(const PlanInfo& plan, const ModelProfile& profile, const MachineLimits& limits) {
  Json steps = Json::array();
  for (size_t i = 0; i < plan.steps.size(); ++i) {
    const StepInfo& info = plan.steps[i];
    const StepProfile& step = profile.steps[i];
    steps.push_back({{"node", info.node},
                     {"op", info.op},
                     {"kernel", info.kernel},
                     {"precision", info.precision},
                     {"kind", NameOf(step.kind)},
                     {"output_dims", info.output_dims},
                     {"ms", step.milliseconds},
                     {"macs", info.macs},
                     {"gmacs_per_s", Finite(Rate(info.macs, step.milliseconds))},
                     {"bytes_read", info.bytes_read},
                     {"bytes_written", info.bytes_written},
                     {"gb_per_s", Finite(Rate(BytesOf(info), step.milliseconds))},
                     {"limit", LimitName(info, step)},
                     {"limit_ms", step.limit_milliseconds},
                     {"limit_share", Finite(step.share())}});
  }
  Json kinds = Json::object();
  for (size_t kind = 0; kind < kStepKinds; ++kind) {
    kinds[std::string(NameOf(static_cast<StepKind>(kind)))] = profile.by_kind[kind];
  }
  Json copies = Json::array();
  for (const auto& copy : limits.copies) copies.push_back({{"bytes", copy.bytes}, {"gb_per_s", copy.rate}});
  return {{"ms", profile.milliseconds},
          {"ms_by_kind", kinds},
          {"scheduling_ms", profile.scheduling_milliseconds},
          {"float_islands", profile.float_islands},
          {"float_island_ms", profile.float_island_milliseconds},
          {"int8_macs", profile.int8_macs},
          {"int8_gmacs_per_s", Finite(profile.int8_gmacs_per_second)},
          {"int8_limit_share", Finite(profile.int8_share)},
          {"int8_limit_share_of_run", Finite(profile.int8_share_of_run)},
          {"limits",
           {{"int8_gmacs_per_s", limits.int8},
            {"bf16_gmacs_per_s", limits.bfloat16},
            {"fp32_gmacs_per_s", limits.float32},
            {"copies", copies}}},
          {"steps", steps}};
}

Status WriteTrace(const std::string& path, const std::string& model, int threads, const PlanInfo& plan,
                  const std::vector<RunProfile>& runs) {
  constexpr int kProcess = 1, kRuns = 1;
  const auto named = [&](const char* what, int thread, const std::string& name) {
    return Json{{"name", what}, {"ph", "M"}, {"pid", kProcess}, {"tid", thread}, {"args", {{"name", name}}}};
  };
  Json events = Json::array();
  events.push_back(named("process_name", kRuns, "octavo " + model));
  events.push_back(named("thread_name", kRuns, fmt::format("steps, each on {} threads", threads)));
  const auto add = [&](const std::string& name, const char* category, double start_us, double taken_us,
                       Json arguments) {
    events.push_back({{"name", name},
                      {"cat", category},
                      {"ph", "X"},
                      {"ts", start_us},
                      {"dur", taken_us},
                      {"pid", kProcess},
                      {"tid", kRuns},
                      {"args", std::move(arguments)}});
  };
  for (size_t r = 0; r < runs.size(); ++r) {
    const RunProfile& run = runs[r];
    const double start = std::chrono::duration<double, std::micro>(run.start - runs[0].start).count();
    add(fmt::format("run {}", r + 1), "run", start, 1e-3 * static_cast<double>(run.total_ns), Json::object());
    for (size_t i = 0; i < run.steps.size() && i < plan.steps.size(); ++i) {
      const StepInfo& info = plan.steps[i];
      const double taken = 1e-3 * static_cast<double>(run.steps[i].end_ns - run.steps[i].begin_ns);
      add(info.op, NameOf(KindOf(info)).data(), start + 1e-3 * static_cast<double>(run.steps[i].begin_ns), taken,
          {{"node", info.node},
           {"kernel", info.kernel},
           {"precision", info.precision},
           {"output", ToString(info.output_dims)},
           {"gmacs_per_s", Finite(Rate(info.macs, 1e-3 * taken))},
           {"gb_per_s", Finite(Rate(BytesOf(info), 1e-3 * taken))}});
    }
  }
  const Json document = {{"displayTimeUnit", "ms"}, {"traceEvents", events}};
  // Names from a model's file may not be UTF-8; what is not is replaced.
  return SaveText(path, document.dump(1, ' ', false, Json::error_handler_t::replace) + "\n");
}

}  // namespace octavo::cli
