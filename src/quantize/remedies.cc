#include "octavo/remedies.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <map>
#include <numeric>
#include <optional>

#include "base/quote.h"
#include "octavo/calibrate.h"
#include "octavo/compare.h"
#include "octavo/session.h"
#include "octavo/targets.h"
#include "quantize/ada_round.h"
#include "quantize/defer_softmax.h"
#include "quantize/equalize.h"
#include "quantize/fold_signs.h"
#include "quantize/search_ranges.h"
#include "quantize/shift_channels.h"
#include "quantize/weight_noise.h"

namespace octavo {
namespace {

constexpr std::string_view kDefer = "defer-softmax", kRanges = "search-ranges", kStreams = "equalize",
                           kNorms = "smooth-norm", kDepthwise = "migrate-depthwise", kActivations = "migrate",
                           kSigns = "fold-signs", kShift = "shift-channels", kClip = "clip-weights",
                           kBias = "correct-bias", kRound = "ada-round";

constexpr std::array<RemedyInfo, 11> kRemedies = {{
    {kDefer, "quantized Softmax gives its numerators; what divides by their sum stands behind the product"},
    {kRanges, "for each kind of tensor the estimator whose ranges hold on samples that did not make them"},
    {kStreams, "one scale per channel for all writers and readers of residual streams and linear pairs"},
    {kNorms, "LayerNorm's factors take the outlier channels of what reads it (SmoothQuant)"},
    {kDepthwise, "a factor per channel between an activation and a depthwise convolution"},
    {kActivations, "a factor per channel between an activation and any other contraction"},
    {kSigns, "channels of keys around -a turned to +a, with their queries (PTQ4SAM)"},
    {kShift, "channels moved to the middle of their tensor's range; biases take it back"},
    {kClip, "scales of weights that clip where that costs less than it gains"},
    {kBias, "what rounding adds to the mean of each channel goes into the bias"},
    {kRound, "each layer's weights rounded together, to what its operands ask for (AdaRound, GPTQ)", true},
}};

Status CheckNames(const std::vector<std::string>& names) {
  for (const std::string& name : names) {
    const auto is_it = [&](const RemedyInfo& info) { return info.name == name; };
    if (std::any_of(kRemedies.begin(), kRemedies.end(), is_it)) continue;
    std::string known;
    for (const RemedyInfo& info : kRemedies) known += (known.empty() ? "" : ", ") + std::string(info.name);
    return InvalidArgument(Quote(name) + " is no remedy: " + known);
  }
  return {};
}

bool Contains(const std::vector<std::string>& names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

class RemedyTrials {
 public:
  RemedyTrials(const Graph& prepared, const Dataset& data, const Policy& policy, const RemedyOptions& options)
      : prepared_(prepared), data_(data), policy_(policy), options_(options) {}

  Result<RemedyOutcome> Run(const Stats& stats) {
    OCTAVO_ASSIGN(best_, Decide(prepared_, stats, policy_));
    graph_ = prepared_;
    OCTAVO_ASSIGN(double score, Measure(best_));
    RemedyOutcome outcome;
    outcome.plain_sqnr_db = score;
    std::vector<RemedyRecipe> tried;
    for (size_t i = 0; i < kRemedies.size(); ++i) {
      const std::string_view name = kRemedies[i].name;
      if (Contains(options_.never, name) || (kRemedies[i].slow && !IsAskedFor(name))) continue;
      if (options_.progress) options_.progress(i, kRemedies.size(), name);
      OCTAVO_ASSIGN(RemedyRecipe entry, Try(name, score));
      if (entry.kept) score = entry.sqnr_db;
      tried.push_back(std::move(entry));
    }
    if (options_.progress) options_.progress(kRemedies.size(), kRemedies.size(), "");
    outcome.sqnr_db = score;
    outcome.recipe = std::move(best_);
    outcome.recipe.remedies = std::move(tried);
    return outcome;
  }

 private:
  bool IsAskedFor(std::string_view name) const {
    return Contains(options_.always, name) || Contains(options_.slow, name);
  }

  Result<RemedyRecipe> Try(std::string_view name, double score) {
    if (name == kRound) return TryRounding(score);
    if (name == kRanges) return TryRanges(score);
    RemedyRecipe entry;
    entry.name = name;
    entry.sqnr_db = score;
    entry.reason = WhyNotOnTarget(name, policy_);
    if (!entry.reason.empty()) return entry;
    OCTAVO_ASSIGN(Recipe candidate, Propose(name, entry.reason));
    if (!entry.reason.empty()) return entry;
    OCTAVO_ASSIGN(entry.sqnr_db, Measure(candidate));
    entry.gain_db = entry.sqnr_db - score;
    const bool always = Contains(options_.always, name);
    entry.kept = always || entry.gain_db > options_.least_gain_db;
    entry.reason = always ? "asked for" : entry.kept ? "gains" : "gains too little";
    if (!entry.kept) return entry;
    best_ = std::move(candidate);
    const size_t nodes = graph_.nodes.size();
    OCTAVO_ASSIGN(graph_, RewriteWithoutBiases(prepared_, best_));
    OCTAVO_ASSIGN(const Target* target, FindTarget(policy_.target));
    if (graph_.nodes.size() > nodes && !target->takes_channel_factors) {
      entry.reason += fmt::format("; {} may compute {} steps more", target->name, graph_.nodes.size() - nodes);
    }
    return entry;
  }

  // Half of the samples make the ranges, the other half judges them: what clips nothing among the samples that made a
  // range may clip much among others.
  Result<RemedyRecipe> TryRanges(double score) {
    RemedyRecipe entry;
    entry.name = kRanges;
    entry.sqnr_db = score;
    if (data_.size() < kFewestToHalve) {
      entry.reason =
          fmt::format("needs {} samples, to read ranges off half and judge them by the others", kFewestToHalve);
      return entry;
    }
    std::vector<size_t> judging;
    for (size_t i = 1; i < data_.size(); i += 2) judging.push_back(i);
    CalibrateOptions half;
    half.threads = options_.threads;
    half.shard_count = 2;
    OCTAVO_ASSIGN(const CalibrateReport report, Calibrate(graph_, data_, half));
    OCTAVO_ASSIGN(const Placement placement, Place(graph_, policy_));
    const auto judge = [&](const RangeChoices& choices) -> Result<double> {
      OCTAVO_ASSIGN(Recipe decided, Decide(graph_, report.stats, policy_));
      OCTAVO_RETURN_IF_ERROR(EstimateRangesAnew(graph_, placement, report.stats, choices, decided));
      Recipe candidate = best_;
      candidate.activations = std::move(decided.activations);
      return Measure(candidate, judging);
    };
    OCTAVO_ASSIGN(const double before, judge({}));
    double after = before;
    OCTAVO_ASSIGN(RangeChoices found, SearchRanges(graph_, placement, judge, after));
    entry.gain_db = after - before;
    entry.kept = !found.empty() && (Contains(options_.always, kRanges) || entry.gain_db > options_.least_gain_db);
    entry.reason = entry.kept ? "gains on samples held out" : "gains too little";
    if (!entry.kept) return entry;
    ranges_ = std::move(found);
    OCTAVO_ASSIGN(best_, Redecide(Rewrites()));
    OCTAVO_ASSIGN(entry.sqnr_db, Measure(best_));
    return entry;
  }

  // Judged on samples that it did not learn from: it fits hundreds of thousands of integers to a few pictures.
  Result<RemedyRecipe> TryRounding(double score) {
    RemedyRecipe entry;
    entry.name = kRound;
    entry.sqnr_db = score;
    std::vector<size_t> judging;
    LayerRoundingOptions rounding;
    for (size_t i = 0; i < data_.size(); ++i) {
      std::vector<size_t>& part = i % kHoldOut == kHoldOut - 1 ? judging : rounding.samples;
      if (part.size() < options_.samples) part.push_back(i);
    }
    if (judging.empty()) {
      entry.reason = fmt::format("needs {} samples, to learn from some and be judged on others", kHoldOut);
      return entry;
    }
    rounding.threads = options_.threads;
    rounding.progress = options_.rounding_progress;
    Recipe candidate = best_;
    OCTAVO_RETURN_IF_ERROR(RoundLayers(prepared_, data_, rounding, candidate).status());
    OCTAVO_ASSIGN(const double before, Measure(best_, judging));
    OCTAVO_ASSIGN(const double after, Measure(candidate, judging));
    entry.gain_db = after - before;
    const bool always = Contains(options_.always, kRound);
    entry.kept = always || entry.gain_db > options_.least_gain_db;
    entry.reason = always ? "asked for" : entry.kept ? "gains on samples held out" : "gains too little";
    if (!entry.kept) return entry;
    best_ = std::move(candidate);
    OCTAVO_ASSIGN(entry.sqnr_db, Measure(best_));
    return entry;
  }

  // The best recipe so far with the remedy on top; `why_not` says why there is none.
  Result<Recipe> Propose(std::string_view name, std::string& why_not) {
    if (name == kClip) {
      Recipe candidate = best_;
      OCTAVO_ASSIGN(const int changed, ClipWeights(graph_, data_, kMomentSamples, options_.threads, candidate));
      if (changed == 0) why_not = "no scale would change";
      candidate.biases = RoundingOfShifts(graph_, candidate);
      return candidate;
    }
    if (name == kBias) {
      Recipe candidate = best_;
      OCTAVO_ASSIGN(candidate.biases, CorrectBiases(graph_, data_, kMomentSamples, options_.threads, best_));
      if (candidate.biases.empty()) why_not = "no contraction has a bias";
      return candidate;
    }
    if (name == kDefer) return ProposeDeferrals(why_not);
    if (name == kSigns) return ProposeSigns(why_not);
    if (name == kShift) return ProposeShifts(why_not);
    EqualizeOptions equalize;
    equalize.kind = name == kStreams     ? EqualizeKind::kStreams
                    : name == kNorms     ? EqualizeKind::kNorms
                    : name == kDepthwise ? EqualizeKind::kDepthwise
                                         : EqualizeKind::kActivation;
    equalize.whole_octaves = options_.whole_octaves;
    equalize.samples = kMomentSamples;
    equalize.threads = options_.threads;
    OCTAVO_ASSIGN(Equalization found, Equalize(graph_, data_, policy_, equalize));
    if (found.rewrites.empty()) {
      why_not = "no scale of a channel is free to move";
      return best_;
    }
    Recipe rewrites = Rewrites();
    std::move(found.rewrites.migrations.begin(), found.rewrites.migrations.end(),
              std::back_inserter(rewrites.migrations));
    std::move(found.rewrites.rescales.begin(), found.rewrites.rescales.end(), std::back_inserter(rewrites.rescales));
    return Redecide(std::move(rewrites));
  }

  Result<Recipe> ProposeDeferrals(std::string& why_not) {
    Recipe rewrites = Rewrites();
    OCTAVO_ASSIGN(const Placement placement, Place(graph_, policy_));
    for (std::string& node : DeferrableSoftmaxes(graph_, placement)) rewrites.deferrals.push_back({std::move(node)});
    if (rewrites.deferrals.empty()) {
      why_not = "no Softmax is quantized";
      return best_;
    }
    return Redecide(std::move(rewrites));
  }

  Result<Recipe> ProposeSigns(std::string& why_not) {
    OCTAVO_ASSIGN(std::vector<RescaleRecipe> found, FoldSigns(graph_, data_, best_, kMomentSamples, options_.threads));
    if (found.empty()) {
      why_not = policy_.quantize_attention ? "no range would shrink" : "products of attention stay float";
      return best_;
    }
    Recipe rewrites = Rewrites();
    std::move(found.begin(), found.end(), std::back_inserter(rewrites.rescales));
    return Redecide(std::move(rewrites));
  }

  Result<Recipe> ProposeShifts(std::string& why_not) {
    OCTAVO_ASSIGN(const std::vector<ChannelShift> found, ShiftChannels(graph_, data_, best_, options_.threads));
    if (found.empty()) {
      why_not = "no range would shrink enough";
      return best_;
    }
    Recipe rewrites = Rewrites();
    for (const ChannelShift& shift : found) rewrites.shifts.push_back(shift.recipe);
    OCTAVO_ASSIGN(Recipe candidate, Redecide(std::move(rewrites)));
    ScaleShifts(found, candidate);
    OCTAVO_ASSIGN(const Graph shifted, RewriteWithoutBiases(prepared_, candidate));
    candidate.biases = RoundingOfShifts(shifted, candidate);
    return candidate;
  }

  // What the best recipe so far does to the float graph, all of it exact.
  Recipe Rewrites() const {
    Recipe rewrites;
    rewrites.fingerprint = best_.fingerprint;
    static_cast<ExactRewrites&>(rewrites) = best_;
    return rewrites;
  }

  // Ranges are those of the rewritten model: it is calibrated again.
  Result<Recipe> Redecide(Recipe rewrites) {
    OCTAVO_ASSIGN(const Graph rewritten, RewriteByRecipe(prepared_, rewrites));
    CalibrateOptions calibrate;
    calibrate.threads = options_.threads;
    OCTAVO_ASSIGN(const CalibrateReport report, Calibrate(rewritten, data_, calibrate));
    OCTAVO_ASSIGN(Recipe recipe, Decide(rewritten, report.stats, policy_));
    OCTAVO_ASSIGN(const Placement placement, Place(rewritten, policy_));
    OCTAVO_RETURN_IF_ERROR(EstimateRangesAnew(rewritten, placement, report.stats, ranges_, recipe));
    recipe.fingerprint = rewrites.fingerprint;
    static_cast<ExactRewrites&>(recipe) = std::move(rewrites);
    return recipe;
  }

  // The worst output's SQNR over the first samples.
  Result<double> Measure(const Recipe& recipe) {
    std::vector<size_t> all(data_.size());
    std::iota(all.begin(), all.end(), size_t{0});
    return Measure(recipe, all);
  }

  // Over the first of these samples.
  Result<double> Measure(const Recipe& recipe, const std::vector<size_t>& samples) {
    OCTAVO_ASSIGN(Graph quantized, ApplyRecipe(prepared_, recipe));
    OCTAVO_ASSIGN(Session judged, Open(std::move(quantized)));
    std::vector<TensorComparison> comparisons(prepared_.outputs.size());
    size_t used = 0;
    for (size_t i = 0; i < samples.size() && used < options_.samples; ++i) {
      const auto inputs = data_.Load(samples[i]);
      if (!inputs.ok()) continue;  // calibration has reported it
      OCTAVO_ASSIGN(const auto* expected, Expected(samples[i], *inputs));
      OCTAVO_ASSIGN(const auto found, judged.Run(*inputs));
      for (size_t k = 0; k < comparisons.size(); ++k) {
        OCTAVO_RETURN_IF_ERROR(comparisons[k].Add((*expected)[k], found[k]));
      }
      ++used;
    }
    if (used == 0) return InvalidArgument("no sample can be loaded");
    double worst = kIdenticalDb;
    for (const TensorComparison& comparison : comparisons) worst = std::min(worst, comparison.difference().sqnr_db);
    return worst;
  }

  Result<Session> Open(Graph graph) const {
    SessionOptions session;
    session.threads = options_.threads;
    return Session::Create(std::move(graph), session);
  }

  // The float model's outputs for a sample. Every trial is compared with them: it runs once.
  Result<const std::vector<Tensor>*> Expected(size_t sample, const std::map<std::string, Tensor>& inputs) {
    const auto known = expected_.find(sample);
    if (known != expected_.end()) return &known->second;
    if (!reference_) {
      OCTAVO_ASSIGN(reference_, Open(prepared_));
    }
    OCTAVO_ASSIGN(auto outputs, reference_->Run(inputs));
    return &expected_.emplace(sample, std::move(outputs)).first->second;
  }

  // Ranges and powers of channels change little after these.
  static constexpr size_t kMomentSamples = 8;
  static constexpr size_t kHoldOut = 4;  // every fourth sample judges what the others taught
  static constexpr size_t kFewestToHalve = 8;
  const Graph& prepared_;
  const Dataset& data_;
  const Policy& policy_;
  const RemedyOptions& options_;
  RangeChoices ranges_;  // empty: the policy's estimator for all
  Recipe best_;
  Graph graph_;                                     // prepared_, rewritten by best_ but for its biases
  std::optional<Session> reference_;                // of prepared_; opened when it is first wanted
  std::map<size_t, std::vector<Tensor>> expected_;  // by sample
};

}  // namespace

std::span<const RemedyInfo> AllRemedies() { return kRemedies; }

std::string WhyNoRemedies(const Policy& policy) {
  if (policy.preset.empty()) return {};
  return "preset " + Quote(policy.preset) + " repeats what another tool does with the model as it is";
}

std::string WhyNotOnTarget(std::string_view remedy, const Policy& policy) {
  const auto target = FindTarget(policy.target);
  if (!target.ok()) return {};  // deciding says so
  if (remedy == kSigns && !(*target)->unsigned_activations) {
    return std::string((*target)->name) + "'s int8 has zero point 0, whose range is the same for either sign";
  }
  return {};
}

Result<RemedyOutcome> DecideWithRemedies(const Graph& prepared, const Stats& stats, const Dataset& data,
                                         const Policy& policy, const RemedyOptions& options) {
  OCTAVO_RETURN_IF_ERROR(CheckNames(options.always));
  OCTAVO_RETURN_IF_ERROR(CheckNames(options.never));
  OCTAVO_RETURN_IF_ERROR(CheckNames(options.slow));
  const std::string why_not = WhyNoRemedies(policy);
  if (!why_not.empty()) return InvalidArgument("no remedies: " + why_not);
  for (const std::string& name : options.always) {
    const std::string reason = WhyNotOnTarget(name, policy);
    if (!reason.empty()) return InvalidArgument("no " + name + ": " + reason);
  }
  return RemedyTrials(prepared, data, policy, options).Run(stats);
}

}  // namespace octavo
