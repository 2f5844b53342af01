#include "octavo/ctc.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "base/test_files.h"
#include "octavo/edit_distance.h"

namespace octavo {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

// (batch, steps, classes): each step's best class as given.
Tensor Steps(const std::vector<std::vector<int64_t>>& lines, int64_t classes, bool time_first = false) {
  const auto batch = static_cast<int64_t>(lines.size()), steps = static_cast<int64_t>(lines[0].size());
  std::vector<float> values(static_cast<size_t>(batch * steps * classes), -1);
  for (int64_t b = 0; b < batch; ++b) {
    for (int64_t t = 0; t < steps; ++t) {
      const int64_t row = time_first ? t * batch + b : b * steps + t;
      values[static_cast<size_t>(row * classes + lines[static_cast<size_t>(b)][static_cast<size_t>(t)])] = 2;
    }
  }
  return Tensor::FromVector<float>(time_first ? Dims{steps, batch, classes} : Dims{batch, steps, classes}, values);
}

std::vector<int64_t> Read(const std::vector<int64_t>& steps, const CtcBlank& blank = {}) {
  return DecodeCtc(Steps({steps}, 5), CtcLayout::kAuto, blank)->at(0).classes;
}

TEST(DecodeCtc, MergesRepetitionsThenDropsBlanks) {
  EXPECT_THAT(Read({0, 1, 1, 0, 1, 2, 2, 2, 0}), ElementsAre(1, 1, 2));
  EXPECT_THAT(Read({3, 3, 3}), ElementsAre(3));
  EXPECT_THAT(Read({3, 0, 3}), ElementsAre(3, 3));
  EXPECT_THAT(Read({0, 0, 0}), IsEmpty());
  EXPECT_THAT(Read({1, 2, 1}), ElementsAre(1, 2, 1));
}

TEST(DecodeCtc, TheBlankLiesElsewhere) {
  EXPECT_THAT(Read({4, 0, 0, 4, 0, 1}, {CtcBlank::Place::kLast, 0}), ElementsAre(0, 0, 1));
  EXPECT_THAT(Read({2, 0, 2, 0, 4}, {CtcBlank::Place::kIndex, 2}), ElementsAre(0, 0, 4));
}

TEST(DecodeCtc, Layouts) {
  const std::vector<std::vector<int64_t>> two = {{1, 0, 2}, {3, 3, 0}};
  for (const bool time_first : {false, true}) {
    const auto layout = time_first ? CtcLayout::kTimeBatch : CtcLayout::kBatchTime;
    const auto texts = DecodeCtc(Steps(two, 4, time_first), layout, {});
    ASSERT_TRUE(texts.ok()) << texts.status().message();
    ASSERT_EQ(texts->size(), 2u);
    EXPECT_THAT(texts->at(0).classes, ElementsAre(1, 2));
    EXPECT_THAT(texts->at(1).classes, ElementsAre(3));
    EXPECT_THAT(DecodeCtc(Steps(two, 4, time_first), CtcLayout::kAuto, {}).status().message(),
                HasSubstr("say which one is time"));
  }
  EXPECT_THAT(DecodeCtc(Steps({{1, 0, 2}}, 4, true), CtcLayout::kAuto, {})->at(0).classes, ElementsAre(1, 2));
  EXPECT_THAT(DecodeCtc(Steps({{1, 0, 2}}, 4).Reshaped({3, 4}), CtcLayout::kAuto, {})->at(0).classes,
              ElementsAre(1, 2));
}

TEST(DecodeCtc, TiesAreTheLowerIndexAndNanIsNothing) {
  const Tensor ties = Tensor::FromVector<float>({1, 2, 3}, {0, 7, 7, 1, 1, 1});
  EXPECT_THAT(DecodeCtc(ties, CtcLayout::kAuto, {})->at(0).classes, ElementsAre(1));
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    const auto text = DecodeCtc(Tensor::FromVector<float>({1, 2, 2}, {0, 1, bad, 0}), CtcLayout::kAuto, {})->at(0);
    EXPECT_FALSE(text.finite);
    EXPECT_THAT(text.classes, IsEmpty());
  }
}

TEST(DecodeCtc, WhatIsNoText) {
  const auto refused = [](Dims dims, const CtcBlank& blank = {}) {
    return DecodeCtc(*Tensor::Zeros(DType::kFloat32, std::move(dims)), CtcLayout::kAuto, blank).status().message();
  };
  EXPECT_THAT(refused({1, 4, 1}), HasSubstr("two classes at least"));
  EXPECT_THAT(refused({4}), HasSubstr("(batch, time, classes)"));
  EXPECT_THAT(refused({1, 4, 5, 1}), HasSubstr("(batch, time, classes)"));
  EXPECT_THAT(refused({1, 4, 5}, {CtcBlank::Place::kIndex, 5}), HasSubstr("the blank cannot be 5"));
  EXPECT_THAT(refused({1, 4, 5}, {CtcBlank::Place::kIndex, -1}), HasSubstr("the blank cannot be -1"));
}

