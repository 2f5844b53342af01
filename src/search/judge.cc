#include "octavo/judge.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <limits>
#include <random>

#include "octavo/compare.h"
#include "octavo/exact_bounds.h"

namespace octavo {
namespace {

constexpr int kBootstraps = 1000;
constexpr uint64_t kBootstrapSeed = 11;

int64_t BytesOf(const std::map<std::string, Tensor>& sample) {
  int64_t bytes = 0;
  for (const auto& entry : sample) bytes += static_cast<int64_t>(entry.second.bytes());
  return bytes;
}

double MeanOf(const std::vector<double>& values) {
  double sum = 0;
  for (const double value : values) sum += value;
  return sum / static_cast<double>(values.size());
}

void Append(const std::vector<double>& values, std::vector<double>& all) {
  all.insert(all.end(), values.begin(), values.end());
}

double NoiseOf(double sqnr_db) { return std::pow(10.0, -sqnr_db / 10); }

double WorstSqnr(const std::vector<TensorComparison>& comparisons) {
  double worst = kIdenticalDb;
  for (const TensorComparison& comparison : comparisons) worst = std::min(worst, comparison.difference().sqnr_db);
  return worst;
}

}  // namespace

double StudentT95(size_t degrees) {
  // Exact where the expansion below is off by more than 1e-3.
  constexpr double kFew[] = {6.3138, 2.9200, 2.3534, 2.1318, 2.0150};
  if (degrees == 0) return std::numeric_limits<double>::infinity();
  if (degrees <= std::size(kFew)) return kFew[degrees - 1];
  // Cornish and Fisher's expansion around the normal quantile.
  constexpr double z = 1.6448536269514722;
  const auto n = static_cast<double>(degrees);
  const double z3 = z * z * z, z5 = z3 * z * z, z7 = z5 * z * z;
  return z + (z3 + z) / (4 * n) + (5 * z5 + 16 * z3 + 3 * z) / (96 * n * n) +
         (3 * z7 + 19 * z5 + 17 * z3 - 15 * z) / (384 * n * n * n);
}

double LowerBoundOfMean(const std::vector<std::vector<double>>& scores) {
  double sum = 0, questions = 0;
  size_t samples = 0;
  for (const auto& sample : scores) {
    for (const double score : sample) sum += score;
    questions += static_cast<double>(sample.size());
    samples += !sample.empty();
  }
  if (samples < 2) return 0;
  const double mean = sum / questions;
  double squares = 0;
  for (const auto& sample : scores) {
    double residual = 0;
    for (const double score : sample) residual += score - mean;
    squares += residual * residual;
  }
  const auto n = static_cast<double>(samples);
  const double error = std::sqrt(n / (n - 1) * squares) / questions;
  return mean - StudentT95(samples - 1) * error;
}

double LowerBoundOfP5(const std::vector<std::vector<double>>& all) {
  std::vector<std::vector<double>> scores;
  std::copy_if(all.begin(), all.end(), std::back_inserter(scores), [](const auto& sample) { return !sample.empty(); });
  if (scores.size() < 2) return 0;
  std::mt19937_64 random(kBootstrapSeed);
  std::vector<double> percentiles;
  for (int round = 0; round < kBootstraps; ++round) {
    std::vector<double> drawn;
    for (size_t i = 0; i < scores.size(); ++i) {
      // Not uniform_int_distribution, whose results differ between libraries. The bias of % is below 1e-15.
      const auto& sample = scores[random() % scores.size()];
      drawn.insert(drawn.end(), sample.begin(), sample.end());
    }
    const auto summary = Summarize(std::move(drawn));
    percentiles.push_back(summary.ok() ? summary->p5 : 0);
  }
  const auto at = percentiles.begin() + static_cast<std::ptrdiff_t>(kBootstraps * (1 - kConfidence));
  std::nth_element(percentiles.begin(), at, percentiles.end());
  return *at;
}

Result<Judge> Judge::Create(const Graph& prepared, const Dataset& samples, std::unique_ptr<Task> task,
                            const JudgeOptions& options) {
  Judge judge;
  judge.samples_ = samples;
  judge.task_ = std::move(task);
  judge.options_ = options;
  SessionOptions session_options;
  session_options.threads = options.threads;
  OCTAVO_ASSIGN(Session session, Session::Create(prepared, session_options));
  int64_t cached = 0;
  for (size_t i = 0; i < samples.size(); ++i) {
    OCTAVO_ASSIGN(auto inputs, samples.Load(i));
    OCTAVO_ASSIGN(auto outputs, session.Run(inputs));
    OCTAVO_RETURN_IF_ERROR(judge.task_->Learn(i, outputs));
    judge.reference_.push_back(std::move(outputs));
    cached += BytesOf(inputs);
    if (cached <= options.input_cache_bytes) judge.inputs_.push_back(std::move(inputs));
    if (options.progress) options.progress(i + 1, samples.size());
  }
  return judge;
}

size_t Judge::units() const {
  size_t count = 0;
  for (size_t i = 0; i < size(); ++i) count = std::max(count, task_->unit(i) + 1);
  return count;
}

Result<std::optional<ShownAnswer>> Judge::Show(size_t sample, std::span<const Tensor> outputs) const {
  if (sample >= size()) return InvalidArgument("no sample " + std::to_string(sample));
  return task_->Show(sample, outputs);
}

Result<std::map<std::string, Tensor>> Judge::Inputs(size_t sample) const {
  if (sample < inputs_.size()) return inputs_[sample];
  return samples_.Load(sample);
}

Status Judge::Compare(size_t sample, const std::vector<Tensor>& outputs,
                      std::vector<TensorComparison>& comparisons) const {
  if (outputs.size() != reference_[sample].size()) return InvalidArgument("the candidate has other outputs");
  comparisons.resize(outputs.size());
  for (size_t k = 0; k < outputs.size(); ++k) {
    OCTAVO_RETURN_IF_ERROR(comparisons[k].Add(reference_[sample][k], outputs[k]));
  }
  return {};
}

Result<double> Judge::Noise(const Runner& run, size_t samples) const {
  std::vector<TensorComparison> comparisons;
  for (size_t i = 0; i < std::min(samples, size()); ++i) {
    OCTAVO_ASSIGN(const std::vector<Tensor> outputs, run(i));
    OCTAVO_RETURN_IF_ERROR(Compare(i, outputs, comparisons));
  }
  return NoiseOf(WorstSqnr(comparisons));
}

Result<Verdict> Judge::Score(const Runner& run) const {
  Verdict verdict;
  verdict.scores.resize(units());
  std::vector<double> reference_truth, candidate_truth;
  std::vector<std::vector<double>> figures;
  std::vector<TensorComparison> comparisons;
  OCTAVO_RETURN_IF_ERROR(task_->Begin());
  for (size_t i = 0; i < size(); ++i) {
    OCTAVO_ASSIGN(const std::vector<Tensor> outputs, run(i));
    OCTAVO_RETURN_IF_ERROR(Compare(i, outputs, comparisons));
    OCTAVO_ASSIGN(const Agreement agreement, task_->Judge(i, outputs));
    Append(agreement.scores, verdict.scores[task_->unit(i)]);
    Append(agreement.reference_truth, reference_truth);
    Append(agreement.candidate_truth, candidate_truth);
    if (figures.size() < agreement.figures.size()) figures.resize(agreement.figures.size());
    for (size_t k = 0; k < agreement.figures.size(); ++k) Append(agreement.figures[k], figures[k]);
  }
  OCTAVO_ASSIGN(const JointAgreement joint, task_->Finish());
  for (size_t i = 0; i < std::min(joint.scores.size(), size()); ++i)
    verdict.scores[task_->unit(i)].push_back(joint.scores[i]);
  OCTAVO_RETURN_IF_ERROR(Conclude(joint.whole, verdict));
  for (const TensorComparison& comparison : comparisons) verdict.outputs.push_back(comparison.difference());
  verdict.sqnr_db = WorstSqnr(comparisons);
  verdict.noise = NoiseOf(verdict.sqnr_db);
  if (!reference_truth.empty()) {
    verdict.reference_truth = MeanOf(reference_truth);
    verdict.candidate_truth = MeanOf(candidate_truth);
  }
  const std::vector<FigureName> names = task_->figures();
  for (size_t k = 0; k < std::min(names.size(), figures.size()); ++k) {
    verdict.figures.push_back({names[k], figures[k].empty() ? 0 : MeanOf(figures[k]), figures[k].size()});
  }
  return verdict;
}

Status Judge::Conclude(std::optional<double> whole, Verdict& verdict) const {
  if (whole) {
    verdict.score = {*whole, *whole, 1};
    return {};
  }
  std::vector<double> all;
  for (const std::vector<double>& scores : verdict.scores) Append(scores, all);
  OCTAVO_ASSIGN(verdict.score, Summarize(std::move(all)));
  const bool exact = task_->right_or_wrong();
  verdict.mean_bound = exact ? ExactLowerBoundOfMean(verdict.scores) : LowerBoundOfMean(verdict.scores);
  verdict.p5_bound = exact ? ExactLowerBoundOfP5(verdict.scores) : LowerBoundOfP5(verdict.scores);
  return {};
}

Result<Verdict> Judge::Score(Session& candidate) const {
  return Score([&](size_t sample) -> Result<std::vector<Tensor>> {
    OCTAVO_ASSIGN(const auto inputs, Inputs(sample));
    return candidate.Run(inputs);
  });
}

Result<Verdict> Judge::Score(Graph candidate) const {
  SessionOptions session_options;
  session_options.threads = options_.threads;
  OCTAVO_ASSIGN(Session session, Session::Create(std::move(candidate), session_options));
  return Score(session);
}

}  // namespace octavo
