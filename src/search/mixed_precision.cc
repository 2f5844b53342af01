#include "octavo/mixed_precision.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "base/json_object.h"
#include "graph/op_table.h"
#include "octavo/exact_bounds.h"
#include "octavo/sensitivity.h"
#include "search/boundary.h"
#include "search/layers.h"

namespace octavo {
namespace {

// A raise that costs less than this share of what may be spent counts as costing that much: measured times are no
// finer, and a layer that is faster in float must not win whatever it gains.
constexpr double kFreeShare = 0.002;
// Samples that gains are measured on: noise is an average over many values already.
constexpr size_t kGainSamples = 8;
// Layers whose gains are measured again after some were raised: those that promised most.
constexpr size_t kMeasuredAgain = 12;
// Of samples that are right or wrong, the share that is right where their 5th percentile is.
constexpr double kShareAboveP5 = 0.95;

// What a goal for the mean is compared with.
double Reached(const Verdict& verdict) { return verdict.mean_bound.value_or(verdict.score.mean); }

int64_t ConstantBytes(const Graph& graph) {
  int64_t bytes = 0;
  for (const Value& value : graph.values) bytes += static_cast<int64_t>(value.constant.bytes());
  return bytes;
}

// A layer in a better precision than it has now.
struct Move {
  std::string node;
  DType to = DType::kFloat32;
  double noise_gain = 0;
  double cost = 0;  // of what the budget leaves to spend, the share that this takes
};

class KeepSearch {
 public:
  KeepSearch(const Graph& prepared, const Recipe& recipe, const Stats& stats, const Judge& judge,
             const KeepOptions& options)
      : prepared_(prepared), recipe_(recipe), stats_(stats), judge_(judge), options_(options) {}

  Result<KeepOutcome> Run() {
    OCTAVO_RETURN_IF_ERROR(Prepare());
    OCTAVO_RETURN_IF_ERROR(Walk());
    if (outcome_.met) OCTAVO_RETURN_IF_ERROR(Prune());
    if (blame_gains_.empty()) OCTAVO_RETURN_IF_ERROR(MeasureMoves());
    outcome_.recipe = Full(best_);
    MarkFront();
    OCTAVO_RETURN_IF_ERROR(FillBlame());
    return std::move(outcome_);
  }

 private:
  using Precisions = std::map<std::string, DType>;  // of raised layers

  Status Prepare() {
    OCTAVO_ASSIGN(rewritten_, RewriteWithoutBiases(prepared_, recipe_));
    quantization_ = QuantizationOnly(recipe_);
    layers_ = QuantizedLayers(rewritten_, recipe_);
    for (const Node& node : rewritten_.nodes) {
      if (!node.removed) total_macs_ += CountMacs(rewritten_, node);
    }
    outcome_.fp32_milliseconds = options_.costs.Total([](const std::string&) { return DType::kFloat32; });
    outcome_.int8_milliseconds = options_.costs.Total([](const std::string&) { return DType::kInt8; });
    return CheckCosts();
  }

  Status CheckCosts() const {
    for (const QuantizedLayer& layer : layers_) {
      std::vector<DType> wanted = options_.raise_to;
      wanted.insert(wanted.end(), {DType::kInt8, DType::kFloat32});
      const auto found = options_.costs.layers.find(layer.node);
      for (const DType precision : wanted) {
        if (found != options_.costs.layers.end() && found->second.count(precision) > 0) continue;
        return InvalidArgument(fmt::format("the costs lack {} of node '{}': measure them anew",
                                           LayerPrecisionName(precision), layer.node));
      }
    }
    return {};
  }

  static DType In(const Precisions& raised, const std::string& node) {
    const auto found = raised.find(node);
    return found == raised.end() ? DType::kInt8 : found->second;
  }

