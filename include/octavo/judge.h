// Judging a candidate against the FP32 model on pictures that did not calibrate it.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "octavo/compare.h"
#include "octavo/dataset.h"
#include "octavo/graph.h"
#include "octavo/session.h"
#include "octavo/status.h"
#include "octavo/task.h"
#include "octavo/tensor.h"

namespace octavo {

// One of Task::figures().
struct Figure {
  FigureName name;
  double mean = 0;   // over the questions that have one
  size_t count = 0;  // of them; 0: there is no mean
};

// What was found of one candidate.
struct Verdict {
  ScoreSummary score;  // over all questions of all samples; of JointAgreement::whole, that number for mean and p5
  // The mean's and the 5th percentile's lower bound: LowerBoundOfMean and LowerBoundOfP5, for Task::right_or_wrong the
  // exact ones (exact_bounds.h). None of either where the task gave one number for all samples: how much it would
  // differ for others, nothing says, and there is no percentile.
  std::optional<double> mean_bound, p5_bound;
  std::vector<TensorDifference> outputs;    // by output, over all samples
  double sqnr_db = 0;                       // of the worst of them
  double noise = 0;                         // 10^(-sqnr_db / 10): error energy over signal energy
  std::vector<std::vector<double>> scores;  // by sample; those of a unit (Task::unit) together
  // Where people said what is right: mean score of the FP32 model and of the candidate against that.
  std::optional<double> reference_truth, candidate_truth;
  std::vector<Figure> figures;
};

// Questions of one sample depend on each other, samples do not: both bounds take whole samples as the unit, and whole
// pictures where each sample is one prompt (Task::unit).
inline constexpr double kConfidence = 0.95;
// Below this many samples a bound says little and is refused by searches.
inline constexpr size_t kLeastJudgingSamples = 8;

// One-sided 95 % bound of the mean over all questions: the mean less Student's t (samples - 1 degrees of freedom) times
// the standard error of a ratio of sums over samples (Cochran, Sampling Techniques, 3rd edition, 6.4).
// One sample gives 0. Errors: none; empty samples are passed over.
double LowerBoundOfMean(const std::vector<std::vector<double>>& scores);
// One-sided 95 % bound of the 5th percentile: the 5 % quantile over 1000 bootstrap samples (whole samples drawn with
// replacement, fixed seed). One sample gives 0; empty samples are passed over.
double LowerBoundOfP5(const std::vector<std::vector<double>>& scores);
// Student's t for a one-sided 95 % bound; 1.645 as `degrees` grows. `degrees` >= 1.
double StudentT95(size_t degrees);

struct JudgeOptions {
  int threads = 0;
  int64_t input_cache_bytes = int64_t{512} << 20;           // samples that are kept instead of being loaded anew
  std::function<void(size_t done, size_t total)> progress;  // of Create
};

// Not thread safe.
class Judge {
 public:
  // Runs the FP32 model over all samples once and has the task learn its answers. Errors: a sample that cannot be
  // loaded (named), those of Session and of the task.
  static Result<Judge> Create(const Graph& prepared, const Dataset& samples, std::unique_ptr<Task> task,
                              const JudgeOptions& options = {});

  // Gives the candidate's outputs for a judging sample, in the order of the prepared graph's outputs.
  using Runner = std::function<Result<std::vector<Tensor>>(size_t sample)>;
  Result<Verdict> Score(const Runner& run) const;
  // Verdict::noise alone, over the first `samples`, without asking the task.
  Result<double> Noise(const Runner& run, size_t samples) const;
  // The verdict on a whole model with the prepared graph's inputs.
  Result<Verdict> Score(Session& candidate) const;
  Result<Verdict> Score(Graph candidate) const;

  const Task& task() const { return *task_; }
  size_t size() const { return samples_.size(); }
  // Of the samples; what bounds rest on.
  size_t units() const;
  int threads() const { return options_.threads; }
  const Dataset& samples() const { return samples_; }
  // Task::Show. Error: a sample that is none.
  Result<std::optional<ShownAnswer>> Show(size_t sample, std::span<const Tensor> outputs) const;
  // The FP32 model's outputs.
  const std::vector<Tensor>& reference(size_t sample) const { return reference_[sample]; }
  Result<std::map<std::string, Tensor>> Inputs(size_t sample) const;

 private:
  Judge() = default;
  // Score and bounds of verdict.scores, or of one number for them all.
  Status Conclude(std::optional<double> whole, Verdict& verdict) const;
  Status Compare(size_t sample, const std::vector<Tensor>& outputs, std::vector<TensorComparison>& comparisons) const;
  Dataset samples_;
  std::shared_ptr<Task> task_;
  JudgeOptions options_;
  std::vector<std::map<std::string, Tensor>> inputs_;  // of the first samples, as many as the cache takes
  std::vector<std::vector<Tensor>> reference_;
};

}  // namespace octavo
