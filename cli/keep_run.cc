#include "keep_run.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <memory>

#include "engine_flags.h"
#include "octavo/costs.h"
#include "progress.h"
#include "verdict_text.h"

namespace octavo::cli {
namespace {

constexpr size_t kListedBlame = 10;

// What a target runs faster than float32 and keeps a layer's quality in.
Result<std::vector<DType>> RaiseTo(const std::vector<std::string>& names, const std::string& target) {
  std::vector<DType> precisions;
  for (const std::string& name : names) {
    OCTAVO_ASSIGN(const DType precision, ParseLayerPrecision(name));
    precisions.push_back(precision);
  }
  if (!precisions.empty()) return precisions;
  if (target == "octavo") return std::vector<DType>{DType::kBFloat16, DType::kFloat32};
  if (target == "tensorrt") return std::vector<DType>{DType::kFloat16, DType::kFloat32};
  return std::vector<DType>{DType::kFloat32};
}

// "60%" or "0.6".
std::optional<double> ParseShare(std::string text) {
  const bool percent = !text.empty() && text.back() == '%';
  if (percent) text.pop_back();
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || text.empty()) return std::nullopt;
  if (percent) value /= 100;
  return value >= 0 && value <= 1 ? std::optional(value) : std::nullopt;
}

Result<KeepBudget> ParseBudget(const std::vector<std::string>& flags) {
  KeepBudget budget;
  for (const std::string& flag : flags) {
    const size_t sign = flag.find('=');
    const std::string name = flag.substr(0, sign);
    const auto share = sign == std::string::npos ? std::nullopt : ParseShare(flag.substr(sign + 1));
    if (!share || (name != "latency" && name != "int8-macs") || (name == "latency" && *share == 0)) {
      return InvalidArgument(
          fmt::format("--budget {}: write latency=60% (of FP32's, at most) or int8-macs=90% (at least)", flag));
    }
    if (name == "latency") budget.latency = *share;
    if (name == "int8-macs") budget.int8_macs = *share;
  }
  return budget;
}

// A bar for each sweep over layers and each layer that is raised.
class KeepProgress {
 public:
  void operator()(size_t done, size_t total, bool measuring) {
    if (!measuring) {
      bar_.reset();
      return;
    }
    if (bar_ == nullptr || done <= 1)
      bar_ = std::make_unique<Progress>("measuring layers", static_cast<int64_t>(total));
    bar_->Step();
  }

 private:
  std::unique_ptr<Progress> bar_;
};

Result<LayerCosts> FindCosts(const KeepFlags& flags, const Graph& prepared, const Recipe& recipe, const Judge& judge,
                             const std::vector<DType>& raise_to) {
  if (!flags.costs.empty()) return LoadCosts(flags.costs);
  MeasureCostsOptions options;
  options.threads = judge.threads();
  options.precisions = {DType::kInt8, DType::kFloat32};
  for (const DType precision : raise_to) {
    if (precision != DType::kFloat32) options.precisions.push_back(precision);
  }
  OCTAVO_ASSIGN(const auto sample, judge.Inputs(0));
  return MeasureCosts(prepared, recipe, sample, options);
}

}  // namespace

void KeepFlags::AddTo(CLI::App& command) {
  command
      .add_option("--keep", mean,
                  "Raise layers to a better precision until the mean score on held-out samples is at least this, with "
                  "95 % confidence for those never seen; exit code 3 when that cannot be reached. Where samples are "
                  "right or wrong (classify, text), 0.99 needs 299 that judge, 0.95 needs 59")
      ->type_name("SCORE")
      ->check(CLI::Range(0.0, 1.0));
  command.add_option("--keep-p5", p5, "The same for the 5th percentile")
      ->type_name("SCORE")
      ->check(CLI::Range(0.0, 1.0));
  AddRepeatable(command, "--budget", budget,
                "What --keep must not give up: latency=60% (of FP32's, at most) or int8-macs=90% (at least; default "
                "50%); repeatable")
      ->type_name("NAME=SHARE");
  AddRepeatable(command, "--raise-to", raise_to,
                "What layers may be raised to, cheapest first (default: bf16,fp32 for octavo, fp16,fp32 for tensorrt, "
                "else fp32)")
      ->delimiter(',')
      ->check(CLI::IsMember({"bf16", "fp16", "fp32"}));
  command
      .add_option("--costs", costs,
                  "Milliseconds of each layer from an earlier run (OUT.onnx.costs.json), so that the same decisions "
                  "come out again")
      ->type_name("FILE");
}