  Recipe With(const Recipe& recipe, const Precisions& raised) const {
    return WithPrecisions(
        recipe, rewritten_, [&](const std::string& node) { return In(raised, node); }, "raised to keep the quality");
  }
  Recipe Full(const Precisions& raised) const { return With(recipe_, raised); }
  Result<Graph> Apply(const Precisions& raised) const { return ApplyRecipe(rewritten_, With(quantization_, raised)); }
  double Milliseconds(const Precisions& raised) const {
    return options_.costs.Total([&](const std::string& node) { return In(raised, node); });
  }

  // Judges a mixture and notes it.
  Result<Verdict> Judged(const Precisions& raised, const std::string& last) {
    OCTAVO_ASSIGN(Graph graph, Apply(raised));
    FrontPoint point;
    point.bytes = ConstantBytes(graph);
    SessionOptions session_options;
    session_options.threads = judge_.threads();
    OCTAVO_ASSIGN(Session session, Session::Create(std::move(graph), session_options));
    OCTAVO_ASSIGN(Verdict verdict, judge_.Score(session));
    if (options_.goal.p5 && !verdict.p5_bound) {
      return InvalidArgument(
          "the score is one number for all samples: there is no 5th percentile that could reach a goal");
    }
    point.raised = raised.size();
    point.last = last;
    point.score = verdict.score;
    point.mean_bound = verdict.mean_bound;
    point.p5_bound = verdict.p5_bound;
    point.sqnr_db = verdict.sqnr_db;
    point.milliseconds = Milliseconds(raised);
    point.int8_macs_share = session.plan().int8_macs_share();
    outcome_.walked.push_back(std::move(point));
    if (options_.progress) options_.progress(raised.size(), layers_.size(), false);
    return verdict;
  }

  Status Walk() {
    OCTAVO_ASSIGN(Verdict verdict, Judged(raised_, ""));
    // By now a task may know that samples are right or wrong.
    OCTAVO_RETURN_IF_ERROR(CheckSamples(options_.goal, judge_));
    Keep(verdict);
    size_t since = 0;
    while (!options_.goal.IsMetBy(verdict)) {
      if (moves_.empty() || since == options_.remeasure_every) {
        measured_all_ = blame_gains_.empty() || everything_;
        OCTAVO_RETURN_IF_ERROR(MeasureMoves());
        since = 0;
      }
      const auto move = BestMove();
      if (move == moves_.end()) {
        // What was left out may gain after the last raises; when all was measured just now, nothing does.
        if (measured_all_) return {};
        moves_.clear();
        everything_ = true;
        continue;
      }
      raised_[move->node] = move->to;
      const std::string node = move->node;
      std::erase_if(moves_, [&](const Move& other) { return other.node == node; });
      ++since;
      measured_all_ = false;
      OCTAVO_ASSIGN(verdict, Judged(raised_, node));
      Keep(verdict);
    }
    outcome_.met = true;
    return {};
  }

  // The best mixture so far: the one that was judged last where the goal is met, else the one with the highest bound.
  void Keep(const Verdict& verdict) {
    const bool met = options_.goal.IsMetBy(verdict);
    if (!met && !outcome_.verdict.scores.empty() && Reached(verdict) <= Reached(outcome_.verdict)) return;
    best_ = raised_;
    outcome_.verdict = verdict;
  }

  bool FitsBudget(const Move& move) const {
    Precisions raised = raised_;
    raised[move.node] = move.to;
    if (options_.budget.latency && Milliseconds(raised) > *options_.budget.latency * outcome_.fp32_milliseconds) {
      return false;
    }
    int64_t lost = 0;
    for (const QuantizedLayer& layer : layers_) {
      if (raised.count(layer.node) > 0) lost += layer.macs;
    }
    const double start = outcome_.walked.front().int8_macs_share;
    return start - static_cast<double>(lost) / static_cast<double>(std::max<int64_t>(1, total_macs_)) >=
           options_.budget.int8_macs;
  }

