#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/test_files.h"
#include "octavo/labels.h"

namespace octavo {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Pair;

TEST(Labels, TabsCommasAndFolders) {
  const auto labels = ParseLabels(
      "\xef\xbb\xbf"
      "a.jpg,3\r\n\nimgs/b.jpg\t 12 \nc d.png\tHello, World\ne,f.png\t1\n",
      "l");
  ASSERT_TRUE(labels.ok()) << labels.status().message();
  EXPECT_THAT(*labels, ElementsAre(Pair("a.jpg", "3"), Pair("b.jpg", "12"), Pair("c d.png", "Hello, World"),
                                   Pair("e,f.png", "1")));
  // The first comma: a text may have others.
  EXPECT_EQ(ParseLabels("a.jpg,x,y", "l")->at("a.jpg"), "x,y");
}

TEST(Labels, WhatIsWrongIsNamedWithItsLine) {
  const auto refused = [](std::string_view text) { return ParseLabels(text, "l").status().message(); };
  EXPECT_EQ(refused("a.jpg,1\nb.jpg 2\n"),
            "l, line 2: a picture's file name, a TAB or a comma, and its label are wanted");
  EXPECT_THAT(refused("a.jpg,1\n\nx/a.jpg\t2\n"), HasSubstr("line 3: a second label of 'a.jpg'"));
  EXPECT_THAT(refused(",1"), HasSubstr("the file name is missing"));
  EXPECT_THAT(refused("folder/,1"), HasSubstr("the file name is missing"));
  EXPECT_THAT(refused("a.jpg,"), HasSubstr("the label is missing"));
  EXPECT_THAT(refused("a.jpg,\xff"), HasSubstr("line 1: is not UTF-8"));
  EXPECT_THAT(refused(" \n\n"), HasSubstr("holds no label"));
  EXPECT_EQ(ParseLabels("b", "l").status().code(), ErrorCode::kBadFile);
}

TEST(Labels, Files) {
  const TemporaryFolder folder;
  EXPECT_EQ(LoadLabels(folder / "none").status().code(), ErrorCode::kNotFound);
  WriteText(folder / "l.csv", "a.jpg,3");
  EXPECT_EQ(LoadLabels(folder / "l.csv")->at("a.jpg"), "3");
  WriteText(folder / "bad.csv", "a.jpg");
  EXPECT_THAT(LoadLabels(folder / "bad.csv").status().message(), HasSubstr("bad.csv', line 1"));
}

}  // namespace
}  // namespace octavo
