#include "octavo/ctc.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace octavo {
namespace {

Result<int64_t> BlankIndex(const CtcBlank& blank, int64_t classes) {
  if (classes < 2)
    return InvalidArgument(fmt::format("CTC needs two classes at least, the blank and a character; found {}", classes));
  switch (blank.place) {
    case CtcBlank::Place::kFirst:
      return int64_t{0};
    case CtcBlank::Place::kLast:
      return classes - 1;
    case CtcBlank::Place::kIndex:
      break;
  }
  if (blank.index >= 0 && blank.index < classes) return blank.index;
  return InvalidArgument(
      fmt::format("the blank cannot be {}: there are {} classes, counted from 0", blank.index, classes));
}

// Steps of one text: `steps` rows of `classes` values, `stride` values apart.
struct Lines {
  int64_t batch = 1, steps = 0, classes = 0;
  int64_t batch_stride = 0, step_stride = 0;
};

Result<Lines> Arrange(const Dims& dims, CtcLayout layout) {
  if (dims.size() == 2 && layout == CtcLayout::kAuto) return Lines{1, dims[0], dims[1], 0, dims[1]};
  if (dims.size() != 3) {
    return InvalidArgument("text is read from an output (batch, time, classes) or (time, batch, classes), not " +
                           ToString(dims));
  }
  if (layout == CtcLayout::kAuto && dims[0] != 1 && dims[1] != 1) {
    return InvalidArgument("no axis of " + ToString(dims) + " but the last is 1: say which one is time");
  }
  const int64_t classes = dims[2];
  const bool batch_first = layout == CtcLayout::kBatchTime || (layout == CtcLayout::kAuto && dims[0] == 1);
  if (batch_first) return Lines{dims[0], dims[1], classes, dims[1] * classes, classes};
  return Lines{dims[1], dims[0], classes, classes, dims[1] * classes};
}

CtcText Decode(const float* line, const Lines& lines, int64_t blank) {
  CtcText text;
  int64_t before = blank;
  for (int64_t step = 0; step < lines.steps; ++step) {
    const float* row = line + step * lines.step_stride;
    if (!std::all_of(row, row + lines.classes, [](float v) { return std::isfinite(v); })) return {{}, false};
    const int64_t best = std::max_element(row, row + lines.classes) - row;
    if (best != before && best != blank) text.classes.push_back(best);
    before = best;
  }
  return text;
}

}  // namespace

Result<CharacterList> NameClasses(const CharacterList& characters, int64_t classes, const CtcBlank& blank) {
  OCTAVO_ASSIGN(const int64_t blank_index, BlankIndex(blank, classes));
  const auto given = static_cast<int64_t>(characters.size());
  if (given < classes - 2 || given > classes || given == 0) {
    return InvalidArgument(
        fmt::format("{} characters do not fit {} classes: wanted are {} (the blank is a class, too), or {} where a "
                    "space comes last",
                    given, classes, classes - 1, classes - 2));
  }
  CharacterList names = characters;
  if (given == classes - 2) names.emplace_back(" ");
  if (given == classes) {
    names[static_cast<size_t>(blank_index)].clear();
  } else {
    names.insert(names.begin() + blank_index, "");
  }
  return names;
}

Result<std::vector<CtcText>> DecodeCtc(const Tensor& output, CtcLayout layout, const CtcBlank& blank) {
  OCTAVO_ASSIGN(const Lines lines, Arrange(output.dims(), layout));
  OCTAVO_ASSIGN(const int64_t blank_index, BlankIndex(blank, lines.classes));
  OCTAVO_ASSIGN(const std::vector<float> values, ToFloats(output));
  std::vector<CtcText> texts;
  for (int64_t i = 0; i < lines.batch; ++i)
    texts.push_back(Decode(values.data() + i * lines.batch_stride, lines, blank_index));
  return texts;
}

std::string Spell(std::span<const int64_t> classes, const CharacterList& names) {
  std::string text;
  for (const int64_t index : classes) text += names[static_cast<size_t>(index)];
  return text;
}

}  // namespace octavo