Status KeepFlags::Check() const {
  if (!wanted() && (p5 || !budget.empty() || !raise_to.empty() || !costs.empty())) {
    return InvalidArgument("--keep-p5, --budget, --raise-to and --costs go with --keep");
  }
  // Range lets NaN pass.
  if (wanted() && !(*mean > 0)) return InvalidArgument("--keep 0 keeps nothing: name a score such as 0.99");
  if (p5 && !(*p5 > 0)) return InvalidArgument("--keep-p5 0 keeps nothing: name a score such as 0.95");
  return ParseBudget(budget).status();
}

Result<KeepResult> RunKeep(const KeepFlags& flags, const Graph& prepared, const Recipe& recipe, const Stats& stats,
                           const Judge& judge, const std::string& target) {
  KeepOptions options;
  options.goal = flags.Goal();
  OCTAVO_ASSIGN(options.budget, ParseBudget(flags.budget));
  OCTAVO_ASSIGN(options.raise_to, RaiseTo(flags.raise_to, target));
  OCTAVO_ASSIGN(options.costs, FindCosts(flags, prepared, recipe, judge, options.raise_to));
  KeepProgress progress;
  options.progress = [&](size_t done, size_t total, bool measuring) { progress(done, total, measuring); };
  OCTAVO_ASSIGN(KeepOutcome outcome, KeepQuality(prepared, recipe, stats, judge, options));
  return KeepResult{std::move(outcome), options.goal, std::move(options.costs)};
}

void PrintKeep(const Report& report, const KeepResult& result, std::string_view score_name) {
  const KeepOutcome& outcome = result.outcome;
  Table table("lrrrrrrrl",
              {"raised", std::string(score_name), "at least", "p5", "SQNR dB", "ms", "INT8 MACs", "MB", ""});
  for (const FrontPoint& point : outcome.walked) {
    table.AddRow({point.last.empty() ? "none" : fmt::format("{}: {}", point.raised, point.last),
                  ScoreText(point.score.mean), ScoreText(point.mean_bound),
                  ScoreText(P5Of(point.score, point.p5_bound)), fmt::format("{:.1f}", point.sqnr_db),
                  fmt::format("{:.2f}", point.milliseconds), fmt::format("{:.1f} %", 100 * point.int8_macs_share),
                  fmt::format("{:.1f}", static_cast<double>(point.bytes) / 1e6), point.on_front ? "front" : ""});
  }
  table.Print(report.stream());
  report.Print("ms: sums over layers; all in FP32 {:.2f}, all in INT8 {:.2f}\n", outcome.fp32_milliseconds,
               outcome.int8_milliseconds);
  const Verdict& v = outcome.verdict;
  const std::string found = fmt::format("{} {:.4f} on {} held-out samples, {}", score_name, v.score.mean,
                                        v.scores.size(), BoundText(v.mean_bound));
  const std::string p5 =
      result.goal.p5 ? fmt::format("; p5 at least {}, wanted {:g}", ScoreText(v.p5_bound), *result.goal.p5) : "";
  if (outcome.met) {
    report.Print("{}: the goal {:g} is met{}{}\n", found, result.goal.mean, v.mean_bound ? "" : " by that number", p5);
    return;
  }
  report.Print("the goal is missed: {}; wanted {:g}{}\n", found, result.goal.mean, p5);
  Table blame("lrrll", {"layers to blame", "noise", "ms saved", "now", "why"});
  for (size_t i = 0; i < std::min(kListedBlame, outcome.blame.size()); ++i) {
    const Blame& b = outcome.blame[i];
    blame.AddRow({b.node, fmt::format("{:.1f} %", 100 * b.noise_share), fmt::format("{:.2f}", b.milliseconds_saved),
                  std::string(LayerPrecisionName(b.precision)), b.reason});
  }
  blame.Print(report.stream());
}

}  // namespace octavo::cli
