#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "octavo/task.h"
#include "tasks/labelled.h"

namespace octavo {
namespace {

// Values of each class, row by row.
struct Rows {
  std::vector<float> values;
  size_t count = 0, classes = 0;
  std::span<const float> operator[](size_t row) const { return std::span(values).subspan(row * classes, classes); }
};

Result<Rows> RowsOf(std::span<const Tensor> outputs, size_t output) {
  if (output >= outputs.size()) return InvalidArgument("the model gave no classes");
  Dims dims = outputs[output].dims();
  while (dims.size() > 2 && dims.back() == 1) dims.pop_back();
  if (dims.size() == 1) dims.insert(dims.begin(), 1);
  if (dims.size() != 2 || dims[0] < 1 || dims[1] < 2) {
    return InvalidArgument("classes are read from an output (N, classes) or (N, classes, 1, 1), not " +
                           ToString(outputs[output].dims()));
  }
  Rows rows;
  OCTAVO_ASSIGN(rows.values, ToFloats(outputs[output]));
  rows.count = static_cast<size_t>(dims[0]);
  rows.classes = static_cast<size_t>(dims[1]);
  return rows;
}

size_t FirstClass(std::span<const float> row) {
  return static_cast<size_t>(std::max_element(row.begin(), row.end()) - row.begin());
}

Result<size_t> ParseClass(const std::string& label, const std::string& picture) {
  size_t index = 0;
  const auto [end, error] = std::from_chars(label.data(), label.data() + label.size(), index);
  if (error == std::errc() && end == label.data() + label.size()) return index;
  return InvalidArgument(
      fmt::format("the label of {} is {}: a class is an index, counted from 0", Quote(picture), Quote(label)));
}

class ClassifyTask : public Task {
 public:
  ClassifyTask(const Dataset& samples, size_t output, std::vector<std::optional<size_t>> truths)
      : samples_(samples), output_(output), truths_(std::move(truths)), learned_(samples.size()) {}

  std::string_view name() const override { return "classify"; }
  std::string_view score_name() const override { return "top-1 agreement"; }
  bool right_or_wrong() const override { return true; }
  std::string_view truth_name() const override { return "accuracy by --labels"; }
  std::vector<FigureName> figures() const override {
    return {{"top5_overlap", "top-5 overlap"},
            {"kl_divergence", "KL divergence"},
            {"probability_difference", "probability difference"}};
  }

  Status Learn(size_t sample, std::span<const Tensor> outputs) override {
    if (sample >= learned_.size()) return InvalidArgument("there is no such sample");
    const auto learn = [&]() -> Status {
      OCTAVO_ASSIGN(Rows rows, RowsOf(outputs, output_));
      for (size_t row = 0; row < rows.count; ++row) {
        OCTAVO_RETURN_IF_ERROR(AgreeOnClasses(rows[row], rows[row]).status());
      }
      if (truths_[sample]) OCTAVO_RETURN_IF_ERROR(CheckTruth(*truths_[sample], rows));
      learned_[sample] = std::move(rows);
      return {};
    };
    return learn().WithPrefix(Quote(samples_.name(sample)) + ": ");
  }

  Result<Agreement> Judge(size_t sample, std::span<const Tensor> outputs) override {
    if (sample >= learned_.size()) return InvalidArgument("there is no such sample");
    const Rows& expected = learned_[sample];
    OCTAVO_ASSIGN(const Rows found, RowsOf(outputs, output_));
    if (found.count != expected.count) return InvalidArgument("the candidate classifies another number of pictures");
    Agreement agreement;
    agreement.figures.resize(figures().size());
    for (size_t row = 0; row < expected.count; ++row) {
      const auto rows = AgreeOnClasses(expected[row], found[row]);
      if (!rows.ok()) return rows.status().WithPrefix(Quote(samples_.name(sample)) + ": ");
      Note(*rows, agreement);
      if (!truths_[sample]) continue;
      agreement.reference_truth.push_back(FirstClass(expected[row]) == *truths_[sample] ? 1 : 0);
      agreement.candidate_truth.push_back(rows->finite && FirstClass(found[row]) == *truths_[sample] ? 1 : 0);
    }
    return agreement;
  }

 private:
  static Status CheckTruth(size_t truth, const Rows& rows) {
    if (rows.count != 1)
      return InvalidArgument("its label is one class, and the model classifies several pictures in it");
    if (truth < rows.classes) return {};
    return InvalidArgument(
        fmt::format("its label is {}, and the model has {} classes, counted from 0", truth, rows.classes));
  }
  static void Note(const ClassAgreement& row, Agreement& agreement) {
    agreement.scores.push_back(row.same ? 1 : 0);
    if (!row.finite) return;
    agreement.figures[0].push_back(row.top5_overlap);
    agreement.figures[1].push_back(row.kl_divergence);
    agreement.figures[2].push_back(row.probability_difference);
  }

  const Dataset samples_;
  const size_t output_;
  const std::vector<std::optional<size_t>> truths_;  // by sample
  std::vector<Rows> learned_;
};

}  // namespace

Result<std::unique_ptr<Task>> MakeClassifyTask(const Dataset& samples, ClassifyTaskOptions options) {
  OCTAVO_ASSIGN(const auto labels, LabelsOf(samples, options.labels));
  std::vector<std::optional<size_t>> truths(labels.size());
  for (size_t i = 0; i < labels.size(); ++i) {
    if (!labels[i]) continue;
    OCTAVO_ASSIGN(truths[i], ParseClass(*labels[i], samples.name(i)));
  }
  return std::unique_ptr<Task>(std::make_unique<ClassifyTask>(samples, options.output, std::move(truths)));
}

}  // namespace octavo
