#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/test_files.h"
#include "octavo/prompts.h"

namespace octavo {
namespace {

using testing::AllOf;
using testing::HasSubstr;

constexpr char kPoints[] = "a list of [x, y] or [x, y, label], label 0 or 1";

std::string Refused(std::string_view text) {
  const auto book = ParsePrompts(text, "p.json");
  EXPECT_FALSE(book.ok()) << text;
  if (book.ok()) return "";
  EXPECT_EQ(book.status().code(), ErrorCode::kBadFile);
  EXPECT_THAT(book.status().message(), testing::StartsWith("p.json: "));
  return book.status().message();
}

TEST(PromptFile, BoxesPointsAndSegments) {
  const auto book = ParsePrompts(
      R"({"a.jpg": [{"box": [1, 2.5, 30, 4e1], "segment": 255}, {"points": [[5, 6], [7, 8, 0], [9, 10, 1]]}],
          "b.png": [{"points": [[0.5, 0]], "segment": 0}]})",
      "p.json");
  ASSERT_TRUE(book.ok()) << book.status().message();
  ASSERT_EQ(book->size(), 2u);
  const std::vector<PicturePrompt>& a = book->find("a.jpg")->second;
  ASSERT_EQ(a.size(), 2u);
  ASSERT_TRUE(a[0].prompt.box && a[0].prompt.points.empty());
  EXPECT_EQ(a[0].prompt.box->x0, 1);
  EXPECT_EQ(a[0].prompt.box->y0, 2.5);
  EXPECT_EQ(a[0].prompt.box->x1, 30);
  EXPECT_EQ(a[0].prompt.box->y1, 40);
  EXPECT_EQ(a[0].segment, 255);
  ASSERT_EQ(a[1].prompt.points.size(), 3u);
  EXPECT_FALSE(a[1].prompt.box || a[1].segment);
  EXPECT_EQ(a[1].prompt.points[0].label, 1);  // left out: part of the thing
  EXPECT_EQ(a[1].prompt.points[1].label, 0);
  EXPECT_EQ(a[1].prompt.points[2].x, 9);
  EXPECT_EQ(book->find("b.png")->second[0].segment, 0);
}

TEST(PromptFile, MessagesNameThePictureThePromptAndTheKey) {
  EXPECT_THAT(Refused(R"({"a.jpg": [{"box": [0, 0, 1, 1]}, {"box": [0, 0, 1, 1], "colour": 1}]})"),
              AllOf(HasSubstr("'a.jpg'"), HasSubstr("prompt 2"), HasSubstr("unknown key 'colour'")));
  const char* either = "prompt 1: either \"box\" or \"points\" is wanted";
  EXPECT_THAT(Refused(R"({"a.jpg": [{"box": [0, 0, 1, 1], "points": [[1, 1]]}]})"), HasSubstr(either));
  EXPECT_THAT(Refused(R"({"a.jpg": [{"segment": 1}]})"), HasSubstr(either));
  EXPECT_THAT(Refused(R"({"a.jpg": [7]})"), HasSubstr("prompt 1: is no object"));
}

TEST(PromptFile, BoxesHaveFourNumbers) {
  for (const char* box : {"[0, 0, 1]", "[0, 0, 1, 1, 2]", R"([0, 0, 1, "1"])", "null", "{}", "[0, 0, 1, [1]]"}) {
    EXPECT_THAT(Refused(std::string(R"({"a": [{"box": )") + box + "}]}"), HasSubstr("[x0, y0, x1, y1]")) << box;
  }
}

TEST(PromptFile, PointsHaveTwoNumbersAndALabel) {
  for (const char* points : {"[]", "7", "[7]", "[[1]]", "[[1, 2, 1, 1]]", "[[1, 2, 2]]", "[[1, 2, -1]]",
                             "[[1, 2, 0.5]]", "[[1, 2, true]]", R"([[1, "2"]])", "[[1, null]]"}) {
    EXPECT_THAT(Refused(std::string(R"({"a": [{"points": )") + points + "}]}"), HasSubstr(kPoints)) << points;
  }
  std::string many = "[1,2]";
  for (int i = 1; i < 1025; ++i) many += ",[1,2]";
  EXPECT_THAT(Refused(R"({"a": [{"points": [)" + many + "]}]}"), HasSubstr(kPoints));
}

TEST(PromptFile, SegmentsAreBytes) {
  const auto with = [](const std::string& segment) {
    return R"({"a": [{"box": [0, 0, 1, 1], "segment": )" + segment + "}]}";
  };
  EXPECT_TRUE(ParsePrompts(with("0"), "").ok());
  EXPECT_THAT(Refused(with("256")), HasSubstr("\"segment\" must be between 0 and 255"));
  EXPECT_THAT(Refused(with("-1")), HasSubstr("between 0 and 255"));
  EXPECT_THAT(Refused(with("18446744073709551615")), HasSubstr("\"segment\" must be"));
  EXPECT_THAT(Refused(with("1.5")), HasSubstr("an integer"));
  EXPECT_THAT(Refused(with("\"1\"")), HasSubstr("an integer"));
}

TEST(PromptFile, NothingIsNoBook) {
  for (const char* text : {"{}", "[]", "7", "null", "\"a.jpg\""}) {
    EXPECT_THAT(Refused(text), HasSubstr("an object of pictures is wanted")) << text;
  }
  for (const char* list : {"[]", "{}", "null", "1"}) {
    EXPECT_THAT(Refused(std::string(R"({"a.jpg": )") + list + "}"), HasSubstr("at least one")) << list;
  }
}

TEST(PromptFile, WhatIsNoJson) {
  EXPECT_THAT(Refused(""), HasSubstr("no JSON"));
  EXPECT_THAT(Refused(R"({"a": [{"box": [0, 0, 1, 1]}]} x)"), HasSubstr("no JSON"));
  EXPECT_THAT(Refused("{\"\xff\xfe\": [{\"box\": [0, 0, 1, 1]}]}"), HasSubstr("no JSON"));
  EXPECT_THAT(Refused(R"({"a": [{"box": [0, 0, NaN, 1]}]})"), HasSubstr("no JSON"));
  EXPECT_THAT(Refused(R"({"a": [{"box": [0, 0, 1e999, 1]}]})"), HasSubstr("no JSON"));
  // A parser that recurses would run out of stack.
  EXPECT_THAT(Refused(std::string(1 << 20, '[')), HasSubstr("nested too deeply"));
  EXPECT_THAT(Refused(R"({"a": )" + std::string(20, '[') + std::string(20, ']') + "}"), HasSubstr("nested too deeply"));
  // Brackets in a text are none.
  EXPECT_TRUE(ParsePrompts(R"({"[[[[[[[[[[[[[[[[[[[[\"[": [{"box": [0, 0, 1, 1]}]})", "").ok());
}

TEST(PromptFile, Files) {
  const TemporaryFolder folder;
  const auto missing = LoadPrompts(folder / "p.json");
  EXPECT_EQ(missing.status().code(), ErrorCode::kNotFound);
  EXPECT_THAT(missing.status().message(), HasSubstr("p.json"));
  WriteText(folder / "p.json", R"({"a.jpg": [{"box": [0, 0, 1, 1]}]})");
  EXPECT_TRUE(LoadPrompts(folder / "p.json").ok());
  WriteText(folder / "p.json", R"({"a.jpg": []})");
  EXPECT_THAT(LoadPrompts(folder / "p.json").status().message(), HasSubstr(folder / "p.json"));
}

}  // namespace
}  // namespace octavo