  std::vector<Move>::iterator BestMove() {
    auto best = moves_.end();
    double best_ratio = 0;
    for (auto move = moves_.begin(); move != moves_.end(); ++move) {
      if (move->noise_gain <= 0 || !FitsBudget(*move)) continue;
      const double ratio = Ratio(*move);
      if (best == moves_.end() || ratio > best_ratio) {
        best = move;
        best_ratio = ratio;
      }
    }
    return best;
  }

  // What each layer's next better precisions would take away of the noise that is there now. Later, only of the layers
  // that promised most before.
  Status MeasureMoves() {
    const std::vector<std::string> wanted = LayersToMeasure();
    moves_.clear();
    OCTAVO_ASSIGN(const Graph base, Apply(raised_));
    OCTAVO_ASSIGN(const double noise, NoiseNow(base));
    std::vector<LayerJob> jobs;
    size_t done = 0;
    for (const std::string& layer : wanted) {
      jobs.push_back({layer, [&, node = layer](BoundaryValues& values) -> Status {
                        for (const DType to : Better(In(raised_, node))) {
                          Precisions changed = raised_;
                          changed[node] = to;
                          OCTAVO_ASSIGN(const Graph graph, Apply(changed));
                          OCTAVO_ASSIGN(const double left,
                                        NoiseOfChanged(judge_, values, base, graph, node, kGainSamples));
                          moves_.push_back({node, to, noise - left, CostOf(node, to)});
                        }
                        if (options_.progress) options_.progress(++done, wanted.size(), true);
                        return {};
                      }});
    }
    OCTAVO_RETURN_IF_ERROR(RunLayerJobs(base, judge_, kGainSamples, options_.memory_bytes, jobs));
    for (const std::string& layer : wanted) promise_[layer] = 0;
    for (const Move& move : moves_) promise_[move.node] = std::max(promise_[move.node], Ratio(move));
    if (!blame_gains_.empty()) return {};
    for (const Move& move : moves_) {
      double& share = blame_gains_[move.node];
      share = std::max(share, noise > 0 ? move.noise_gain / noise : 0);
    }
    return {};
  }

  std::vector<std::string> LayersToMeasure() {
    std::vector<std::string> names;
    for (const QuantizedLayer& layer : layers_) {
      if (!Better(In(raised_, layer.node)).empty()) names.push_back(layer.node);
    }
    if (blame_gains_.empty()) return names;
    std::vector<std::string> best = names;
    std::stable_sort(best.begin(), best.end(), [&](const auto& a, const auto& b) { return promise_[a] > promise_[b]; });
    if (best.size() > kMeasuredAgain && !everything_) best.resize(kMeasuredAgain);
    everything_ = false;
    std::erase_if(names,
                  [&](const std::string& name) { return std::find(best.begin(), best.end(), name) == best.end(); });
    return names;
  }

  double Ratio(const Move& move) const { return move.noise_gain / std::max(move.cost, kFreeShare); }

  Result<double> NoiseNow(const Graph& base) const {
    SessionOptions session_options;
    session_options.threads = judge_.threads();
    OCTAVO_ASSIGN(Session session, Session::Create(base, session_options));
    return judge_.Noise(
        [&](size_t sample) -> Result<std::vector<Tensor>> {
          OCTAVO_ASSIGN(const auto inputs, judge_.Inputs(sample));
          return session.Run(inputs);
        },
        kGainSamples);
  }

  std::vector<DType> Better(DType now) const {
    if (now == DType::kInt8) return options_.raise_to;
    const auto found = std::find(options_.raise_to.begin(), options_.raise_to.end(), now);
    return found == options_.raise_to.end() ? std::vector<DType>()
                                            : std::vector<DType>(found + 1, options_.raise_to.end());
  }

