// Text from a recognizer that ends in CTC: scores per step and class -> indices -> characters.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "octavo/status.h"
#include "octavo/tensor.h"

namespace octavo {

// What the indices of classes stand for, without the blank: UTF-8, usually one character each.
using CharacterList = std::vector<std::string>;
inline constexpr size_t kMostCharacters = size_t{1} << 20;

// One character per line, in the order of classes; the last line may end without a line break. Errors: kNotFound and
// kIo; kBadFile naming the file and the line: no UTF-8, an empty line, more than 64 bytes; no line at all, more than
// kMostCharacters, more than 16 MiB.
Result<CharacterList> LoadCharacters(const std::string& path);
// The same from memory; `source` is for messages.
Result<CharacterList> ParseCharacters(std::string_view text, const std::string& source);
// What a model's file says: the first that is there of the keys "character" (PaddleOCR, RapidOCR), "characters",
// "vocab" (docTR) and "dict"; a JSON list of texts, else one per line, else, in a single line, every code point.
// Empty where no key is there. Errors: kBadFile naming the key.
Result<CharacterList> FindCharacters(const std::map<std::string, std::string>& metadata);

// Where the blank is among the classes.
struct CtcBlank {
  enum class Place : uint8_t { kFirst, kLast, kIndex };
  Place place = Place::kFirst;  // PaddleOCR's; docTR has it last
  int64_t index = 0;            // of kIndex
};

// What each of `classes` classes stands for; "" for the blank. `characters` may have as many entries as classes (the
// blank's is passed over), one fewer, or two fewer: then a space comes after the last, as PaddleOCR appends it to its
// lists (use_space_char). Errors: kInvalidArgument for any other number, fewer than two classes, a blank that is none.
Result<CharacterList> NameClasses(const CharacterList& characters, int64_t classes, const CtcBlank& blank);

// Which axis of three is time, where a batch is not 1.
enum class CtcLayout : uint8_t {
  kAuto,       // the batch is the axis of 1 (of both, the first); two dimensions are (time, classes)
  kBatchTime,  // (batch, time, classes)
  kTimeBatch,  // (time, batch, classes)
};

struct CtcText {
  std::vector<int64_t> classes;  // without blanks and repetitions
  bool finite = true;            // else nothing was read
};

// Greedy decoding (Graves et al., Connectionist Temporal Classification, 2006, 3.2): the best class of each step, of
// equal ones the lower index; then repetitions are merged, then blanks dropped. Probabilities, their logarithms and
// logits give the same. One text per line of the batch. Errors: kInvalidArgument for other ranks, a batch that kAuto
// cannot tell, fewer than two classes, a blank that is none.
Result<std::vector<CtcText>> DecodeCtc(const Tensor& output, CtcLayout layout, const CtcBlank& blank);

// The characters of `names` (NameClasses) one after the other. Indices lie within.
std::string Spell(std::span<const int64_t> classes, const CharacterList& names);

}  // namespace octavo
