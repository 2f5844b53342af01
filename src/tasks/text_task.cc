#include <fmt/format.h>

#include <algorithm>

#include "octavo/edit_distance.h"
#include "octavo/task.h"
#include "tasks/labelled.h"

namespace octavo {
namespace {

class TextTask : public Task {
 public:
  TextTask(const Dataset& samples, TextTaskOptions options, std::vector<std::optional<std::string>> truths)
      : samples_(samples), options_(std::move(options)), truths_(std::move(truths)), learned_(samples.size()) {}

  std::string_view name() const override { return "text"; }
  std::string_view score_name() const override { return "equal texts"; }
  bool right_or_wrong() const override { return true; }
  std::string_view truth_name() const override { return "texts as in --labels"; }
  std::vector<FigureName> figures() const override { return {{"character_error_rate", "character error rate"}}; }
  std::string note() const override {
    if (!options_.characters.empty()) return "";
    return "the model names no characters, so that sequences of class indices are compared";
  }

  Status Learn(size_t sample, std::span<const Tensor> outputs) override {
    if (sample >= learned_.size()) return InvalidArgument("there is no such sample");
    const auto learn = [&]() -> Status {
      OCTAVO_RETURN_IF_ERROR(LearnNames(outputs));
      OCTAVO_ASSIGN(learned_[sample], Read(outputs));
      for (const CtcText& text : learned_[sample]) {
        if (!text.finite) return InvalidArgument("the reference holds values that are not finite");
      }
      if (!truths_[sample] || learned_[sample].size() == 1) return {};
      return InvalidArgument("its label is one text, and the model reads several lines in it");
    };
    return learn().WithPrefix(Quote(samples_.name(sample)) + ": ");
  }

  Result<Agreement> Judge(size_t sample, std::span<const Tensor> outputs) override {
    if (sample >= learned_.size()) return InvalidArgument("there is no such sample");
    OCTAVO_ASSIGN(const std::vector<CtcText> found, Read(outputs));
    const std::vector<CtcText>& expected = learned_[sample];
    if (found.size() != expected.size()) return InvalidArgument("the candidate reads another number of lines");
    Agreement agreement;
    agreement.figures.resize(1);
    for (size_t line = 0; line < expected.size(); ++line) {
      const bool equal = found[line].finite && Equal(expected[line], found[line]);
      agreement.scores.push_back(equal ? 1 : 0);
      const auto length = static_cast<double>(std::max<size_t>(1, expected[line].classes.size()));
      const size_t edits = equal ? 0 : EditDistance(expected[line].classes, found[line].classes);
      agreement.figures[0].push_back(static_cast<double>(edits) / length);
      if (!truths_[sample]) continue;
      agreement.reference_truth.push_back(Spell(expected[line].classes, names_) == *truths_[sample] ? 1 : 0);
      agreement.candidate_truth.push_back(
          found[line].finite && Spell(found[line].classes, names_) == *truths_[sample] ? 1 : 0);
    }
    return agreement;
  }

 private:
  Result<std::vector<CtcText>> Read(std::span<const Tensor> outputs) const {
    if (options_.output >= outputs.size()) return InvalidArgument("the model gave no text");
    const Tensor& output = outputs[options_.output];
    if (!names_.empty() && output.dims().back() != static_cast<int64_t>(names_.size())) {
      return InvalidArgument(
          fmt::format("{} classes are wanted as before, not {}", names_.size(), ToString(output.dims())));
    }
    return DecodeCtc(output, options_.layout, options_.blank);
  }

  // How many classes there are, the first outputs say.
  Status LearnNames(std::span<const Tensor> outputs) {
    if (options_.characters.empty() || !names_.empty() || options_.output >= outputs.size()) return {};
    const Dims& dims = outputs[options_.output].dims();
    OCTAVO_ASSIGN(names_, NameClasses(options_.characters, dims.empty() ? 0 : dims.back(), options_.blank));
    return {};
  }

  bool Equal(const CtcText& a, const CtcText& b) const {
    return a.classes == b.classes || (!names_.empty() && Spell(a.classes, names_) == Spell(b.classes, names_));
  }

  const Dataset samples_;
  const TextTaskOptions options_;
  const std::vector<std::optional<std::string>> truths_;  // by sample
  CharacterList names_;                                   // of the classes; empty: they have none
  std::vector<std::vector<CtcText>> learned_;
};

}  // namespace

Result<std::unique_ptr<Task>> MakeTextTask(const Dataset& samples, TextTaskOptions options) {
  if (!options.labels.empty() && options.characters.empty()) {
    return InvalidArgument("labels are texts: the characters of the model's classes are needed to compare with them");
  }
  OCTAVO_ASSIGN(auto truths, LabelsOf(samples, options.labels));
  return std::unique_ptr<Task>(std::make_unique<TextTask>(samples, std::move(options), std::move(truths)));
}

}  // namespace octavo
