#include "targets/layer_precisions.h"

#include <gtest/gtest.h>

namespace octavo {
namespace {

constexpr TensorRtVersion k8{8, 6, 1}, k10{10, 3, 0};

std::string ErrorOf(std::string_view spec) {
  const auto parsed = ParseLayerPrecisions(spec);
  return parsed.ok() ? "no error" : parsed.status().message();
}

void ExpectError(std::string_view spec, const std::string& part) {
  EXPECT_NE(ErrorOf(spec).find(part), std::string::npos) << spec << ": " << ErrorOf(spec);
}

TEST(LayerPrecisions, ANameEndsAtTheLastColon) {
  const auto parsed =
      ParseLayerPrecisions("conv:fp16,'a:b':fp32,a:b:c:int8,(Unnamed Layer* 3) [Constant]:bf16,/é x:fp32");
  ASSERT_TRUE(parsed.ok()) << parsed.status().message();
  ASSERT_EQ(parsed->size(), 5u);
  EXPECT_EQ((*parsed)[0].layer, "conv");
  EXPECT_EQ((*parsed)[0].types, std::vector<DType>{DType::kFloat16});
  EXPECT_EQ((*parsed)[1].layer, "a:b");
  EXPECT_EQ((*parsed)[2].layer, "a:b:c");
  EXPECT_EQ((*parsed)[2].types, std::vector<DType>{DType::kInt8});
  EXPECT_EQ((*parsed)[3].layer, "(Unnamed Layer* 3) [Constant]");
  EXPECT_EQ((*parsed)[4].layer, "/é x");
}

TEST(LayerPrecisions, AnEmptyListIsNoError) {
  const auto parsed = ParseLayerPrecisions("");
  ASSERT_TRUE(parsed.ok());
  EXPECT_TRUE(parsed->empty());
}

TEST(LayerPrecisions, OutputTypesMayBeSeveral) {
  const auto parsed = ParseLayerOutputTypes("split:fp32+fp16,*:fp16");
  ASSERT_TRUE(parsed.ok()) << parsed.status().message();
  EXPECT_EQ((*parsed)[0].types, (std::vector<DType>{DType::kFloat32, DType::kFloat16}));
  EXPECT_EQ((*parsed)[1].layer, "*");
  ExpectError("split:fp32+fp16", "no type");
}

TEST(LayerPrecisions, NamesWhatIsWrong) {
  ExpectError("conv", "no ':'");
  ExpectError("conv:half", "'half' is no type");
  ExpectError("conv:", "is no type");
  ExpectError("a:fp16,b", "entry 2 ('b')");
  ExpectError("a:fp16,", "ends with a comma");
  ExpectError(",a:fp16", "no ':'");
  ExpectError(":fp16", "no name");
  ExpectError("'a':", "is no type");
  ExpectError("'a'", "behind the quoted name");
  ExpectError("'a'b:fp16", "behind the quoted name");
  ExpectError("it's:fp16", "1 single quotes");
  ExpectError("'a,b':fp16", "cuts at every comma");
}

TEST(LayerPrecisions, WritesWhatItReads) {
  for (const char* name : {"conv", "a:b", "(Unnamed Layer* 3) [Constant]", "with space", "/é", "a=b", "$(x)\n\""}) {
    const std::vector<LayerTypes> entries = {{name, {DType::kFloat16}}, {"other", {DType::kFloat32}}};
    const auto text = FormatLayerTypes(entries);
    ASSERT_TRUE(text.ok()) << text.status().message();
    const auto again = ParseLayerPrecisions(*text);
    ASSERT_TRUE(again.ok()) << *text << ": " << again.status().message();
    EXPECT_EQ((*again)[0].layer, name);
    EXPECT_EQ(again->size(), 2u);
  }
  EXPECT_EQ(*FormatLayerTypes({{"a:b", {DType::kFloat32, DType::kInt8}}}), "'a:b':fp32+int8");
}

TEST(LayerPrecisions, SaysWhichNamesNoListCanHold) {
  EXPECT_NE(WhyNotInLayerList("a,b", k8), "");
  EXPECT_NE(WhyNotInLayerList("it's", k8), "");
  EXPECT_NE(WhyNotInLayerList("", k8), "");
  EXPECT_NE(WhyNotInLayerList("*", k8), "");
  EXPECT_EQ(WhyNotInLayerList("(Unnamed Layer* 3) [Constant]", k8), "");
  EXPECT_NE(WhyNotInLayerList("(Unnamed Layer* 3) [Constant]", k10), "");
  EXPECT_EQ(WhyNotInLayerList("a:b c", k10), "");
  EXPECT_FALSE(FormatLayerTypes({{"a,b", {DType::kFloat32}}}).ok());
  EXPECT_FALSE(FormatLayerTypes({{"a", {}}}).ok());
  EXPECT_FALSE(FormatLayerTypes({{"a", {DType::kFloat64}}}).ok());
}

TEST(LayerPrecisions, BeforeNineOneOnlyAStarAloneIsAPattern) {
  const std::vector<LayerTypes> entries = *ParseLayerPrecisions("*:fp16,/neck/*:fp32,head:int8,gone:fp32");
  const LayerMatches matches = MatchLayers(entries, {"/neck/a", "head", "x"}, k8);
  EXPECT_EQ(matches.entry_of, (std::vector<int>{0, 2, 0}));
  EXPECT_EQ(matches.unmatched, (std::vector<size_t>{1, 3}));
  EXPECT_TRUE(matches.ambiguous.empty());
}

TEST(LayerPrecisions, FromNineOneANameMayHoldOneWildcard) {
  const std::vector<LayerTypes> entries = *ParseLayerPrecisions("*:fp16,/neck/*:fp32,/neck/b:int8");
  const LayerMatches matches = MatchLayers(entries, {"/neck/a", "/neck/b", "x"}, k10);
  EXPECT_EQ(matches.entry_of, (std::vector<int>{1, 2, 0}));
  // Both patterns match /neck/a, and trtexec takes the first that its hash table gives.
  ASSERT_EQ(matches.ambiguous.size(), 1u);
  EXPECT_EQ(matches.ambiguous[0].layer, 0u);
  EXPECT_EQ(matches.ambiguous[0].entries, (std::vector<size_t>{0, 1}));
}

TEST(LayerPrecisions, TheLastEntryOfANameCounts) {
  const LayerMatches matches = MatchLayers(*ParseLayerPrecisions("a:fp16,a:fp32"), {"a", "a"}, k8);
  EXPECT_EQ(matches.entry_of, (std::vector<int>{1, 1}));
  EXPECT_EQ(matches.overridden, std::vector<size_t>{0});
  EXPECT_EQ(matches.repeated, std::vector<size_t>{1});
}

TEST(LayerPrecisions, OneWildcardMatches) {
  EXPECT_TRUE(MatchesOneWildcard("a*b", "ab"));
  EXPECT_TRUE(MatchesOneWildcard("a*b", "a---b"));
  EXPECT_FALSE(MatchesOneWildcard("ab*b", "ab"));
  EXPECT_TRUE(MatchesOneWildcard("a*b*", "a-b*"));
  EXPECT_FALSE(MatchesOneWildcard("a*b*", "a-bc"));
}

TEST(TensorRtVersion, NumbersOfCaches) {
  EXPECT_EQ(ParseTensorRtVersion("8.6.1")->CacheNumber(), "8601");
  EXPECT_EQ(ParseTensorRtVersion("8.5")->CacheNumber(), "8500");
  EXPECT_EQ(ParseTensorRtVersion("10.3.0")->CacheNumber(), "100300");
  EXPECT_EQ(VersionOfCacheHeader("TRT-8601-EntropyCalibration2")->ToString(), "8.6.1");
  EXPECT_EQ(VersionOfCacheHeader("TRT-100300-EntropyCalibration2")->ToString(), "10.3.0");
  for (const char* bad : {"", "8.", "8.6.1.2", "v8", "-8", "8.6.100", "0.1", "8.12", "8.6.1 "}) {
    EXPECT_FALSE(ParseTensorRtVersion(bad).ok()) << bad;
  }
  for (const char* bad : {"TRT-", "TRT-86-E", "TRT-8601", "8601-E", "TRT-99999999999-E"}) {
    EXPECT_FALSE(VersionOfCacheHeader(bad).ok()) << bad;
  }
}

}  // namespace
}  // namespace octavo