  // Time and multiply-accumulates, each as a share of what may be given up of it: the scarcer one weighs more.
  double CostOf(const std::string& node, DType to) const {
    const double time_limit = options_.budget.latency.value_or(1.0) * outcome_.fp32_milliseconds;
    const double time = std::max(time_limit - outcome_.int8_milliseconds, 1e-6);
    const double lost = options_.costs.Of(node, to) - options_.costs.Of(node, In(raised_, node));
    double macs = 0;
    for (const QuantizedLayer& layer : layers_) {
      if (layer.node == node && raised_.count(node) == 0) macs = static_cast<double>(layer.macs);
    }
    const double spare = (1 - options_.budget.int8_macs) * static_cast<double>(std::max<int64_t>(1, total_macs_));
    return lost / time + macs / std::max(spare, 1.0);
  }

  // Lowers what is dearest first, as long as the goal holds.
  Status Prune() {
    std::vector<std::string> order;
    for (const auto& entry : best_) order.push_back(entry.first);
    std::stable_sort(order.begin(), order.end(), [&](const std::string& a, const std::string& b) {
      const auto cost = [&](const std::string& node) {
        return options_.costs.Of(node, best_.at(node)) - options_.costs.Of(node, DType::kInt8);
      };
      return cost(a) > cost(b);
    });
    if (order.size() < 2) return {};
    for (const std::string& node : order) {
      raised_ = best_;
      raised_.erase(node);
      OCTAVO_ASSIGN(const Verdict verdict, Judged(raised_, node));
      if (!options_.goal.IsMetBy(verdict)) continue;
      best_ = raised_;
      outcome_.verdict = verdict;
    }
    raised_ = best_;
    return {};
  }

  void MarkFront() {
    for (FrontPoint& point : outcome_.walked) {
      point.on_front = std::none_of(outcome_.walked.begin(), outcome_.walked.end(), [&](const FrontPoint& other) {
        const bool as_good = other.score.mean >= point.score.mean && other.milliseconds <= point.milliseconds &&
                             other.bytes <= point.bytes;
        const bool better =
            other.score.mean > point.score.mean || other.milliseconds < point.milliseconds || other.bytes < point.bytes;
        return as_good && better;
      });
    }
  }

  Status FillBlame() {
    for (const QuantizedLayer& layer : layers_) {
      Blame entry;
      entry.node = layer.node;
      entry.op = layer.op;
      const auto share = blame_gains_.find(layer.node);
      entry.noise_share = share == blame_gains_.end() ? 0 : share->second;
      entry.milliseconds_saved =
          options_.costs.Of(layer.node, DType::kFloat32) - options_.costs.Of(layer.node, DType::kInt8);
      entry.precision = In(best_, layer.node);
      entry.reason = WhyHard(rewritten_, stats_, recipe_, layer.node);
      outcome_.blame.push_back(std::move(entry));
    }
    std::stable_sort(outcome_.blame.begin(), outcome_.blame.end(),
                     [](const Blame& a, const Blame& b) { return a.noise_share > b.noise_share; });
    return {};
  }