TEST(NameClasses, TheBlankAndPaddleOcrsSpace) {
  const CharacterList abc = {"a", "b", "\xe4\xbd\xa0"};
  EXPECT_THAT(*NameClasses(abc, 4, {}), ElementsAre("", "a", "b", "\xe4\xbd\xa0"));
  EXPECT_THAT(*NameClasses(abc, 5, {}), ElementsAre("", "a", "b", "\xe4\xbd\xa0", " "));
  EXPECT_THAT(*NameClasses(abc, 4, {CtcBlank::Place::kLast, 0}), ElementsAre("a", "b", "\xe4\xbd\xa0", ""));
  EXPECT_THAT(*NameClasses(abc, 5, {CtcBlank::Place::kIndex, 1}), ElementsAre("a", "", "b", "\xe4\xbd\xa0", " "));
  EXPECT_THAT(*NameClasses(abc, 3, {}), ElementsAre("", "b", "\xe4\xbd\xa0"));
  EXPECT_THAT(NameClasses(abc, 6, {}).status().message(), HasSubstr("3 characters do not fit 6 classes"));
  EXPECT_FALSE(NameClasses(abc, 2, {}).ok());
  EXPECT_FALSE(NameClasses({}, 2, {}).ok());
  EXPECT_EQ(Spell(std::vector<int64_t>{3, 1, 3, 4}, *NameClasses(abc, 5, {})),
            "\xe4\xbd\xa0"
            "a\xe4\xbd\xa0 ");
}

TEST(Characters, Files) {
  const TemporaryFolder folder;
  WriteText(folder / "keys.txt", "a\r\n\xe4\xbd\xa0\n \n");
  EXPECT_THAT(*LoadCharacters(folder / "keys.txt"), ElementsAre("a", "\xe4\xbd\xa0", " "));
  EXPECT_EQ(LoadCharacters(folder / "none").status().code(), ErrorCode::kNotFound);
  const auto refused = [](const std::string& text) { return ParseCharacters(text, "keys").status().message(); };
  EXPECT_EQ(refused("a\n\nb"), "keys, line 2: is empty; a character is wanted");
  EXPECT_EQ(refused("a\n\xff"), "keys, line 2: is not UTF-8");
  EXPECT_THAT(refused(std::string(65, 'x')), HasSubstr("longer than a character"));
  EXPECT_THAT(refused(""), HasSubstr("holds no character"));
  std::string many;
  for (size_t i = 0; i <= kMostCharacters; ++i) many += "x\n";
  EXPECT_THAT(refused(many), HasSubstr("more than 1048576 characters"));
}

TEST(Characters, Metadata) {
  EXPECT_THAT(*FindCharacters({}), IsEmpty());
  EXPECT_THAT(*FindCharacters({{"author", "x"}, {"character", ""}}), IsEmpty());
  EXPECT_THAT(*FindCharacters({{"character", "a\n[\n "}, {"vocab", "xyz"}}), ElementsAre("a", "[", " "));
  EXPECT_THAT(*FindCharacters({{"vocab", "a\xe4\xbd\xa0 \n"}}), ElementsAre("a", "\xe4\xbd\xa0", " "));
  EXPECT_THAT(*FindCharacters({{"dict", R"(["a", "\u4f60"])"}}), ElementsAre("a", "\xe4\xbd\xa0"));
  EXPECT_THAT(*FindCharacters({{"vocab", "[]ab"}}), ElementsAre("[", "]", "a", "b"));
  EXPECT_THAT(FindCharacters({{"dict", R"(["a", 1])"}}).status().message(), HasSubstr("'dict': a list of texts"));
  EXPECT_THAT(FindCharacters({{"vocab", "ab\xff"}}).status().message(), HasSubstr("not UTF-8 behind character 2"));
}

TEST(EditDistance, Levenshteins) {
  const auto distance = [](const std::string& a, const std::string& b) { return EditDistance(a, b); };
  EXPECT_EQ(distance("kitten", "sitting"), 3u);
  EXPECT_EQ(distance("", "abc"), 3u);
  EXPECT_EQ(distance("abc", ""), 3u);
  EXPECT_EQ(distance("abc", "abc"), 0u);
  EXPECT_EQ(distance("abc", "axbc"), 1u);
}

}  // namespace
}  // namespace octavo
