#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "octavo/tensorrt.h"
#include "targets/shell_words.h"

namespace octavo {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::string ErrorOf(std::string_view line) {
  const auto parsed = ParseTrtexec(line);
  return parsed.ok() ? "no error" : parsed.status().message();
}

TEST(ShellWords, QuotesAndEscapesAsInSh) {
  EXPECT_THAT(*SplitShellWords("a 'b c' \"d 'e\" f\\ g '' h\\'i"), ElementsAre("a", "b c", "d 'e", "f g", "", "h'i"));
  EXPECT_THAT(*SplitShellWords("a \\\n b # c d\n e#f \"x\\\"y\\n\""), ElementsAre("a", "b", "e#f", "x\"y\\n"));
  EXPECT_THAT(*SplitShellWords("x\\"), ElementsAre("x\\"));
  EXPECT_FALSE(SplitShellWords("'a").ok());
  EXPECT_FALSE(SplitShellWords("\"a\\\"").ok());
}

TEST(Trtexec, ReadsWhatIsAboutPrecision) {
  const auto line = ParseTrtexec(
      "/usr/bin/trtexec --onnx=m.onnx --int8 --fp16 --calib='my cache' --precisionConstraints=obey "
      "--layerPrecisions=\"'a:b':fp16,c d:fp32\" --layerOutputTypes=c:fp32 --saveEngine=m.engine --verbose");
  ASSERT_TRUE(line.ok()) << line.status().message();
  EXPECT_TRUE(line->int8 && line->fp16 && !line->bf16 && line->heeds_layers());
  EXPECT_EQ(line->calib, "my cache");
  EXPECT_EQ(line->layer_precisions, "'a:b':fp16,c d:fp32");
  EXPECT_THAT(line->ignored, ElementsAre("--saveEngine=m.engine", "--verbose"));
}

TEST(Trtexec, LayersAreHeededOnlyWithConstraints) {
  EXPECT_FALSE(ParseTrtexec("--int8 --layerPrecisions=a:fp16")->heeds_layers());
  EXPECT_FALSE(ParseTrtexec("--precisionConstraints=none")->heeds_layers());
  EXPECT_TRUE(ParseTrtexec("--precisionConstraints=prefer")->heeds_layers());
  EXPECT_TRUE(ParseTrtexec("--best")->fp16);
}

TEST(Trtexec, NamesWhatIsWrong) {
  EXPECT_THAT(ErrorOf("--calib"), HasSubstr("--calib has no value"));
  EXPECT_THAT(ErrorOf("--calib=a --calib=b"), HasSubstr("twice"));
  EXPECT_THAT(ErrorOf("--precisionConstraints=always"), HasSubstr("'always'"));
  EXPECT_THAT(ErrorOf("--layerPrecisions=a"), HasSubstr("--layerPrecisions: entry 1"));
  EXPECT_THAT(ErrorOf("--layerOutputTypes=a:half"), HasSubstr("--layerOutputTypes: entry 1"));
  EXPECT_THAT(ErrorOf("--calib='a"), HasSubstr("never closed"));
}

TEST(Trtexec, AWordOfShStandsForItsBytes) {
  for (const char* name :
       {"plain", "", "it's", "a b", "$HOME", "`x`", "\"", "é*", "a\nb", "\\", "(Unnamed Layer* 3) [Constant]"}) {
    EXPECT_THAT(*SplitShellWords(ShellWord(name)), ElementsAre(name)) << ShellWord(name);
  }
}

TEST(Trtexec, AScriptIsReadBack) {
  TrtexecLine line;
  line.onnx = "it's.onnx";
  line.calib = "/tmp/a cache";
  line.int8 = line.fp16 = true;
  line.precision_constraints = "obey";
  line.layer_precisions = "'a:b':fp16,(Unnamed Layer* 3) [Constant]:fp32,/é:int8";
  line.layer_output_types = "x:fp32+fp16";
  const std::string script = FormatTrtexecScript(line, {"a comment with 'a quote", "two\nlines"});
  EXPECT_THAT(script, HasSubstr("--onnx=\"$here\"/'it'\\''s.onnx'"));
  const auto again = ParseTrtexec(script);
  ASSERT_TRUE(again.ok()) << again.status().message();
  EXPECT_EQ(TrtexecArguments(*again), TrtexecArguments(line));
  EXPECT_TRUE(again->ignored.empty());
}

}  // namespace
}  // namespace octavo