  const Graph& prepared_;
  const Recipe& recipe_;
  const Stats& stats_;
  const Judge& judge_;
  const KeepOptions& options_;
  Graph rewritten_;
  Recipe quantization_;
  std::vector<QuantizedLayer> layers_;
  int64_t total_macs_ = 0;
  Precisions raised_, best_;
  std::vector<Move> moves_;
  std::map<std::string, double> blame_gains_;  // of the first measurement
  std::map<std::string, double> promise_;      // noise per millisecond, as last measured
  bool everything_ = false;                    // the next measurement is of all layers
  bool measured_all_ = false;                  // the last one was, and nothing was raised since
  KeepOutcome outcome_;
};

Status CheckOptions(const Graph& prepared, const Judge& judge, const KeepOptions& options) {
  OCTAVO_RETURN_IF_ERROR(CheckSamples(options.goal, judge));
  if (!options.costs.fingerprint.empty() && options.costs.fingerprint != ModelFingerprint(prepared)) {
    return InvalidArgument("the costs are of another model (or of other input sizes); leave them out to measure anew");
  }
  if (options.raise_to.empty()) return InvalidArgument("no precision is given that layers may be raised to");
  return {};
}

}  // namespace

bool KeepGoal::IsMetBy(const Verdict& verdict) const {
  return Reached(verdict) >= mean && (!p5 || (verdict.p5_bound && *verdict.p5_bound >= *p5));
}

Status CheckSamples(const KeepGoal& goal, const Judge& judge) {
  const auto in_range = [](double score) { return score > 0 && score <= 1; };
  if (!in_range(goal.mean) || (goal.p5 && !in_range(*goal.p5))) {
    return InvalidArgument("a goal is a score above 0 and up to 1, such as 0.99");
  }
  const size_t units = judge.units();
  if (units < kLeastJudgingSamples) {
    return InvalidArgument(
        fmt::format("{} samples judge, and a bound on what unseen ones will score needs {} at least: give more", units,
                    kLeastJudgingSamples));
  }
  if (!judge.task().right_or_wrong()) return {};
  const auto needed = LeastSamplesToShow(goal.mean);
  if (!needed) {
    return InvalidArgument(
        "each sample is right or wrong here, and no number of right ones shows that all others will be: name a goal "
        "below 1, such as 0.99, which 299 samples can show");
  }
  if (units < *needed) {
    return InvalidArgument(fmt::format(
        "{} samples judge, each right or wrong: if all are right, at least {:.4f} is shown with 95 % confidence; {:g} "
        "needs {} samples: give more, or ask for less",
        units, LowerBoundOfShare(units, units), goal.mean, *needed));
  }
  const size_t for_p5 = *LeastSamplesToShow(kShareAboveP5);
  if (!goal.p5 || units >= for_p5) return {};
  return InvalidArgument(
      fmt::format("{} samples judge, each right or wrong: that 95 % of unseen ones are right, with 95 % confidence, "
                  "needs {}: give more",
                  units, for_p5));
}

Result<KeepOutcome> KeepQuality(const Graph& prepared, const Recipe& recipe, const Stats& stats, const Judge& judge,
                                const KeepOptions& options) {
  OCTAVO_RETURN_IF_ERROR(CheckOptions(prepared, judge, options));
  return KeepSearch(prepared, recipe, stats, judge, options).Run();
}

std::string FormatKeepOutcome(const KeepOutcome& outcome, const KeepGoal& goal) {
  Json document;
  document["goal"] = {{"mean", goal.mean}, {"p5", goal.p5 ? Json(*goal.p5) : Json()}};
  document["met"] = outcome.met;
  document["fp32_ms"] = outcome.fp32_milliseconds;
  document["int8_ms"] = outcome.int8_milliseconds;
  document["walked"] = Json::array();
  for (const FrontPoint& point : outcome.walked) {
    document["walked"].push_back({{"raised", point.raised},
                                  {"last", point.last},
                                  {"score", point.score.mean},
                                  {"p5", point.p5_bound ? Json(point.score.p5) : Json()},
                                  {"mean_bound", point.mean_bound ? Json(*point.mean_bound) : Json()},
                                  {"p5_bound", point.p5_bound ? Json(*point.p5_bound) : Json()},
                                  {"sqnr_db", point.sqnr_db},
                                  {"ms", point.milliseconds},
                                  {"int8_macs_share", point.int8_macs_share},
                                  {"constant_bytes", point.bytes},
                                  {"on_front", point.on_front}});
  }
  document["blame"] = Json::array();
  for (const Blame& blame : outcome.blame) {
    document["blame"].push_back({{"node", blame.node},
                                 {"op", blame.op},
                                 {"noise_share", blame.noise_share},
                                 {"ms_saved", blame.milliseconds_saved},
                                 {"precision", LayerPrecisionName(blame.precision)},
                                 {"reason", blame.reason}});
  }
  return document.dump(1, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace octavo
